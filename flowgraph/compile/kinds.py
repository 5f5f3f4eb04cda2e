"""Kinds: what nodes have in common that run one op with equal attributes on inputs of equal specs, decided once for all of them.

Large graphs repeat few kinds. The rule behind it: what an op says of itself (`infer`, `passes`, `work`, `bind`) depends on the shapes and
dtypes of its inputs and on its attributes, and on nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..devices import Device
from ..graph import Node, Spec
from ..graph.spec import is_known
from ..jit import lazy
from .cost import INNER_CALL_SECONDS, estimated_seconds
from .plan import Unit

# A kernel that is expected to take so long is worth some 20 ms to compile it.
WORTH_SECONDS = 20e-6
# Below this an array comes from the allocator's cache faster than from the pool.
POOLED_BYTES = 16384


class Kind:
    """What is decided for a kind of node.

    passes   whether the output is the first input itself, so that nothing runs
    kernel   a function of the arrays; inputs of which only the shape counts, where that is known, are part of it
    told     those inputs: position -> spec
    spec     of the first output, None where a size is not known; ``codes``: the number of the spec of each output
    mode     how a kernel that runs whole makes its result: see `Unit`
    seconds  estimated; ``nbytes``: of all outputs together, where known; nothing for a view
    scratch  bytes that it needs besides while it runs; `scratch_of` says how many on inputs of other shapes
    is_view  whether the output may share the first input's memory
    is_plain whether it takes one kernel that makes one array of known size, and no more has to be thought of
    """

    __slots__ = (
        "codes",
        "is_compiled",
        "is_plain",
        "is_view",
        "kernel",
        "mode",
        "nbytes",
        "passes",
        "scratch",
        "seconds",
        "spec",
        "told",
    )

    def __init__(
        self,
        node: Node,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        codes: tuple[int, ...],
        device: Device,
        compiled: Callable[[Any], Callable[..., Any]] | None,
        allows: Callable[[str, Node], bool] | None = None,
    ) -> None:
        op = node.op
        self.codes = codes
        self.passes = op.passes(outputs[0], *inputs)
        self.is_view = op.is_view and op.shares(outputs[0], *inputs)
        self.is_compiled = False
        self.spec = Spec(outputs[0].shape, outputs[0].dtype) if is_known(outputs[0].shape) else None
        told = () if op.bodies else op.shape_inputs
        self.told = {i: inputs[i] for i in told if i < len(inputs) and is_known(inputs[i].shape)}
        self.kernel = device.bind(op, node.attrs, inputs)
        if self.told:
            self.kernel = _with_specs(self.kernel, self.told, len(inputs))
        self.seconds = 0.0 if op.bodies else estimated_seconds(node, inputs)
        if (
            compiled is not None
            and device.is_host
            and self.seconds > WORTH_SECONDS
            and self.spec is not None
            and all(is_known(x.shape) for x in inputs)
        ):
            code = _machine_code(node, inputs, self.spec, compiled, allows)
            self.kernel, self.is_compiled = code or self.kernel, code is not None
            self.seconds -= (op.calls - 1) * INNER_CALL_SECONDS if self.is_compiled else 0.0
        self.scratch = self.scratch_of(node, inputs)
        made = [] if self.is_view else [Spec(output.shape, output.dtype).nbytes for output in outputs if is_known(output.shape)]
        self.nbytes = sum(made)
        is_pooled = device.keeps_buffers and op.takes_out and not self.is_view and len(outputs) == 1 and self.nbytes >= POOLED_BYTES
        self.mode = "take" if is_pooled else "fresh"
        special = is_pooled or self.passes or op.bodies or op.is_view or op.shape_inputs or self.spec is None or self.scratch
        self.is_plain = not special and len(outputs) == 1

    def scratch_of(self, node: Node, inputs: Sequence[Any]) -> int:
        """Bytes that the kernel needs besides on ``inputs``; most compiled ones need few."""
        if node.op.bodies or not all(is_known(x.shape) for x in inputs):
            return 0
        if self.is_compiled:
            return getattr(node.op.compiled(*inputs, **node.attrs), "scratch", 0)
        if (known := getattr(self.kernel, "scratch", None)) is not None:  # a library's kernel, made for these shapes
            return int(known)
        return node.op.scratch(*inputs, **node.attrs)

    def unit(self, node: Node, inputs: tuple[int, ...], output: int, device: str) -> Unit:
        """The unit of a node that runs whole."""
        return Unit(node, self.kernel, inputs, output, device, self.mode, self.spec, self.seconds, self.told, self.nbytes, self.scratch)


class Kinds:
    """The kinds of one plan. Specs have small numbers here, so that finding a kind compares ints."""

    def __init__(self, device: Device, compiled: Callable[[Any], Callable[..., Any]] | None = None) -> None:
        self.device, self.compiled = device, compiled
        self.allows: Callable[[str, Node], bool] | None = None  # whether a kernel may be compiled, as `compile_plan` says
        self.compiled_ops: set[str] = set()  # those with a kernel made for the shapes of a node
        self.specs: list[Any] = []  # by their number
        self._codes: dict[Any, int] = {}  # (shape, dtype) -> number
        self._kinds: dict[Any, Kind] = {}

    def on(self, device: Device) -> Kinds:
        """The kinds of the same plan on another device, with the same numbers of specs."""
        kinds = Kinds(device, self.compiled)
        kinds.specs, kinds._codes, kinds.compiled_ops = self.specs, self._codes, self.compiled_ops
        return kinds

    def code(self, spec: Any) -> int:
        """The number of a spec."""
        key = spec.shape, spec.dtype
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = len(self.specs)
            self.specs.append(Spec(*key))
        return code

    def of(self, node: Node, inputs: tuple[int, ...], spec: Callable[[Any], Any]) -> Kind:
        """The kind of a node.

        inputs  the numbers of its inputs' specs
        spec    the spec of one of its outputs
        """
        key: Any = (node.op, *inputs)
        if node.attrs:
            attributes = frozen(node.attrs)
            key = None if attributes is None else (key, attributes)
        kind = self._kinds.get(key)
        if kind is None:
            outputs = [spec(tensor) for tensor in node.outputs]
            codes = tuple([self.code(output) for output in outputs])
            kind = Kind(node, [self.specs[code] for code in inputs], outputs, codes, self.device, self.compiled, self.allows)
            if kind.is_compiled:
                self.compiled_ops.add(node.op.name)
            if key is not None:
                self._kinds[key] = kind
        return kind


def frozen(attrs: Mapping[str, Any]) -> Any:
    """Attributes as a key: equal for attributes that mean the same. None where that cannot be told."""
    if not attrs:
        return ()
    key = tuple([(name, _typed(value)) for name, value in attrs.items()])
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _typed(value: Any) -> Any:
    # 1, 1.0 and True are equal keys but may mean different attributes, and so are 0.0 and -0.0.
    kind = value.__class__
    if kind is int or kind is str or value is None:
        return value
    if kind is tuple:
        return kind, *[item if item.__class__ is int else _typed(item) for item in value]
    return kind, repr(value) if isinstance(value, float | complex | np.generic) else value


def _machine_code(
    node: Node,
    inputs: Sequence[Any],
    spec: Spec,
    compiled: Callable[[Any], Callable[..., Any]],
    allows: Callable[[str, Node], bool] | None,
) -> Callable[..., Any] | None:
    """The kernel that the op wants compiled for these shapes, if there is one."""
    description = node.op.compiled(*inputs, **node.attrs)
    if description is None or (allows is not None and not allows("compile", node)):
        return None
    try:
        kernel = compiled(description)
    except RuntimeError as error:
        warnings.warn(f"{node.op.name} could not be compiled, and NumPy's kernel serves instead: {error}", RuntimeWarning, stacklevel=2)
        return None
    if isinstance(kernel, np.ufunc):
        return node.op.bind_for(lazy.products.Namespace(kernel), node.attrs, *inputs)
    shape: Any = spec.shape
    dtype = spec.dtype

    def call(*arrays: Any, out: Any = None) -> Any:
        return kernel(*arrays, np.empty(shape, dtype) if out is None else out)

    def drawing(*arrays: Any, out: Any = None, first: int = 0) -> Any:
        made = np.empty(shape, dtype) if out is None else out
        return kernel(*arrays, description.place(first, made.size), made)

    function: Any = drawing if hasattr(description, "place") else call
    function.described, function.machine = description, kernel
    return function  # type: ignore[no-any-return]


def _with_specs(kernel: Callable[..., Any], told: Mapping[int, Spec], count: int) -> Callable[..., Any]:
    """``kernel`` with the specs in ``told`` put between the arrays."""
    if min(told) == count - len(told):  # they stand last, as nearly always
        tail = tuple(told.values())

        def call(*arrays: Any, **out: Any) -> Any:
            return kernel(*arrays, *tail, **out)

    else:

        def call(*arrays: Any, **out: Any) -> Any:
            rest = iter(arrays)
            return kernel(*(told[i] if i in told else next(rest) for i in range(count)), **out)

    vars(call).update(vars(kernel) if hasattr(kernel, "by") else {})
    return call
