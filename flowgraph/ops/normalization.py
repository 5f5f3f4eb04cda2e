"""Normalisation: to mean 0 and variance 1 over some axes, then to a scale and an offset that may be learned.

All are functions of other operations. The variance is the mean square of what is left after the mean is taken away, which keeps its
digits where the mean is large. Sixteen-bit floats are computed in 32 bits and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Tensor
from ..graph.spec import format_shape, normalize_axes, normalize_axis
from .bits import wide
from .elementwise import add, astype, broadcast_like, multiply, reciprocal, sqrt, square
from .reduce import mean
from .shape import reshape


def batch_norm(
    x: Any,
    scale: Any = None,
    offset: Any = None,
    *,
    statistics: tuple[Any, Any] | None = None,
    axis: int = 1,
    epsilon: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` with each channel brought to mean 0 and variance 1, and the mean and variance that it had.

    x              float tensor; the channels are ``axis``, and statistics are taken over all other axes
    scale, offset  what the result is multiplied by and what is added then, of shape (channels,); None for neither
    statistics     (mean, variance) of shape (channels,) to use instead of those of x, as collected in training
    epsilon        added to the variance
    returns        (y, mean, variance); y has the shape and dtype of x. The variance is that of x itself (divided by n, not n - 1)
    raises         DtypeError for integers, ShapeError for an axis out of range

    >>> y, mean, variance = fg.nn.batch_norm([[1.0, 0.0], [3.0, 0.0]])
    >>> session.run((y, mean, variance))
    (array([[-0.999995,  0.      ],
           [ 0.999995,  0.      ]]), array([2., 0.]), array([1., 0.]))
    """
    x, working = _working("batch_norm", x)
    axis = normalize_axis(axis, x.ndim)
    others = tuple(a for a in range(x.ndim) if a != axis)
    behind = (slice(None), *(None,) * (x.ndim - axis - 1))

    def along(value: Any) -> Tensor:
        return add.lift((value,))[0][behind]

    if statistics is None:
        center = mean(working, axis=others)
        centred = working - along(center)
        variance = mean(square(centred), axis=others)
    else:
        if not isinstance(statistics, tuple | list) or len(statistics) != 2:
            raise ArgumentError(f"batch_norm: statistics are a pair, (mean, variance), got {statistics!r:.60}")
        center, variance = (astype(add.lift((value,))[0], working.dtype) for value in statistics)
        centred = working - along(center)
    gain = reciprocal(sqrt(along(variance) + epsilon))
    if scale is not None:
        gain = gain * astype(along(scale), working.dtype)
    y = centred * gain
    if offset is not None:
        y = y + astype(along(offset), working.dtype)
    return astype(y, x.dtype), center, variance


def layer_norm(x: Any, scale: Any = None, offset: Any = None, *, axis: int | Sequence[int] = -1, epsilon: float = 1e-5) -> Tensor:
    """``x`` with mean 0 and variance 1 along ``axis``, for each example by itself.

    axis           one axis or several, the last by default
    scale, offset  of the shape of these axes of x, or what broadcasts against x; None for neither
    epsilon        added to the variance
    raises         DtypeError for integers, ShapeError for an axis out of range

    >>> session.run(fg.nn.layer_norm([[1.0, 3.0]], epsilon=0.0))
    array([[-1.,  1.]])
    """
    x, working = _working("layer_norm", x)
    axes = normalize_axes(axis, x.ndim)
    centred = working - mean(working, axis=axes, keepdims=True)
    gain = reciprocal(sqrt(mean(square(centred), axis=axes, keepdims=True) + epsilon))
    return _finished(x, centred * gain, scale, offset)


def rms_norm(x: Any, scale: Any = None, *, axis: int | Sequence[int] = -1, epsilon: float = 1e-6) -> Tensor:
    """``x`` divided by its root mean square along ``axis`` (Zhang and Sennrich 2019); as layer_norm, with no mean taken away.

    >>> session.run(fg.nn.rms_norm([[3.0, 4.0]], epsilon=0.0)).round(4)
    array([[0.8485, 1.1314]])
    """
    x, working = _working("rms_norm", x)
    axes = normalize_axes(axis, x.ndim)
    gain = reciprocal(sqrt(mean(square(working), axis=axes, keepdims=True) + epsilon))
    return _finished(x, working * gain, scale, None)


def group_norm(x: Any, groups: int, scale: Any = None, offset: Any = None, *, epsilon: float = 1e-5) -> Tensor:
    """``x`` with each group of channels of each example brought to mean 0 and variance 1 (Wu and He 2018).

    x              float tensor (batch, channels, *sizes)
    groups         number of groups of neighbouring channels; 1 normalises each example, ``channels`` each channel (see instance_norm)
    scale, offset  of shape (channels,); None for neither
    raises         ShapeError when the groups do not divide the channels

    >>> session.run(fg.nn.group_norm([[[1.0], [3.0], [5.0], [9.0]]], 2, epsilon=0.0)).ravel()
    array([-1.,  1., -1.,  1.])
    """
    return _by_groups("group_norm", x, groups, scale, offset, epsilon)


def instance_norm(x: Any, scale: Any = None, offset: Any = None, *, epsilon: float = 1e-5) -> Tensor:
    """``x`` (batch, channels, *sizes) with each channel of each example brought to mean 0 and variance 1; scale and offset (channels,).

    >>> session.run(fg.nn.instance_norm([[[1.0, 3.0], [5.0, 9.0]]], epsilon=0.0))
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    return _by_groups("instance_norm", x, None, scale, offset, epsilon)


def _by_groups(name: str, images: Any, groups: int | None, scale: Any, offset: Any, epsilon: float) -> Tensor:
    x, working = _working(name, images)
    if x.ndim < 2:
        raise ShapeError(f"{name}: images are (batch, channels, *sizes), got {format_shape(x.shape)}")
    channels = x.shape[1]
    if groups is not None:
        if isinstance(groups, bool) or not isinstance(groups, int | np.integer) or groups < 1:
            raise ArgumentError(f"{name}: groups must be a positive int, got {groups!r:.80}")
        if not isinstance(channels, int) or channels % groups:
            raise ShapeError(f"{name}: {channels} channels do not divide into {groups} groups")
    behind = tuple(range(2, x.ndim))
    wide_again = (slice(None), slice(None), *(None,) * len(behind))

    def averaged(v: Tensor) -> Tensor:
        """Means over the sizes, then over each group: no size need be known for that but the channels."""
        each = mean(v, axis=behind) if behind else v
        if groups is not None and isinstance(channels, int) and groups != channels:
            rows = reshape(each, (-1, groups, channels // groups))
            each = reshape(broadcast_like(mean(rows, axis=-1, keepdims=True), rows), (-1, channels))
        return each[wide_again]

    centred = working - averaged(working)
    gain = reciprocal(sqrt(averaged(square(centred)) + epsilon))
    one = (slice(None), *(None,) * len(behind))
    return _finished(x, centred * gain, *(None if v is None else add.lift((v,))[0][one] for v in (scale, offset)))


def _working(name: str, value: Any) -> tuple[Tensor, Tensor]:
    """The tensor, and it again in the dtype to compute in."""
    (x,) = add.lift((value,))
    if x.dtype.kind not in "fV":
        raise DtypeError(f"{name}: needs floats, got {x.dtype}", help='cast with fg.astype(x, "float32")')
    return x, astype(x, wide(x.dtype))


def _finished(x: Tensor, y: Tensor, scale: Any, offset: Any) -> Tensor:
    """``y`` with its scale and offset, in the dtype of ``x``."""
    if scale is not None:
        y = multiply(y, astype(add.lift((scale,))[0], y.dtype))
    if offset is not None:
        y = add(y, astype(add.lift((offset,))[0], y.dtype))
    return astype(y, x.dtype)
