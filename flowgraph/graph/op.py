"""Op: what an operation is. One definition holds its inference, kernel, gradient, work and samples.

Calling an op adds a node to the graph. Nothing here computes.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from ..errors import ArgumentError, DtypeError, FlowgraphError, GraphError
from .context import CURRENT, Context, current
from .location import resolve, user_frame
from .node import FUNCTIONS, Node, Tensor
from .report import explain, where
from .spec import Spec, as_dtype, is_known, is_numeric, promote_dtypes, weak_dtype

# Every op by name. Filled at import by `op`, in the order of the definitions.
OPS: dict[str, Op] = {}

Array = Any  # whatever the device computes with: numpy.ndarray or cupy.ndarray
Namespace = Any  # numpy or cupy
Inferred = Any  # Spec or Tensor (anything with shape and dtype), or a list of them for an op with several outputs

_NO_ATTRS: dict[str, Any] = {}


class Work(NamedTuple):
    """What a kernel costs: arithmetic operations, and bytes read and written."""

    flops: float = 0.0
    bytes: float = 0.0


class Slicing(NamedTuple):
    """How a kernel splits along an axis: which inputs are cut with the output, and how the parts become one.

    inputs  for each input whether it is cut along that axis (else every part reads the whole)
    length  the size of the axis that is cut
    join    "concat": each part writes its rows, or columns, of the output; "sum": parts are added up in their order
    axis    the first one, 0, or the last one, -1
    is_placed  whether the kernel of a part is told the place of its first element among all, as ``first``
    """

    inputs: tuple[bool, ...]
    length: int
    join: str = "concat"
    axis: int = 0
    is_placed: bool = False


class Batch(NamedTuple):
    """What a batching rule is told: ``inputs`` says for each input whether it carries the batch, as an additional first axis.

    size  length of that axis; None while it is not known
    like  a tensor whose first axis is the batch
    """

    inputs: tuple[bool, ...]
    size: int | str | None
    like: Tensor


class NoGradient:
    """Stands where a VJP would: says why there is none."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"no gradient: {self.reason}")


def no_gradient(reason: str) -> Any:
    """Marks an op as without gradient: ``vjp = no_gradient("argmax is constant between its jumps")``."""
    return NoGradient(reason)


class ByLoop:
    """Stands where a batching rule would: the op runs once for each entry, in a loop."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"no batching rule: {self.reason}")


def by_loop(reason: str) -> Any:
    """Marks an op that `vmap` runs entry by entry: ``vmap = by_loop("each entry searches in an array of its own")``."""
    return ByLoop(reason)


class Op:
    """Base of all operations.

    A subclass says:

    infer(self, *inputs, **attrs) -> Spec
        Shape and dtype of the output (a list of Specs for several). Inputs have ``shape`` and ``dtype``; sizes may be unknown.
    kernel(self, xp, *inputs, **attrs) -> Array
        The computation over NumPy or CuPy. With ``out`` among its parameters it must write there when given an array.
    vjp(self, g, out, *inputs, **attrs) -> Tensor | tuple | None
        The cotangents of the inputs from the output's, built of ops. In a tuple each entry is a Tensor, None (no gradient), or a
        function without arguments, called only when that input's gradient is wanted. An op without gradient sets
        ``vjp = no_gradient("reason")``. For several outputs, ``g`` and ``out`` are tuples (g's entries may be None).
    jvp(self, tangents, out, *inputs, **attrs) -> Tensor | tuple
        The tangent of the output from those of the inputs (None where an input has none). Left out, it is the VJP transposed.
    vmap(self, batch, *inputs, **attrs) -> Tensor | tuple
        The op on each entry of a batch: `batch.inputs` says which inputs carry one more axis in front, and the outputs all carry it. Called
        only when at least one does. ``vmap = by_loop("reason")`` where nothing beats a loop over the entries.
    work(self, *inputs, **attrs) -> Work
        Estimated flops and bytes, for inputs of known shapes.
    scratch(self, *inputs, **attrs) -> int
        Bytes that the kernel needs while it runs, besides its inputs and its result, for inputs of known shapes. Left out, none worth
        counting.
    slicing(self, out, *inputs, **attrs) -> Slicing | None
        How a big kernel may be cut, from shapes alone; None when it may not. It is also what says, of any node in the body of a loop,
        whether the loop may be cut.
    slicing_of_columns(self, out, *inputs, **attrs) -> Slicing | None
        The same along the last axis, where that is better; left out, it never is.
    scalar(self, s, *inputs, **attrs) -> a value
        For an elementwise op: the computation for one element, from which the compiler makes loops. ``s`` has functions of values with
        NumPy's names, and values have Python's operators; what ``s`` lacks cannot be fused. Where `along_row` is set, the op acts on
        each row of its first input, and ``s.sum(x)`` and ``s.max(x)`` are taken along it.
    compiled(self, *inputs, **attrs) -> a description | None
        For inputs of known shapes, a kernel to be compiled in place of ``kernel``: something of `flowgraph.jit` whose operands are the
        inputs without those in `shape_inputs`. None where NumPy's serves.
    samples
        Inputs for the tests that every op must pass; see `flowgraph.ops.samples`.
    """

    name: str = ""
    vjp: Any
    jvp: Any = None
    vmap: Any = None
    scalar: Any = None
    samples: ClassVar[Any] = ()

    bodies: tuple[str, ...] = ()  # the attributes that hold sub-graphs: see `flowgraph.control`
    repeats = False  # for one with bodies: they run again and again, while the results are there already
    takes_empty = False  # for one with bodies: its kernel makes large arrays with the function ``empty(shape, dtype)`` that it is given
    along_row = False  # `scalar` may sum along the rows of the first input
    fold: str | None = None  # for a reduction over the attribute ``axis``: "sum", "mean", "max" or "min"
    is_view = False  # the output may share the first input's memory
    looks = False  # it is the first input, which the kernel only looks at, and refuses where it must not be so
    in_place = False  # the kernel may be given an input's array as `out`
    is_stateful = False  # two nodes with equal inputs may differ (placeholders, variables, random draws): never merged
    shape_inputs: tuple[int, ...] = ()  # inputs of which only shape and dtype are used: the plan needs no value for them
    calls = 1  # of NumPy's functions, about, that the kernel consists of: for few numbers they take longer than the arithmetic
    promotes = False  # Python numbers among the inputs take the dtype of the arrays beside them, as in NumPy 2
    promotes_from = 0  # the first input that takes part in that
    takes_out = False  # the kernel can write into a given array; set by `op` from the kernel's signature
    input_names: tuple[str, ...] = ()  # of the inputs, as `infer` names them; set by `op`

    def infer(self, *inputs: Any, **attrs: Any) -> Inferred:
        raise NotImplementedError(f"{self.name} has no inference")

    def kernel(self, xp: Namespace, *inputs: Array, **attrs: Any) -> Any:
        raise NotImplementedError(f"{self.name} has no kernel")

    def bind(self, xp: Namespace, attrs: dict[str, Any]) -> Callable[..., Any]:
        """The kernel as a function of arrays alone (and of ``out=`` where `takes_out`)."""
        kernel = self.kernel
        if attrs:
            return lambda *inputs, **out: kernel(xp, *inputs, **attrs, **out)
        return lambda *inputs, **out: kernel(xp, *inputs, **out)

    def bind_for(self, xp: Namespace, attrs: dict[str, Any], *inputs: Any) -> Callable[..., Any]:
        """The same for inputs of these specs, whose number of dimensions and dtypes may do away with what ``bind`` asks in each call."""
        return self.bind(xp, attrs)

    def compiled(self, *inputs: Any, **attrs: Any) -> Any:
        return None

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        inferred = self.infer(*inputs, **attrs)
        specs = inferred if isinstance(inferred, list) else [inferred]
        # (A size that only values decide counts as nothing.)
        size = sum(Spec(s.shape, s.dtype).size for s in specs if is_known(s.shape))
        moved = sum(Spec(s.shape, s.dtype).nbytes for s in [*specs, *inputs] if is_known(s.shape))
        return Work(flops=size, bytes=moved)

    def scratch(self, *inputs: Any, **attrs: Any) -> int:
        return 0

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return None

    def slicing_of_columns(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return None

    def body_inputs(self, *inputs: Any, **attrs: Any) -> Sequence[Sequence[Any]]:
        """For an op with `bodies`: for each, the specs of what it is given, its inputs and then its captures."""
        raise NotImplementedError(f"{self.name} holds no sub-graphs")

    def trips(self, *inputs: Any, **attrs: Any) -> float:
        """For an op with `bodies`: how often each is expected to run."""
        return 1.0

    def stacks(self, *inputs: Any, **attrs: Any) -> tuple[range, range, range] | None:
        """For an op that `repeats`: the inputs that it carries, those that are stacks of what its turns read, the outputs that are stacks.

        None for one whose kernel cannot be asked for some of the rows, to be written into arrays ``into``.
        """
        return None

    def along_last(self, *inputs: Any, **attrs: Any) -> bool:
        """For an op `along_row`: whether its rows run along the last axis."""
        return True

    def passes(self, out: Any, *inputs: Any) -> bool:
        """Whether, for these specs, the output is the first input itself: then no kernel runs."""
        return False

    def shares(self, out: Any, *inputs: Any) -> bool:
        """Whether, for these specs, the output may share the first input's memory."""
        return self.is_view

    @property
    def parameters(self) -> list[str]:
        """The names of the inputs, for messages and drawings."""
        names = []
        for parameter in inspect.signature(self.infer).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                names += [f"{parameter.name}[{i}]" for i in range(64)]
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                names.append(parameter.name)
        return names

    def __call__(self, *inputs: Any, name: str | None = None, **attrs: Any) -> Tensor:
        """Adds a node and gives its output."""
        if attrs and not attrs.keys().isdisjoint(self.input_names):  # an input given by its name, as in fg.exp(x=y)
            for input_name in self.input_names[len(inputs) :]:
                if input_name in attrs:
                    inputs = (*inputs, attrs.pop(input_name))
                else:
                    break
        return self.node(inputs, attrs, name).outputs[0]

    def node(self, inputs: Sequence[Any], attrs: dict[str, Any], name: str | None = None) -> Node:
        """Adds a node to the inputs' graph (or, without inputs, to the current one).

        raises  GraphError for tensors of two graphs, and whatever ``infer`` says is wrong, with the user's line
        """
        context = CURRENT.get() or current()
        graph = context.graph
        for value in inputs:
            if value.__class__ is not Tensor or value.node.graph is not graph:
                inputs, context = self._settle(inputs, context)
                graph = context.graph
                break
        try:
            inferred = self.infer(*inputs, **attrs)
        except (FlowgraphError, TypeError) as error:
            raise self._refused(error, context, inputs, attrs, name) from error.__cause__
        origin = context.origin
        if origin is not None:
            return graph.append(self, tuple(inputs), attrs or _NO_ATTRS, inferred, context, name, origin._code, origin._offset)
        frame = user_frame(sys._getframe(1))
        return graph.append(self, tuple(inputs), attrs or _NO_ATTRS, inferred, context, name, frame.f_code, frame.f_lasti)

    def _settle(self, inputs: Sequence[Any], context: Context) -> tuple[tuple[Tensor, ...], Context]:
        """The inputs as tensors, and the context in which a node of their graph is made, which need not be the current one."""
        tensors = self.lift(inputs)
        graph = tensors[0].node.graph
        for tensor in tensors:
            if tensor.node.graph is not graph:
                raise self._mixed(tensor, tensors)
        return tensors, context if context.graph is graph else graph.root

    def lift(self, inputs: Iterable[Any]) -> tuple[Tensor, ...]:
        """``inputs`` with arrays, lists and numbers made constants of the graph that the tensors among them belong to.

        In a sub-graph, tensors of the graphs around it are captured.
        """
        inputs = tuple(inputs)
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        graph = current().graph
        if tensors and not (graph.is_sub and all(graph.is_inside(tensor.graph) for tensor in tensors)):  # type: ignore[attr-defined]
            graph = tensors[0].node.graph
        partner: np.dtype[Any] | None = None
        if self.promotes:
            weighty = inputs[self.promotes_from :]
            dtypes = [value.dtype for value in weighty if isinstance(value, Tensor | np.ndarray | np.generic) and is_numeric(value.dtype)]
            partner = promote_dtypes(*dtypes) if dtypes else None
        if graph.is_sub:
            inputs = tuple([graph.capture(value) if isinstance(value, Tensor) else value for value in inputs])  # type: ignore[attr-defined]
        return tuple(
            value if isinstance(value, Tensor) else self._constant(graph, value, partner if i >= self.promotes_from else None)
            for i, value in enumerate(inputs)
        )

    def _constant(self, graph: Any, value: Any, partner: np.dtype[Any] | None) -> Tensor:
        if partner is not None and type(value) in (bool, int, float, complex):
            dtype = weak_dtype(partner, value)
            try:
                array = np.asarray(value, dtype)
            except OverflowError as error:
                raise DtypeError(f"{self.name}: {value} does not fit into {dtype}", help="cast the tensor first") from error
        else:
            array = as_array(value, self.name)
        return graph.constant(array)  # type: ignore[no-any-return]

    def _mixed(self, tensor: Tensor, inputs: Sequence[Tensor]) -> GraphError:
        first = inputs[0]
        return GraphError(
            f"{self.name}: its inputs belong to two graphs",
            rows=[
                (label, f"{t.name}, graph {id(t.graph):#x}, made at {where(t.node.location)}")
                for label, t in (("one", first), ("other", tensor))
            ],
            help="build both in one `with fg.Graph() as graph:` block; fetch a value from one graph and feed it to the other",
        )

    def _refused(self, error: Exception, context: Context, inputs: Any, attrs: Any, name: str | None) -> Exception:
        if not isinstance(error, FlowgraphError):
            try:
                inspect.signature(self.infer).bind(*inputs, **attrs)
            except TypeError as mismatch:
                error = ArgumentError(str(mismatch), help=f"{self.name}({', '.join(inspect.signature(self.infer).parameters)})")
            else:
                return error
        frame = user_frame(sys._getframe(2))
        label = name or self.name
        return explain(
            error,
            op=self.name,
            name=f"{context.scope}/{label}" if context.scope else label,
            location=resolve(frame.f_code, frame.f_lasti),
            inputs=list(zip(self.parameters, inputs, strict=False)),
            forward=context.forward,
        )

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __str__(self) -> str:
        return self.name

    @property
    def __name__(self) -> str:
        return self.name


def as_array(value: Any, what: str) -> np.ndarray[Any, Any]:
    """``value`` (a number, array or nesting of lists) as a NumPy array of numbers. raises DtypeError for anything else."""
    if callable(getattr(value, "__array__", None)) or isinstance(value, bool | int | float | complex | list | tuple):
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            if isinstance(error, GraphError):
                raise DtypeError(
                    f"{what}: a {type(value).__name__} that holds tensors is no array", help="fg.stack makes one of them"
                ) from None
            raise DtypeError(f"{what}: {type(value).__name__} cannot be made an array: {error}") from error
        if is_numeric(array.dtype):
            return array
    raise DtypeError(
        f"{what}: cannot compute with {value!r:.80}",
        help="a function that lacks its return gives None"
        if value is None
        else "a tensor, an array, a number or a list of numbers is expected",
    )


def cast_exactly(array: np.ndarray[Any, Any], dtype: Any, what: str) -> np.ndarray[Any, Any]:
    """A copy of ``array`` in ``dtype`` (None: its own). raises DtypeError where a number would become another one; floats are rounded."""
    if dtype is None:
        return np.array(array)
    wanted = as_dtype(dtype)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # (NumPy warns of an imaginary part that it drops)
        cast = np.array(array, wanted)
    of, into = ("f" if d.kind == "V" else d.kind for d in (array.dtype, wanted))
    may_lose = "iufc".find(into) < "iufc".find(of) or (of in "iu" and into in "iu")
    if may_lose and not np.array_equal(cast, array):
        at = np.unravel_index(int(np.argmax(cast != array)), array.shape)
        raise DtypeError(f"{what}: {array[at]} is no {wanted}", help="round it first" if of == "f" else None)
    return cast


O = TypeVar("O", bound=Op)  # noqa: E741


def op(cls: type[O], *, name: str | None = None) -> O:
    """Registers an operation: ``cumsum = op(CumSum)``. Its name is the class's, in snake case, unless given."""
    instance = cls()
    class_name: str = type.__getattribute__(cls, "__name__")  # (an instance's __name__ is the op's name)
    instance.name = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()
    if instance.name in OPS:
        raise AssertionError(f"two ops are named {instance.name}")
    if not hasattr(cls, "vjp"):
        raise AssertionError(f"{instance.name} has neither a VJP nor a reason for having none")
    instance.__doc__ = cls.__doc__
    code = cls.kernel.__code__  # (inspect.signature would take 40 us for each op at every start)
    instance.takes_out = "out" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    instance.input_names = cls.infer.__code__.co_varnames[1 : cls.infer.__code__.co_argcount]
    OPS[instance.name] = instance
    return instance


F = TypeVar("F", bound=Callable[..., Any])


def public(function: F, *names: str) -> F:
    """Lets NumPy's protocols and tensors' operators find ``function`` under its own name or ``names``."""
    for name in names or (function.__name__,):
        # A bound method is called 0.2 us faster than an object with __call__.
        FUNCTIONS[name] = function.__call__ if isinstance(function, Op) else function
    return function
