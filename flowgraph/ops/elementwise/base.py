"""What all operations that act on each element by itself share: NumPy's broadcasting and dtype promotion.

Each is a NumPy ufunc: its name gives the dtype rule and the kernel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import DtypeError
from ...graph import Op, Spec, Tensor, Work
from ...graph.op import Batch, Slicing
from ...graph.spec import broadcast_shapes
from ..batching import aligned

INTEGERS = ("int64",)


class Elementwise(Op):
    """Base: an op whose kernel is the ufunc named ``ufunc``.

    symbol      Python's operator for it, which computes NumPy's scalars ten times as fast
    flops_each  arithmetic operations for one element, about
    ordered     whether it compares elements, which complex numbers do not allow
    """

    ufunc: str
    symbol: str | None = None
    flops_each = 1.0
    ordered = False
    promotes = True
    in_place = True

    def __init__(self) -> None:
        self._dtypes: dict[Any, np.dtype[Any]] = {}  # input dtypes -> output dtype, as NumPy says

    def result_dtype(self, *dtypes: np.dtype[Any]) -> np.dtype[Any]:
        try:
            return self._dtypes[dtypes]
        except KeyError:
            pass
        if self.ordered and any(dtype.kind == "c" for dtype in dtypes):
            raise DtypeError("complex numbers have no order", help="compare fg.abs(x), fg.real(x) or fg.imag(x)")
        try:
            result = getattr(np, self.ufunc).resolve_dtypes((*dtypes, None))[-1]
        except TypeError as error:
            names = " and ".join(map(str, dtypes))
            raise DtypeError(f"not defined for {names}", help="cast with fg.astype(x, dtype)") from error
        self._dtypes[dtypes] = result
        return result  # type: ignore[no-any-return]

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return getattr(xp, self.ufunc)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None) -> Any:
        return getattr(xp, self.ufunc)(*inputs, out=out)

    def scalar(self, s: Any, *inputs: Any, **attrs: Any) -> Any:
        function = getattr(s, getattr(self, "ufunc", self.name))
        dtypes = getattr(np, self.ufunc).resolve_dtypes((*[x.dtype for x in inputs], None))
        return function(*[s.astype(x, dtype) for x, dtype in zip(inputs, dtypes, strict=False)])

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        out = self.infer(*inputs, **attrs)
        size = math.prod(out.shape)
        moved = size * out.dtype.itemsize + sum(math.prod(x.shape) * x.dtype.itemsize for x in inputs)
        return Work(self.flops_each * size, moved)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    def vmap(self, batch: Batch, *inputs: Tensor, **attrs: Any) -> Tensor:
        return self(*aligned(batch, inputs), **attrs)


class Unary(Elementwise):
    """Base of the ufuncs of one input."""

    def infer(self, x: Any) -> Any:
        dtype = x.dtype
        result = self._dtypes.get((dtype,)) or self.result_dtype(dtype)
        return x if result is dtype else Spec(x.shape, result)


class Binary(Elementwise):
    """Base of the ufuncs of two inputs."""

    def infer(self, x: Any, y: Any) -> Any:
        shape = x.shape
        if shape != y.shape:
            shape = broadcast_shapes(shape, y.shape)
        result = self._dtypes.get((x.dtype, y.dtype)) or self.result_dtype(x.dtype, y.dtype)
        return x if shape is x.shape and result is x.dtype else Spec(shape, result)


def rowwise(out: Any, inputs: Any) -> Slicing | None:
    """The slicing of an op that treats the rows of its broadcast inputs alike."""
    if not out.shape or out.shape[0] < 2:
        return None
    cut = tuple(len(x.shape) == len(out.shape) and x.shape[0] == out.shape[0] for x in inputs)
    return Slicing(cut, out.shape[0])
