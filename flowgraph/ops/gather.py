"""Picking elements by position along an axis, and adding up those that share a number."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..errors import DtypeError, ShapeError
from ..graph import Op, Spec, Tensor, op
from ..graph.arguments import as_choice, as_count
from ..graph.op import by_loop, public
from ..graph.spec import format_shape, is_known, normalize_axis
from .elementwise import astype, clip, equal, remainder
from .indexing import FULL, gather, pick, positions, scatter
from .reduce import size
from .samples import Drawn, Sample
from .shape import broadcast_to, repeat_like


class Bincount(Op):
    """How often 0, 1, ... occur in the row ``x``, or the sums of their ``weights``; how many there are is known only in a run."""

    vmap = by_loop("each entry is as long as its largest number says")

    def infer(self, x: Any, *weights: Any, minlength: int) -> Spec:
        if len(x.shape) != 1 or x.dtype.kind not in "iu":
            raise DtypeError(f"a row of integers is expected, got {format_shape(x.shape)} {x.dtype}")
        for w in weights:
            if len(w.shape) != 1 or (isinstance(w.shape[0], int) and isinstance(x.shape[0], int) and w.shape[0] != x.shape[0]):
                raise ShapeError(f"{format_shape(w.shape)} weights for {format_shape(x.shape)} numbers")
        return Spec((None,), np.dtype("float64" if weights else "int64"))

    def kernel(self, xp: Any, x: Any, *weights: Any, minlength: int) -> Any:
        return xp.bincount(x, *weights, minlength=minlength)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *weights: Tensor, minlength: int) -> Any:
        return (None, *(astype(take(g, x, axis=0), w.dtype) for w in weights))

    samples = Drawn(
        lambda rng: [
            Sample((np.array([1, 4, 1]),), {"minlength": 0}),
            Sample((np.array([1, 0, 1]), rng.standard_normal(3)), {"minlength": 5}, edges=True),
            Sample((np.zeros(0, int),), {"minlength": 2}),
        ]
    )


_bincount = op(Bincount)


def take(x: Any, indices: Any, axis: int | None = None, mode: Literal["raise", "wrap", "clip"] = "raise") -> Tensor:
    """The elements of ``x`` at integer ``indices`` along ``axis`` (None: of the flattened tensor); repeated indices are allowed.

    indices  integer tensor of any shape, which takes the place of the axis; negative ones count from the end. For a stretch that begins at
             a tensor: ``start + np.arange(length)``
    mode     what becomes of one out of range: the run raises an ExecutionError, it counts around, or the nearest is taken
    raises   DtypeError when they are no integers, ArgumentError for another ``mode``

    >>> session.run(fg.take([10, 20, 30], [2, 0, 0]))
    array([30, 10, 10])
    """
    x, indices = gather.lift((x, indices))
    if axis is None:
        x, axis = x.reshape(-1), 0
    place = normalize_axis(axis, x.ndim)
    as_choice(mode, "take: mode", ("raise", "wrap", "clip"))
    if mode != "raise":
        length: Any = x.shape[place] if isinstance(x.shape[place], int) else astype(size(x, place), indices.dtype)
        indices = remainder(indices, length) if mode == "wrap" else clip(indices, 0, length - 1)
    return pick(x, (indices,), (*(FULL,) * place, "i"))


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """For each place in ``indices`` the element of ``x`` at that position along ``axis`` (None: of the flattened x), in the same row.

    indices  integer tensor with as many axes as ``x``; on the others the sizes are equal, or one of them is 1
    raises   ShapeError when they do not fit, DtypeError when they are no integers

    >>> session.run(fg.take_along_axis([[10, 20], [30, 40]], [[1], [0]], axis=1))
    array([[20],
           [30]])
    """
    x, indices = gather.lift((x, indices))
    if axis is None:
        x, axis = x.reshape(-1), 0
    place = normalize_axis(axis, x.ndim)
    if indices.ndim != x.ndim:
        raise ShapeError(
            f"take_along_axis: {indices.ndim} ax{'es' if indices.ndim != 1 else 'is'} of indices for {x.ndim} of the tensor",
            help="put axes in with indices[..., None]",
        )
    mesh: list[Tensor] = []
    for a in range(x.ndim):
        wide = (*(None,) * a, FULL, *(None,) * (x.ndim - 1 - a))
        mesh.append(indices if a == place else positions(x, axis=a)[wide])
    return pick(x, mesh, ("i",) * x.ndim)


def segment_sum(x: Any, segments: Any, num_segments: int) -> Tensor:
    """The sums of the rows of ``x`` that have the same number in ``segments``, one for each number below ``num_segments``.

    segments  integer tensor whose shape is the first sizes of ``x``; in any order, negative ones count from the end
    raises    ArgumentError for a count that is no whole number, ShapeError and DtypeError for segments that do not fit; a run raises
              ExecutionError for a number out of range

    >>> session.run(fg.segment_sum([1.0, 2.0, 4.0], [0, 2, 0], 3))
    array([5., 0., 2.])
    """
    x, segments = gather.lift((x, segments))
    num_segments = as_count(num_segments, "num_segments")
    if segments.dtype.kind not in "iu":
        raise DtypeError(f"segment_sum: segments are integers, got {segments.dtype}", help="fg.astype(segments, int)")
    if segments.ndim > x.ndim or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(segments.shape, x.shape, strict=False)
    ):
        raise ShapeError(
            f"segment_sum: segments of shape {format_shape(segments.shape)} for a tensor of shape {format_shape(x.shape)}",
            help="one number for each row of x",
        )
    rest = x.shape[segments.ndim :]
    zero = gather.lift((x, np.zeros((), x.dtype)))[1]
    if is_known(rest):
        target = broadcast_to(zero, (num_segments, *rest))
    else:
        row = x.sum(axis=tuple(range(segments.ndim)))  # only its shape is used
        target = repeat_like(row, broadcast_to(zero, (num_segments,)))
    return scatter(x, target, segments, index=("i",))


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, ... occurs in the vector ``x``, up to the largest of them; or, for ``weights``, the sums of these (float64).

    minlength  at least so many numbers come back; how many is known only in a run. `segment_sum` has a fixed number
    raises     DtypeError when ``x`` is no vector of integers; a run raises ExecutionError for a negative number

    >>> session.run(fg.bincount([0, 2, 2]))
    array([1, 0, 2])
    """
    return _bincount(*((x,) if weights is None else (x, weights)), minlength=as_count(minlength, "minlength"))


def one_hot(x: Any, num_classes: int, dtype: Any = "float32") -> Tensor:
    """1 at the position that ``x`` names along a new last axis of size ``num_classes``, else 0; classes out of range give zeros.

    >>> session.run(fg.nn.one_hot([2, 0], 3))
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    (x,) = gather.lift((x,))
    if x.dtype.kind not in "iu":
        raise DtypeError(f"one_hot: classes are integers, got {x.dtype}", help="fg.astype(x, int)")
    return astype(equal(x[(..., None)], np.arange(as_count(num_classes, "num_classes"), dtype=x.dtype)), dtype)


for _function in (take, take_along_axis, bincount):
    public(_function)
