"""A rim around a tensor: of one value, or of its own elements."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Op, Spec, Tensor, op
from ..graph.op import Batch, Slicing, public
from .batching import full
from .indexing import getitem
from .samples import LOW, UNARY_SHAPES, Over

PadMode = Literal["constant", "edge", "reflect", "symmetric", "wrap"]
MODES = ("edge", "reflect", "symmetric", "wrap")  # in which the rim comes from the tensor


class Pad(Op):
    """``x`` with a rim of ``value`` around it, ``widths`` (before, behind) for each axis."""

    def infer(self, x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Spec:
        dims = (d + before + after if isinstance(d, int) else d if not before + after else None for d, (before, after) in _each(x, widths))
        return Spec(tuple(dims), x.dtype)

    def kernel(self, xp: Any, x: Any, *, widths: tuple[tuple[int, int], ...], value: float, out: Any = None) -> Any:
        if out is None:
            out = xp.empty(tuple(d + before + after for d, (before, after) in _each(x, widths)), x.dtype)
        out[...] = value
        out[tuple(slice(before, before + d) for d, (before, _) in _each(x, widths))] = x
        return out

    def slicing(self, out: Any, x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Slicing | None:
        return Slicing((True,), x.shape[0]) if len(widths) > 1 and not any(widths[0]) and x.shape[0] > 1 else None

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, widths: tuple[tuple[int, int], ...], value: float) -> Any:
        return getitem(g, tuple(slice(before, -after or None) for before, after in widths))

    def vmap(self, batch: Batch, x: Tensor, *, widths: tuple[tuple[int, int], ...], value: float) -> Tensor:
        return _pad(x, widths=((0, 0), *widths), value=value)

    samples = Over(
        UNARY_SHAPES,
        attrs=lambda s: [{"widths": ((0, 0),) * len(s), "value": 1.0}, {"widths": tuple((i, 2) for i in range(len(s))), "value": -0.5}],
    )


def _each(x: Any, widths: tuple[tuple[int, int], ...]) -> Any:
    return zip(x.shape, widths, strict=True)


class PadFrom(Op):
    """``x`` with a rim of its own elements, ``widths`` (before, behind) for each axis, one axis after the other as in NumPy."""

    def infer(self, x: Any, *, widths: tuple[tuple[int, int], ...], mode: str) -> Spec:
        for axis, (size, pair) in enumerate(zip(x.shape, widths, strict=True)):
            if size == 0 and any(pair):
                raise ShapeError(f"axis {axis} of size 0 has nothing to pad with")
        return _pad.infer(x, widths=widths, value=0.0)

    def kernel(self, xp: Any, x: Any, *, widths: tuple[tuple[int, int], ...], mode: str, out: Any = None) -> Any:
        if out is None:
            out = xp.empty(tuple(d + before + after for d, (before, after) in _each(x, widths)), x.dtype)
        middle = tuple(slice(before, before + d) for d, (before, _) in _each(x, widths))
        out[middle] = x
        for axis, (before, after) in enumerate(widths):
            if before or after:
                # The axes before this one have their rims already, which are carried on into the corners; those behind have none yet.
                filled = out[(*[slice(None)] * (axis + 1), *middle[axis + 1 :])]
                inside = filled[along(axis, middle[axis])]
                for rim, source, _ in rim_of(x.shape[axis], before, after, mode):
                    filled[along(axis, rim)] = inside[along(axis, source)]
        return out

    def slicing(self, out: Any, x: Any, *, widths: tuple[tuple[int, int], ...], mode: str) -> Slicing | None:
        return _pad.slicing(out, x, widths=widths, value=0.0)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, widths: tuple[tuple[int, int], ...], mode: str) -> Any:
        return _fold_rim(g, x, widths=widths, mode=mode)

    def vmap(self, batch: Batch, x: Tensor, *, widths: tuple[tuple[int, int], ...], mode: str) -> Tensor:
        return _pad_from(x, widths=((0, 0), *widths), mode=mode)

    samples = Over(
        [((2, 3),), ((3, 1),), ((2, 3, 4),)],
        attrs=lambda s: [{"widths": w[: len(s)], "mode": m} for w in (((0, 0), (1, 2), (0, 0)), ((7, 1), (4, 0), (0, 5))) for m in MODES],
    ) + Over([((0, 3),)], attrs=[{"widths": ((0, 0), (1, 2)), "mode": m} for m in MODES])


class FoldRim(Op):
    """The transpose of `PadFrom`: the rim of ``g`` is added to the elements that it came from. Of ``target`` only the shape is used.

    Gathering along each axis has a gradient as well, but it adds row by row, which took 50 times as long for a batch of pictures.
    """

    shape_inputs = (1,)

    def infer(self, g: Any, target: Any, *, widths: tuple[tuple[int, int], ...], mode: str) -> Spec:
        return Spec(target.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, target: Any, *, widths: tuple[tuple[int, int], ...], mode: str, out: Any = None) -> Any:
        narrow = g.dtype.kind in "fV" and g.dtype.itemsize < 4  # adds up in float32
        dtype = np.dtype(np.float32) if narrow else g.dtype
        part = g
        for axis in reversed(range(g.ndim)):
            before, after = widths[axis]
            if before or after:
                size = g.shape[axis] - before - after
                total = part[along(axis, slice(before, before + size))].astype(dtype)
                for rim, source, repeats in rim_of(size, before, after, mode):
                    piece = part[along(axis, rim)]
                    total[along(axis, source)] += xp.sum(piece, axis=axis, keepdims=True, dtype=dtype) if repeats else piece
                part = total
        if out is None:
            return part.astype(g.dtype, copy=part is g)
        out[...] = part
        return out

    def slicing(self, out: Any, g: Any, target: Any, *, widths: tuple[tuple[int, int], ...], mode: str) -> Slicing | None:
        return Slicing((True, False), g.shape[0]) if len(widths) > 1 and not any(widths[0]) and g.shape[0] > 1 else None

    def vjp(self, g: Tensor, out: Tensor, part: Tensor, target: Tensor, *, widths: tuple[tuple[int, int], ...], mode: str) -> Any:
        return _pad_from(g, widths=widths, mode=mode), None

    def vmap(self, batch: Batch, g: Tensor, target: Tensor, *, widths: tuple[tuple[int, int], ...], mode: str) -> Tensor:
        return _fold_rim(full(batch, g, 0), full(batch, target, 1), widths=((0, 0), *widths), mode=mode)

    samples = Over([((6, 5), (2, 3))], attrs=[{"widths": ((3, 1), (0, 2)), "mode": m} for m in MODES], also=LOW) + Over(
        [((0, 8), (0, 3))], attrs=[{"widths": ((0, 0), (1, 4)), "mode": m} for m in MODES]
    )


def rim_of(size: int, before: int, after: int, mode: str) -> list[tuple[slice, slice, bool]]:
    """The rim of an axis of ``size`` elements in runs, one on each side unless it is about as wide as the axis is long, or wider.

    returns  for each run where it lies in what is padded, where its elements lie in what there was before (equally many side by side,
             or one), and whether it is that one again and again
    """
    if not size:
        raise ShapeError("an axis of size 0 has nothing to pad with")
    runs = []
    for start, end in ((-before, 0), (size, size + after)):
        while start < end:
            if mode == "edge" or size == 1:
                stop, first = end, 0 if start < 0 else size - 1
                source = slice(first, first + 1)
            else:
                # Positions go through the elements lap by lap: where they are mirrored, every other lap backwards.
                lap, first = divmod(start, size - (mode == "reflect"))
                stop = min(end, start - first + size - (mode == "reflect"))
                last = first + stop - start - 1
                if mode != "wrap" and lap % 2:
                    source = slice(size - 1 - first, size - 2 - last if last < size - 1 else None, -1)
                else:
                    source = slice(first, last + 1)
            runs.append((slice(before + start, before + stop), source, stop - start > 1 and (mode == "edge" or size == 1)))
            start = stop
    return runs


def along(axis: int, part: slice) -> tuple[slice, ...]:
    """An index that takes ``part`` of one axis."""
    return (*[slice(None)] * axis, part)


_pad = op(Pad)
_pad_from = op(PadFrom)
_fold_rim = op(FoldRim)


def pad(x: Any, pad_width: Any, mode: PadMode = "constant", constant_values: float = 0) -> Tensor:
    """``x`` with a rim around it, as wide as ``pad_width`` says.

    pad_width  an int for all sides, (before, behind) for every axis, or such a pair for each axis
    mode       where the rim comes from: "constant", "edge" (the last element again), "reflect" (mirrored at the last element),
               "symmetric" (mirrored behind it), "wrap" (from the other side)
    raises     ArgumentError for widths that fit no axes or are negative, and for an unknown mode

    >>> session.run(fg.pad([1, 2, 3], (2, 1), "reflect"))
    array([3, 2, 1, 2, 3, 2])
    """
    tensor: Tensor = _pad.lift((x,))[0]
    try:
        pairs = np.broadcast_to(np.asarray(pad_width), (tensor.ndim, 2))
    except ValueError:
        pairs = np.array([-1])
    if pairs.dtype.kind not in "iu" or (pairs < 0).any():
        raise ArgumentError(f"pad: widths of 0 or more for {tensor.ndim} axes are expected, got {pad_width!r:.80}", help="((1, 1), (0, 2))")
    widths = tuple((int(before), int(after)) for before, after in pairs)
    if mode == "constant":
        return _pad(tensor, widths=widths, value=np.asarray(constant_values).item())
    if mode not in MODES:
        raise ArgumentError(f'pad: mode is "constant", "edge", "reflect", "symmetric" or "wrap", got {mode!r}')
    return _pad_from(tensor, widths=widths, mode=mode) if any(map(any, widths)) else tensor


public(pad)
