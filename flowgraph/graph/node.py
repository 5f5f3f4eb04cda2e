"""Node and Tensor: the two things that a graph is made of. No arrays and no threads here.

A Node is one use of an op. A Tensor is an edge: output ``index`` of its node, with a shape and a dtype. A Tensor's operators and
methods look their function up by name in FUNCTIONS, which the ops fill, so that this module need not know any operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, FlowgraphError, GraphError
from .context import Context
from .location import Location, resolve
from .spec import Shape, format_shape, format_spec, is_known

if TYPE_CHECKING:
    from .graph import Graph
    from .op import Op

# The public functions by NumPy's name: operators, methods and NumPy's dispatch protocols find them here. Filled at import by `ops`.
FUNCTIONS: dict[str, Callable[..., Any]] = {}

# NumPy's older names for functions whose array-API name is the one we carry.
_OTHER_NAMES = {
    "concatenate": "concat",
    "transpose": "permute_dims",
}

_BY_HAND = "fg.py_call runs a function of NumPy arrays as it is, fg.custom_op gives one a gradient"

# What a ufunc on arrays takes and a node does not, with the line to write instead.
_OPTIONS = {
    "out": "nothing is overwritten in a graph: leave `out` away (`a += tensor` for an array a means it too); the plan reuses memory",
    "where": "choose with fg.where(condition, np.add(x, y), x)",
    "dtype": 'cast with fg.astype(x, "float32") before or after it',
    "initial": "combine it with the result: np.add.reduce(x) + initial",
    "other": "leave it away",
}


# What tensors of other frameworks have, with the line to write instead.
_SLIPS = {
    "numpy": "session.run(tensor, feeds) gives its value",
    "eval": "session.run(tensor, feeds) gives its value",
    "cpu": "session.run(tensor, feeds) gives its value",
    "detach": "fg.stop_gradient(x)",
    "backward": "fg.gradients(loss, [w, b]) gives the gradients as tensors",
    "grad": "fg.gradients(loss, [w, b]) gives the gradients as tensors",
    "requires_grad": "gradients are asked for: fg.gradients(loss, [w, b])",
    "view": "x.reshape(shape)",
    "permute": "x.transpose(axes)",
    "unsqueeze": "fg.expand_dims(x, axis)",
    "float": 'x.astype("float32")',
    "to": 'x.astype("float32")',
    "sort": "fg.sort(x) gives a sorted tensor: a tensor never changes",
    "fill": "fg.full_like(x, value): a tensor never changes",
    "copy": "a tensor never changes, so it needs no copies",
    "assign": "fg.assign(variable, value) is an update, to be fetched in a run",
}


class Node:
    """One use of an op in a graph. Made by calling ops, never directly.

    id        its place in the graph, a small int; inputs have smaller ids
    op        what it computes
    inputs    the tensors it reads, as a tuple
    attrs     the op's parameters; not to be changed
    outputs   the tensors it makes, as a tuple
    """

    __slots__ = ("_code", "_context", "_label", "_offset", "attrs", "graph", "id", "inputs", "op", "outputs")

    # Assigned by Graph.append, which is the only place that makes nodes; an __init__ would cost 0.3 us a node.
    id: int
    graph: Graph
    op: Op
    inputs: tuple[Tensor, ...]
    attrs: dict[str, Any]
    outputs: tuple[Tensor, ...]
    _context: Context
    _label: str | None
    _code: CodeType | Location
    _offset: int

    @property
    def name(self) -> str:
        """Its unique name: scope, then label or op, then a number where needed: ``layer1/matmul_2``."""
        return self.graph.name_of(self)

    @property
    def label(self) -> str | None:
        """The name that it was given within its scope, if any."""
        return self._label

    @property
    def scope(self) -> str:
        """The scope that it was built in; empty at the top."""
        return self._context.scope

    @property
    def device(self) -> str | None:
        """The device that was asked for, or None."""
        return self._context.device

    @property
    def colocated(self) -> Node | None:
        """The node that it was asked to run beside, where that one asks for no device."""
        return self._context.colocated

    @property
    def control(self) -> tuple[Node, ...]:
        """Nodes that must have run before this one, although it does not read them."""
        return self._context.control

    @property
    def forward(self) -> Node | None:
        """For a node that a gradient added: the node that it is the gradient of."""
        return self._context.forward

    @property
    def location(self) -> Location:
        """The user's line that made it."""
        return resolve(self._code, self._offset)

    def __repr__(self) -> str:
        shapes = ", ".join(format_spec(t.shape, t.dtype) for t in self.outputs)
        return f"<Node {self.name}: {self.op.name} -> {shapes or 'nothing'}>"


class Tensor:
    """An edge of the graph: output ``index`` of ``node``. It has no value until a session runs it.

    shape  a tuple of int, str (symbolic size) or None (unknown)
    dtype  a NumPy dtype

    It has NumPy's operators and the common methods, and NumPy's functions applied to it build nodes: ``np.tanh(x @ w)``.
    """

    __slots__ = ("dtype", "index", "node", "shape")

    def __init__(self, node: Node, index: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.node = node
        self.index = index
        self.shape = shape
        self.dtype = dtype

    # --- what it is

    @property
    def graph(self) -> Graph:
        return self.node.graph

    @property
    def name(self) -> str:
        """Its node's name, with ``:1`` and so on behind it for outputs after the first."""
        return f"{self.node.name}:{self.index}" if self.index else self.node.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements. raises ArgumentError when a size is not known before a run."""
        result = 1
        for dim in self.shape:
            if not isinstance(dim, int):
                raise ArgumentError(
                    f"the size of {self.name} {format_shape(self.shape)} is not known before a run",
                    help="fg.size(x) is a tensor that holds it during a run",
                )
            result *= dim
        return result

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def is_known(self) -> bool:
        """Whether every size is a number."""
        return is_known(self.shape)

    def __repr__(self) -> str:
        return f"<Tensor {self.name}: {format_spec(self.shape, self.dtype)}>"

    def _repr_svg_(self) -> str:
        """What a notebook shows: the graph that this tensor needs."""
        return str(FUNCTIONS["draw"]([self]))

    # --- what it is not: an array

    def __bool__(self) -> bool:
        raise self._no_value(
            f"{self.name} has no truth value while the graph is built",
            "fg.where(condition, a, b) chooses between values, fg.cond and fg.while_loop between parts of the graph; "
            "fetch it with session.run to branch in Python",
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._no_value(
            f"{self.name} is a node of a graph, not an array",
            "session.run(tensor, feeds) gives its value; np.tanh(tensor) and the like build nodes, np.stack makes one tensor of several",
        )

    def __float__(self) -> float:
        raise self._no_value(
            f"{self.name} is a node of a graph, not a number",
            "compute with the tensor itself, fg.astype(x, dtype) casts it; in place of filling an array, fg.stack what it would hold; "
            "session.run(tensor, feeds) gives its value",
        )

    __int__ = __index__ = __complex__ = item = tolist = __float__

    def __format__(self, spec: str) -> str:
        if spec == "":
            return str(self)
        raise self._no_value(
            f"{self.name} is a node of a graph, not a number: there is nothing to write as {spec!r}",
            "session.run(tensor, feeds) gives its value",
        )

    def __getattr__(self, name: str) -> Any:
        slip = _SLIPS.get(name)
        if slip is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        raise AttributeError(f"a tensor of flowgraph has no {name!r}: {slip}")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise self._no_value(
            f"{self.name} cannot be written at an index: a tensor never changes",
            "x = x.at[index].set(value) makes a new one; x.at[index].add(value) adds",
        )

    def _no_value(self, message: str, help: str) -> GraphError:
        return GraphError(message, rows=[("made", f"{self.node.location}")], help=help)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self.name} is a scalar, it has no length and no entries")
        if not isinstance(self.shape[0], int):
            raise GraphError(
                f"the first size of {self.name} {format_shape(self.shape)} is not known before a run",
                help="fg.size(x, 0) is a tensor that holds it in a run; fg.map and fg.scan go over its entries, fg.vmap takes all at once",
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        len(self)
        return iter(FUNCTIONS["unstack"](self))

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self

    # --- NumPy's dispatch protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__ if method in ("__call__", "outer") else f"{ufunc.__name__}.{method}"
        function = FUNCTIONS.get(name)
        if method in ("reduce", "accumulate"):
            kwargs.setdefault("axis", 0)
        extra = kwargs.keys() - ({"axis", "keepdims", "dtype"} if name in ("add.reduce", "multiply.reduce") else {"axis", "keepdims"})
        if function is not None and not extra:
            if method == "outer":
                x, y = (value if isinstance(value, Tensor) else np.asarray(value) for value in inputs)
                return function(x[(..., *(None,) * y.ndim)], y)
            return function(*inputs, **kwargs)
        what = name if method != "outer" else f"{name}.outer"
        if method == "at":
            raise GraphError(f"np.{what} has no node in flowgraph", help="x.at[index].add(values) and x.at[index].set(values) are tensors")
        if function is None:
            home = "np." if hasattr(np, ufunc.__name__) else "the ufunc "
            raise GraphError(f"{home}{what} has no node in flowgraph", help=f"see the operations in the reference; {_BY_HAND}")
        option = next((key for key in _OPTIONS if key in extra), "other")
        raise GraphError(f"np.{what} with {', '.join(sorted(extra))}= has no node in flowgraph", help=_OPTIONS[option])

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = func.__name__
        # np.linalg.trace takes the last two axes, np.trace the first two: names that differ so are kept with their module.
        module = func.__module__.rpartition(".")[2]
        function = FUNCTIONS.get(f"{module}.{name}") or FUNCTIONS.get(_OTHER_NAMES.get(name, name))
        if function is None or not func.__module__.startswith("numpy"):
            # (SciPy's functions come here as well)
            home = "np" if func.__module__ == "numpy" else func.__module__.replace("numpy.", "np.")
            raise GraphError(f"{home}.{name} has no node in flowgraph", help=f"see the operations in the reference; {_BY_HAND}")
        try:
            return function(*args, **kwargs)
        except FlowgraphError:
            raise  # a DtypeError is a TypeError, too
        except TypeError as error:
            raise ArgumentError(f"np.{name} on a tensor: {error}", help="see its arguments in the reference") from error

    # --- operators

    def __add__(self, other: Any) -> Tensor:
        return FUNCTIONS["add"](self, other)  # type: ignore[no-any-return]

    def __radd__(self, other: Any) -> Tensor:
        return FUNCTIONS["add"](other, self)  # type: ignore[no-any-return]

    def __sub__(self, other: Any) -> Tensor:
        return FUNCTIONS["subtract"](self, other)  # type: ignore[no-any-return]

    def __rsub__(self, other: Any) -> Tensor:
        return FUNCTIONS["subtract"](other, self)  # type: ignore[no-any-return]

    def __mul__(self, other: Any) -> Tensor:
        return FUNCTIONS["multiply"](self, other)  # type: ignore[no-any-return]

    def __rmul__(self, other: Any) -> Tensor:
        return FUNCTIONS["multiply"](other, self)  # type: ignore[no-any-return]

    def __truediv__(self, other: Any) -> Tensor:
        return FUNCTIONS["divide"](self, other)  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> Tensor:
        return FUNCTIONS["divide"](other, self)  # type: ignore[no-any-return]

    def __floordiv__(self, other: Any) -> Tensor:
        return FUNCTIONS["floor_divide"](self, other)  # type: ignore[no-any-return]

    def __rfloordiv__(self, other: Any) -> Tensor:
        return FUNCTIONS["floor_divide"](other, self)  # type: ignore[no-any-return]

    def __mod__(self, other: Any) -> Tensor:
        return FUNCTIONS["remainder"](self, other)  # type: ignore[no-any-return]

    def __rmod__(self, other: Any) -> Tensor:
        return FUNCTIONS["remainder"](other, self)  # type: ignore[no-any-return]

    def __pow__(self, other: Any) -> Tensor:
        return FUNCTIONS["pow"](self, other)  # type: ignore[no-any-return]

    def __rpow__(self, other: Any) -> Tensor:
        return FUNCTIONS["pow"](other, self)  # type: ignore[no-any-return]

    def __matmul__(self, other: Any) -> Tensor:
        return FUNCTIONS["matmul"](self, other)  # type: ignore[no-any-return]

    def __rmatmul__(self, other: Any) -> Tensor:
        return FUNCTIONS["matmul"](other, self)  # type: ignore[no-any-return]

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return FUNCTIONS["divmod"](self, other)  # type: ignore[no-any-return]

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return FUNCTIONS["divmod"](other, self)  # type: ignore[no-any-return]

    def __neg__(self) -> Tensor:
        return FUNCTIONS["negative"](self)  # type: ignore[no-any-return]

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return FUNCTIONS["abs"](self)  # type: ignore[no-any-return]

    def __round__(self, digits: int = 0) -> Tensor:
        return FUNCTIONS["round"](self, digits)  # type: ignore[no-any-return]

    def __and__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_and"](self, other)  # type: ignore[no-any-return]

    def __rand__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_and"](other, self)  # type: ignore[no-any-return]

    def __or__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_or"](self, other)  # type: ignore[no-any-return]

    def __ror__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_or"](other, self)  # type: ignore[no-any-return]

    def __xor__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_xor"](self, other)  # type: ignore[no-any-return]

    def __rxor__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_xor"](other, self)  # type: ignore[no-any-return]

    def __lshift__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_left_shift"](self, other)  # type: ignore[no-any-return]

    def __rlshift__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_left_shift"](other, self)  # type: ignore[no-any-return]

    def __rshift__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_right_shift"](self, other)  # type: ignore[no-any-return]

    def __rrshift__(self, other: Any) -> Tensor:
        return FUNCTIONS["bitwise_right_shift"](other, self)  # type: ignore[no-any-return]

    def __invert__(self) -> Tensor:
        return FUNCTIONS["bitwise_invert"](self)  # type: ignore[no-any-return]

    # Comparison is element by element, as in NumPy. The hash stays the identity's, so that tensors are keys of feeds;
    # Python's dict compares only keys of equal hash, and two tensors never have one.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return FUNCTIONS["equal"](self, other)

    def __ne__(self, other: object) -> Any:
        return FUNCTIONS["not_equal"](self, other)

    def __lt__(self, other: Any) -> Tensor:
        return FUNCTIONS["less"](self, other)  # type: ignore[no-any-return]

    def __le__(self, other: Any) -> Tensor:
        return FUNCTIONS["less_equal"](self, other)  # type: ignore[no-any-return]

    def __gt__(self, other: Any) -> Tensor:
        return FUNCTIONS["greater"](self, other)  # type: ignore[no-any-return]

    def __ge__(self, other: Any) -> Tensor:
        return FUNCTIONS["greater_equal"](self, other)  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> Tensor:
        return FUNCTIONS["getitem"](self, index)  # type: ignore[no-any-return]

    @property
    def at(self) -> Any:
        """Where it is to be changed: ``x.at[index].set(values)`` and ``.add(values)`` are tensors; ``x`` stays as it is."""
        return FUNCTIONS["at"](self)

    # --- methods that an ndarray has

    @property
    def T(self) -> Tensor:
        """The matrix transposed: axes in reverse order."""
        return FUNCTIONS["permute_dims"](self, None)  # type: ignore[no-any-return]

    @property
    def mT(self) -> Tensor:
        """The matrices in the last two axes transposed."""
        return FUNCTIONS["swapaxes"](self, -1, -2)  # type: ignore[no-any-return]

    @property
    def real(self) -> Tensor:
        """The real part; a real tensor itself."""
        return FUNCTIONS["real"](self)  # type: ignore[no-any-return]

    @property
    def imag(self) -> Tensor:
        """The imaginary part; zeros for a real tensor."""
        return FUNCTIONS["imag"](self)  # type: ignore[no-any-return]

    def conj(self) -> Tensor:
        return FUNCTIONS["conj"](self)  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Tensor:
        return FUNCTIONS["reshape"](self, shape[0] if len(shape) == 1 else shape)  # type: ignore[no-any-return]

    def flatten(self) -> Tensor:
        """Its elements row by row, as a vector."""
        return FUNCTIONS["reshape"](self, -1)  # type: ignore[no-any-return]

    ravel = flatten

    def squeeze(self, axis: int | Sequence[int] | None = None) -> Tensor:
        return FUNCTIONS["squeeze"](self, axis)  # type: ignore[no-any-return]

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        return FUNCTIONS["swapaxes"](self, axis1, axis2)  # type: ignore[no-any-return]

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        return FUNCTIONS["repeat"](self, repeats, axis)  # type: ignore[no-any-return]

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        return FUNCTIONS["take"](self, indices, axis)  # type: ignore[no-any-return]

    def nonzero(self) -> tuple[Tensor, ...]:
        return FUNCTIONS["nonzero"](self)  # type: ignore[no-any-return]

    def argsort(self, axis: int | None = -1) -> Tensor:
        return FUNCTIONS["argsort"](self, axis)  # type: ignore[no-any-return]

    def searchsorted(self, values: Any, side: Any = "left") -> Tensor:
        return FUNCTIONS["searchsorted"](self, values, side)  # type: ignore[no-any-return]

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return FUNCTIONS["diagonal"](self, offset, axis1, axis2)  # type: ignore[no-any-return]

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return FUNCTIONS["trace"](self, offset, axis1, axis2)  # type: ignore[no-any-return]

    def round(self, decimals: int = 0) -> Tensor:
        return FUNCTIONS["round"](self, decimals)  # type: ignore[no-any-return]

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        return FUNCTIONS["clip"](self, min, max)  # type: ignore[no-any-return]

    def dot(self, other: Any) -> Tensor:
        return FUNCTIONS["dot"](self, other)  # type: ignore[no-any-return]

    def transpose(self, *axes: Any) -> Tensor:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return FUNCTIONS["permute_dims"](self, order)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Tensor:
        return FUNCTIONS["astype"](self, dtype)  # type: ignore[no-any-return]

    def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["sum"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def mean(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["mean"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def max(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["max"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def min(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["min"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def prod(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["prod"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def any(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["any"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def all(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["all"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def var(self, axis: int | Sequence[int] | None = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["var"](self, axis=axis, correction=correction, keepdims=keepdims)  # type: ignore[no-any-return]

    def std(self, axis: int | Sequence[int] | None = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["std"](self, axis=axis, correction=correction, keepdims=keepdims)  # type: ignore[no-any-return]

    def cumsum(self, axis: int | None = None) -> Tensor:
        return FUNCTIONS["cumsum"](self, axis)  # type: ignore[no-any-return]

    def cumprod(self, axis: int | None = None) -> Tensor:
        return FUNCTIONS["cumprod"](self, axis)  # type: ignore[no-any-return]

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["argmax"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["argmin"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]
