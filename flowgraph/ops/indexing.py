"""Indexing with NumPy's meaning, its transpose, and writing at an index.

An index is stored as a tuple of ints, slices and None. Where a tensor stands in it there is the text "i", and the tensor is the next
input; a slice with tensors among its bounds is a tuple of three. ``...`` and masks are gone by then: an ellipsis is written out, and a
mask is the positions where it is true.

Integers, slices and numbers held by tensors give a view (`Getitem`). Integer arrays gather (`Gather`): they broadcast, with the plain
integers beside them, and the axes of the result stand where the arrays stood, or in front when a slice or None parts them.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, DtypeError, FlowgraphError, ShapeError
from ..graph import Dim, Op, Shape, Spec, Tensor, Work, no_gradient, op
from ..graph.context import current
from ..graph.op import Batch, Slicing, as_array, by_loop, public
from ..graph.spec import broadcast_shapes, format_shape
from .batching import full, widened
from .elementwise import add, astype, broadcast_like, equal, like, where
from .samples import UNARY_SHAPES, Drawn, Over, Sample
from .scatter_kernels import add_at, check_positions
from .shape import View, repeat_like, reshape, reshape_like, zeros_like

Index = tuple[Any, ...]
FULL = slice(None)


# --- what an index means


class Picked(NamedTuple):
    """What an index gives: the shape of the result, and where in it the ``axes`` of the index arrays stand, so many of them."""

    shape: Shape
    place: int = 0
    axes: int = 0


def paired(index: Index, values: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Each item of ``index`` with those of ``values``, one for each tensor, that belong to it."""
    if not values:
        return [(item, []) for item in index]
    rest = iter(values)
    return [
        (item, [next(rest)] if item.__class__ is str else [next(rest) for part in item if part == "i"] if item.__class__ is tuple else [])
        for item in index
    ]


def filled(index: Index, tensors: Sequence[Any]) -> Index:
    """``index`` with the arrays where they belong: what NumPy takes."""
    result = []
    for item, own in paired(index, tensors):
        if item.__class__ is tuple:
            bounds = iter(own)
            item = slice(*(int(next(bounds)) if part == "i" else part for part in item))
        result.append(own[0] if item.__class__ is str else item)
    return tuple(result)


def gathers(index: Index, tensors: Sequence[Any]) -> bool:
    """Whether arrays stand in the index, so that the result is no view."""
    return bool(tensors) and any(item == "i" and own[0].shape != () for item, own in paired(index, tensors) if own)


def picked(x: Any, index: Index, tensors: Sequence[Any]) -> Picked:
    """What ``x[index]`` gives. raises ShapeError and DtypeError for an index that does not fit."""
    taken = builtins.sum(1 for item in index if item is not None)
    if taken > len(x.shape):
        raise ShapeError(f"{taken} indices for {len(x.shape)} dimension{'s' * (len(x.shape) != 1)}")
    dims: list[Dim] = []
    arrays: list[tuple[int, int, Shape]] = []  # position in the index, place in the result, shape
    axis = 0
    for position, (item, own) in enumerate(paired(index, tensors)):
        for tensor in own:
            if tensor.dtype.kind not in "iu":
                raise DtypeError(f"an index holds integers, got {tensor.dtype}", help="cast it: fg.astype(index, int)")
        if item is None:
            dims.append(1)
            continue
        dim = x.shape[axis]
        if item.__class__ is tuple:
            dims.append(None)
        elif isinstance(item, slice):
            if item.step == 0:
                raise ArgumentError("the step of a slice cannot be 0")
            known = len(range(*item.indices(dim))) if dim.__class__ is int else None
            dims.append(dim if known is None and item == FULL else known)
        else:
            if item != "i" and isinstance(dim, int) and not -dim <= item < dim:
                raise ShapeError(f"index {item} is out of range for axis {axis} of size {dim}")
            arrays.append((position, len(dims), own[0].shape if own else ()))
        axis += 1
    dims += x.shape[axis:]
    if not gathers(index, tensors):
        return Picked(tuple(dims))
    shape = broadcast_shapes(*(shape for *_, shape in arrays))
    # NumPy: arrays that stand side by side keep their place; parted by a slice or None, they go to the front.
    place = arrays[0][1] if arrays[-1][0] - arrays[0][0] == len(arrays) - 1 else 0
    return Picked((*dims[:place], *shape, *dims[place:]), place, len(shape))


def pick(x: Tensor, tensors: Sequence[Tensor], index: Index) -> Tensor:
    """``x[index]``, as a view where it is one."""
    return (gather if gathers(index, tensors) else _getitem)(x, *tensors, index=index)


# --- the batch in front of an index


class Batched(NamedTuple):
    """An index for every entry of a batch at once.

    whole  the index, with the batch in front
    plan   None where the result is laid out as it should be; else the arrays' axes stand right behind the batch, and not in their place
    """

    whole: Index
    tensors: tuple[Tensor, ...]
    plan: Picked | None


def batched(batch: Batch, x: Tensor, position: int, index: Index, tensors: Sequence[Tensor], first: int) -> Batched:
    """``index`` into the input ``x`` at ``position``, with the batch in front; ``first``: which input the first of ``tensors`` is."""
    carried = batch.inputs[first : first + len(tensors)]
    entry = Spec(x.shape[1:] if batch.inputs[position] else x.shape, x.dtype)
    specs = [Spec(t.shape[1:] if c else t.shape, t.dtype) for t, c in zip(tensors, carried, strict=True)]
    plan = picked(entry, index, specs)
    arrays = [i for i, item in enumerate(index) if item.__class__ in (int, str)]
    parted = plan.axes > 0 and arrays[-1] - arrays[0] != len(arrays) - 1
    if not any(carried) and not parted:
        return Batched((FULL, *index), tuple(tensors), None)
    if any(item.__class__ is tuple and any(own) for item, own in paired(index, carried)):
        raise ArgumentError(
            "vmap: the bounds of a slice differ between the entries of the batch, so the sizes could, too",
            help="for a fixed size: fg.take(x, start + np.arange(size), axis)",
        )
    # A further index array, 0, 1, ... in front: entry i reads row i. With it NumPy puts the arrays' axes behind the batch.
    rows = positions(batch.like, axis=0)[(FULL, *(None,) * plan.axes)]
    wide = [widened(t, plan.axes - (t.ndim - 1)) if c else t for t, c in zip(tensors, carried, strict=True)]
    return Batched(("i", *index), (rows, *wide), plan)


def arrays_in_place(y: Tensor, plan: Picked | None) -> Tensor:
    """``y``, laid out (batch, arrays, before, after), as (batch, before, arrays, after)."""
    return y if plan is None else _swapped(y, plan.axes, plan.place)


def arrays_in_front(y: Tensor, plan: Picked | None) -> Tensor:
    """``y``, laid out (batch, before, arrays, after), as (batch, arrays, before, after)."""
    return y if plan is None else _swapped(y, plan.place, plan.axes)


def _swapped(y: Tensor, one: int, other: int) -> Tensor:
    if not one or not other:
        return y
    return y.transpose((0, *range(1 + one, 1 + one + other), *range(1, 1 + one), *range(1 + one + other, y.ndim)))


# --- the operations


class Getitem(View):
    """Integers, slices and None: a view. Numbers and bounds may be tensors; a size that they decide is known only in a run."""

    def infer(self, x: Any, *tensors: Any, index: Index) -> Spec:
        return Spec(picked(x, index, tensors).shape, x.dtype)

    def kernel(self, xp: Any, x: Any, *tensors: Any, index: Index) -> Any:
        return x[filled(index, tensors) if tensors else index]

    def slicing(self, out: Any, x: Any, *tensors: Any, index: Index) -> Slicing | None:
        return Slicing((True, *(False for _ in tensors)), x.shape[0]) if index and index[0] == FULL else None

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *tensors: Tensor, index: Index) -> Any:
        return (scatter(g, x, *tensors, index=index), *(None for _ in tensors))

    def vmap(self, batch: Batch, x: Tensor, *tensors: Tensor, index: Index) -> Tensor:
        into = batched(batch, x, 0, index, tensors, 1)
        return arrays_in_place(pick(full(batch, x, 0), into.tensors, into.whole), into.plan)

    samples = Drawn(
        lambda rng: [
            *(
                Sample((rng.standard_normal(shape),), {"index": index})
                for shape in ((3, 4), (0, 4))
                for index in ((slice(None, None, -1), slice(1, 3)), (FULL, -1), (slice(0, 2), None), (slice(5, None),))
            ),
            Sample((rng.standard_normal((4, 3)).T,), {"index": (1,)}),
            Sample((rng.standard_normal((3, 4)), np.array(2)), {"index": ("i",)}),
            Sample((rng.standard_normal((3, 4, 2)), np.array(-1), np.array(1)), {"index": ("i", slice(1, None), "i")}),
        ]
    )


class Gather(Op):
    """Indexing in which integer arrays stand: the elements at their positions, as a copy."""

    def infer(self, x: Any, *tensors: Any, index: Index) -> Spec:
        return Spec(picked(x, index, tensors).shape, x.dtype)

    def kernel(self, xp: Any, x: Any, *tensors: Any, index: Index, out: Any = None) -> Any:
        if index[-1] == "i" and index[:-1] == (FULL,) * (len(index) - 1):  # take copies rows whole, where x[index] goes element by element
            axis = len(index) - 1
            if out is None or xp is not np:
                return xp.take(x, tensors[0], axis=axis, out=out)
            check_positions(tensors[0], x.shape[axis], axis)  # (with mode="raise" take would make a copy of `out`)
            return np.take(x, tensors[0], axis=axis, out=out, mode="wrap")
        if out is None:
            return x[filled(index, tensors)]
        out[...] = x[filled(index, tensors)]
        return out

    def slicing(self, out: Any, x: Any, *tensors: Any, index: Index) -> Slicing | None:
        if len(out.shape) == 0 or out.shape[0] < 2:
            return None
        plan = picked(x, index, tensors)
        if index[0] == FULL and plan.place:
            return Slicing((True, *(False for _ in tensors)), out.shape[0])
        if plan.place or any(item.__class__ is tuple for item in index):
            return None
        cut = tuple(len(t.shape) == plan.axes and t.shape[0] == out.shape[0] for t in tensors)
        return Slicing((False, *cut), out.shape[0]) if any(cut) else None

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *tensors: Tensor, index: Index) -> Any:
        return (lambda: scatter(g, x, *tensors, index=index), *(None for _ in tensors))

    def vmap(self, batch: Batch, x: Tensor, *tensors: Tensor, index: Index) -> Tensor:
        if not batch.inputs[0] and len(tensors) == 1 and all(item in ("i", FULL) for item in index):
            # The same rows for all: one index array of more dimensions, whose first axis comes out where the arrays' axes stand.
            axis = index.index("i")
            out = gather(x, *tensors, index=index)
            return out.transpose((axis, *(i for i in range(out.ndim) if i != axis)))
        into = batched(batch, x, 0, index, tensors, 1)
        return arrays_in_place(pick(full(batch, x, 0), into.tensors, into.whole), into.plan)

    def work(self, x: Any, *tensors: Any, index: Index) -> Work:
        size = math.prod(dim for dim in picked(x, index, tensors).shape if isinstance(dim, int))
        return Work(size, 2 * size * x.dtype.itemsize + builtins.sum(t.nbytes for t in tensors))

    samples = Drawn(lambda rng: [Sample((x, *tensors), {"index": index}) for x, tensors, index in _gather_cases(rng)])


def _gather_cases(rng: np.random.Generator) -> list[tuple[Any, tuple[Any, ...], Index]]:
    """(array, index arrays, index): repeats, negative positions, empty, broadcast, side by side and parted."""
    x, cube = rng.standard_normal((4, 3)), rng.standard_normal((2, 3, 4))
    one, two = np.array([1, -1, 1]), np.array([[0], [2]])
    return [
        (x, (np.array([0, 3, -1, 0, 2]),), ("i",)),
        (x, (two,), ("i",)),
        (x, (one,), (FULL, "i")),
        (x.T, (one,), (slice(None, None, -1), "i")),
        (x, (np.zeros(0, "int64"),), ("i",)),
        (rng.standard_normal((0, 3)), (one,), (FULL, "i")),
        (rng.standard_normal(4), (two,), ("i",)),
        (x, (one, one), ("i", "i")),
        (x, (two, one), ("i", "i")),
        (cube, (one, two), ("i", slice(1, None), "i")),
        (cube, (one,), (1, FULL, "i")),
        (cube, (one, np.array(1)), (None, FULL, "i", "i")),
        (cube, (one, two), (FULL, "i", "i")),
        (cube, (np.array([0, 1]), np.array([2, 3])), ("i", None, FULL, "i")),
    ]


class Scatter(Op):
    """Zeros in the shape of ``target``, of which only the shape is used, with ``g`` added at an index: the transpose of indexing.

    Where an index array repeats a position, what lands there adds up, in the order in which it stands in ``g``.
    """

    shape_inputs = (1,)

    def infer(self, g: Any, target: Any, *tensors: Any, index: Index) -> Spec:
        return Spec(target.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, target: Any, *tensors: Any, index: Index, out: Any = None) -> Any:
        if out is None:
            out = xp.zeros(target.shape, g.dtype)
        else:
            out[...] = 0
        if gathers(index, tensors):
            add_at(xp, out, index, tensors, filled(index, tensors), g)
        else:
            out[filled(index, tensors)] = g
        return out

    def vjp(self, g: Tensor, out: Tensor, part: Tensor, target: Tensor, *tensors: Tensor, index: Index) -> Any:
        return (lambda: pick(g, tensors, index), None, *(None for _ in tensors))

    def vmap(self, batch: Batch, g: Tensor, target: Tensor, *tensors: Tensor, index: Index) -> Tensor:
        into = batched(batch, target, 1, index, tensors, 2)
        g = arrays_in_front(full(batch, g, 0), into.plan)
        return scatter(g, full(batch, target, 1), *into.tensors, index=into.whole)

    def work(self, g: Any, target: Any, *tensors: Any, index: Index) -> Work:
        moved = math.prod(g.shape) * g.dtype.itemsize * (6 if tensors else 2)
        return Work(math.prod(g.shape), moved + math.prod(target.shape) * g.dtype.itemsize)

    samples = Drawn(
        lambda rng: [
            Sample((rng.standard_normal(np.shape(x[filled(index, tensors)])), x, *tensors), {"index": index})
            for x, tensors, index in [
                (rng.standard_normal((3, 4)), (), (slice(None, None, -1), slice(1, 3))),
                (rng.standard_normal((3, 4)), (np.array(1),), (FULL, "i", None)),
                *_gather_cases(rng),
            ]
        ]
    )


def check_values(x: Any, values: Any, shape: Shape) -> None:
    """raises ShapeError or DtypeError unless ``values`` broadcast to ``shape``, which an index of ``x`` gives, and x can hold them."""
    both = zip(broadcast_shapes(values.shape, shape), shape, strict=False)
    if len(values.shape) > len(shape) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in both):
        raise ShapeError(f"values of shape {format_shape(values.shape)} do not fit where the index gives {format_shape(shape)}")
    if not np.can_cast(values.dtype, x.dtype, "same_kind"):
        raise DtypeError(f"a {x.dtype} tensor cannot hold {values.dtype}", help="cast with fg.astype(values, dtype)")


class AddAt(Op):
    """``x`` with ``g`` added at an index: ``x + scatter(g)`` at the price of the elements that are there."""

    in_place = True

    def infer(self, x: Any, g: Any, *tensors: Any, index: Index) -> Any:
        check_values(x, g, picked(x, index, tensors).shape)
        return Spec(x.shape, x.dtype)

    def kernel(self, xp: Any, x: Any, g: Any, *tensors: Any, index: Index, out: Any = None) -> Any:
        if out is None:
            out = xp.array(x, order="C")
        elif out is not x:
            g = g.copy() if out is g else g
            out[...] = x
        if gathers(index, tensors):
            add_at(xp, out, index, tensors, filled(index, tensors), g)
        else:
            out[filled(index, tensors)] += g
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, part: Tensor, *tensors: Tensor, index: Index) -> Any:
        return (g, lambda: astype(pick(g, tensors, index), part.dtype), *(None for _ in tensors))

    def vmap(self, batch: Batch, x: Tensor, g: Tensor, *tensors: Tensor, index: Index) -> Tensor:
        into = batched(batch, x, 0, index, tensors, 2)
        return _add_at(full(batch, x, 0), arrays_in_front(full(batch, g, 1), into.plan), *into.tensors, index=into.whole)

    def work(self, x: Any, g: Any, *tensors: Any, index: Index) -> Work:
        return Work(math.prod(g.shape), math.prod(g.shape) * g.dtype.itemsize * (6 if tensors else 3))

    samples = Drawn(
        lambda rng: [
            Sample((x, rng.standard_normal(np.shape(x[filled(index, tensors)])), *tensors), {"index": index})
            for x, tensors, index in [
                (rng.standard_normal((3, 4)), (), (slice(None, None, -1), slice(1, 3))),
                (rng.standard_normal((3, 4)), (), (slice(None),)),
                (rng.standard_normal((3, 4)), (np.array(1),), (FULL, "i", None)),
                *_gather_cases(rng),
            ]
        ]
    )


def accumulated(x: Tensor, y: Tensor) -> Tensor:
    """``x + y`` for tensors of one shape and dtype; of which one that is scattered is added where it belongs only.

    So the gradient of a loop over ``x[0]``, ``x[1]``, ... costs one pass over x, and not one for each.
    """
    if y.node.op is not scatter:
        x, y = y, x
    if y.node.op is not scatter or x.dtype != y.dtype:
        return add(x, y)
    g, _, *tensors = y.node.inputs
    return _add_at(x, g, *tensors, index=y.node.attrs["index"])


class Put(Op):
    """``x`` with ``values``, which broadcast, at an index; where it names a position twice the last one stays."""

    in_place = True

    def infer(self, x: Any, values: Any, *tensors: Any, index: Index) -> Any:
        check_values(x, values, picked(x, index, tensors).shape)
        return Spec(x.shape, x.dtype)

    def kernel(self, xp: Any, x: Any, values: Any, *tensors: Any, index: Index, out: Any = None) -> Any:
        if out is None:
            out = xp.array(x)
        elif out is not x:
            values = values.copy() if out is values else values
            out[...] = x
        out[filled(index, tensors)] = values
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, values: Tensor, *tensors: Tensor, index: Index) -> Any:
        def by_values() -> Tensor:
            taken = pick(g, tensors, index)
            if gathers(index, tensors):
                # Who was overwritten is owed nothing: number the writers, write the numbers, and see whose number stayed.
                number = reshape_like(positions(reshape(taken, -1), axis=0), taken, axis=None)
                stayed = pick(put(astype(zeros_like(x), np.int64), number, *tensors, index=index), tensors, index)
                taken = where(equal(number, stayed), taken, 0)
            return like(taken, values)

        return (lambda: put(g, _zero(g), *tensors, index=index), by_values, *(None for _ in tensors))

    def jvp(self, tangents: Any, out: Tensor, x: Tensor, values: Tensor, *tensors: Tensor, index: Index) -> Any:
        moving = zeros_like(x) if tangents[0] is None else tangents[0]
        return put(moving, _zero(moving) if tangents[1] is None else tangents[1], *tensors, index=index)

    def vmap(self, batch: Batch, x: Tensor, values: Tensor, *tensors: Tensor, index: Index) -> Tensor:
        into = batched(batch, x, 0, index, tensors, 2)
        entry = len(picked(full(batch, x, 0), into.whole, into.tensors).shape) - 1
        values = full(batch, values, 1)
        values = arrays_in_front(widened(values, entry - (values.ndim - 1)), into.plan)
        return put(full(batch, x, 0), values, *into.tensors, index=into.whole)

    samples = Drawn(
        lambda rng: (
            [
                Sample((x, rng.standard_normal(np.shape(x[filled(index, tensors)])[cut:]), *tensors), {"index": index})
                for cut, (x, tensors, index) in enumerate(
                    [
                        (rng.standard_normal((3, 4)), (), (slice(None, None, -1), slice(1, 3))),
                        (rng.standard_normal((3, 4)), (np.array(1),), (FULL, "i")),
                    ]
                )
            ]
            + [
                Sample((x, rng.standard_normal(np.shape(x[filled(index, tensors)])), *tensors), {"index": index})
                for x, tensors, index in _gather_cases(rng)
            ]
        )
    )


def _zero(g: Tensor) -> Tensor:
    return add.lift((g, 0))[1]


class Positions(Op):
    """0, 1, ... along ``axis`` of ``x``, of which only the shape is used."""

    shape_inputs = (0,)
    vjp = no_gradient("positions do not depend on values")

    def infer(self, x: Any, *, axis: int) -> Spec:
        return Spec((x.shape[axis],), np.dtype("int64"))

    def kernel(self, xp: Any, x: Any, *, axis: int) -> Any:
        return xp.arange(x.shape[axis])

    def vmap(self, batch: Batch, x: Tensor, *, axis: int) -> Tensor:
        return repeat_like(positions(x, axis=axis + 1), batch.like)

    samples = Over(UNARY_SHAPES[1:], attrs=lambda s: [{"axis": a} for a in range(len(s))])


class Nonzero(Op):
    """For each axis of ``x`` the positions (int64) where it is not zero, row by row; how many is known only in a run.

    target  optional: ``x`` is a mask for its axes from ``axis`` on, and must have their sizes; only the shape is used
    """

    shape_inputs = (1,)
    vjp = no_gradient("positions are constant between their jumps")
    vmap = by_loop("each entry has as many positions as it likes")

    def infer(self, x: Any, *target: Any, axis: int = 0) -> list[Spec]:
        if not x.shape:
            raise ShapeError("a scalar has no positions", help="use fg.reshape(x, (1,))")
        for of in target:
            for i, (dim, size) in enumerate(zip(x.shape, of.shape[axis:], strict=False)):
                if isinstance(dim, int) and isinstance(size, int) and dim != size:
                    raise ShapeError(f"the mask has size {dim} where axis {axis + i} of the tensor has size {size}")
        return [Spec((None,), np.dtype("int64")) for _ in x.shape]

    def kernel(self, xp: Any, x: Any, *target: Any, axis: int = 0) -> Any:
        for of in target:
            if x.shape != of.shape[axis : axis + x.ndim]:
                raise ShapeError(f"the mask {x.shape} does not fit the tensor {of.shape} from axis {axis} on")
        found = xp.nonzero(x)
        return found if len(found) > 1 else found[0]

    samples = Over(UNARY_SHAPES[1:], (-1, 1), dtypes=("int64",))


_getitem = op(Getitem)
_add_at = op(AddAt)
gather = op(Gather)
scatter = op(Scatter)
put = op(Put)
positions = op(Positions)
_nonzero = op(Nonzero)


# --- what a user writes


def getitem(x: Any, index: Any) -> Tensor:
    """``x[index]`` with NumPy's meaning; a tensor's ``[]`` builds it.

    index   integers, slices, None, ``...``, integer arrays and boolean masks; each may be a tensor, and so may the bounds of a slice.
            Where values of tensors decide a size (masks, bounds), it is known only in a run
    raises  ArgumentError for an index of another kind, ShapeError for one out of range, if that is known; else the run raises

    >>> x = fg.constant([[1, 2], [3, 4], [5, 6]])
    >>> session.run([x[1:, 0], x[[0, 2]], x[x > 4]])
    [array([3, 5]), array([[1, 2],
           [5, 6]]), array([5, 6])]
    """
    items = index if isinstance(index, tuple) else (index,)
    if all(map(_is_plain, items)):  # nearly always, so it is quick: 8 us in place of 20
        return _getitem(x, index=items)
    (x,) = _getitem.lift((x,))
    checked, tensors = _explained(x, index)
    return pick(x, tensors, checked)


_NUMBER = frozenset({int, type(None)})


def _is_plain(item: Any) -> bool:
    """Whether an item of an index is stored as it is."""
    kind = item.__class__
    if kind is slice:
        return item.start.__class__ in _NUMBER and item.stop.__class__ in _NUMBER and item.step.__class__ in _NUMBER
    return kind in _NUMBER


class At:
    """``x.at``: where ``x`` is to be changed, as in JAX; ``x.at[index]`` takes any index that ``x[index]`` takes."""

    __slots__ = ("_x",)

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __getitem__(self, index: Any) -> Place:
        return Place(self._x, *_explained(self._x, index))


class Place:
    """``x.at[index]``: makes tensors that are ``x`` but for the elements there."""

    __slots__ = ("_index", "_tensors", "_x")

    def __init__(self, x: Tensor, index: Index, tensors: tuple[Tensor, ...]) -> None:
        self._x, self._index, self._tensors = x, index, tensors

    def set(self, values: Any) -> Tensor:
        """``x`` with ``values``, which broadcast, there; where the index names a position twice, the last one stays.

        >>> session.run(fg.constant([1, 2, 3]).at[1:].set(0))
        array([1, 0, 0])
        """
        x, values = add.lift((self._x, values))
        return put(x, values, *self._tensors, index=self._index)

    def add(self, values: Any) -> Tensor:
        """``x`` with ``values``, which broadcast, added there, once for each time that the index names a position.

        >>> session.run(fg.constant([1, 2, 3]).at[[0, 0]].add(10))
        array([21,  2,  3])
        """
        x, values = add.lift((self._x, values))
        there = pick(x, self._tensors, self._index)  # only its shape is used
        if len(values.shape) <= len(there.shape) and (values.shape != there.shape or None in there.shape):
            values = broadcast_like(values, there)
        return _add_at(x, values, *self._tensors, index=self._index)


def at(x: Tensor) -> At:
    """``x.at``."""
    return At(x)


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """For each axis of ``x`` the positions (int64) where it is not zero, row by row; how many is known only in a run.

    raises  ShapeError for a scalar

    >>> session.run(fg.nonzero([[1, 0], [0, 2]]))
    (array([0, 1]), array([0, 1]))
    """
    return _nonzero.node((x,), {}).outputs


def _explained(x: Tensor, index: Any) -> tuple[Index, tuple[Tensor, ...]]:
    """What `parsed` gives; its errors name the tensor and the user's line."""
    try:
        return parsed(x, index)
    except FlowgraphError as error:
        raise _getitem._refused(error, current(), (x,), {}, None) from None


def parsed(x: Tensor, index: Any) -> tuple[Index, tuple[Tensor, ...]]:
    """``index`` as it is stored, and the tensors in it."""
    items = index if isinstance(index, tuple) else (index,)
    flat = [_understood(item) for item in items]
    ellipses = [i for i, item in enumerate(flat) if item is Ellipsis]
    if len(ellipses) > 1:
        raise ArgumentError("an index may hold only one ...")
    taken = builtins.sum(_axes_of(item) for item in flat)
    if taken > x.ndim:
        raise ShapeError(f"{taken} indices for {x.ndim} dimension{'s' * (x.ndim != 1)}", help=f"the tensor is {x!r}")
    if ellipses:
        flat[ellipses[0] : ellipses[0] + 1] = [FULL] * (x.ndim - taken)
    while flat and isinstance(flat[-1], slice) and all(part is None for part in (flat[-1].start, flat[-1].stop, flat[-1].step)):
        flat.pop()
    result: list[Any] = []
    tensors: list[Any] = []
    axis = 0
    for item in flat:
        if isinstance(item, slice):
            parts = (item.start, item.stop, item.step)
            tensors += [part for part in parts if isinstance(part, Tensor)]
            is_dynamic = any(isinstance(part, Tensor) for part in parts)
            result.append(tuple("i" if isinstance(part, Tensor) else part for part in parts) if is_dynamic else item)
        elif isinstance(item, Tensor | np.ndarray):
            found = _mask(x, item, axis) if item.dtype == bool else [_in_range(x, item, axis)]
            tensors += found
            result += ["i"] * len(found)
        else:
            result.append(item)
        axis += _axes_of(item)
    lifted = _getitem.lift((x, *tensors))
    return tuple(result), lifted[1:]


def _axes_of(item: Any) -> int:
    """How many axes of the tensor an item of the index takes."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, Tensor | np.ndarray) and item.dtype == bool else 1


def _understood(item: Any) -> Any:
    """``item`` as None, ..., int, slice of ints and tensors, tensor or array of integers or booleans."""
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        return slice(*(_bound(part) for part in (item.start, item.stop, item.step)))
    if not isinstance(item, Tensor):
        if isinstance(item, int) and not isinstance(item, bool):
            return item
        if not isinstance(item, bool | np.bool_ | np.integer | np.ndarray | list):
            raise ArgumentError(
                f"an index holds integers, slices, None, ..., integer arrays and masks; got {type(item).__name__}",
            )
        item = as_array(item, "index")
        if not item.size and isinstance(item, np.ndarray) and item.dtype.kind == "f":
            item = item.astype(np.int64)  # the empty list
    if item.dtype.kind not in "biu":
        raise DtypeError(f"an index holds integers or booleans, got {item.dtype}", help="cast it: fg.astype(index, int)")
    if item.dtype == bool and not item.ndim:
        raise ArgumentError("a single truth value is no index", help="x[None] puts an axis in; fg.where(condition, x, y) chooses")
    return int(item) if not isinstance(item, Tensor) and not item.ndim else item


def _bound(part: Any) -> Any:
    if part is None:
        return None
    if isinstance(part, Tensor):
        if part.shape != () or part.dtype.kind not in "iu":
            raise ArgumentError(f"the bound of a slice is an integer, got {part!r}")
        return part
    try:
        return operator.index(part)
    except TypeError:
        raise ArgumentError(f"the bound of a slice is an integer, got {part!r:.80}") from None


def _in_range(x: Tensor, item: Any, axis: int) -> Any:
    """The positions ``item``; those known now are checked."""
    if isinstance(item, Tensor):
        return item
    dim = x.shape[axis]
    positions = item.astype(np.int64)
    if isinstance(dim, int) and item.size:
        worst = positions[(positions < -dim) | (positions >= dim)]
        if worst.size:
            raise ShapeError(f"index {worst.flat[0]} is out of range for axis {axis} of size {dim}")
    return positions


def _mask(x: Tensor, mask: Any, axis: int) -> list[Any]:
    """The positions where ``mask``, for the axes from ``axis`` on, is true: known now if it and the sizes are."""
    sizes = x.shape[axis : axis + mask.ndim]
    if isinstance(mask, np.ndarray) and all(isinstance(size, int) for size in sizes):
        for i, (dim, size) in enumerate(zip(mask.shape, sizes, strict=True)):
            if dim != size:
                raise ShapeError(f"the mask has size {dim} where axis {axis + i} of the tensor has size {size}")
        return list(np.nonzero(mask))
    return list(_nonzero.node((mask, x), {"axis": axis}).outputs)


public(getitem)
public(at)
public(nonzero)
