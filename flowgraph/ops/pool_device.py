"""Maximum pooling and its gradient on a GPU, each as one kernel: by CuPy's functions a pixel of a window takes several passes over memory.

A thread makes one number. That of the gradient looks at the windows that its pixel lies in, in the order in which the host adds up what
they send. So both have the bits of the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from .windows import Borders, Steps

THREADS = 256
OPTIONS = ("--std=c++17", "-fmad=false")
# Kernels go over the pixels of a window one by one, and their text has a line for each.
MOST_PIXELS = 64

# X are sizes of images, Y of what is pooled, K of windows, S their steps, B the borders before the first pixel.
_PLACES = """
    const PLACE cell = (PLACE)blockIdx.x * 256 + threadIdx.x;
    if (cell >= COUNT) return;
    const PLACE image = cell / (N0 * N1 * N2);
    const int at = (int)(cell % (N0 * N1 * N2)), c0 = at / (N1 * N2), c1 = at / N2 % N1, c2 = at % N2;
    const TYPE* pixels = x + image * (X0 * X1 * X2);
"""

_POOL = (
    """
extern "C" __global__ void max_pool(const TYPE* __restrict__ x, TYPE* out) {"""
    + _PLACES
    + """
    TYPE most = -INFINITE;
    #pragma unroll
    for (int k = 0; k < K0 * K1 * K2; ++k) {
        const int p0 = c0 * S0 + k / (K1 * K2) - B0, p1 = c1 * S1 + k / K2 % K1 - B1, p2 = c2 * S2 + k % K2 - B2;
        if (p0 < 0 || p0 >= X0 || p1 < 0 || p1 >= X1 || p2 < 0 || p2 >= X2) continue;
        const TYPE value = pixels[(p0 * X1 + p1) * X2 + p2];
        if (value > most || value != value) most = value;
    }
    out[cell] = most;
}
"""
)

# The last pixel of a window takes what no other is equal to: of a window with a NaN.
_GRADIENT = (
    """
extern "C" __global__ void max_pool_grad(const TYPE* __restrict__ g, const TYPE* __restrict__ x, const TYPE* __restrict__ y, TYPE* out) {"""
    + _PLACES
    + """
    const TYPE here = pixels[at];
    TYPE sum = 0;
    #pragma unroll
    for (int k = 0; k < K0 * K1 * K2; ++k) {
        const int t0 = c0 + B0 - k / (K1 * K2), t1 = c1 + B1 - k / K2 % K1, t2 = c2 + B2 - k % K2;
        if (t0 < 0 || t1 < 0 || t2 < 0 || t0 % S0 || t1 % S1 || t2 % S2) continue;
        const int w0 = t0 / S0, w1 = t1 / S1, w2 = t2 / S2;
        if (w0 >= Y0 || w1 >= Y1 || w2 >= Y2) continue;
        const PLACE window = image * (Y0 * Y1 * Y2) + (w0 * Y1 + w1) * Y2 + w2;
        const TYPE most = y[window];
        bool is_first = here == most || k == K0 * K1 * K2 - 1;
        for (int j = 0; is_first && j < k; ++j) {
            const int p0 = t0 - B0 + j / (K1 * K2), p1 = t1 - B1 + j / K2 % K1, p2 = t2 - B2 + j % K2;
            if (p0 < 0 || p0 >= X0 || p1 < 0 || p1 >= X1 || p2 < 0 || p2 >= X2) continue;
            is_first = pixels[(p0 * X1 + p1) * X2 + p2] != most;
        }
        if (is_first) sum = ADDED + g[window];
    }
    out[cell] = sum;
}
"""
)


def serves(x: Any, window: Steps) -> bool:
    """Whether there is a kernel for arrays like ``x``."""
    return x.dtype.char in "fd" and len(window) <= 3 and math.prod(window) <= MOST_PIXELS and math.prod(x.shape[-len(window) :]) < 2**31


def max_pool(xp: Any, x: Any, out: Any, **attrs: Any) -> Any:
    """Fills ``out``, in C order, with the largest values of the windows of ``x``."""
    _launch(xp, "max_pool", _text(_POOL, x.dtype.char, out.size, x.shape, out.shape, out.shape, **attrs), (x,), out)
    return out


def max_pool_grad(xp: Any, g: Any, x: Any, y: Any, out: Any, **attrs: Any) -> Any:
    """Fills ``out``, in C order, with ``g`` moved to the first maximum of each window of ``x``; ``y`` are those maxima."""
    _launch(xp, "max_pool_grad", _text(_GRADIENT, x.dtype.char, out.size, x.shape, y.shape, x.shape, **attrs), (g, x, y), out)
    return out


def _launch(xp: Any, name: str, text: str, arrays: Sequence[Any], out: Any) -> None:
    if out.size:
        kernel = xp.RawModule(code=text, options=OPTIONS).get_function(name)
        kernel((-(-out.size // THREADS),), (THREADS, 1), (*map(xp.ascontiguousarray, arrays), out))


@cache
def _text(
    text: str, kind: str, count: int, images: Sequence[int], pooled: Sequence[int], made: Sequence[int],
    *, window: Steps, stride: Steps, padding: Borders,
) -> str:  # fmt: skip
    """The kernel for these sizes; ``made`` are those of what has a thread for each number."""
    rank = len(window)

    def three(sizes: Sequence[int], other: int) -> list[int]:
        return [*[other] * (3 - rank), *sizes[-rank:]]

    apart = all(step >= size for step, size in zip(stride, window, strict=True))  # then a pixel is sent what it gets, and nothing is added
    is_small = max(count, math.prod(images)) < 2**31 - THREADS
    names = {
        "TYPE": "float" if kind == "f" else "double",
        "INFINITE": "__int_as_float(0x7f800000)" if kind == "f" else "__longlong_as_double(0x7ff0000000000000LL)",
        "PLACE": "int" if is_small else "long long",
        "COUNT": count,
        "ADDED": "" if apart else "sum",
    }
    borders = [before for before, _ in padding]
    for letter, sizes, other in (("X", images, 1), ("Y", pooled, 1), ("N", made, 1), ("K", window, 1), ("S", stride, 1), ("B", borders, 0)):
        names |= {f"{letter}{axis}": size for axis, size in enumerate(three(sizes, other))}
    return "\n".join([f"#define {name} {value}" for name, value in names.items()]) + text
