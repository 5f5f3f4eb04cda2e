"""The numbers and primitives of a loop as CUDA writes them, and the functions that its kernels call."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from .values import BOOL, FLOAT64, Value

_NAMES = {
    "?": "bool", "b": "signed char", "B": "unsigned char", "h": "short", "H": "unsigned short", "i": "int", "I": "unsigned int",
    "l": "long long", "L": "unsigned long long", "q": "long long", "Q": "unsigned long long", "f": "float", "d": "double",
}  # fmt: skip
_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "and": "&", "or": "|", "xor": "^"}
_COMPARE = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_FUNCTIONS = {
    "fma": "fma", "sqrt": "sqrt", "absolute": "fabs", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint",
    "copysign": "copysign",
}  # fmt: skip

# `fg_over` is a / b to the last bit where nothing in between is too large or too small (see `cuda_bundles.Quotient`): so CUDA divides, too,
# but with a branch for each quotient. Of a maximum NaN is taken where there is one, and kept. Sums of threads of a row are added up halves
# upon halves, and all of them have it.
HELPERS = """
template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) fg_pack { T of[N]; };
template <class T> __device__ inline T fg_max(T a, T b) { return (a > b || a != a) ? a : b; }
template <class T> __device__ inline T fg_min(T a, T b) { return (a < b || a != a) ? a : b; }
#if __CUDA_ARCH__ >= 800
__device__ inline float fg_max(float a, float b) { float c; asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b)); return c; }
__device__ inline float fg_min(float a, float b) { float c; asm("min.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b)); return c; }
#endif
#ifdef __CUDA_ARCH__
__device__ inline float fg_near_reciprocal(float x) { float y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
#endif
__device__ inline float fg_reciprocal(float x) { float y = fg_near_reciprocal(x); return fmaf(y, fmaf(-x, y, 1.0f), y); }
__device__ inline float fg_over(float a, float b, float reciprocal) {
    float quotient = a * reciprocal;
    return fmaf(fmaf(-b, quotient, a), reciprocal, quotient);
}
enum { fg_of_sum, fg_of_max, fg_of_min };
template <int how, class T> __device__ inline T fg_both(T a, T b) {
    return how == fg_of_sum ? a + b : how == fg_of_max ? fg_max(a, b) : fg_min(a, b);
}
template <int how, int side, class T> __device__ inline T fg_across(T x, T* shared) {
    for (int half = (side < 32 ? side : 32) / 2; half; half /= 2) x = fg_both<how>(x, __shfl_xor_sync(0xffffffffu, x, half));
    if (side > 32) {
        T* row = shared + threadIdx.y * (side / 32);
        if (threadIdx.x % 32 == 0) row[threadIdx.x / 32] = x;
        __syncthreads();
        x = row[threadIdx.x % (side / 32)];
        for (int half = side / 64; half; half /= 2) x = fg_both<how>(x, __shfl_xor_sync(0xffffffffu, x, half));
    }
    return x;
}
template <int side, int high, int N> __device__ inline void fg_down(double (&sums)[N], double* shared) {
    double* own = shared + (threadIdx.y * side + threadIdx.x) * N;
    for (int k = 0; k < N; ++k) own[k] = sums[k];
    int half = 1;
    while (2 * half < high) half *= 2;
    for (; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half && threadIdx.y + half < high)
            for (int k = 0; k < N; ++k) own[k] = sums[k] = sums[k] + own[half * side * N + k];
    }
    __syncthreads();
}
"""


def type_of(dtype: np.dtype[Any]) -> str:
    """CUDA's name of a number."""
    return _NAMES[dtype.char]


def literal(number: Any, dtype: np.dtype[Any]) -> str:
    """A number as CUDA writes it."""
    if dtype == BOOL:
        return "true" if number else "false"
    if dtype.kind == "f":
        array = np.asarray(number).astype(dtype)
        if dtype == FLOAT64:
            return f"__longlong_as_double(0x{int(array.view(np.uint64)):016x}LL)"
        return f"__int_as_float(0x{int(array.view(np.uint32)):08x})"
    ending = {"q": "LL", "l": "LL", "Q": "ULL", "L": "ULL", "I": "U"}.get(dtype.char, "")
    value = int(number)
    if dtype.kind == "i" and value == np.iinfo(dtype).min:
        return f"({type_of(dtype)})({value + 1}{ending} - 1)"
    return f"({type_of(dtype)})({value}{ending})"


def primitive(value: Value, inputs: Sequence[str]) -> str:
    """What makes a value of its inputs."""
    kind, dtype, of = value.kind, value.dtype, value.inputs[0].dtype
    ctype = type_of(dtype)
    if kind == "compare":
        return f"{inputs[0]} {_COMPARE[value.data]} {inputs[1]}"
    if kind == "select":
        return f"{inputs[0]} ? {inputs[1]} : {inputs[2]}"
    if kind == "negative":
        return f"-{inputs[0]}"
    if kind == "bitcast":
        names = {"f": "__float_as_int", "d": "__double_as_longlong"}
        back = "__int_as_float" if dtype.char == "f" else "__longlong_as_double"
        return f"{names[of.char] if of.kind == 'f' else back}({inputs[0]})"
    if kind == "cast":
        return f"({ctype}){inputs[0]}"
    if kind == "scale":
        return inputs[2]
    if kind in _FUNCTIONS:
        return f"{_FUNCTIONS[kind]}{'f' if dtype.char == 'f' else ''}({', '.join(inputs)})"
    if kind in ("shl", "lshr", "ashr"):
        wide = _unsigned(dtype)
        if kind == "ashr":
            return f"({ctype})({inputs[0]} >> {inputs[1]})"
        return f"({ctype})(({wide}){inputs[0]} {'<<' if kind == 'shl' else '>>'} {inputs[1]})"
    if dtype.kind in "iu" and kind in ("add", "subtract", "multiply"):  # what overflows wraps around
        wide = _unsigned(dtype)
        return f"({ctype})(({wide}){inputs[0]} {_INFIX[kind]} ({wide}){inputs[1]})"
    text = f"{inputs[0]} {_INFIX[kind]} {inputs[1]}"
    return f"({ctype})({text})" if dtype.kind in "iub" else text


def missing(value: Value, known: Container[Value]) -> list[Value]:
    """``value`` and all that it rests on, each behind its inputs, but for what is known and what only that rests on."""
    seen: set[Value] = set()
    stack: list[Value] = [value]
    while stack:
        current = stack.pop()
        if current not in known and current not in seen:
            seen.add(current)
            stack += current.inputs
    return sorted(seen, key=lambda each: each.number)


def _unsigned(dtype: np.dtype[Any]) -> str:
    return "unsigned long long" if dtype.itemsize == 8 else "unsigned int"
