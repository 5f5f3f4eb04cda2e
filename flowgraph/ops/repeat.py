"""The same elements more than once, or further along: repeat, tile, roll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Dim, Op, Spec, Tensor, no_gradient, op
from ..graph.arguments import as_count, as_int, as_several
from ..graph.op import Batch, by_loop, public
from ..graph.spec import format_shape, normalize_axis
from .batching import full
from .gather import take
from .samples import MATRIX_SHAPES, Over
from .shape import behind, reshape_like


def times(dim: Dim, count: int) -> Dim:
    """The size ``dim``, ``count`` times."""
    return dim * count if isinstance(dim, int) else dim if count == 1 else None


class Repeat(Op):
    """Each element ``count`` times along ``axis``, next to each other, or, where ``whole``, all of the axis again and again."""

    def infer(self, x: Any, *, count: int, axis: int, whole: bool) -> Spec:
        return Spec((*x.shape[:axis], times(x.shape[axis], count), *x.shape[axis + 1 :]), x.dtype)

    def kernel(self, xp: Any, x: Any, *, count: int, axis: int, whole: bool) -> Any:
        return xp.tile(x, (count,) + (1,) * (x.ndim - 1 - axis)) if whole else xp.repeat(x, count, axis=axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, count: int, axis: int, whole: bool) -> Any:
        return _fold(g, x, count=count, axis=axis, whole=whole)

    def vmap(self, batch: Batch, x: Tensor, *, count: int, axis: int, whole: bool) -> Tensor:
        return _repeat(x, count=count, axis=axis + 1, whole=whole)

    samples = Over(
        MATRIX_SHAPES,
        attrs=lambda s: [{"count": c, "axis": a, "whole": w} for c in (0, 1, 3) for a in range(len(s)) for w in (False, True)],
    )


class Fold(Op):
    """The transpose of repeating: what belongs to one element of ``target``, of which only the shape is used, added up."""

    shape_inputs = (1,)

    def infer(self, g: Any, target: Any, *, count: int, axis: int, whole: bool) -> Spec:
        return Spec(target.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, target: Any, *, count: int, axis: int, whole: bool) -> Any:
        size = target.shape[axis]
        parted = (count, size) if whole else (size, count)
        blocks = xp.reshape(g, (*g.shape[:axis], *parted, *g.shape[axis + 1 :]))
        narrow = g.dtype.kind in "fV" and g.dtype.itemsize < 4  # adds up in float32
        total = xp.sum(blocks, axis=axis if whole else axis + 1, dtype=np.float32 if narrow else g.dtype)
        return total.astype(g.dtype) if narrow else total

    def vjp(self, g: Tensor, out: Tensor, part: Tensor, target: Tensor, *, count: int, axis: int, whole: bool) -> Any:
        return _repeat(g, count=count, axis=axis, whole=whole), None

    def vmap(self, batch: Batch, g: Tensor, target: Tensor, *, count: int, axis: int, whole: bool) -> Tensor:
        return _fold(full(batch, g, 0), full(batch, target, 1), count=count, axis=axis + 1, whole=whole)

    samples = Over(
        [((6, 2), (2, 2)), ((3,), (1,)), ((0, 2), (0, 2))],
        attrs=({"count": 3, "axis": 0, "whole": True}, {"count": 3, "axis": 0, "whole": False}),
    ) + Over([((2, 0), (2, 3))], attrs=({"count": 0, "axis": 1, "whole": True},))


class RepeatPositions(Op):
    """0 ``counts[0]`` times, then 1 ``counts[1]`` times, and so on; how many in all is known only in a run.

    target  its ``axis`` must be as long as ``counts``; only the shape is used
    """

    shape_inputs = (1,)
    vjp = no_gradient("positions do not depend on values")
    vmap = by_loop("each entry has as many positions as its counts say")

    def infer(self, counts: Any, target: Any, *, axis: int) -> Spec:
        if len(counts.shape) != 1 or counts.dtype.kind not in "iu":
            raise DtypeError(f"repeats are an integer, or a row of integers, got {format_shape(counts.shape)} {counts.dtype}")
        self.check(counts.shape[0], target.shape[axis], axis)
        return Spec((None,), np.dtype("int64"))

    def check(self, count: Dim, size: Dim, axis: int) -> None:
        if isinstance(count, int) and isinstance(size, int) and count != size:
            raise ShapeError(f"{count} repeats for axis {axis} of size {size}", help="give one for each element, or one for all")

    def kernel(self, xp: Any, counts: Any, target: Any, *, axis: int) -> Any:
        self.check(len(counts), target.shape[axis], axis)
        if xp is np:
            return np.repeat(np.arange(len(counts)), counts)
        ends = xp.cumsum(counts)  # (CuPy's repeat takes no array of counts)
        return xp.searchsorted(ends, xp.arange(int(ends[-1]) if len(counts) else 0), side="right")

    samples = Over([((4,), (2, 4)), ((0,), (3, 0))], (0, 3), dtypes=("int64",), attrs=({"axis": 1},))


class Roll(Op):
    """The elements moved on by ``shift`` along ``axis``; what leaves at one end comes in at the other."""

    def infer(self, x: Any, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Any:
        return xp.roll(x, shift, axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Any:
        return _roll(g, shift=tuple(-s for s in shift), axis=axis)

    def vmap(self, batch: Batch, x: Tensor, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Tensor:
        return _roll(x, shift=shift, axis=behind(axis))

    samples = Over(MATRIX_SHAPES, attrs=({"shift": (1,), "axis": (0,)}, {"shift": (-7, 2), "axis": (1, 0)}, {"shift": (), "axis": ()}))


_repeat = op(Repeat)
_fold = op(Fold)
_repeat_positions = op(RepeatPositions)
_roll = op(Roll)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element of ``x`` several times, next to each other, along ``axis`` (None: of the flattened tensor).

    repeats  an int, or integers, one for each element of the axis; a tensor's values make the size known only in a run
    raises   ArgumentError for a negative number, ShapeError when there are not as many as the axis is long

    >>> session.run(fg.repeat([1, 2], 2)), session.run(fg.repeat([1, 2], [3, 1]))
    (array([1, 1, 2, 2]), array([1, 1, 1, 2]))
    """
    (x,) = _repeat.lift((x,))
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = normalize_axis(axis, x.ndim)
    if not isinstance(repeats, Tensor) and np.ndim(repeats) == 0:
        return _repeat(x, count=as_count(repeats, "a number of repetitions"), axis=axis, whole=False)
    if isinstance(repeats, Tensor) or not isinstance(x.shape[axis], int):
        return take(x, _repeat_positions(repeats, x, axis=axis), axis=axis)
    counts = np.asarray(repeats)
    _repeat_positions.infer(counts, x, axis=axis)
    return take(x, np.repeat(np.arange(len(counts)), counts), axis=axis)


def tile(x: Any, repetitions: int | Sequence[int]) -> Tensor:
    """``x`` laid side by side with itself, ``repetitions`` times along each axis; the last number is for the last axis.

    >>> session.run(fg.tile([[1, 2]], (2, 2)))
    array([[1, 2, 1, 2],
           [1, 2, 1, 2]])
    """
    tensor: Tensor = _repeat.lift((x,))[0]
    counts = [as_count(c, "a number of repetitions") for c in ((repetitions,) if np.ndim(repetitions) == 0 else repetitions)]  # type: ignore[union-attr]
    counts = [1] * (tensor.ndim - len(counts)) + counts
    tensor = tensor[(None,) * (len(counts) - tensor.ndim)]
    for axis in reversed(range(tensor.ndim)):
        if counts[axis] != 1:
            tensor = _repeat(tensor, count=counts[axis], axis=axis, whole=True)
    return tensor


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """``x`` moved on by ``shift`` along ``axis`` (None: of the flattened tensor); what leaves at the end comes in at the front.

    raises  ArgumentError when there are not as many shifts as axes, unless there is one for all

    >>> session.run(fg.roll([1, 2, 3, 4], 1))
    array([4, 1, 2, 3])
    """
    (x,) = _roll.lift((x,))
    if axis is None:
        flat = roll(x.reshape(-1), sum(as_int(s, "shift") for s in as_several(shift, "shifts")), 0)
        return reshape_like(flat, x, axis=None)
    axes = as_several(axis, "axes")
    shifts = tuple(shift) if np.iterable(shift) else (shift,) * len(axes)
    if len(axes) == 1:
        axes *= len(shifts)
    if len(axes) != len(shifts) or not all(isinstance(s, int | np.integer) for s in shifts):
        raise ArgumentError(f"roll: an int for each of the axes {axes} is expected, got {shift!r:.80}")
    return _roll(x, shift=tuple(int(s) for s in shifts), axis=tuple(normalize_axis(a, x.ndim) for a in axes))


for _function in (repeat, tile, roll):
    public(_function)
