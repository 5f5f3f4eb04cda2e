"""A rim around a tensor: of one value, or of its own elements."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Op, Spec, Tensor, no_gradient, op
from ..graph.op import Batch, Slicing, public
from .gather import take
from .indexing import getitem
from .samples import UNARY_SHAPES, Over
from .shape import repeat_like

PadMode = Literal["constant", "edge", "reflect", "symmetric", "wrap"]


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


class PadPositions(Op):
    """For each place along ``axis`` of the padded ``x``, of which only the shape is used, the position that its element comes from."""

    shape_inputs = (0,)
    vjp = no_gradient("positions do not depend on values")

    def infer(self, x: Any, *, axis: int, widths: tuple[int, int], mode: str) -> Spec:
        size = x.shape[axis]
        if size == 0 and any(widths):
            raise ShapeError(f"axis {axis} of size 0 has nothing to pad with")
        return Spec((size + sum(widths) if isinstance(size, int) else None,), np.dtype("int64"))

    def kernel(self, xp: Any, x: Any, *, axis: int, widths: tuple[int, int], mode: str) -> Any:
        return xp.pad(xp.arange(x.shape[axis]), widths, mode=mode)

    def vmap(self, batch: Batch, x: Tensor, *, axis: int, widths: tuple[int, int], mode: str) -> Tensor:
        return repeat_like(_pad_positions(x, axis=axis + 1, widths=widths, mode=mode), batch.like)

    samples = Over([((3,),), ((2, 1),)], attrs=[{"axis": 0, "widths": (5, 4), "mode": m} for m in ("edge", "reflect", "symmetric", "wrap")])


_pad = op(Pad)
_pad_positions = op(PadPositions)


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
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ArgumentError(f'pad: mode is "constant", "edge", "reflect", "symmetric" or "wrap", got {mode!r}')
    # The rim's elements are some of x's: which, along one axis after the other, is a matter of positions, and gathering has a gradient.
    for axis, pair in enumerate(widths):
        if any(pair):
            size = tensor.shape[axis]
            if isinstance(size, int) and size > 0:
                tensor = take(tensor, np.pad(np.arange(size), pair, mode=mode), axis=axis)
            else:
                tensor = take(tensor, _pad_positions(tensor, axis=axis, widths=pair, mode=mode), axis=axis)
    return tensor


public(pad)
