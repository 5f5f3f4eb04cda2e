# mypy: ignore-errors
"""cuBLAS over the arrays of the stand-in for CuPy: the functions of the library that flowgraph calls, with the memory that they work in."""

import ctypes
import itertools

import numpy as np
from numpy.lib.stride_tricks import as_strided

TYPES = {2: "float16", 14: "bfloat16", 0: "float32", 1: "float64", 4: "complex64", 5: "complex128"}
SINGLE, TF32, DOUBLE = 68, 77, 70
FACTORS = {SINGLE: {4: "complex64"}, TF32: {4: "complex64"}, DOUBLE: {1: "float64", 5: "complex128"}}


class Blas:
    def __init__(self, gpu):
        self.gpu, self.handles, self.numbers = gpu, {}, itertools.count(1)

    def cublasCreate_v2(self, made):
        assert self.gpu.stream.capture is None, "a handle is made within a capture"
        made._obj.value = next(self.numbers)
        self.handles[made._obj.value] = [None, None]
        return 0

    def cublasDestroy_v2(self, handle):
        del self.handles[handle.value]
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.handles[handle.value] = [stream, None]  # (which takes the memory away)
        return 0

    def cublasSetWorkspace_v2(self, handle, address, nbytes):
        assert nbytes <= address.array.host.nbytes
        self.handles[handle.value][1] = address.array
        return 0

    def cublasGemmEx(self, handle, ta, tb, m, n, k, one, a, kind_a, lda, b, kind_b, ldb, zero, c, kind_c, ldc, compute, how):
        factors = (a, kind_a, lda, 0), (b, kind_b, ldb, 0)
        return self.cublasGemmStridedBatchedEx(
            handle, ta, tb, m, n, k, one, *factors[0], *factors[1], zero, c, kind_c, ldc, 0, 1, compute, how
        )

    def cublasGemmStridedBatchedEx(
        self,
        handle,
        ta,
        tb,
        m,
        n,
        k,
        one,
        a,
        kind_a,
        lda,
        step_a,
        b,
        kind_b,
        ldb,
        step_b,
        zero,
        c,
        kind_c,
        ldc,
        step_c,
        count,
        compute,
        how,
    ):
        stream, memory = self.handles[handle.value]
        assert stream == self.gpu.stream.ptr, "the handle is another stream's"
        assert memory is not None, "without memory of its own the bits depend on what runs beside it"
        assert lda >= (k if ta else m) and ldb >= (n if tb else k) and ldc >= m and how == -1
        assert kind_a == kind_b == kind_c and (compute != TF32 or kind_a in (0, 4))
        kind = np.dtype(FACTORS[compute].get(kind_a, "float32"))
        for address, expected in ((one, 1), (zero, 0)):
            assert np.frombuffer(ctypes.string_at(address, kind.itemsize), kind)[0] == expected

        first, second, result = a.array.host, b.array.host, c.array.host

        def seen(host, flip, rows, columns, lead, step):
            """The transpose of what cuBLAS, which counts along columns first, calls a matrix of so many rows and columns."""
            down, right = (host.itemsize, lead * host.itemsize) if flip else (lead * host.itemsize, host.itemsize)
            return as_strided(host, (count, columns, rows), (step * host.itemsize, down, right))

        def again():
            with np.errstate(all="ignore"):
                seen(result, 0, m, n, ldc, step_c)[...] = np.matmul(seen(second, tb, k, n, ldb, step_b), seen(first, ta, m, k, lda, step_a))

        self.gpu.kernel([a.array, b.array], [c.array, memory], "matmul", again)
        return 0
