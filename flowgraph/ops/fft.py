"""Discrete Fourier transforms, with NumPy's conventions, and their transposes.

A transform with its scale is a linear map, so its gradient is another transform. Of a complex one it is the inverse with the scale of
the other direction. One from or to real numbers stores half of a symmetric spectrum, so that all but the ends of the half stand for
two; its transpose has to count them so, and is an op of its own. ``n`` and ``s`` crop or pad the input, which is an op before the
transform.

Axes are stored from the end, so that a batch in front changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Dim, Op, Spec, Tensor, Work, op
from ..graph.arguments import as_count, as_number, as_several
from ..graph.op import Batch, Slicing, public
from ..graph.spec import format_shape, normalize_axis
from .batching import full
from .elementwise import astype, conj, like, real_dtype
from .samples import Over, Samples

# The scale of a transform is that of its inverse in the other direction.
SWAPPED = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


class Transform(Op):
    """Base: a transform over ``axes`` (counted from the end) of an input whose dtype the public functions have settled."""

    def kernel(self, xp: Any, x: Any, *, axes: tuple[int, ...], norm: str, out: Any = None) -> Any:
        return _written(getattr(xp.fft, self.name), xp, x, out, axes=axes, norm=norm)

    def vmap(self, batch: Batch, *inputs: Tensor, **attrs: Any) -> Tensor:
        return self(*inputs, **attrs)

    def work(self, x: Any, *rest: Any, **attrs: Any) -> Work:
        out = self.infer(x, *rest, **attrs)
        axes = attrs["axes"] if "axes" in attrs else (attrs["axis"],)
        size = max(out.size, math.prod(x.shape))
        points = math.prod(max(out.shape[a], x.shape[a]) for a in axes)
        return Work(5.0 * size * math.log2(max(points, 2)), math.prod(x.shape) * x.dtype.itemsize + out.nbytes)

    def slicing(self, out: Any, x: Any, *rest: Any, **attrs: Any) -> Slicing | None:
        axes = attrs["axes"] if "axes" in attrs else (attrs["axis"],)
        if len(x.shape) < 2 or x.shape[0] < 2 or -len(x.shape) in axes:
            return None
        return Slicing((True, *(False for _ in rest)), x.shape[0])


def _written(transform: Any, xp: Any, x: Any, out: Any, **options: Any) -> Any:
    """What ``transform`` gives, in ``out`` where there is one; CuPy's cannot write there by themselves."""
    if out is None:
        return transform(x, **options)
    if xp is np:
        return transform(x, out=out, **options)
    out[...] = transform(x, **options)
    return out


class Fftn(Transform):
    """Transform of real or complex numbers to complex ones, forwards, over ``axes``."""

    def infer(self, x: Any, *, axes: tuple[int, ...], norm: str) -> Spec:
        _check_sizes(x, axes)
        return Spec(x.shape, complex_dtype(x.dtype))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axes: tuple[int, ...], norm: str) -> Any:
        return like(_ifftn(g, axes=axes, norm=SWAPPED[norm]), x)

    samples = Samples(
        tuple(
            Over(
                [((4,),), ((5,),), ((1,),), ((2, 3),), ((0, 3),), ((2, 3, 4),)],
                dtypes=(dtype,),
                attrs=lambda s: (
                    [{"axes": (-1,), "norm": "backward"}, {"axes": tuple(range(-len(s), 0)), "norm": "ortho"}]
                    if 0 not in s
                    else [{"axes": (-1,), "norm": "forward"}]
                ),
            )
            for dtype in ("float64", "complex128", "float32", "complex64")
        )
    )


class Ifftn(Fftn):
    """The inverse of fftn."""

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axes: tuple[int, ...], norm: str) -> Any:
        return like(_fftn(g, axes=axes, norm=SWAPPED[norm]), x)


class HalfTransform(Transform):
    """Base: a transform between n real numbers and the first n // 2 + 1 of their symmetric spectrum, along ``axis``."""


class Rfft(HalfTransform):
    """Transform of real numbers along ``axis`` to the half of the spectrum that is not determined by the other."""

    def infer(self, x: Any, *, axis: int, norm: str) -> Spec:
        _check_sizes(x, (axis,))
        return Spec(_resized(x.shape, axis, _half(x.shape[axis])), complex_dtype(x.dtype))

    def kernel(self, xp: Any, x: Any, *, axis: int, norm: str, out: Any = None) -> Any:  # type: ignore[override]
        return _written(xp.fft.rfft, xp, x, out, axis=axis, norm=norm)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int, norm: str) -> Any:
        return rfft_transpose(g, x, axis=axis, norm=norm)

    samples = (
        Over([((6,),), ((5,),), ((1,),), ((2,),), ((2, 3),), ((0, 3),)], attrs=({"axis": -1, "norm": "backward"},))
        + Over([((6,),), ((2, 5),)], dtypes=("float32",), attrs=({"axis": -1, "norm": "backward"},))
        + Over([((4, 2, 3),)], attrs=({"axis": -3, "norm": "ortho"}, {"axis": -2, "norm": "forward"}))
    )


class RfftTranspose(HalfTransform):
    """The transpose of rfft: from a half spectrum ``g`` to the real numbers ``x``, of which only the shape is used."""

    shape_inputs = (1,)

    def infer(self, g: Any, x: Any, *, axis: int, norm: str) -> Spec:
        return Spec(x.shape, real_dtype(g.dtype))

    def kernel(self, xp: Any, g: Any, x: Any, *, axis: int, norm: str, out: Any = None) -> Any:  # type: ignore[override]
        # irfft counts all but the ends twice, rfft's transpose counts each once.
        n = x.shape[axis]
        return _written(xp.fft.irfft, xp, _middle_times(xp, g, n, axis, 0.5), out, n=n, axis=axis, norm=SWAPPED[norm])

    def vjp(self, g: Tensor, out: Tensor, spectrum: Tensor, x: Tensor, *, axis: int, norm: str) -> Any:
        return _rfft(g, axis=axis, norm=norm), None

    def vmap(self, batch: Batch, *inputs: Tensor, **attrs: Any) -> Tensor:
        return rfft_transpose(*(full(batch, x, i) for i, x in enumerate(inputs)), **attrs)

    def slicing(self, out: Any, g: Any, x: Any, *, axis: int, norm: str) -> Slicing | None:  # type: ignore[override]
        return None if super().slicing(out, g, axis=axis, norm=norm) is None else Slicing((True, True), g.shape[0])

    samples = Over(
        [((4,), (6,)), ((3,), (5,)), ((1,), (1,)), ((2, 3), (2, 4)), ((0, 2), (0, 3))],
        dtypes=("complex128", "float64"),
        attrs=({"axis": -1, "norm": "backward"}, {"axis": -1, "norm": "ortho"}),
    ) + Over([((2, 3), (3, 3))], dtypes=("complex64", "float32"), attrs=({"axis": -2, "norm": "forward"},))


class Irfft(HalfTransform):
    """From a half spectrum along ``axis`` to ``n`` real numbers, or, where n is None, to the even number that it stands for."""

    def infer(self, x: Any, *, n: int | None, axis: int, norm: str) -> Spec:
        size = x.shape[axis]
        length: Dim = n if n is not None else 2 * (size - 1) if isinstance(size, int) else None
        if length == 0:
            raise ShapeError(f"{format_shape(x.shape)} stands for no number along axis {axis}", help="give n, how many the result has")
        return Spec(_resized(x.shape, axis, length), real_dtype(x.dtype))

    def kernel(self, xp: Any, x: Any, *, n: int | None, axis: int, norm: str, out: Any = None) -> Any:  # type: ignore[override]
        return _written(xp.fft.irfft, xp, x, out, n=n, axis=axis, norm=norm)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, n: int | None, axis: int, norm: str) -> Any:
        return irfft_transpose(g, n=n, axis=axis, norm=norm)

    samples = Over(
        [((4,),), ((2, 4),), ((0, 4),)],
        dtypes=("complex128",),
        attrs=(
            {"n": None, "axis": -1, "norm": "backward"},
            {"n": 6, "axis": -1, "norm": "ortho"},
            {"n": 7, "axis": -1, "norm": "forward"},
        ),
    ) + Over([((2, 3),)], dtypes=("complex64",), attrs=({"n": None, "axis": -2, "norm": "backward"}, {"n": 3, "axis": -2, "norm": "ortho"}))


class IrfftTranspose(HalfTransform):
    """The transpose of irfft: from real numbers ``g`` to a half spectrum in which all but the ends count twice."""

    def infer(self, g: Any, *, n: int | None, axis: int, norm: str) -> Spec:
        return Spec(_resized(g.shape, axis, _half(g.shape[axis])), complex_dtype(g.dtype))

    def kernel(self, xp: Any, g: Any, *, n: int | None, axis: int, norm: str, out: Any = None) -> Any:  # type: ignore[override]
        half = _written(xp.fft.rfft, xp, g, out, axis=axis, norm=SWAPPED[norm])
        return _middle_times(xp, half, g.shape[axis], axis, 2.0, out=half)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, n: int | None, axis: int, norm: str) -> Any:
        return _irfft(g, n=n, axis=axis, norm=norm)

    samples = Over(
        [((6,),), ((2, 6),), ((0, 2),)],
        attrs=lambda s: [{"n": n, "axis": -1, "norm": norm} for n in (None, s[-1]) for norm in ("backward", "ortho")],
    ) + Over([((5, 2),)], dtypes=("float64", "float32"), attrs=({"n": 5, "axis": -2, "norm": "forward"},))


class Fit(Op):
    """``x`` cropped, or padded with zeros at the end, to ``sizes`` along ``axes``."""

    def infer(self, x: Any, *, sizes: tuple[int, ...], axes: tuple[int, ...]) -> Spec:
        shape = x.shape
        for size, axis in zip(sizes, axes, strict=True):
            shape = _resized(shape, axis, size)
        return Spec(shape, x.dtype)

    def kernel(self, xp: Any, x: Any, *, sizes: tuple[int, ...], axes: tuple[int, ...], out: Any = None) -> Any:
        return _fitted(xp, x, sizes, axes, out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, sizes: tuple[int, ...], axes: tuple[int, ...]) -> Any:
        return fit_like(g, x, axes=axes)

    def vmap(self, batch: Batch, x: Tensor, **attrs: Any) -> Tensor:
        return _fit(x, **attrs)

    samples = Over(
        [((4,),), ((2, 3),), ((0, 3),)],
        attrs=({"sizes": (2,), "axes": (-1,)}, {"sizes": (6,), "axes": (-1,)}, {"sizes": (3,), "axes": (-1,)}),
    )


class FitLike(Op):
    """``x`` cropped, or padded with zeros at the end, to the sizes of ``target`` along ``axes``; its values are not used."""

    shape_inputs = (1,)

    def infer(self, x: Any, target: Any, *, axes: tuple[int, ...]) -> Spec:
        shape = x.shape
        for axis in axes:
            shape = _resized(shape, axis, target.shape[axis])
        return Spec(shape, x.dtype)

    def kernel(self, xp: Any, x: Any, target: Any, *, axes: tuple[int, ...], out: Any = None) -> Any:
        return _fitted(xp, x, tuple(target.shape[axis] for axis in axes), axes, out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor, *, axes: tuple[int, ...]) -> Any:
        return fit_like(g, x, axes=axes), None

    def vmap(self, batch: Batch, x: Tensor, target: Tensor, *, axes: tuple[int, ...]) -> Tensor:
        return fit_like(full(batch, x, 0), target, axes=axes)

    samples = Over([((4,), (2,)), ((2, 3), (2, 5)), ((0, 3), (0, 4))], attrs=({"axes": (-1,)},))


def _fitted(xp: Any, x: Any, sizes: Sequence[int], axes: Sequence[int], out: Any) -> Any:
    shape = list(x.shape)
    common = [slice(None)] * x.ndim
    for size, axis in zip(sizes, axes, strict=True):
        common[axis] = slice(min(size, shape[axis]))
        shape[axis] = size
    if out is None:
        out = xp.empty(tuple(shape), x.dtype)
    out[...] = 0
    out[tuple(common)] = x[tuple(common)]
    return out


class Fftshift(Op):
    """The halves along ``axes`` exchanged, so that frequency 0 stands in the middle, or (``inverse``) back at the front."""

    def infer(self, x: Any, *, axes: tuple[int, ...], inverse: bool) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, axes: tuple[int, ...], inverse: bool) -> Any:
        return (xp.fft.ifftshift if inverse else xp.fft.fftshift)(x, axes)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axes: tuple[int, ...], inverse: bool) -> Any:
        return _fftshift(g, axes=axes, inverse=not inverse)

    def vmap(self, batch: Batch, x: Tensor, **attrs: Any) -> Tensor:
        return _fftshift(x, **attrs)

    samples = Over([((5,),), ((2, 3),), ((0, 3),)], attrs=({"axes": (-1,), "inverse": False}, {"axes": (-1,), "inverse": True}))


_fftn = op(Fftn)
_ifftn = op(Ifftn)
_rfft = op(Rfft)
rfft_transpose = op(RfftTranspose)
_irfft = op(Irfft)
irfft_transpose = op(IrfftTranspose)
_fit = op(Fit)
fit_like = op(FitLike)
_fftshift = op(Fftshift)


def fft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """Discrete Fourier transform of ``x`` along ``axis``.

    x        real or complex tensor; float32 and complex64 give complex64, other floats and integers complex128
    n        how many points: x is cropped, or padded with zeros, to it; None takes all
    norm     "backward" (as is None) divides the inverse by n, "forward" the forward transform, "ortho" both by sqrt(n)
    raises   ShapeError without any point, ArgumentError for another norm

    >>> session.run(fg.fft.fft([1.0, 0.0, 0.0, 0.0]))
    array([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j])
    """
    return fftn(x, None if n is None else (n,), (axis,), norm)


def ifft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `fft`, with the same arguments: ``ifft(fft(x))`` is ``x``."""
    return ifftn(x, None if n is None else (n,), (axis,), norm)


def fft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """Transform over two axes, the last ones unless ``axes`` says otherwise; see `fftn`."""
    return fftn(x, s, axes, norm)


def ifft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """The inverse of `fft2`, with the same arguments."""
    return ifftn(x, s, axes, norm)


def fftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """Discrete Fourier transform of ``x`` over several axes.

    s     how many points along each of ``axes``: x is cropped or padded with zeros; None takes all
    axes  ints; None for all axes, or for the last ``len(s)``
    norm  as in `fft`

    >>> session.run(fg.fft.fftn(np.ones((2, 2))))
    array([[4.+0.j, 0.+0.j],
           [0.+0.j, 0.+0.j]])
    """
    x, chosen, norm = _prepared(_fftn, x, s, axes, norm)
    return _fftn(x, axes=chosen, norm=norm) if chosen else astype(x, complex_dtype(x.dtype))


def ifftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """The inverse of `fftn`, with the same arguments."""
    x, chosen, norm = _prepared(_ifftn, x, s, axes, norm)
    return _ifftn(x, axes=chosen, norm=norm) if chosen else astype(x, complex_dtype(x.dtype))


def rfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The first ``n // 2 + 1`` values of the transform of real ``x`` along ``axis``; the others are their conjugates.

    x       real tensor; the arguments are those of `fft`
    raises  ArgumentError for a complex tensor

    >>> session.run(fg.fft.rfft([1.0, 1.0, 1.0]))
    array([3.+0.j, 0.+0.j])
    """
    return rfftn(x, None if n is None else (n,), (axis,), norm)


def irfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `rfft`: ``n`` real numbers along ``axis``.

    n  length of the result; None for the even ``2 * (m - 1)`` of m values. An odd length has to be given.

    >>> session.run(fg.fft.irfft(fg.fft.rfft([1.0, 2.0, 3.0]), n=3))
    array([1., 2., 3.])
    """
    return irfftn(x, None if n is None else (n,), (axis,), norm)


def rfftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """Transform of real ``x`` over several axes: `rfft` along the last of ``axes``, then `fftn` over the others."""
    x, chosen, norm = _prepared(_rfft, x, s, axes, norm)
    if not chosen:
        raise ArgumentError("rfftn: a transform from real numbers needs at least one axis")
    if x.dtype.kind == "c":
        raise ArgumentError(f"rfft: takes real numbers, got {x.dtype}", help="fft takes complex ones; fg.real drops an imaginary part")
    half = _rfft(x, axis=chosen[-1], norm=norm)
    return _fftn(half, axes=chosen[:-1], norm=norm) if chosen[1:] else half


def irfftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """The inverse of `rfftn`: real numbers; an odd length of the last of ``axes`` has to be given in ``s``."""
    s = None if s is None else tuple(as_count(n, "the number of points", 1) for n in as_several(s, "sizes"))
    sizes = None if s is None else (*s[:-1], *(n // 2 + 1 for n in s[-1:]))
    x, chosen, norm = _prepared(_irfft, x, sizes, axes, norm)
    if not chosen:
        raise ArgumentError("irfftn: a transform to real numbers needs at least one axis")
    x = astype(x, complex_dtype(x.dtype))
    if chosen[1:]:
        x = _ifftn(x, axes=chosen[:-1], norm=norm)
    length = 2 * (x.shape[chosen[-1]] - 1) if s is None and isinstance(x.shape[chosen[-1]], int) else None
    return _irfft(x, n=int(s[-1]) if s is not None else length, axis=chosen[-1], norm=norm)


def rfft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """Transform of real ``x`` over two axes, the last ones unless ``axes`` says otherwise; see `rfftn`."""
    return rfftn(x, s, axes, norm)


def irfft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """The inverse of `rfft2`; see `irfftn`."""
    return irfftn(x, s, axes, norm)


def hfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The real transform of a signal that is symmetric (x[-k] is the conjugate of x[k]), of which ``x`` is the first half.

    n  length of the result; None for the even ``2 * (m - 1)`` of m values
    """
    (x,) = _irfft.lift((x,))
    return irfft(conj(x), n, axis, SWAPPED[_norm(norm)])


def ihfft(x: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `hfft`: half of a symmetric signal from its real transform."""
    return conj(rfft(x, n, axis, SWAPPED[_norm(norm)]))


def fftfreq(n: int, d: float = 1.0) -> Tensor:
    """The frequencies of the ``n`` values of `fft`, in cycles per unit of the sample distance ``d``, as a float64 constant.

    >>> session.run(fg.fft.fftfreq(4))
    array([ 0. ,  0.25, -0.5 , -0.25])
    """
    return _fftn.lift((np.fft.fftfreq(as_count(n, "n", 1), as_number(d, "d")),))[0]


def rfftfreq(n: int, d: float = 1.0) -> Tensor:
    """The frequencies of the values of `rfft` of ``n`` points, in cycles per unit of the sample distance ``d``."""
    return _fftn.lift((np.fft.rfftfreq(as_count(n, "n", 1), as_number(d, "d")),))[0]


def fftshift(x: Any, axes: int | Sequence[int] | None = None) -> Tensor:
    """``x`` with frequency 0 moved from the front to the middle, along ``axes`` (None for all).

    >>> session.run(fg.fft.fftshift(fg.fft.fftfreq(4)))
    array([-0.5 , -0.25,  0. ,  0.25])
    """
    return _shifted(x, axes, inverse=False)


def ifftshift(x: Any, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`, also for odd lengths."""
    return _shifted(x, axes, inverse=True)


def _shifted(x: Any, axes: int | Sequence[int] | None, inverse: bool) -> Tensor:
    (x,) = _fftshift.lift((x,))
    chosen = range(x.ndim) if axes is None else as_several(axes, "axes")
    return _fftshift(x, axes=tuple(normalize_axis(a, x.ndim) - x.ndim for a in chosen), inverse=inverse)


def _prepared(
    operation: Op, x: Any, s: Sequence[int] | None, axes: Sequence[int] | None, norm: str | None
) -> tuple[Tensor, tuple[int, ...], str]:
    """``x`` in a dtype that is transformed and cropped or padded to ``s``, the axes from the end, and the norm's name."""
    (x,) = operation.lift((x,))
    s = None if s is None else as_several(s, "sizes")
    axes = None if axes is None else as_several(axes, "axes")
    if axes is None:
        axes = range(-len(s), 0) if s is not None else range(-x.ndim, 0)
    chosen = tuple(normalize_axis(a, x.ndim) - x.ndim for a in axes)
    if len(set(chosen)) != len(chosen):
        raise ArgumentError(f"{operation.name}: axes {tuple(axes)} name one axis twice")
    if x.dtype.kind not in "fc" or x.dtype.itemsize < 4:
        x = astype(x, "float32" if x.dtype.kind in "fV" else "float64")
    if s is not None:
        if len(s) != len(chosen):
            raise ArgumentError(f"{operation.name}: {len(s)} sizes for {len(chosen)} axes")
        if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in s):
            raise ArgumentError(f"{operation.name}: {tuple(s)} points, each an int of at least one")
        changed = [(int(n), a) for n, a in zip(s, chosen, strict=True) if x.shape[a] != n]
        if changed:
            x = _fit(x, sizes=tuple(n for n, _ in changed), axes=tuple(a for _, a in changed))
    return x, chosen, _norm(norm)


def _norm(norm: str | None) -> str:
    if norm is not None and not (isinstance(norm, str) and norm in SWAPPED):
        raise ArgumentError(f'fft: norm is "backward", "ortho" or "forward", got {norm!r}')
    return norm or "backward"


def complex_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The complex dtype of a float's precision."""
    return dtype if dtype.kind == "c" else np.dtype("complex64" if dtype.itemsize == 4 else "complex128")


def _check_sizes(x: Any, axes: tuple[int, ...]) -> None:
    for axis in axes:
        if x.shape[axis] == 0:
            raise ShapeError(f"axis {axis} of {format_shape(x.shape)} has no point to transform")


def _half(size: Dim) -> Dim:
    return size // 2 + 1 if isinstance(size, int) else None


def _resized(shape: tuple[Dim, ...], axis: int, size: Dim) -> tuple[Dim, ...]:
    place = axis % len(shape)
    return (*shape[:place], size, *shape[place + 1 :])


def _middle_times(xp: Any, half: Any, n: int, axis: int, factor: float, out: Any = None) -> Any:
    """A half spectrum of ``n`` numbers with all that stands for two (not 0, nor n/2 where n is even) times ``factor``."""
    if out is None:
        out = half.copy()
    middle = [slice(None)] * half.ndim
    middle[axis] = slice(1, (n + 1) // 2)
    out[tuple(middle)] *= factor
    return out


for _function in (fft, ifft, fft2, ifft2, fftn, ifftn, rfft, irfft, rfft2, irfft2, rfftn, irfftn, hfft, ihfft, fftshift, ifftshift):
    public(_function, f"fft.{_function.__name__}")
