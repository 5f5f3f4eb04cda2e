"""Order: sorting and its positions, the largest few, distinct values, membership, and where a value belongs in a sorted row."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..errors import ShapeError
from ..graph import Op, Spec, Tensor, Work, no_gradient, op
from ..graph.arguments import as_choice, as_count, as_flag
from ..graph.op import Batch, Slicing, by_loop, public
from ..graph.spec import format_shape, normalize_axis
from .batching import full, moved, widened
from .elementwise import equal, less, less_equal
from .gather import take_along_axis
from .reduce import size, sum
from .samples import Drawn, Over, Sample
from .shape import flip, reshape, reshape_behind

Side = Literal["left", "right"]
ROWS = [((1,),), ((4,),), ((0, 3),), ((3, 0),), ((3, 4),), ((2, 3, 2),)]


def _each_axis(shape: tuple[int, ...]) -> list[dict[str, Any]]:
    return [{"axis": axis} for axis in range(len(shape))]


def _into(out: Any, result: Any) -> Any:
    """``result``, copied to ``out`` where there is one."""
    if out is None:
        return result
    out[...] = result
    return out


class Ordering(Op):
    """Base of sort and argsort: along ``axis``, from the smallest on, NaN last; equals as they come."""

    def work(self, x: Any, *, axis: int) -> Work:
        count = Spec(x.shape, x.dtype).size
        return Work(count * 100 * max(1, np.log2(x.shape[axis] or 1)), 2 * count * x.dtype.itemsize)

    def slicing(self, out: Any, x: Any, *, axis: int) -> Slicing | None:
        return Slicing((True,), x.shape[0]) if axis and x.shape[0] > 1 else None

    samples = Over(ROWS, attrs=_each_axis, apart=0.05) + Drawn(
        lambda rng: [
            Sample((np.array([[2.0, 1.0, np.nan, 1.0, -np.inf, 2.0, -0.0, 0.0]]),), {"axis": 1}, edges=True),
            Sample((rng.integers(0, 3, (20, 2)),), {"axis": 0}, edges=True),
            Sample((rng.random((3, 4)) < 0.5,), {"axis": 1}, edges=True),
        ]
    )


class Sort(Ordering):
    """The elements in order."""

    in_place = True

    def infer(self, x: Any, *, axis: int) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        if xp is not np and x.dtype.kind == "V":
            return _into(out, xp.sort(_ordered(xp, x), axis=axis, kind="stable").astype(x.dtype))
        if out is None:
            return xp.sort(x, axis=axis, kind="stable")
        if out is not x:
            out[...] = x
        out.sort(axis=axis, kind="stable")
        return out

    def jvp(self, tangents: Any, out: Tensor, x: Tensor, *, axis: int) -> Any:
        return take_along_axis(tangents[0], _argsort(x, axis=axis), axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        return take_along_axis(g, _argsort(_argsort(x, axis=axis), axis=axis), axis)  # to where each element came from

    def vmap(self, batch: Batch, x: Tensor, *, axis: int) -> Tensor:
        return _sort(x, axis=axis + 1)


class Argsort(Ordering):
    """The positions that put the elements in order."""

    vjp = no_gradient("positions are constant between their jumps")

    def infer(self, x: Any, *, axis: int) -> Spec:
        return Spec(x.shape, np.dtype("int64"))

    def kernel(self, xp: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        return _into(out, xp.argsort(_ordered(xp, x), axis=axis, kind="stable"))

    def vmap(self, batch: Batch, x: Tensor, *, axis: int) -> Tensor:
        return _argsort(x, axis=axis + 1)


class TopPositions(Op):
    """The positions of the ``k`` largest along the last axis, the largest first, NaN before all; equals as they come."""

    vjp = no_gradient("positions are constant between their jumps")

    def infer(self, x: Any, *, k: int) -> Spec:
        length = x.shape[-1]
        if isinstance(length, int) and k > length:
            raise ShapeError(f"there are {length} elements along the axis, fewer than {k}")
        return Spec((*x.shape[:-1], k), np.dtype("int64"))

    def kernel(self, xp: Any, x: Any, *, k: int, out: Any = None) -> Any:
        return _into(out, self.largest(xp, _ordered(xp, x), k))

    def slicing(self, out: Any, x: Any, *, k: int) -> Slicing | None:
        return Slicing((True,), x.shape[0]) if len(x.shape) > 1 and x.shape[0] > 1 else None

    def largest(self, xp: Any, x: Any, k: int) -> Any:
        """The kernel."""
        length = x.shape[-1]
        if k > length:
            raise ShapeError(f"there are {length} elements along the axis, fewer than {k}")
        if not 0 < 4 * k < length or x.dtype.kind not in "iuf" or (x != x).any():
            return _falling(xp, x)[..., :k]
        # The k-th largest by partition, in a time that does not grow with k; what exceeds it, and of its equals the first ones.
        least = xp.partition(x, length - k, axis=-1)[..., length - k, None]
        above, level = x > least, x == least
        chosen = above | (level & (xp.cumsum(level, axis=-1) <= k - above.sum(axis=-1, keepdims=True)))
        found = xp.nonzero(chosen)[-1].reshape(*x.shape[:-1], k)
        return xp.take_along_axis(found, _falling(xp, xp.take_along_axis(x, found, axis=-1)), axis=-1)

    def vmap(self, batch: Batch, x: Tensor, *, k: int) -> Tensor:
        return _top_positions(x, k=k)

    def work(self, x: Any, *, k: int) -> Work:
        count = Spec(x.shape, x.dtype).size
        return Work(count * 200, 4 * count * x.dtype.itemsize)

    samples = Over(ROWS[1:2], attrs=[{"k": k} for k in (0, 1, 4)]) + Drawn(
        lambda rng: [
            Sample((np.array([1.0, np.nan, 3.0, np.inf, np.nan, 0.0, 2.0, 2.0, -np.inf]),), {"k": 2}),
            Sample((np.zeros((0, 9)),), {"k": 2}),
            *(
                Sample((rng.integers(0, 4, (5, 30)).astype(dtype),), {"k": k})
                for dtype in ("float64", "int32", "uint8", "bool")
                for k in (1, 3, 30)
            ),
        ]
    )


def _ordered(xp: Any, x: Any) -> Any:
    """``x`` as numbers of the same order that can be sorted: CuPy sorts no bfloat16."""
    return x.astype(np.float32) if xp is not np and x.dtype.kind == "V" else x


def _falling(xp: Any, x: Any) -> Any:
    """The positions along the last axis from the largest on, equals as they come."""
    return (x.shape[-1] - 1 - xp.argsort(x[..., ::-1], axis=-1, kind="stable"))[..., ::-1]


class Searchsorted(Op):
    """Where in the sorted row ``x`` each of ``values`` belongs: how many of x are below it ("left"), or not above it ("right")."""

    vjp = no_gradient("a position is constant between its jumps")

    def infer(self, x: Any, values: Any, *, side: str) -> Spec:
        if len(x.shape) != 1:
            raise ShapeError(f"the sorted tensor has one axis, got {format_shape(x.shape)}", help="fg.vmap searches row by row")
        return Spec(values.shape, np.dtype("int64"))

    def kernel(self, xp: Any, x: Any, values: Any, *, side: str) -> Any:
        return xp.searchsorted(_ordered(xp, x), _ordered(xp, values), side=side)

    def vmap(self, batch: Batch, x: Tensor, values: Tensor, *, side: str) -> Tensor:
        if not batch.inputs[0]:
            return _searchsorted(x, values, side=side)
        values = full(batch, values, 1)[..., None]
        return sum((less if side == "left" else less_equal)(widened(x, values.ndim - 2), values), axis=-1)

    samples = Drawn(
        lambda rng: [
            Sample((np.sort(rng.integers(0, 6, 7)).astype(float), rng.integers(-1, 8, shape).astype(float)), {"side": side})
            for shape in ((), (5,), (2, 3), (0,))
            for side in ("left", "right")
        ]
    )


class Isin(Op):
    """Whether each element of ``x`` is one of ``values``."""

    vjp = no_gradient("a truth value has no derivative")

    def infer(self, x: Any, values: Any) -> Spec:
        return Spec(x.shape, np.dtype(bool))

    def kernel(self, xp: Any, x: Any, values: Any) -> Any:
        return xp.isin(_ordered(xp, x), _ordered(xp, values))

    def vmap(self, batch: Batch, x: Tensor, values: Tensor) -> Tensor:
        if not batch.inputs[1]:
            return isin(x, values)
        x = full(batch, x, 0)[..., None]
        rows = reshape_behind(values, shape=(-1,), keep=1)
        return sum(equal(x, widened(rows, x.ndim - 2)), axis=-1) > 0

    samples = Drawn(
        lambda rng: [Sample((rng.integers(0, 6, s), rng.integers(0, 6, v))) for s in ((), (2, 3), (0,)) for v in ((4,), (2, 2), (0,))]
    )


class Unique(Op):
    """The distinct elements in order, and for each part asked for: first positions, which one each element is, how often each occurs."""

    vjp = no_gradient("which elements are equal is constant between its jumps; take the elements at their first positions")
    vmap = by_loop("each entry has as many distinct elements as it likes")

    def infer(self, x: Any, *, parts: tuple[str, ...]) -> list[Spec]:
        whole = np.dtype("int64")
        return [Spec((None,), x.dtype), *(Spec(x.shape if part == "inverse" else (None,), whole) for part in parts)]

    def kernel(self, xp: Any, x: Any, *, parts: tuple[str, ...]) -> Any:
        dtype, x = x.dtype, _ordered(xp, x)
        if not parts:
            return xp.unique(x).astype(dtype, copy=False)
        values, *found = xp.unique(x, **{f"return_{part}": True for part in parts})
        shaped = [f.reshape(x.shape) if part == "inverse" else f for part, f in zip(parts, found, strict=True)]
        return values.astype(dtype, copy=False), *shaped

    samples = Over(
        [((),), ((7,),), ((0, 2),), ((2, 4),)],
        (0, 3),
        dtypes=("int64",),
        attrs=({"parts": ()}, {"parts": ("index", "inverse", "counts")}, {"parts": ("counts",)}),
    )


_sort = op(Sort)
_argsort = op(Argsort)
_top_positions = op(TopPositions)
_searchsorted = op(Searchsorted)
isin = public(op(Isin))
_unique = op(Unique)


def sort(x: Any, axis: int | None = -1, descending: bool = False) -> Tensor:
    """``x`` in order along ``axis`` (None: flattened), NaN behind all; the gradient goes back to where each element came from.

    raises  ShapeError for an axis out of range

    >>> session.run(fg.sort([3, 1, 2], descending=True))
    array([3, 2, 1])
    """
    (x,) = _sort.lift((x,))
    x, place = (reshape(x, -1), 0) if axis is None else (x, normalize_axis(axis, x.ndim))
    result = _sort(x, axis=place)
    return flip(result, place) if as_flag(descending, "descending") else result


def argsort(x: Any, axis: int | None = -1, descending: bool = False) -> Tensor:
    """The positions (int64) that put ``x`` in order along ``axis`` (None: flattened); equals stay as they come.

    >>> session.run(fg.argsort([3, 1, 3, 2], descending=True))
    array([0, 2, 3, 1])
    """
    (x,) = _argsort.lift((x,))
    x, place = (reshape(x, -1), 0) if axis is None else (x, normalize_axis(axis, x.ndim))
    if not as_flag(descending, "descending"):
        return _argsort(x, axis=place)
    length: Any = x.shape[place]
    last = length - 1 if isinstance(length, int) else size(x, axis=place) - 1
    return last - flip(_argsort(flip(x, place), axis=place), place)


def top_k(x: Any, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The ``k`` largest elements along ``axis``, the largest first, and their positions (int64); equals as they come, NaN before all.

    raises  ShapeError for a ``k`` larger than the axis, ArgumentError for one that is no whole number

    >>> session.run(fg.top_k([1.0, 4.0, 2.0], 2))
    (array([4., 2.]), array([1, 2]))
    """
    (x,) = _argsort.lift((x,))
    k = as_count(k, "k")
    place = normalize_axis(axis, x.ndim)
    positions = moved(_top_positions(moved(x, place, x.ndim - 1), k=int(k)), x.ndim - 1, place)
    return take_along_axis(x, positions, place), positions


def searchsorted(x: Any, values: Any, side: Side = "left") -> Tensor:
    """Where in the sorted vector ``x`` each of ``values`` would be put in to keep the order (int64).

    side    "left": before its equals; "right": behind them
    raises  ShapeError when ``x`` is no vector, ArgumentError for another ``side``

    >>> session.run(fg.searchsorted([10, 20, 30], [5, 20]))
    array([0, 1])
    """
    as_choice(side, "searchsorted: side", ("left", "right"))
    return _searchsorted(x, values, side=side)


def unique(x: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """The distinct elements of ``x`` in order; how many is known only in a run.

    return_index    also the first position of each in the flattened ``x``
    return_inverse  also, in the shape of ``x``, which of them each element is
    return_counts   also how often each occurs
    returns         a tensor, or a tuple of it and what was asked for

    >>> session.run(fg.unique([3, 1, 3], return_counts=True))
    (array([1, 3]), array([1, 2]))
    """
    wanted = {"index": return_index, "inverse": return_inverse, "counts": return_counts}
    parts = tuple(part for part, is_wanted in wanted.items() if as_flag(is_wanted, f"return_{part}"))
    outputs = _unique.node((x,), {"parts": parts}).outputs
    return outputs if parts else outputs[0]


for _function in (sort, argsort, top_k, searchsorted, unique):
    public(_function)
