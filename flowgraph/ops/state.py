"""Where values come from and go to: placeholders, constants, variables and their updates; and nodes that only pass a value on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Graph, Node, Op, Spec, Tensor, no_gradient, op
from ..graph.context import current, entered
from ..graph.op import Batch, as_array, cast_exactly, public
from ..graph.spec import as_dtype, as_shape, format_shape, is_known
from .samples import UNARY_SHAPES, Over
from .shape import View


@runtime_checkable
class Initializer(Protocol):
    """What makes a variable's first value: its shape and dtype, and a draw from a generator. `flowgraph.init` has the usual ones."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the value."""

    def __call__(self, generator: np.random.Generator) -> np.ndarray[Any, Any]: ...


class Source(Op):
    """Base of what has no inputs: the plan takes its value from elsewhere."""

    is_stateful = True
    vjp = no_gradient("it has no inputs")


class Placeholder(Source):
    """A value that is fed."""

    def infer(self, *, shape: Any, dtype: Any) -> Spec:
        return Spec(shape, dtype)


class Constant(Source):
    """A value known when building."""

    is_stateful = False

    def infer(self, *, value: Any) -> Any:
        return value


class Variable(Source):
    """A value that lives in the session between runs."""

    def infer(self, *, shape: Any, dtype: Any, initial: Any, trainable: bool) -> Spec:
        return Spec(shape, dtype)


class Assign(Op):
    """Writes ``value`` to ``variable`` at the end of the run."""

    vjp = no_gradient("an update has no output")
    shape_inputs = (0,)

    def infer(self, variable: Any, value: Any) -> list[Spec]:
        for have, want in zip(value.shape, variable.shape, strict=False):
            if isinstance(have, int) and isinstance(want, int) and have != want:
                break
        else:
            if len(value.shape) == len(variable.shape):
                if value.dtype != variable.dtype:
                    raise DtypeError(
                        f"a {variable.dtype} variable cannot hold {value.dtype}",
                        help="cast with fg.astype(value, dtype)",
                    )
                return []
        raise ShapeError(f"a variable of shape {format_shape(variable.shape)} cannot hold {format_shape(value.shape)}")


class Group(Op):
    """Nothing but a name for several updates: it waits for them."""

    vjp = no_gradient("a group has no output")

    def infer(self) -> list[Spec]:
        return []


class Identity(View):
    """``x`` itself."""

    def infer(self, x: Any) -> Any:
        return x

    def passes(self, out: Any, x: Any) -> bool:
        return True

    def kernel(self, xp: Any, x: Any) -> Any:
        return x

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return identity(x)

    samples = Over(UNARY_SHAPES)


class StopGradient(View):
    """``x`` itself, through which no gradient passes: it counts as constant."""

    def infer(self, x: Any) -> Any:
        return x

    def passes(self, out: Any, x: Any) -> bool:
        return True

    def kernel(self, xp: Any, x: Any) -> Any:
        return x

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return stop_gradient(x)

    vjp = no_gradient("fg.stop_gradient was asked to stop it")
    samples = Over(UNARY_SHAPES)


_placeholder = op(Placeholder)
_constant = op(Constant)
_variable = op(Variable)
_assign = op(Assign)
_group = op(Group)
identity = public(op(Identity))
stop_gradient = op(StopGradient)


def placeholder(name: str, shape: Any = (), dtype: Any = "float32") -> Tensor:
    """A tensor whose value is fed to each run.

    shape   ints; None for a size that may be anything, a string for one that must be equal wherever that string stands
    raises  ArgumentError for a bad size, DtypeError for a bad dtype

    >>> fg.placeholder("images", ("batch", 1, 28, 28), "float32")
    <Tensor images: (batch, 1, 28, 28) float32>
    """
    if isinstance(shape, list | tuple) and any(isinstance(dim, int) and dim < 0 for dim in shape):
        raise ArgumentError(f"placeholder: a size cannot be negative, got {shape!r:.80}", help="None stands for an unknown size")
    return _placeholder(name=_checked(name), shape=as_shape(shape), dtype=as_dtype(dtype))


def _checked(name: Any) -> str:
    if not isinstance(name, str) or not name or ":" in name:
        raise ArgumentError(
            f"a name is a non-empty text without ':', got {name!r}", help='for example "x", as in fg.placeholder("x", (3,))'
        )
    return name


def constant(value: Any, dtype: Any = None, *, name: str | None = None, graph: Graph | None = None) -> Tensor:
    """A tensor that always has ``value``, which is copied.

    value   a number, an array or a nesting of lists
    raises  DtypeError when it is no number or boolean

    >>> session.run(fg.constant([1, 2], "float64"))
    array([1., 2.])
    """
    array = cast_exactly(as_array(value, "constant"), dtype, "constant")
    array.flags.writeable = False
    if graph is not None and graph is not current().graph:
        with entered(graph.root):
            return _constant(name=name, value=array)
    return _constant(name=name, value=array)


def variable(initial: Any = None, name: str | None = None, *, shape: Any = None, dtype: Any = None, trainable: bool = True) -> Tensor:
    """A tensor whose value lives in the session, from run to run, until an update writes it.

    initial    an array or number (copied), an initializer such as ``fg.init.zeros((10,))``, or None: then ``shape`` and ``dtype``
               are needed and the value must be set before it is read (``fg.io.load_weights``, ``session.variables[name] = ...``)
    trainable  whether optimisers update it when they are not told which
    raises     ArgumentError when its shape is not known; ShapeError or DtypeError where ``shape`` or ``dtype`` says otherwise than an
               initializer

    >>> w = fg.variable([1.0, 2.0], name="w")
    >>> session.run(w * 2)
    array([2., 4.])
    """
    if initial is None:
        if shape is None:
            raise ArgumentError("variable: without an initial value it needs a shape", help='fg.variable(shape=(3,), dtype="float32")')
        spec = Spec(as_shape(shape), as_dtype(dtype or "float32"))
    elif isinstance(initial, Initializer) and not isinstance(initial, np.ndarray | np.generic):
        spec = Spec(as_shape(initial.shape), as_dtype(initial.dtype))
        if dtype is not None and as_dtype(dtype) != spec.dtype:
            raise DtypeError(f"variable: the initializer makes {spec.dtype}, not {as_dtype(dtype)}", help="give it the dtype")
    elif isinstance(initial, Tensor):
        raise ArgumentError("variable: its initial value is an array or an initializer, not a tensor", help="run it and give the array")
    elif callable(initial) and not hasattr(initial, "__array__"):
        called = getattr(initial, "__name__", repr(initial))
        raise ArgumentError(f"variable: {called} is no initializer: the shape is missing", help=f"{called}((784, 10)) is one")
    else:
        initial = cast_exactly(as_array(initial, "variable"), dtype, "variable")
        initial.flags.writeable = False
        spec = Spec(initial.shape, initial.dtype)
    if not is_known(spec.shape):
        raise ArgumentError(f"variable: every size must be known, got {format_shape(spec.shape)}")
    if shape is not None and as_shape(shape) != spec.shape:
        raise ShapeError(f"variable: the initial value has shape {format_shape(spec.shape)}, not {format_shape(as_shape(shape))}")
    label = None if name is None else _checked(name)
    here: Any = current()
    if here.graph.is_sub:  # it outlives the call of a body, so it belongs to the graph around; the body reads it
        with entered(here.graph.base.root.replace(scope=here.scope)):
            made = _variable(name=label, shape=spec.shape, dtype=spec.dtype, initial=initial, trainable=bool(trainable))
        return here.graph.capture(made)  # type: ignore[no-any-return]
    return _variable(name=label, shape=spec.shape, dtype=spec.dtype, initial=initial, trainable=bool(trainable))


def is_variable(x: Any) -> bool:
    """Whether ``x`` is what `variable` makes."""
    return isinstance(x, Tensor) and x.node.op is _variable


def assign(variable: Tensor, value: Any) -> Node:
    """An update: a run that fetches it writes ``value`` to ``variable`` at its end. Fetching it gives None.

    Within the run every read of the variable sees the value from before; the new one is the tensor ``value`` itself.

    raises  ArgumentError when ``variable`` is none, ShapeError and DtypeError when the value does not fit

    >>> count = fg.variable(0, name="count")
    >>> session.run(fg.assign(count, count + 1))
    >>> session.run(count)
    np.int64(1)
    """
    here: Any = current().graph
    if here.is_sub:
        raise ArgumentError(
            "assign: a body of a loop or branch cannot write a variable: updates happen at the end of a run",
            help="return the new value from the body, and assign it outside",
        )
    if not is_variable(variable):
        raise ArgumentError(f"assign: the first argument is a variable, got {variable!r:.80}")
    if not isinstance(value, Tensor):
        value = variable.graph.constant(cast_exactly(as_array(value, "assign"), variable.dtype, "assign"))
    return _assign.node((variable, value), {})


def group(updates: Sequence[Node | Tensor], name: str | None = None) -> Node:
    """A node that stands for several: fetching it runs them all and gives None.

    >>> a, b = fg.variable(1.0, name="a"), fg.variable(2.0, name="b")
    >>> both = fg.group([fg.assign(a, b), fg.assign(b, a)])
    >>> session.run(both)
    >>> session.run([a, b])
    [np.float64(2.0), np.float64(1.0)]
    """
    if not isinstance(updates, list | tuple):
        raise ArgumentError(f"group: takes a list of updates, got {updates!r:.80}")
    nodes = tuple(dict.fromkeys(update.node if isinstance(update, Tensor) else update for update in updates))
    if not nodes or not all(isinstance(node, Node) for node in nodes):
        others = [node for node in nodes if not isinstance(node, Node)]
        raise ArgumentError(f"group: takes one update or more, got {others[0]!r:.80}" if others else "group: takes one update or more")
    with entered(current().replace(graph=nodes[0].graph, control=nodes)):
        return _group.node((), {}, name)


public(constant)
public(placeholder)
public(identity.lift)
