"""Random bits on a GPU: Philox4x64 in 10 rounds (Salmon et al. 2011), each block by itself; the host does not wait for the key."""

from __future__ import annotations

from typing import Any

import numpy as np

THREADS = 256

# NumPy counts up before it makes the first block of four words, and of a word its lower half is the first. A thread makes a block and
# writes it in two halves; of the last one, so many numbers of 32 bits as there are.
_TEXT = """
struct alignas(16) Half { unsigned long long low, high; };
extern "C" __global__ void bits(unsigned int* out, const unsigned long long* key, const long long count, const unsigned long long stream) {
    const long long block = (long long)blockIdx.x * 256 + threadIdx.x;
    if (block * 8 >= count) return;
    unsigned long long a = block + 1, b = 0, c = key[2], d = stream, k0 = key[0], k1 = key[1];
    for (int turn = 0; turn < 10; ++turn) {
        const unsigned long long m0 = 0xD2E7470EE14C6C93ULL, m1 = 0xCA5A826395121157ULL;
        const unsigned long long high0 = __umul64hi(m0, a), low0 = m0 * a, high1 = __umul64hi(m1, c), low1 = m1 * c;
        a = high1 ^ b ^ k0; b = low1; c = high0 ^ d ^ k1; d = low0;
        k0 += 0x9E3779B97F4A7C15ULL; k1 += 0xBB67AE8584CAA73BULL;
    }
    if (block * 8 + 8 <= count) {
        Half* const halves = (Half*)out + 2 * block;
        halves[0] = Half{a, b};
        halves[1] = Half{c, d};
    } else {
        const unsigned long long words[4] = {a, b, c, d};
        for (int i = 0; block * 8 + i < count; ++i) out[block * 8 + i] = (unsigned int)(words[i / 2] >> (32 * (i % 2)));
    }
}
"""


def bits(xp: Any, key: Any, stream: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The bits of a draw as int32 or int64. ``key`` is an array of the GPU."""
    out = xp.empty(shape, dtype)
    if out.size:
        kernel = xp.RawModule(code=_TEXT, options=("--std=c++17", "-fmad=false")).get_function("bits")
        count = out.nbytes // 4
        kernel((-(-count // (8 * THREADS)),), (THREADS, 1), (out, key, count, np.uint64(stream)))
    return out
