"""Layers that bring values to mean 0 and variance 1, then to a scale and an offset that are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..graph import Tensor, control_dependencies
from ..graph.arguments import as_count
from ..graph.spec import format_shape, normalize_axis
from ..ops import init
from ..ops.elementwise import add, astype, divide, maximum, multiply, where
from ..ops.normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from ..ops.reduce import size
from ..ops.state import assign
from .layer import Initial, Layer, is_training


class _Norm(Layer):
    """Base of them all: a scale and an offset, each of which may be left out, and the epsilon."""

    def __init__(
        self, shape: tuple[int, ...], epsilon: float, scale: Initial | None, offset: Initial | None, dtype: Any, name: str
    ) -> None:
        super().__init__(name, dtype)
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 <= epsilon < float("inf"):
            raise ArgumentError(f"{self.name}: epsilon is a number, at least 0, got {epsilon!r:.80}")
        self.epsilon = float(epsilon)
        self.scale = None if scale is None else self.weight("scale", scale, shape)
        self.offset = None if offset is None else self.weight("offset", offset, shape)


class BatchNorm(_Norm):
    """Each channel with mean 0 and variance 1 over the batch; outside training, with the statistics collected in it.

    channels       size of ``axis``
    axis           of the channels; statistics are over all others
    keep           how much of the running statistics is kept in each step of training (1 less PyTorch's momentum, which is Keras's)
    epsilon        added to the variance
    scale, offset  of shape (channels,): a function of the shape, an initializer, an array or a variable; None for neither
    dtype          of its variables; None: as the initialisers say, float32 by default
    raises         ArgumentError when a call does not say whether it is part of training

    The variables are ``scale``, ``offset``, and ``mean`` and ``variance``, which are not trained: each call in training adds to
    ``updates`` the nodes that bring them up to date, to be run with the step. The running variance is that of the population, a sum
    divided by n - 1, as in the paper.

    Ioffe and Szegedy, Batch Normalization (ICML 2015, arXiv:1502.03167), algorithms 1 and 2.

    >>> norm = fg.nn.BatchNorm(3)
    >>> x, training = fg.placeholder("x", ("batch", 3)), fg.placeholder("training", (), "bool")
    >>> y = norm(x, training=training)
    >>> rows = np.random.default_rng(0).normal(5, 2, (1000, 3))
    >>> for _ in range(100):
    ...     normal, *_ = session.run([y, *norm.updates], {x: rows.astype("float32"), training: True})
    >>> session.run(y, {x: [[3, 7, 9]], training: False}).round(1)
    array([[-0.9,  1. ,  2. ]], dtype=float32)
    """

    def __init__(
        self,
        channels: int,
        *,
        axis: int = 1,
        keep: float = 0.9,
        epsilon: float = 1e-5,
        scale: Initial | None = init.ones,
        offset: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "batch_norm",
    ) -> None:
        shape = (as_count(channels, "channels", 1),)
        super().__init__(shape, epsilon, scale, offset, dtype, name)
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 <= keep <= 1:
            raise ArgumentError(f"{self.name}: keep is a number from 0 to 1, got {keep!r:.80}")
        self.axis, self.keep = axis, float(keep)
        self.mean = self.weight("mean", init.zeros, shape, trainable=False)
        self.variance = self.weight("variance", init.ones, shape, trainable=False)

    def apply(self, x: Any, *, training: bool | Tensor | None) -> Tensor:
        (x,) = add.lift((x,))
        now = is_training(training, self)
        channels = x.shape[normalize_axis(self.axis, x.ndim)]
        if isinstance(channels, int) and channels != self.mean.shape[0]:
            raise ShapeError(
                f"{self.name}: {self.mean.shape[0]} channels are expected along axis {self.axis}, {x.name} is {format_shape(x.shape)}"
            )
        used = (self.mean, self.variance)
        options: dict[str, Any] = {"axis": self.axis, "epsilon": self.epsilon}
        if now is False:
            return batch_norm(x, self.scale, self.offset, statistics=used, **options)[0]
        y, mean, variance = batch_norm(x, self.scale, self.offset, **options)
        if isinstance(now, Tensor):
            used = (where(now, mean, astype(self.mean, mean.dtype)), where(now, variance, astype(self.variance, mean.dtype)))
            y = batch_norm(x, self.scale, self.offset, statistics=used, **options)[0]
        count = astype(divide(size(x), self.mean.shape[0]), mean.dtype)
        population = multiply(variance, divide(count, maximum(count - 1, 1)))
        with control_dependencies(used if isinstance(now, Tensor) else ()):  # these mean the statistics from before
            for running, value in ((self.mean, mean), (self.variance, population)):
                moved = add(multiply(running, self.keep), multiply(astype(value, running.dtype), 1 - self.keep))
                self.update(assign(running, where(now, moved, running) if isinstance(now, Tensor) else moved))
        return y


class LayerNorm(_Norm):
    """The last axes of each example with mean 0 and variance 1.

    shape          of these axes: one size, or several
    epsilon        added to the variance
    scale, offset  of that shape: a function of the shape, an initializer, an array or a variable; None for neither
    dtype          of its variables; None: as the initialisers say, float32 by default

    The variables are ``scale`` and ``offset``.

    Ba, Kiros and Hinton, Layer Normalization (2016, arXiv:1607.06450).

    >>> session.run(fg.nn.LayerNorm(2)([[1.0, 3.0], [8.0, 2.0]])).round(3)
    array([[-1.,  1.],
           [ 1., -1.]])
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        epsilon: float = 1e-5,
        scale: Initial | None = init.ones,
        offset: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "layer_norm",
    ) -> None:
        super().__init__(_sizes(shape), epsilon, scale, offset, dtype, name)
        self.shape = _sizes(shape)

    def apply(self, x: Any) -> Tensor:
        axes = _last(x, self.shape, self.name)
        return layer_norm(x, self.scale, self.offset, axis=axes, epsilon=self.epsilon)


class RMSNorm(_Norm):
    """The last axes of each example divided by their root mean square, times a scale; the mean stays.

    shape    of these axes: one size, or several
    epsilon  added to the mean square
    scale    of that shape: a function of the shape, an initializer, an array or a variable; None for none
    dtype    of its variable; None: as the initialiser says, float32 by default

    The variable is ``scale``.

    Zhang and Sennrich, Root Mean Square Layer Normalization (NeurIPS 2019, arXiv:1910.07467).

    >>> session.run(fg.nn.RMSNorm(2)([[3.0, 4.0]])).round(4)
    array([[0.8485, 1.1314]])
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        epsilon: float = 1e-6,
        scale: Initial | None = init.ones,
        dtype: Any = None,
        name: str = "rms_norm",
    ) -> None:
        super().__init__(_sizes(shape), epsilon, scale, None, dtype, name)
        self.shape = _sizes(shape)

    def apply(self, x: Any) -> Tensor:
        return rms_norm(x, self.scale, axis=_last(x, self.shape, self.name), epsilon=self.epsilon)


class GroupNorm(_Norm):
    """Each group of channels of each image with mean 0 and variance 1.

    groups         number of groups of neighbouring channels
    channels       of the images (batch, channels, ...)
    epsilon        added to the variance
    scale, offset  of shape (channels,): a function of the shape, an initializer, an array or a variable; None for neither
    dtype          of its variables; None: as the initialisers say, float32 by default
    raises         ArgumentError when the groups do not divide the channels

    The variables are ``scale`` and ``offset``.

    Wu and He, Group Normalization (ECCV 2018, arXiv:1803.08494).

    >>> fg.nn.GroupNorm(2, 8)(fg.placeholder("images", ("batch", 8, 7, 7)))
    <Tensor group_norm/add_1: (batch, 8, 7, 7) float32>
    """

    def __init__(
        self,
        groups: int,
        channels: int,
        *,
        epsilon: float = 1e-5,
        scale: Initial | None = init.ones,
        offset: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "group_norm",
    ) -> None:
        self.groups, channels = as_count(groups, "groups", 1), as_count(channels, "channels", 1)
        if channels % self.groups:
            raise ArgumentError(f"{self.groups} groups do not divide {channels} channels")
        super().__init__((channels,), epsilon, scale, offset, dtype, name)

    def apply(self, x: Any) -> Tensor:
        return group_norm(x, self.groups, self.scale, self.offset, epsilon=self.epsilon)


class InstanceNorm(_Norm):
    """Each channel of each image with mean 0 and variance 1; arguments as for ``GroupNorm``, but without groups.

    Ulyanov, Vedaldi and Lempitsky, Instance Normalization (2016, arXiv:1607.08022).

    >>> fg.nn.InstanceNorm(8)(fg.placeholder("images", ("batch", 8, 7, 7)))
    <Tensor instance_norm/add_1: (batch, 8, 7, 7) float32>
    """

    def __init__(
        self,
        channels: int,
        *,
        epsilon: float = 1e-5,
        scale: Initial | None = init.ones,
        offset: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "instance_norm",
    ) -> None:
        super().__init__((as_count(channels, "channels", 1),), epsilon, scale, offset, dtype, name)

    def apply(self, x: Any) -> Tensor:
        return instance_norm(x, self.scale, self.offset, epsilon=self.epsilon)


def _sizes(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, list | tuple):
        if not shape:
            raise ArgumentError("shape: at least one size is expected, got none")
        return tuple(as_count(each, "shape", 1) for each in shape)
    return (as_count(shape, "shape", 1),)


def _last(x: Any, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The axes of ``shape``, counted from the end. raises ShapeError where x has other sizes there."""
    (x,) = add.lift((x,))
    have = x.shape[-len(shape) :]
    if len(have) < len(shape) or any(isinstance(a, int) and a != b for a, b in zip(have, shape)):
        raise ShapeError(f"{name}: the last sizes are expected to be {format_shape(shape)}, {x.name} is {format_shape(x.shape)}")
    return tuple(range(-len(shape), 0))
