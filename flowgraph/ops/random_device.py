"""Uniform draws on a GPU, with the bits of NumPy's generator: Philox4x64 in 10 rounds (Salmon et al. 2011), each number by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

THREADS = 256

# NumPy counts up before it makes the first block of four numbers. Of each it makes one float64, of its highest 53 bits, or two float32, of
# the highest 24 of its lower and then of its upper half.
_TEXT = """
extern "C" __global__ void uniform(TYPE* out, const long long count, const unsigned long long seed, const unsigned long long run,
    const unsigned long long fold, const unsigned long long stream) {
    const long long block = (long long)blockIdx.x * 256 + threadIdx.x;
    if (block * EACH >= count) return;
    unsigned long long a = block + 1, b = 0, c = fold, d = stream, k0 = seed, k1 = run;
    for (int turn = 0; turn < 10; ++turn) {
        const unsigned long long m0 = 0xD2E7470EE14C6C93ULL, m1 = 0xCA5A826395121157ULL;
        const unsigned long long high0 = __umul64hi(m0, a), low0 = m0 * a, high1 = __umul64hi(m1, c), low1 = m1 * c;
        a = high1 ^ b ^ k0; b = low1; c = high0 ^ d ^ k1; d = low0;
        k0 += 0x9E3779B97F4A7C15ULL; k1 += 0xBB67AE8584CAA73BULL;
    }
    const unsigned long long words[4] = {a, b, c, d};
    for (int i = 0; i < EACH && block * EACH + i < count; ++i) out[block * EACH + i] = NUMBER;
}
"""

_NUMBERS = {
    "float64": ("double", 4, "(double)(words[i] >> 11) * (1.0 / 9007199254740992.0)"),
    "float32": ("float", 8, "(float)((unsigned int)(words[i / 2] >> (32 * (i % 2))) >> 8) * (1.0f / 16777216.0f)"),
}


def uniform(xp: Any, key: tuple[int, int, int], stream: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """What ``generator.random(shape, dtype)`` gives for the generator of this key and stream; float32 or float64."""
    out = xp.empty(shape, dtype)
    if out.size:
        kind, each, number = _NUMBERS[dtype.name]
        text = _TEXT.replace("TYPE", kind).replace("EACH", str(each)).replace("NUMBER", number)
        kernel = xp.RawModule(code=text, options=("--std=c++17", "-fmad=false")).get_function("uniform")
        blocks = math.ceil(out.size / (each * THREADS))
        kernel((blocks,), (THREADS, 1), (out, out.size, *[np.uint64(number) for number in (*key, stream)]))
    return out
