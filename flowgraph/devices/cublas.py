"""Products of matrices on a GPU by cuBLAS itself, which CuPy has loaded.

CuPy makes them by cuBLAS as well, but refuses to while a stream is captured (cupy/cupy#6290), and has one handle for all streams, so that
products on streams side by side would share its memory to work in. Here each stream has a handle and memory of its own. With these cuBLAS
gives the same bits in each run, whatever runs beside it, and captures no allocations.
"""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

INT, POINTER, LONG = ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong
_OPERAND, _BATCHED = (POINTER, INT, INT), (POINTER, INT, INT, LONG)  # (address, type, step from row to row, and from matrix to matrix)
_SIZES, _HOW = (POINTER, INT, INT, INT, INT, INT, POINTER), (INT, INT)
SIGNATURES = {
    "cublasCreate_v2": (POINTER,),
    "cublasDestroy_v2": (POINTER,),
    "cublasSetStream_v2": (POINTER, POINTER),
    "cublasSetWorkspace_v2": (POINTER, POINTER, ctypes.c_size_t),
    "cublasGemmEx": (*_SIZES, *_OPERAND, *_OPERAND, POINTER, *_OPERAND, *_HOW),
    "cublasGemmStridedBatchedEx": (*_SIZES, *_BATCHED, *_BATCHED, POINTER, *_BATCHED, INT, *_HOW),
}
COMPUTE_32F, COMPUTE_32F_TF32, COMPUTE_64F, DEFAULT = 68, 77, 70, -1
# dtype -> its number in CUDA, what is summed in, and the type of the factors 1 and 0.
TYPES = {
    "float16": (2, COMPUTE_32F, "float32"),
    "bfloat16": (14, COMPUTE_32F, "float32"),
    "float32": (0, COMPUTE_32F, "float32"),
    "float64": (1, COMPUTE_64F, "float64"),
    "complex64": (4, COMPUTE_32F, "complex64"),
    "complex128": (5, COMPUTE_64F, "complex128"),
}
# What NVIDIA recommends from Hopper on, and before. Which kernels cuBLAS picks, and so the bits, depends on it: all streams have the same.
WORKSPACE_BYTES, WORKSPACE_BYTES_BEFORE = 2**25, 2**22
LARGEST = 2**31 - 1
# To copy so many bytes takes as long as another call.
TURN_BYTES = 4e6
STATUS = {1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH", 11: "MAPPING_ERROR", 13: "EXECUTION_FAILED",
          14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED"}  # fmt: skip


def load(cupy: Any) -> Any:
    """The library that CuPy computes with; None where it is not found."""
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    try:
        import_module("cupy_backends.cuda.libs").cublas  # noqa: B018  (which loads it)
        library = ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}")
        for name, types in SIGNATURES.items():
            getattr(library, name).argtypes = types
    except (ImportError, OSError, AttributeError):
        return None
    return library


class Products:
    """Matrix products of one device. Used by the thread that holds the device."""

    def __init__(self, cupy: Any, device: Any) -> None:
        self._cupy, self._device = cupy, weakref.proxy(device)
        self._handles: dict[int, Any] = {}  # address of a stream -> its handle
        self._memory: list[Any] = []
        self._factors = {kind: (np.ones((), kind), np.zeros((), kind)) for _, _, kind in TYPES.values()}
        self._addresses = {kind: (one.ctypes.data, zero.ctypes.data) for kind, (one, zero) in self._factors.items()}

    @cached_property
    def library(self) -> Any:
        """cuBLAS, loaded with the first product, as that takes a while; None where it is not found."""
        library = load(self._cupy)
        if library is not None:
            weakref.finalize(self, _destroy, library, self._handles).atexit = False
        return library

    def prepare(self, stream: Any) -> Any:
        """The handle for a stream, made where there is none yet: not while it is captured."""
        handle = self._handles.get(stream.ptr)
        if handle is None and self.library is not None:
            library, made = self.library, POINTER()
            nbytes = WORKSPACE_BYTES if int(self._cupy.cuda.Device().compute_capability) >= 90 else WORKSPACE_BYTES_BEFORE
            with stream:
                memory = self._cupy.empty(nbytes, np.uint8)
            _check(library.cublasCreate_v2(ctypes.byref(made)))
            self._handles[stream.ptr] = handle = made
            self._memory.append(memory)
            _check(library.cublasSetStream_v2(handle, stream.ptr))
            _check(library.cublasSetWorkspace_v2(handle, memory.data.ptr, nbytes))
        return handle

    def use_on(self, streams: Iterable[Any]) -> None:
        """Prepares streams, unless the device has made no product yet."""
        if self._handles:
            for stream in streams:
                self.prepare(stream)

    def matmul(self, x: Any, y: Any, out: Any = None) -> Any:
        """As ``numpy.matmul``, on the current stream. What is no product of cuBLAS's, CuPy computes."""
        dtype = x.dtype if x.dtype == y.dtype else np.promote_types(x.dtype, y.dtype)
        known = TYPES.get(dtype.name)
        if known is None or self.library is None or not x.ndim or not y.ndim:
            return self._cupy.matmul(x, y, out=out)
        a, b = x if x.ndim > 1 else x[None, :], y if y.ndim > 1 else y[:, None]
        (n, k), m = a.shape[-2:], b.shape[-1]
        lead = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        count = math.prod(lead)
        # (Of no elements there is no product, and of one CuPy makes a sum, which is quicker.)
        if b.shape[-2] != k or not n * m * k * count or max(n, m, k, count) > LARGEST or (n == m == 1 and not lead):
            return self._cupy.matmul(x, y, out=out)
        a = a if a.dtype == dtype else a.astype(dtype)
        b = b if b.dtype == dtype else b.astype(dtype)
        target: Any = None if out is None or out.dtype != dtype else out
        if target is not None and (x.ndim == 1 or y.ndim == 1):
            target = target.reshape((*lead, n, m)) if target.flags.c_contiguous else None
        stored = None if target is None else _stored(target, lead)
        if stored is None or stored[0]:
            target = self._cupy.empty((*lead, n, m), dtype)
            stored = 0, m, n * m
        if not self._in_turns(known, (n, m, k, count), a, b, target, lead):
            a, left = self._read(a, lead)
            b, right = self._read(b, lead)
            self._multiply(known, (n, m, k, count), (a, *left), (b, *right), (target, *stored))
        if out is None:
            if x.ndim > 1 and y.ndim > 1:
                return target
            return target.reshape((*lead, *(n,) * (x.ndim > 1), *(m,) * (y.ndim > 1)))
        if out.data.ptr != target.data.ptr:
            out[...] = target.reshape(out.shape)
        return out

    def _in_turns(self, known: tuple[int, int, str], sizes: tuple[int, ...], a: Any, b: Any, out: Any, lead: tuple[int, ...]) -> bool:
        """Multiplies for one entry of the first axis after the other, where that spares copies that take longer; whether it did.

        So are the heads of attention: views of one array, with steps of their own along the batch and along the heads.
        """
        if len(lead) < 2 or a.shape[:-2] != lead or b.shape[:-2] != lead:
            return False
        if sum([x.nbytes for x in (a, b) if _stored(x, lead) is None]) <= TURN_BYTES * (lead[0] - 1):
            return False
        left, right, made = (_stored(x[0], lead[1:]) for x in (a, b, out))
        if left is None or right is None or made is None or made[0]:
            return False
        n, m, k, count = sizes
        for i in range(lead[0]):
            self._multiply(known, (n, m, k, count // lead[0]), (a[i], *left), (b[i], *right), (out[i], *made))
        return True

    def _read(self, x: Any, lead: tuple[int, ...]) -> tuple[Any, tuple[int, int, int]]:
        """A factor as cuBLAS can read it, copied where it cannot be read as it lies, and how it is stored."""
        stored = _stored(x, lead)
        if stored is None:
            x = self._cupy.ascontiguousarray(x if x.shape[:-2] in ((), lead) else self._cupy.broadcast_to(x, (*lead, *x.shape[-2:])))
            stored = _stored(x, lead)
            assert stored is not None
        return x, stored

    def _multiply(self, known: tuple[int, int, str], sizes: tuple[int, ...], x: Any, y: Any, out: Any) -> None:
        # cuBLAS counts along columns first, so what it is asked for is the transpose: that of y times that of x.
        kind, compute, factors = known
        if compute == COMPUTE_32F and self._device.tf32 and kind in (0, 4):
            compute = COMPUTE_32F_TF32
        n, m, k, count = sizes
        (a, flip_a, lda, step_a), (b, flip_b, ldb, step_b), (c, _, ldc, step_c) = y, x, out
        one, zero = self._addresses[factors]
        handle = self.prepare(self._cupy.cuda.get_current_stream())
        head = handle, flip_a, flip_b, m, n, k, one
        if count == 1:
            call, rest = self.library.cublasGemmEx, (a.data.ptr, kind, lda, b.data.ptr, kind, ldb, zero, c.data.ptr, kind, ldc)
            _check(call(*head, *rest, compute, DEFAULT))
        else:
            call = self.library.cublasGemmStridedBatchedEx
            factor_a, factor_b = (a.data.ptr, kind, lda, step_a), (b.data.ptr, kind, ldb, step_b)
            _check(call(*head, *factor_a, *factor_b, zero, c.data.ptr, kind, ldc, step_c, count, compute, DEFAULT))


class Namespace:
    """CuPy's functions, with another product of matrices."""

    def __init__(self, cupy: Any, matmul: Any) -> None:
        self._cupy, self.matmul = cupy, matmul

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cupy, name)
        setattr(self, name, value)  # (so it is asked for once)
        return value


def _stored(x: Any, lead: tuple[int, ...]) -> tuple[int, int, int] | None:
    """How the matrices of ``x``, for a batch of shape ``lead``, lie in memory; None where steps like these do not tell it.

    returns  1 for column after column, else 0; the elements from one row (or column) to the next; those from one matrix to the next
    """
    (rows, columns), (down, right), size = x.shape[-2:], x.strides[-2:], x.itemsize
    if (right == size or columns == 1) and (rows == 1 or (down >= columns * size and down % size == 0)):
        flip, step = 0, (columns if rows == 1 else down // size)
    elif (down == size or rows == 1) and (columns == 1 or (right >= rows * size and right % size == 0)):
        flip, step = 1, (rows if columns == 1 else right // size)
    else:
        return None
    apart = _apart(x.shape[:-2], x.strides[:-2], lead)
    return None if apart is None or apart % size or step > LARGEST else (flip, step, apart // size)


def _apart(shape: Sequence[int], strides: Sequence[int], lead: tuple[int, ...]) -> int | None:
    """The bytes from one matrix to the next, where they are the same throughout: 0 for one that all of ``lead`` read."""
    missing = len(lead) - len(shape)
    apart, inner = None, 1
    for axis in range(len(lead) - 1, -1, -1):
        if lead[axis] == 1:
            continue
        stride = 0 if axis < missing or shape[axis - missing] == 1 else strides[axis - missing]
        if apart is None:
            apart = stride
        elif stride != apart * inner:
            return None
        inner *= lead[axis]
    return None if apart is not None and apart < 0 else apart or 0


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLAS: {STATUS.get(status, f'status {status}')}")


def _destroy(library: Any, handles: dict[int, Any]) -> None:
    for handle in handles.values():
        library.cublasDestroy_v2(handle)
