"""Differentiation of functions: `grad`, `vjp`, `jvp` and what is made of them. Each builds nodes where it is called.

A function is differentiated by its arguments alone: each becomes an `identity` of its own, so that other uses of the same tensor,
before or beside, count as constant. Hence the functions compose with each other, with `vmap`, loops and branches, to any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, GradientError
from ..graph import Tensor
from ..graph.arguments import as_choice, as_function, as_int, call, counted
from ..graph.context import current, entered
from ..graph.nest import Rebuild, flatten
from ..graph.op import as_array
from ..graph.report import spec_text, where
from ..graph.spec import format_shape, format_spec, may_be_equal
from ..ops.create import arange
from ..ops.elementwise import astype, equal
from ..ops.reduce import size
from ..ops.shape import moveaxis, reshape, reshape_like, zeros_like
from ..ops.state import identity
from .forward import push_forward
from .gradients import Unconnected, gradients
from .paths import no_path
from .rebuild import rebuilt
from .vmap import vmap

Argnums = int | Sequence[int]


def grad(function: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, unconnected: Unconnected = "zero") -> Any:
    """The function that gives the gradient of ``function``, a number, by an argument.

    function     takes tensors (and whatever else it likes), returns one real scalar; with ``has_aux`` a pair of it and anything else
    argnums      which argument, or a tuple of several; each a float tensor or a nesting of them
    has_aux      whether the function returns ``(scalar, aux)``: then so does the result, ``(gradient, aux)``
    unconnected  what an argument gets that the scalar does not depend on: ``"zero"``, ``"none"``, or an ``"error"`` that says where
                 the path stops
    returns      a function of the same arguments: the gradient, nested as the argument is; a tuple of them where ``argnums`` is one
    raises       GradientError where the result is no scalar or an argument is not of floats

    >>> slope = fg.grad(lambda x: x**3)
    >>> session.run([slope(2.0), fg.grad(slope)(2.0), fg.vmap(slope)([1.0, 2.0])])
    [np.float64(12.0), np.float64(12.0), array([ 3., 12.])]
    """
    both = _value_and_grad("grad", function, argnums, has_aux, unconnected)

    @_wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, slopes = both(*args, **kwargs)
        return (slopes, value[1]) if has_aux else slopes

    return gradient


def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, unconnected: Unconnected = "zero") -> Any:
    """The function that gives the value of ``function``, a number, and its gradient, both from one forward pass.

    Arguments as for `grad`. returns a function that gives ``(value, gradient)``, and with ``has_aux`` ``((value, aux), gradient)``

    >>> session.run(fg.value_and_grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": 5.0}))
    (np.float64(10.0), {'a': np.float64(5.0), 'b': np.float64(2.0)})
    """
    return _value_and_grad("value_and_grad", function, argnums, has_aux, unconnected)


def _value_and_grad(what: str, function: Callable[..., Any], argnums: Argnums, has_aux: bool, unconnected: Unconnected) -> Any:
    @_wraps(function)
    def both(*args: Any, **kwargs: Any) -> Any:
        applied = _Applied.by_argnums(what, function, argnums, args, kwargs, has_aux)
        y = _scalar(what, applied)
        with applied.entered():
            found = gradients(y, applied.xs, unconnected="none" if unconnected == "error" else unconnected)
        for x, name, slope in zip(applied.xs, applied.names, found, strict=True):
            if slope is None and unconnected == "error":
                raise no_path([y], x, name=f"the argument {name}")
        slopes = applied.nested_xs(found)
        slopes = slopes[0] if isinstance(argnums, int) else slopes
        return ((y, applied.aux) if has_aux else y), slopes

    return both


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of ``function`` at ``primals``, and its pullback: the function from a cotangent of the value to those of the primals.

    function  takes tensors, returns a tensor or a nesting of them; with ``has_aux`` a pair of it and anything else
    primals   float tensors or nestings of them, one for each argument
    returns   ``(y, pullback)``, with ``has_aux`` ``(y, pullback, aux)``. ``pullback(g)`` takes what y is in shape, dtype and nesting (None
              stands for zeros) and returns a tuple with one cotangent for each primal; call it as often as you like
    raises    GradientError for primals that are no floats, and for a cotangent that does not fit y

    >>> y, pullback = fg.vjp(lambda x: fg.sin(x), [0.0, 1.0])
    >>> session.run(pullback([1.0, 0.0]))
    (array([1., 0.]),)
    """
    applied = _Applied("vjp", function, primals, has_aux)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        leaves, _ = flatten(with_arrays(cotangent))
        if len(leaves) != len(applied.ys):
            raise GradientError(f"vjp: the value has {counted(len(applied.ys), 'tensor')}, the cotangent {len(leaves)}")
        return tuple(applied.nested_xs(applied.pull(leaves)))

    return (applied.value, pullback, applied.aux) if has_aux else (applied.value, pullback)


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False) -> Any:
    """The value of ``function`` at ``primals``, and its tangent: how the value moves when the primals move along ``tangents``.

    function  takes tensors, returns a tensor or a nesting of them; with ``has_aux`` a pair of it and anything else
    primals   tuple of the arguments: float tensors or nestings of them
    tangents  tuple of as many, each like its primal in shape, dtype and nesting; None stands for zeros
    returns   ``(y, tangent)``, nested alike (None for an integer in y); with ``has_aux`` ``(y, tangent, aux)``
    raises    GradientError for primals that are no floats, and for tangents that do not fit them

    >>> session.run(fg.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0)))
    (np.float64(6.0), np.float64(3.0))
    """
    _check_pair("jvp", primals, tangents)
    if len(primals) != len(tangents):
        raise GradientError(f"jvp: there are {counted(len(primals), 'primal')} and {counted(len(tangents), 'tangent')}")
    applied = _Applied("jvp", function, primals, has_aux)
    leaves, _ = flatten(with_arrays(tuple(tangents)))
    if len(leaves) != len(applied.xs):
        raise GradientError(f"jvp: the primals have {counted(len(applied.xs), 'tensor')}, the tangents {len(leaves)}")
    tangent = applied.nested_ys(applied.push(leaves))
    return (applied.value, tangent, applied.aux) if has_aux else (applied.value, tangent)


def _check_pair(what: str, primals: Any, tangents: Any) -> None:
    for given, name in ((primals, "primals"), (tangents, "tangents")):
        if not isinstance(given, tuple | list):
            help = f"fg.{what}(f, (x,), (t,))"
            raise ArgumentError(f"{what}: {name} is a tuple with one entry for each argument, got {given!r:.60}", help=help)


def jacobian(function: Callable[..., Any], argnums: Argnums = 0, *, mode: Literal["forward", "reverse"] | None = None) -> Any:
    """The function that gives all derivatives of the results of ``function`` by an argument.

    function  takes tensors, returns a float tensor or a nesting of them
    argnums   which argument, or a tuple of several
    mode      ``"reverse"`` makes a row for each number in the results, ``"forward"`` a column for each number in the arguments, all at
              once (`vmap`); None takes the smaller number
    returns   a function of the same arguments. For each tensor y of the results, nested as they are, the derivatives by the argument,
              nested as it is (a tuple where ``argnums`` is one): tensors of shape ``(*y.shape, *x.shape)``
    raises    GradientError where arguments or results are not of floats

    >>> session.run(fg.jacobian(lambda x: x**2)([1.0, 2.0, 3.0]))
    array([[2., 0., 0.],
           [0., 4., 0.],
           [0., 0., 6.]])
    """
    as_choice(mode, "jacobian: mode", ("forward", "reverse", None))

    @_wraps(function)
    def derivatives(*args: Any, **kwargs: Any) -> Any:
        applied = _Applied.by_argnums("jacobian", function, argnums, args, kwargs, False)
        xs, ys = applied.xs, applied.ys
        for y in ys:
            if y.dtype.kind not in "fcV":
                raise GradientError(f"jacobian: the result {y.name} is {y.dtype}, and only floats have derivatives")
        is_complex = any(y.dtype.kind == "c" for y in ys)
        if is_complex and any(x.dtype.kind == "c" for x in xs):
            raise GradientError(
                "jacobian: of a complex result by a complex argument it is not one number for each pair",
                help="take it of fg.real(y) and fg.imag(y); fg.jvp and fg.vjp take complex numbers as they are",
            )
        with applied.entered():
            # (of a complex result by real numbers only the columns are whole: a row's cotangent is real)
            if is_complex or (mode or _cheaper(xs, ys)) == "forward":
                table = _columns(applied)
            else:
                table = [applied.pull_each(i) for i in range(len(ys))]
        rows = [applied.nested_xs(row) for row in table]
        return applied.nested_ys([row[0] if isinstance(argnums, int) else row for row in rows])

    return derivatives


def _columns(applied: _Applied) -> list[list[Tensor]]:
    columns = [applied.push_each(j) for j in range(len(applied.xs))]
    return [[column[i] for column in columns] for i in range(len(applied.ys))]


def _cheaper(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> str:
    if not all(t.is_known for t in (*xs, *ys)):
        return "reverse"
    return "forward" if sum(x.size for x in xs) < sum(y.size for y in ys) else "reverse"


def hessian(function: Callable[..., Any], argnums: Argnums = 0) -> Any:
    """The function that gives all second derivatives of ``function``, a number, by an argument: forward over reverse.

    Arguments as for `grad`. returns a function whose result is `jacobian`'s of the gradient: of shape ``(*x.shape, *x.shape)``

    >>> session.run(fg.hessian(lambda x: x[0] * x[1] ** 2)([1.0, 3.0]))
    array([[0., 6.],
           [6., 2.]])
    """
    twice = jacobian(_value_and_grad_only("hessian", function, argnums), argnums, mode="forward")

    @_wraps(function)
    def derivatives(*args: Any, **kwargs: Any) -> Any:
        return twice(*args, **kwargs)

    return derivatives


def hvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of ``function``, a number, times ``tangents``, without the Hessian: at a few times the cost of ``function``.

    primals   tuple of the arguments: float tensors or nestings of them
    tangents  tuple of as many, each like its primal
    returns   a tuple with one product for each primal
    raises    GradientError as for `grad` and `jvp`

    >>> session.run(fg.hvp(lambda x: fg.sum(x**3), ([1.0, 2.0],), ([1.0, 1.0],)))
    (array([ 6., 12.]),)
    """
    _check_pair("hvp", primals, tangents)
    gradient = _value_and_grad_only("hvp", function, tuple(range(len(primals))))
    return tuple(jvp(gradient, primals, tangents)[1])


def _value_and_grad_only(what: str, function: Callable[..., Any], argnums: Argnums) -> Callable[..., Any]:
    both = _value_and_grad(what, function, argnums, False, "zero")
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


class _Applied:
    """A function applied to primals: ``xs`` are theirs alone, ``ys`` its results, both flat.

    names       what the primals are called in messages
    pull, push  the maps of cotangents and tangents; in the graph of the ys as plain nodes, in a sub-graph of it (inside a `vmap`, say)
                by making again there what depends on the cotangents
    """

    def __init__(self, what: str, function: Callable[..., Any], primals: Sequence[Any], has_aux: bool) -> None:
        self.what = what
        leaves, rebuild = flatten(with_arrays(tuple(primals)))
        if not leaves:
            raise ArgumentError(f"{what}: there is nothing to differentiate by")
        tensors = identity.lift(leaves)
        self.names = [leaf.name if isinstance(leaf, Tensor) else f"{leaf!r:.40}" for leaf in leaves]
        for name, x in zip(self.names, tensors, strict=True):
            if x.dtype.kind not in "fcV":
                raise GradientError(
                    f"{what}: {name} is {x.dtype}, and only floats have derivatives",
                    help="write 2.0 for 2, cast with fg.astype(x, dtype), or leave it out of what is differentiated by",
                )
        self.graph: Any = tensors[0].graph
        self.nested_xs: Rebuild = rebuild
        with self.entered():
            self.xs = [identity(x) for x in tensors]
            result = call(function, f"{what}: the function", counted(len(primals), "argument"), *rebuild(self.xs))
            self.aux: Any = None
            if has_aux:
                if not isinstance(result, tuple) or len(result) != 2:
                    raise ArgumentError(f"{what}: with has_aux the function returns (result, aux), got {result!r:.60}")
                result, self.aux = result
            leaves, self.nested_ys = flatten(result)
            self.ys = list(identity.lift((*self.xs, *leaves))[len(self.xs) :])
        self.value = self.nested_ys(self.ys)
        self._made: dict[Any, Any] = {}  # tangents of the ys from stand-ins, by the xs that move

    @classmethod
    def by_argnums(
        cls, what: str, function: Callable[..., Any], argnums: Argnums, args: Sequence[Any], kwargs: dict[str, Any], has_aux: bool
    ) -> _Applied:
        """Of ``args`` those with the numbers ``argnums`` are the primals."""
        named = argnums if isinstance(argnums, tuple | list) else (argnums,)
        numbers = [as_int(number, f"{what}: argnums") for number in named]
        places = [n + len(args) if n < 0 else n for n in numbers]
        if not all(0 <= place < len(args) for place in places) or len(set(places)) < len(places):
            raise ArgumentError(f"{what}: argnums {argnums} does not fit {counted(len(args), 'argument')}")

        def of_primals(*primals: Any) -> Any:
            given = list(args)
            for place, primal in zip(places, primals, strict=True):
                given[place] = primal
            return call(function, f"{what}: the function", counted(len(args) + len(kwargs), "argument"), *given, **kwargs)

        return cls(what, of_primals, [args[place] for place in places], has_aux)

    def entered(self) -> Any:
        """The context in which nodes of the graph of the xs are made."""
        here = current()
        return entered(here if here.graph is self.graph else self.graph.root)

    def pull(self, cotangents: Sequence[Any]) -> list[Tensor]:
        """The cotangents of the xs from those of the ys, of which None stands for zeros."""
        given = self._checked(cotangents, self.ys, "cotangent of the result")
        at = [i for i, g in enumerate(given) if g is not None]
        if not at:
            return [zeros_like(x) for x in self.xs]
        return gradients([self.ys[i] for i in at], self.xs, grad_ys=[given[i] for i in at])

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """The tangents of the ys from those of the xs, of which None stands for zeros; None for a y that is no float."""
        given = self._checked(tangents, self.xs, "tangent")
        at = tuple(i for i, t in enumerate(given) if t is not None)
        moving = [given[i] for i in at]
        if not at or moving[0].graph is self.graph:
            return self._pushed(at, moving)
        # In a sub-graph (a batch): made once here from stand-ins, and what depends on these made again there.
        if at not in self._made:
            with self.entered():
                stand_ins = [zeros_like(self.xs[i]) for i in at]
                self._made[at] = stand_ins, self._pushed(at, stand_ins)
        stand_ins, results = self._made[at]
        there = iter(rebuilt([r for r in results if r is not None], dict(zip(stand_ins, moving, strict=True)), whole=False)[0])
        return [None if r is None else next(there) for r in results]

    def _pushed(self, at: Sequence[int], tangents: Sequence[Tensor]) -> list[Any]:
        moved = push_forward(self.ys, [self.xs[i] for i in at], tangents) if at and self.ys else [None] * len(self.ys)
        return [None if y.dtype.kind not in "fcV" else zeros_like(y) if t is None else t for y, t in zip(self.ys, moved, strict=True)]

    def pull_each(self, position: int) -> list[Tensor]:
        """For every number in y ``position``, the cotangents of the xs: ``(*y.shape, *x.shape)``."""
        y = self.ys[position]
        rows = vmap(lambda i: self.pull([_unit(y, i) if k == position else None for k in range(len(self.ys))]))(_numbers(y))
        return [self._spread(row, y, 0) for row in rows]

    def push_each(self, position: int) -> list[Tensor]:
        """For every number in x ``position``, the tangents of the ys: ``(*y.shape, *x.shape)``."""
        x = self.xs[position]
        columns = vmap(lambda i: self.push([_unit(x, i) if k == position else None for k in range(len(self.xs))]))(_numbers(x))
        return [self._spread(moveaxis(column, 0, -1), x, column.ndim - 1) for column in columns]

    def _spread(self, table: Tensor, over: Tensor, axis: int) -> Tensor:
        """``table`` with its axis ``axis`` of all numbers of ``over`` made the axes that ``over`` has."""
        if over.ndim == 1:
            return table
        shape = (*table.shape[:axis], *over.shape, *table.shape[axis + 1 :])
        unknown = [d for d in shape if not isinstance(d, int)]
        if len(unknown) > 1:
            raise GradientError(
                f"{self.what}: of {format_shape(shape)} more than one size is unknown before a run",
                help="make the sizes known, or flatten arguments and results to one axis",
            )
        return reshape(table, tuple(d if isinstance(d, int) else -1 for d in shape))

    def _checked(self, given: Sequence[Any], like: Sequence[Tensor], kind: str) -> list[Any]:
        """``given`` as tensors of one graph, each of the shape and dtype of the tensor in ``like``."""
        values = []
        for g, t in zip(given, like, strict=True):
            if g is not None and not isinstance(g, Tensor) and t.dtype.kind in "fcV":
                g = as_array(g, self.what) if hasattr(g, "dtype") else np.asarray(as_array(g, self.what), t.dtype)
            if g is not None and t.dtype.kind not in "fcV":
                g = None  # (whatever moves an integer moves it by nothing)
            if g is not None:
                fits = may_be_equal(g.shape, t.shape)
                if not fits or g.dtype != t.dtype:
                    raise GradientError(
                        f"{self.what}: a {kind} is {format_spec(t.shape, t.dtype)}, as what it belongs to, got {spec_text(g)}",
                        help=f'cast it with astype("{t.dtype}")' if fits else None,
                    )
            values.append(g)
        graph: Any = current().graph
        is_inside = graph.is_sub and graph.is_inside(self.graph)  # within a vmap or a loop in which it was not applied
        with entered(current()) if is_inside else self.entered():
            lifted = iter(identity.lift([g for g in values if g is not None]))
        return [None if g is None else next(lifted) for g in values]


def _numbers(t: Tensor) -> Tensor:
    """0, 1, ... for every number in ``t``."""
    return arange(t.size if t.is_known else size(t))


def _unit(t: Tensor, number: Tensor) -> Tensor:
    """Like ``t``: one where its ``number``-th element is, zero elsewhere."""
    counts = arange(t.size if t.is_known else size(t))
    shaped = reshape(counts, t.shape) if t.is_known else reshape_like(counts, t, axis=None)
    return astype(equal(shaped, number), t.dtype)


def _scalar(what: str, applied: _Applied) -> Tensor:
    """The one result of a function that has a gradient."""
    ys = applied.ys
    if len(ys) != 1:
        raise GradientError(
            f"{what}: the function returns {counted(len(ys), 'tensor')}, and only one scalar has a gradient",
            help="fg.jacobian takes all; with has_aux=True the function returns (scalar, aux)",
        )
    (y,) = ys
    if y.shape != ():
        raise GradientError(
            f"{what}: the function returns shape {format_shape(y.shape)}, and only a scalar has a gradient",
            rows=[("made", where(y.node.location))],
            help="take fg.sum or fg.mean of it; fg.jacobian gives all derivatives, fg.vjp those along a cotangent",
        )
    if y.dtype.kind not in "fV":
        raise GradientError(
            f"{what}: the function returns {y.dtype}, and only a real float has a gradient",
            rows=[("made", where(y.node.location))],
            help="take fg.real or fg.abs of it"
            if y.dtype.kind == "c"
            else "cast it with fg.astype before, where the path still has a gradient",
        )
    return y


def with_arrays(value: Any) -> Any:
    """``value`` with each list of numbers in its nesting made an array, as everywhere else."""
    if isinstance(value, list) and value and _is_of_numbers(value):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        parts = [with_arrays(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return {key: with_arrays(part) for key, part in value.items()} if isinstance(value, dict) else value


def _is_of_numbers(value: Any) -> bool:
    return all(_is_of_numbers(v) for v in value) if isinstance(value, list) else isinstance(value, bool | int | float | complex)


def _wraps(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a transformed function the name and documentation of the one that it is made of."""
    as_function(function, "what is differentiated")
    return functools.wraps(function, updated=())
