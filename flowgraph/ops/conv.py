"""Convolution along one, two or three axes, its transpose, and the gradients of both: three operations for all of them.

Images are (batch, channels, *sizes), filters (out, channels / groups, *window); how many axes the windows move along, ``stride`` says.
The three operations are linear in each argument, and each is a gradient of the others, so that gradients of any order close among them.

Inside, filters may carry more axes in front: sets of filters, each for images of its own, which have the same axes in front. That is
what batching over filters makes. All other axes in front of an image's channels are its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..graph import Op, Shape, Spec, Tensor, Work, op
from ..graph.op import Batch, Slicing
from ..graph.spec import broadcast_shapes, format_shape, promote_dtypes
from ..jit import lazy
from . import conv_fold
from .batching import full
from .bits import wide
from .conv_kernels import Scratch
from .elementwise import conj, like, recast
from .samples import LOW, Over
from .windows import Borders, Steps, as_borders, as_steps, check_images, explicit_borders, window_counts

WINDOWS: list[dict[str, Any]] = [
    {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1},
    {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 1},
]
GROUPED = {"stride": (1, 2), "padding": ((1, 1), (0, 1)), "dilation": (1, 1), "groups": 2}
LONG = {"stride": (2,), "padding": ((1, 2),), "dilation": (2,), "groups": 1}
DEEP = {"stride": (2, 1, 1), "padding": ((1, 0), (0, 1), (0, 0)), "dilation": (1, 2, 1), "groups": 2}


class Convolution(Op):
    """Base of the three: they share their parameters and their cost."""

    def multiplications(self, filters: Any, output: Any, rank: int) -> float:
        return float(math.prod(output.shape) * math.prod(filters.shape[-rank - 1 :]))

    def one_set(self, a: Any, b: Any, out: Any, *, stride: Steps, **attrs: Any) -> list[tuple[int, ...]]:
        """The shapes of the two arrays and the result of the convolution, with one set of filters and one axis of batch, that serves inputs
        of these specs by `in_sets`.
        """
        shapes = [x.shape for x in (a, b, out)]
        return conv_fold.one_set(self.name, shapes, self._sets(b, out, stride), len(stride))

    def in_sets(self, xp: Any, kernel: Callable[..., Any], a: Any, b: Any, out: Any, *, extra: Steps = (), **attrs: Any) -> Any:
        """The kernel for inputs of these specs, given one for arrays that lie in memory as those of `one_set`."""
        sets, shape = self._sets(b, out, attrs["stride"]), out.shape
        if not sets and len(shape) == len(attrs["stride"]) + 2:
            return kernel
        fold, told = getattr(conv_fold, self.name), {} if self.name == "conv" else {"shape": shape}

        def of_one(xp: Any, x: Any, y: Any, **how: Any) -> Any:
            return kernel(x, y)

        def call(x: Any, y: Any, *target: Any, out: Any = None) -> Any:
            made = fold(xp, x, y, **told, **attrs, kernel=of_one) if sets else kernel(x, y).reshape(shape)
            if out is None:
                return made
            out[...] = made
            return out

        return call

    def _sets(self, b: Any, out: Any, stride: Steps) -> int:
        return len((out if self.name == "conv_weight_grad" else b).shape) - len(stride) - 2


class Conv(Convolution):
    """Cross-correlation of each image with each filter."""

    promotes = True

    def infer(self, x: Any, w: Any, *, stride: Steps, padding: Borders, dilation: Steps, groups: int) -> Spec:
        rank = len(stride)
        sets = len(w.shape) - rank - 2
        if sets < 0 or len(x.shape) < sets + rank + 1:
            raise ShapeError(f"images {format_shape(x.shape)} and filters {format_shape(w.shape)} have too few dimensions", help=FORM)
        channels, (outputs, per_group) = x.shape[-rank - 1], w.shape[sets : sets + 2]
        if isinstance(channels, int) and isinstance(per_group, int) and channels != per_group * groups:
            each = f" in {groups} groups" if groups > 1 else ""
            raise ShapeError(f"{channels} channels{each} but filters for {per_group * groups}", help=FORM)
        if isinstance(outputs, int) and outputs % groups:
            raise ShapeError(f"{outputs} filters do not divide into {groups} groups")
        sizes = window_counts(x.shape[-rank:], w.shape[-rank:], stride, padding, dilation)
        lead = (*broadcast_shapes(x.shape[:sets], w.shape[:sets]), *x.shape[sets : -rank - 1]) if sets else x.shape[: -rank - 1]
        return Spec((*lead, outputs, *sizes), promote_dtypes(x.dtype, w.dtype))

    def kernel(self, xp: Any, x: Any, w: Any, *, out: Any = None, **attrs: Any) -> Any:
        return conv_fold.conv(xp, x, w, **attrs, out=out)

    def scratch(self, x: Any, w: Any, **attrs: Any) -> int:
        return _scratch(x, w, self.infer(x, w, **attrs), **attrs, of=Scratch.conv)

    def compiled(self, x: Any, w: Any, **attrs: Any) -> lazy.conv.Conv | None:
        shapes = _compilable(x, w, x.shape, w.shape, **attrs)
        return lazy.conv.Conv(shapes) if shapes and shapes.fills_vectors else None

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, w: Tensor, **attrs: Any) -> Any:
        return (
            lambda: _one_of(conv_input_grad(g, conj(w), x, **attrs), x, w, attrs),
            lambda: recast(conv_weight_grad(g, conj(x), w, **attrs), w),
        )

    def vmap(self, batch: Batch, x: Tensor, w: Tensor, *, stride: Steps, **attrs: Any) -> Tensor:
        # A batch of images alone is a larger batch. One of filters is one more axis of sets, which images that all sets share do not need.
        if not batch.inputs[0]:
            x = x[None]
        elif w.ndim > len(stride) + 2:
            w = full(batch, w, 1)
        return conv_op(x, w, stride=stride, **attrs)

    def work(self, x: Any, w: Any, *, stride: Steps, **attrs: Any) -> Work:
        out = self.infer(x, w, stride=stride, **attrs)
        return Work(2 * self.multiplications(w, out, len(stride)), out.nbytes + Spec(x.shape, x.dtype).nbytes)

    def slicing(self, out: Any, x: Any, w: Any, *, stride: Steps, **attrs: Any) -> Slicing | None:
        return _by_images(out, x, w, len(stride), ())

    samples = (
        Over(
            [((2, 2, 5, 6), (3, 2, 3, 2)), ((0, 2, 5, 6), (3, 2, 3, 2)), ((1, 2, 4, 4), (1, 2, 3, 2))],
            attrs=WINDOWS,
            also=("complex128", *LOW),
        )
        + Over([((2, 4, 4, 5), (4, 2, 2, 3)), ((2, 2, 4, 5), (2, 1, 2, 3)), ((2, 2, 1, 4, 3, 3), (2, 4, 2, 2, 2))], attrs=[GROUPED])
        + Over([((2, 2, 7), (3, 2, 3)), ((2, 7), (1, 2, 2))], attrs=[LONG])
        + Over([((2, 2, 4, 5, 3), (2, 1, 2, 3, 2)), ((1, 2, 3, 4, 2), (4, 1, 3, 2, 2))], attrs=[DEEP])
    )


class ConvInputGrad(Convolution):
    """Gradient of conv by its images, from ``g`` and the filters; of ``target``, the images, only channels and sizes are used.

    Without ``target`` the sizes are the smallest that fit, and ``extra`` more behind.
    """

    shape_inputs = (2,)

    def infer(self, g: Any, w: Any, *target: Any, stride: Steps, padding: Borders, dilation: Steps, groups: int, extra: Steps = ()) -> Spec:
        rank = len(stride)
        sets = len(w.shape) - rank - 2
        lead = (*broadcast_shapes(g.shape[:sets], w.shape[:sets]), *g.shape[sets : -rank - 1])
        dtype = promote_dtypes(g.dtype, w.dtype)
        if target:
            return Spec((*lead, *target[0].shape[-rank - 1 :]), dtype)
        if isinstance(g.shape[-rank - 1], int) and isinstance(w.shape[sets], int) and g.shape[-rank - 1] != w.shape[sets]:
            raise ShapeError(f"{g.shape[-rank - 1]} channels but {w.shape[sets]} filters", help=FORM_TRANSPOSE)
        channels = w.shape[sets + 1] * groups if isinstance(w.shape[sets + 1], int) else None
        if isinstance(w.shape[sets], int) and w.shape[sets] % groups:
            raise ShapeError(f"{w.shape[sets]} filters do not divide into {groups} groups")
        return Spec((*lead, channels, *_transposed_sizes(g.shape[-rank:], w.shape[-rank:], stride, padding, dilation, extra)), dtype)

    def kernel(self, xp: Any, g: Any, w: Any, *target: Any, out: Any = None, extra: Steps = (), **attrs: Any) -> Any:
        # By g and not by the target: g is cut into slices of the batch, and the target is not.
        shape: Any = self.infer(g, w, *target, extra=extra, **attrs).shape
        return conv_fold.conv_input_grad(xp, g, w, shape=shape, **attrs, out=out)

    def scratch(self, g: Any, w: Any, *target: Any, extra: Steps = (), **attrs: Any) -> int:
        return _scratch(self.infer(g, w, *target, extra=extra, **attrs), w, g, **attrs, of=Scratch.input_grad)

    def compiled(self, g: Any, w: Any, *target: Any, extra: Steps = (), **attrs: Any) -> lazy.conv.ConvInputGrad | None:
        shapes = _compilable(g, w, self.infer(g, w, *target, extra=extra, **attrs).shape, w.shape, **attrs)
        return lazy.conv.ConvInputGrad(shapes) if shapes and shapes.fills_vectors else None

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, w: Tensor, *target: Tensor, extra: Steps = (), **attrs: Any) -> Any:
        return (
            lambda: _one_of(conv_op(g, conj(w), **attrs), cotangent, w, attrs),
            lambda: recast(conv_weight_grad(conj(cotangent), g, w, **attrs), w),
            *(None for _ in target),
        )

    def vmap(self, batch: Batch, g: Tensor, w: Tensor, *target: Tensor, stride: Steps, **attrs: Any) -> Tensor:
        sets = w.ndim - batch.inputs[1] - len(stride) - 2
        if batch.inputs[1] or sets:
            w = full(batch, w, 1)
        return conv_input_grad(full(batch, g, 0), w, *target, stride=stride, **attrs)

    def work(self, g: Any, w: Any, *target: Any, stride: Steps, **attrs: Any) -> Work:
        out = self.infer(g, w, *target, stride=stride, **attrs)
        return Work(2 * self.multiplications(w, g, len(stride)), out.nbytes + Spec(g.shape, g.dtype).nbytes)

    def slicing(self, out: Any, g: Any, w: Any, *target: Any, stride: Steps, **attrs: Any) -> Slicing | None:
        return _by_images(out, g, w, len(stride), target)

    samples = (
        Over([((2, 3, 3, 5), (3, 2, 3, 2), (2, 2, 5, 6))], attrs=WINDOWS[:1], also=("complex128", *LOW))
        + Over([((2, 4, 5, 2), (4, 2, 2, 3), (2, 4, 4, 5))], attrs=[GROUPED])
        + Over([((2, 2, 3, 3, 5), (2, 3, 2, 3, 2), (2, 2, 2, 5, 6))], attrs=WINDOWS[:1])
        + Over([((2, 3, 2), (3, 2, 3)), ((0, 3, 2), (3, 2, 3))], attrs=[{**LONG, "extra": (1,)}])
        + Over([((2, 2, 2, 2, 2), (2, 1, 2, 3, 2))], attrs=[{**DEEP, "extra": (1, 0, 0)}])
    )


class ConvWeightGrad(Convolution):
    """Gradient of conv by its filters, from ``g`` and the images; of ``target``, the filters, only the shape is used."""

    shape_inputs = (2,)

    def infer(self, g: Any, x: Any, target: Any, **attrs: Any) -> Spec:
        return Spec(target.shape, promote_dtypes(g.dtype, x.dtype))

    def kernel(self, xp: Any, g: Any, x: Any, target: Any, *, out: Any = None, **attrs: Any) -> Any:
        shape = target.shape
        if len(shape) > len(attrs["stride"]) + 2:  # cut along the sets, g holds fewer of them than the target says
            shape = (g.shape[0], *shape[1:])
        return conv_fold.conv_weight_grad(xp, g, x, shape=shape, **attrs, out=out)

    def scratch(self, g: Any, x: Any, target: Any, **attrs: Any) -> int:
        return _scratch(x, target, g, **attrs, of=Scratch.weight_grad)

    def compiled(self, g: Any, x: Any, target: Any, **attrs: Any) -> lazy.conv.ConvWeightGrad | None:
        shapes = _compilable(g, x, x.shape, target.shape, **attrs)
        return lazy.conv.ConvWeightGrad(shapes) if shapes else None

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, x: Tensor, target: Tensor, **attrs: Any) -> Any:
        return (
            lambda: _one_of(conv_op(conj(x), g, **attrs), cotangent, g, attrs),
            lambda: _one_of(conv_input_grad(conj(cotangent), g, x, **attrs), x, g, attrs),
            None,
        )

    def vmap(self, batch: Batch, g: Tensor, x: Tensor, target: Tensor, **attrs: Any) -> Tensor:
        return conv_weight_grad(full(batch, g, 0), full(batch, x, 1), full(batch, target, 2), **attrs)

    def work(self, g: Any, x: Any, target: Any, *, stride: Steps, **attrs: Any) -> Work:
        moved = Spec(x.shape, x.dtype).nbytes + Spec(g.shape, g.dtype).nbytes
        return Work(2 * self.multiplications(target, g, len(stride)), moved)

    def slicing(self, out: Any, g: Any, x: Any, target: Any, *, stride: Steps, **attrs: Any) -> Slicing | None:
        if g.shape[0] < 2 or g.shape[0] != x.shape[0] or len(g.shape) == len(stride) + 1:
            return None
        if wide(out.dtype) != out.dtype:  # parts would be rounded to 16 bits before they are added up
            return None
        return Slicing((True, True, False), g.shape[0], "concat" if len(target.shape) > len(stride) + 2 else "sum")

    samples = (
        Over([((2, 3, 3, 5), (2, 2, 5, 6), (3, 2, 3, 2))], attrs=WINDOWS[:1], also=("complex128", *LOW))
        + Over([((2, 4, 5, 2), (2, 4, 4, 5), (4, 2, 2, 3))], attrs=[GROUPED])
        + Over(
            [((2, 2, 3, 3, 5), (2, 2, 2, 5, 6), (2, 3, 2, 3, 2)), ((2, 1, 3, 3, 5), (1, 1, 2, 5, 6), (2, 3, 2, 3, 2))], attrs=WINDOWS[:1]
        )
        + Over([((2, 3, 3), (2, 2, 7), (3, 2, 3))], attrs=[LONG])
        + Over([((2, 2, 2, 2, 2), (2, 2, 4, 5, 3), (2, 1, 2, 3, 2))], attrs=[DEEP])
    )


def _one_of(made: Tensor, x: Tensor, filters: Tensor, attrs: dict[str, Any]) -> Tensor:
    """``made`` as a cotangent of the images ``x``: summed over sets of filters where these share the images."""
    return like(made, x) if filters.ndim > len(attrs["stride"]) + 2 else recast(made, x)


def _scratch(
    x: Any, w: Any, out: Any, *, stride: Steps, padding: Borders, dilation: Steps, groups: int, of: Callable[[Scratch], int]
) -> int:
    """Bytes that a kernel needs besides, along one or two axes without sets of filters; of others it is not known."""
    rank = len(stride)
    if rank > 2 or len(w.shape) != rank + 2 or len(out.shape) < rank + 1:
        return 0
    more, n = 2 - rank, math.prod(out.shape[: -rank - 1])
    dtype = wide(promote_dtypes(x.dtype, w.dtype))
    ones = (1,) * more
    images: Any = (n, x.shape[-rank - 1], *ones, *x.shape[-rank:])
    filters: Any = (*w.shape[:2], *ones, *w.shape[-rank:])
    borders: Any = (*((0, 0),) * more, *padding)
    steps: Any = (*ones, *stride)
    found = of(Scratch(images, filters, (*ones, *out.shape[-rank:]), dtype.itemsize, steps, borders, groups)) * dtype.itemsize
    if x.dtype != dtype:  # all is computed in more bits, and cast
        found += sum(Spec(spec.shape, dtype).nbytes for spec in (x, w, out))
    return found


def _compilable(
    a: Any, b: Any, image: Any, filters: Any, *, stride: Steps, padding: Borders, dilation: Steps, groups: int
) -> lazy.conv.Convolution | None:
    """The shapes of a convolution along one or two axes whose kernels can be compiled. One axis is the width of images of height 1."""
    more = 2 - len(stride)
    if more < 0 or a.dtype != b.dtype or len(image) != len(filters) or len(image) != len(stride) + 2:
        return None
    ones = (1,) * more
    (channels, *sizes), (outputs, _, *window) = image[1:], filters
    shapes = lazy.conv.Convolution(
        a.dtype,
        (channels, *ones, *sizes),
        (outputs, *ones, *window),
        (*ones, *stride),
        (*((0, 0),) * more, *padding),
        (*ones, *dilation),
        groups,
    )
    return shapes if shapes.is_supported else None


def _by_images(out: Any, x: Any, w: Any, rank: int, shapes: Any) -> Slicing | None:
    """Slices of the batch, or, where the filters come in sets, of the sets."""
    if len(x.shape) == rank + 1 or not out.shape[0]:
        return None
    sets = len(w.shape) > rank + 2
    if sets and x.shape[0] != w.shape[0]:
        return None
    return Slicing((True, sets, *(False for _ in shapes)), out.shape[0])


FORM = "images are (batch, channels, *sizes), filters (out, channels per group, *window)"
FORM_TRANSPOSE = "images are (batch, channels, *sizes), filters of a transposed convolution (channels, out per group, *window)"

conv_op = op(Conv)
conv_input_grad = op(ConvInputGrad)
conv_weight_grad = op(ConvWeightGrad)


def conv1d(x: Any, w: Any, *, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of sequences (batch, channels, length) with filters (out, channels / groups, width); arguments as for conv2d.

    >>> session.run(fg.nn.conv1d([[[1.0, 2.0, 3.0]]], [[[1.0, -1.0]]]))
    array([[[-1., -1.]]])
    """
    return _conv(1, x, w, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    w: Any,
    *,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[Any] = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of images with filters (what neural networks call convolution: the filters are not mirrored).

    x         (batch, channels, height, width)
    w         (out, channels / groups, filter height, filter width)
    stride    step between windows, one number or (vertical, horizontal)
    padding   zeros around the image: "valid" (none), "same" (output size = input size / stride, rounded up; an odd zero goes
              below and right), a number, (vertical, horizontal), or ((top, bottom), (left, right))
    dilation  distance between the pixels that a filter meets
    groups    number of groups of channels that do not meet; channels of them make it depthwise
    returns   (batch, out, height, width) in the promoted dtype; float16 is summed in float32
    raises    ShapeError when channels differ or a filter is larger than the padded image

    >>> session.run(fg.nn.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))))
    array([[[[4., 4.],
             [4., 4.]]]])
    """
    return _conv(2, x, w, stride, padding, dilation, groups)


def conv3d(x: Any, w: Any, *, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of volumes (batch, channels, depth, height, width) with filters of one dimension more; else as conv2d.

    >>> session.run(fg.nn.conv3d(np.ones((1, 1, 2, 2, 3)), np.ones((4, 1, 2, 2, 2)))).shape
    (1, 4, 1, 1, 2)
    """
    return _conv(3, x, w, stride, padding, dilation, groups)


def conv1d_transpose(
    x: Any, w: Any, *, stride: Any = 1, padding: Any = "valid", output_padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Transposed convolution of sequences (batch, channels, length) with filters (channels, out / groups, width); see conv2d_transpose.

    >>> session.run(fg.nn.conv1d_transpose([[[1.0, 2.0]]], [[[1.0, 3.0]]], stride=2))
    array([[[1., 3., 2., 6.]]])
    """
    return _conv_transpose(1, x, w, stride, padding, output_padding, dilation, groups)


def conv2d_transpose(
    x: Any,
    w: Any,
    *,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[Any] = "valid",
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Transposed convolution: each pixel sends its filters, times its value, to the result. It is the gradient of conv2d by its images.

    x               (batch, channels, height, width)
    w               (channels, out / groups, filter height, filter width): what conv2d would take in the other direction
    stride          step between the places of two neighbouring pixels in the result
    padding         what is cut off the border of the result, as conv2d would have added it; "same" gives size * stride
    output_padding  rows and columns added below and right, fewer than the stride: they tell sizes apart that one convolution takes to one
    dilation        distance between the pixels of a filter
    groups          number of groups of channels that do not meet
    returns         (batch, out, height, width), height = (input height - 1) * stride + filter height, less the padding
    raises          ShapeError when channels and filters differ in number or the padding leaves nothing

    >>> session.run(fg.nn.conv2d_transpose(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2))))
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    return _conv_transpose(2, x, w, stride, padding, output_padding, dilation, groups)


def conv3d_transpose(
    x: Any, w: Any, *, stride: Any = 1, padding: Any = "valid", output_padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Transposed convolution of volumes (batch, channels, depth, height, width); see conv2d_transpose.

    >>> session.run(fg.nn.conv3d_transpose(np.ones((1, 1, 2, 2, 2)), np.ones((1, 4, 2, 2, 2)), stride=2)).shape
    (1, 4, 4, 4, 4)
    """
    return _conv_transpose(3, x, w, stride, padding, output_padding, dilation, groups)


def _conv(rank: int, x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Tensor:
    name = f"conv{rank}d"
    x, w = conv_op.lift((x, w))
    check_images(name, rank, x=x, w=w)
    steps, gaps = as_steps(stride, rank, "stride"), as_steps(dilation, rank, "dilation")
    borders = as_borders(padding, x.shape[2:], w.shape[2:], steps, gaps)
    return conv_op(x, w, stride=steps, padding=borders, dilation=gaps, groups=_groups(name, groups), name=name)


def _conv_transpose(rank: int, x: Any, w: Any, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: Any) -> Tensor:
    name = f"conv{rank}d_transpose"
    x, w = conv_op.lift((x, w))
    check_images(name, rank, x=x, w=w)
    steps, gaps = as_steps(stride, rank, "stride"), as_steps(dilation, rank, "dilation")
    behind = explicit_borders(output_padding, rank)
    if behind is None or any(a != b or b >= step for (a, b), step in zip(behind, steps, strict=True)):
        raise ArgumentError(f"{name}: output_padding must be ints below the stride {steps}, got {output_padding!r:.80}")
    extra = [b for _, b in behind]
    if isinstance(padding, str) and padding == "same":
        window = w.shape[2:]
        if not all(isinstance(size, int) for size in window):
            raise ShapeError(f"{name}: padding 'same' needs a filter of known size, got {format_shape(window)}")
        spare = [gap * (size - 1) + 1 - step for size, step, gap in zip(window, steps, gaps, strict=True)]
        borders: Borders = tuple((max(s, 0) // 2, max(s, 0) - max(s, 0) // 2) for s in spare)
        extra = [e + max(-s, 0) for e, s in zip(extra, spare, strict=True)]
    else:
        borders = as_borders(padding, x.shape[2:], w.shape[2:], steps, gaps)
    options: dict[str, Any] = {"stride": steps, "padding": borders, "dilation": gaps, "groups": _groups(name, groups)}
    return conv_input_grad(x, w, **options, extra=tuple(extra), name=name)


def _groups(name: str, groups: Any) -> int:
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ArgumentError(f"{name}: groups must be a positive int, got {groups!r}")
    return groups


def _transposed_sizes(sizes: Shape, window: Shape, stride: Steps, padding: Borders, dilation: Steps, extra: Steps) -> Shape:
    """The sizes of images of which ``sizes`` windows were taken: the smallest ones, and ``extra`` more."""
    result: list[Any] = []
    for size, reach, step, (before, after), gap, more in zip(sizes, window, stride, padding, dilation, extra, strict=True):
        if not isinstance(size, int) or not isinstance(reach, int):
            result.append(None)
            continue
        total = (size - 1) * step + gap * (reach - 1) + 1 - before - after + more
        if total < 1:
            raise ShapeError(f"the padding {(before, after)} leaves nothing of {total + before + after} pixels")
        result.append(total)
    return tuple(result)
