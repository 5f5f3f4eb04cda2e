"""Random bits on a GPU: Philox4x64 in 10 rounds (Salmon et al. 2011), each block by itself; the host does not wait for the key."""

from __future__ import annotations

from typing import Any

import numpy as np

THREADS = 256

# NumPy counts up before it makes the first block of four words.
_TEXT = """
extern "C" __global__ void bits(TYPE* out, const unsigned long long* key, const long long count, const unsigned long long stream) {
    const long long block = (long long)blockIdx.x * 256 + threadIdx.x;
    if (block * EACH >= count) return;
    unsigned long long a = block + 1, b = 0, c = key[2], d = stream, k0 = key[0], k1 = key[1];
    for (int turn = 0; turn < 10; ++turn) {
        const unsigned long long m0 = 0xD2E7470EE14C6C93ULL, m1 = 0xCA5A826395121157ULL;
        const unsigned long long high0 = __umul64hi(m0, a), low0 = m0 * a, high1 = __umul64hi(m1, c), low1 = m1 * c;
        a = high1 ^ b ^ k0; b = low1; c = high0 ^ d ^ k1; d = low0;
        k0 += 0x9E3779B97F4A7C15ULL; k1 += 0xBB67AE8584CAA73BULL;
    }
    const unsigned long long words[4] = {a, b, c, d};
    for (int i = 0; i < EACH && block * EACH + i < count; ++i) out[block * EACH + i] = PART;
}
"""

_PARTS = {"int64": ("long long", 4, "(long long)words[i]"), "int32": ("int", 8, "(int)(words[i / 2] >> (32 * (i % 2)))")}


def bits(xp: Any, key: Any, stream: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The bits of a draw as int32, of a word its lower half first, or as int64. ``key`` is an array of the GPU."""
    out = xp.empty(shape, dtype)
    if out.size:
        kind, each, part = _PARTS[dtype.name]
        text = _TEXT.replace("TYPE", kind).replace("EACH", str(each)).replace("PART", part)
        kernel = xp.RawModule(code=text, options=("--std=c++17", "-fmad=false")).get_function("bits")
        blocks = -(-out.size // (each * THREADS))
        kernel((blocks,), (THREADS, 1), (out, key, out.size, np.uint64(stream)))
    return out
