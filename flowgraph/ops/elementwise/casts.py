"""Other dtypes, the parts of complex numbers, and broadcasting: what every gradient rule needs.

The cotangent of z = x + iy is dL/dx + i dL/dy, for a real L: the direction in which L rises fastest. So a holomorphic f passes on
``g * conj(f'(z))``, a linear map its conjugate transpose, and a real input to which a complex cotangent comes takes the real part of it,
which `like` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import DtypeError
from ...graph import Op, Spec, Tensor, Work, op
from ...graph.node import FUNCTIONS
from ...graph.op import Batch, Slicing, public
from ...graph.spec import as_dtype, broadcast_shapes, is_known
from ..batching import aligned, full
from ..bits import wide
from ..samples import Over, unary
from .base import Unary, rowwise


class Astype(Op):
    """``x`` cast to ``dtype``; the gradient is cast back, and an integer or boolean passes none."""

    def infer(self, x: Any, *, dtype: Any) -> Any:
        if x.dtype.kind == "c" and dtype.kind not in "cb":
            raise DtypeError(f"{x.dtype} does not fit into {dtype}", help="choose a part: fg.real(x), fg.imag(x), fg.abs(x) or fg.angle(x)")
        return Spec(x.shape, dtype)

    def kernel(self, xp: Any, x: Any, *, dtype: Any, out: Any = None) -> Any:
        if out is None:
            return xp.asarray(x).astype(dtype)
        out[...] = x
        return out

    def scalar(self, s: Any, x: Any, *, dtype: Any) -> Any:
        return s.astype(x, dtype)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, dtype: Any) -> Any:
        return recast(g, x)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    def vmap(self, batch: Batch, x: Tensor, *, dtype: Any) -> Tensor:
        return astype(x, dtype)

    samples = unary(attrs=({"dtype": np.dtype("float64")},))


class SumLike(Op):
    """``g`` summed down to the shape of ``x``, from which it was broadcast: the transpose of broadcasting.

    g        tensor of a shape that x's broadcasts to
    x        only its shape is used
    returns  shape of x, dtype of g
    """

    shape_inputs = (1,)
    is_view = True  # where nothing is summed

    def infer(self, g: Any, x: Any) -> Any:
        broadcast_shapes(g.shape, x.shape)
        return Spec(x.shape, g.dtype)

    def passes(self, out: Any, g: Any, x: Any) -> bool:
        return bool(g.shape == x.shape) and is_known(g.shape)

    def shares(self, out: Any, g: Any, x: Any) -> bool:
        return not (is_known(g.shape) and is_known(x.shape)) or self.passes(out, g, x)

    def slicing(self, out: Any, g: Any, x: Any) -> Slicing | None:
        return rowwise(out, (g, x)) if self.passes(out, g, x) else None

    def kernel(self, xp: Any, g: Any, x: Any, *, out: Any = None) -> Any:
        if g.shape == x.shape and out is None:
            return g
        extra = g.ndim - len(x.shape)
        axes = tuple(range(extra)) + tuple(extra + axis for axis, size in enumerate(x.shape) if size == 1 and g.shape[extra + axis] != 1)
        dtype = wide(g.dtype)
        if out is None:
            return g.sum(axis=axes, dtype=dtype).astype(g.dtype, copy=False).reshape(x.shape)
        left = tuple(size for axis, size in enumerate(g.shape) if axis not in axes)
        if out.dtype == dtype and out.flags.c_contiguous:
            g.sum(axis=axes, out=out.reshape(left))
        else:
            out.reshape(left)[...] = g.sum(axis=axes, dtype=dtype)
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor) -> Any:
        return broadcast_like(g, x), None

    def vmap(self, batch: Batch, g: Tensor, x: Tensor) -> Tensor:
        g, x = full(batch, g, 0), full(batch, x, 1)
        extra = g.ndim - x.ndim  # axes that only g has; the batch stands before them
        return sum_like(FUNCTIONS["sum"](g, axis=tuple(range(1, 1 + extra))) if extra else g, x)

    samples = Over([((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((2, 3), (2, 3)), ((0, 3), (1, 3))])


class BroadcastLike(Op):
    """``x`` repeated to the shape that it and ``target`` broadcast to; only the target's shape is used."""

    shape_inputs = (1,)
    is_view = True

    def infer(self, x: Any, target: Any) -> Any:
        return Spec(broadcast_shapes(x.shape, target.shape), x.dtype)

    def passes(self, out: Any, x: Any, target: Any) -> bool:
        return bool(out.shape == x.shape) and is_known(x.shape)

    def kernel(self, xp: Any, x: Any, target: Any) -> Any:
        return xp.broadcast_to(x, np.broadcast_shapes(x.shape, target.shape))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor) -> Any:
        return like(g, x), None

    def vmap(self, batch: Batch, *inputs: Tensor) -> Tensor:
        return broadcast_like(*aligned(batch, inputs))

    samples = Over([((3,), (2, 3)), ((), (2, 3)), ((2, 1), (2, 3)), ((1, 3), (0, 3))])


class Conj(Unary):
    """Complex conjugate; a real number is its own."""

    ufunc = "conjugate"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return conj(g)

    samples = unary(dtypes=("complex128",)) + unary(dtypes=("complex64",))


class Part(Op):
    """Base of the real and the imaginary part of a complex tensor: views of its memory."""

    is_view = True

    def infer(self, x: Any) -> Spec:
        if x.dtype.kind != "c":
            raise DtypeError(f"needs complex numbers, got {x.dtype}")
        return Spec(x.shape, real_dtype(x.dtype))

    def work(self, x: Any) -> Work:
        return Work()

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return self(x)

    samples = unary(dtypes=("complex128",)) + unary(dtypes=("complex64",))


class Real(Part):
    """The real part."""

    def kernel(self, xp: Any, x: Any) -> Any:
        return xp.real(x)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return astype(g, x.dtype)


class Imag(Part):
    """The imaginary part."""

    def kernel(self, xp: Any, x: Any) -> Any:
        return xp.imag(x)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * 1j


_conj = op(Conj)
_real = op(Real)
_imag = op(Imag)
sum_like = op(SumLike)
broadcast_like = op(BroadcastLike)
_astype = op(Astype)


def like(g: Tensor, x: Tensor) -> Tensor:
    """The cotangent ``g`` brought back to the shape and dtype of ``x``, which was broadcast: summed over what it was repeated on."""
    if x.dtype.kind != "c":
        g = real(g)
    if g.shape != x.shape or None in x.shape:
        g = sum_like(g, x)
    return astype(g, x.dtype)


def recast(g: Tensor, x: Tensor) -> Tensor:
    """The cotangent ``g``, of the shape of ``x``, in its dtype: a real x takes the real part."""
    return astype(real(g) if x.dtype.kind != "c" else g, x.dtype)


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the parts of a complex one; any other is its own."""
    return np.dtype(f"float{dtype.itemsize * 4}") if dtype.kind == "c" else dtype


def astype(x: Any, dtype: Any) -> Tensor:
    """``x`` cast to ``dtype``; ``x`` itself when it has it already.

    raises  DtypeError for what is no number or boolean dtype

    >>> session.run(fg.astype([1.7, -2.2], "int32"))
    array([ 1, -2], dtype=int32)
    """
    target = as_dtype(dtype)
    if isinstance(x, Tensor) and x.dtype == target:
        return x
    return _astype(x, dtype=target)


def conj(x: Any) -> Tensor:
    """Complex conjugate of ``x``, element by element; a real ``x`` is returned as it is.

    >>> session.run(fg.conj([1.0 + 2.0j]))
    array([1.-2.j])
    """
    if not isinstance(x, Tensor):
        (x,) = _conj.lift((x,))
    return _conj(x) if x.dtype.kind == "c" else x


def real(x: Any) -> Tensor:
    """Real part of ``x``, element by element; a real ``x`` is returned as it is.

    >>> session.run(fg.real([1.0 + 2.0j]))
    array([1.])
    """
    if not isinstance(x, Tensor):
        (x,) = _real.lift((x,))
    return _real(x) if x.dtype.kind == "c" else x


def imag(x: Any) -> Tensor:
    """Imaginary part of ``x``, element by element; zeros for a real ``x``.

    >>> session.run(fg.imag([1.0 + 2.0j]))
    array([2.])
    """
    (x,) = _imag.lift((x,))
    return _imag(x) if x.dtype.kind == "c" else FUNCTIONS["zeros_like"](x)


public(conj, "conj", "conjugate")
for _function in (astype, real, imag):
    public(_function)
