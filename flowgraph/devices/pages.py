"""Pages: memory of the host for large arrays, on pages of 2 MiB where the system has them.

An array of some hundred kilobytes that comes back to the cache from memory costs more for finding its pages than for its bytes: a
processor keeps the places of some thousand pages of 4 KiB, and of as many of 2 MiB. A product of two 256x256 matrices that were in no cache
took 297 us on small pages and 237 on large ones, one of 256x1024 by 1024x256 1468 and 1004.
"""

from __future__ import annotations

import math
import mmap
import threading
from _tracemalloc import is_tracing
from typing import Any

import numpy as np

# Smaller arrays come from NumPy's allocator.
FEWEST_BYTES = 16384
PAGE_BYTES = 2 << 20
# Arrays share a mapping of an eighth of all that was mapped before, within these bounds. It lives for as long as one of them.
LEAST_BYTES, MOST_BYTES = 2 << 20, 32 << 20
# Arrays that begin at the same place of a page of 4 KiB get into each other's way: a load waits for a store that only looks like its own.
# So each begins this much further on in its page than the one before it ends; it is a whole number of cache lines.
APART_BYTES = 1088


class PagedMemory(mmap.mmap):
    """Memory of arrays of `Pages`, each of which has it as its base: views of an array then refer to that, and not to the memory alone."""


class Pages:
    """Makes arrays, one behind the other, in mappings that are aligned to large pages.

    `_lock` guards the rest: the mapping that is being filled, up to where it is, where it ends, and how much was mapped in all.
    """

    def __init__(self) -> None:
        self._mapping: PagedMemory | None = None
        self._filled = self._end = 0
        self._mapped = 0
        self._lock = threading.Lock()
        self._is_there = hasattr(mmap, "MADV_HUGEPAGE")

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """New memory whose content does not matter, for an array in C order."""
        size = math.prod(shape) * dtype.itemsize
        # (What traces memory shall see arrays as it sees NumPy's.)
        if size < FEWEST_BYTES or not self._is_there or dtype.hasobject or is_tracing():
            return np.empty(shape, dtype)
        with self._lock:
            memory, first = self._place(size)
        return np.ndarray(shape, dtype, memory, first)

    def _place(self, size: int) -> tuple[PagedMemory, int]:
        """A mapping, and from which byte of it on an array of ``size`` bytes lies."""
        if self._mapping is None or self._filled + size > self._end:
            length = min(max(self._mapped // 8, LEAST_BYTES), MOST_BYTES) // PAGE_BYTES * PAGE_BYTES
            if size > length // 2:
                return self._mapped_now(size)
            self._mapping, self._filled = self._mapped_now(length)
            self._end = self._filled + length
        first = self._filled
        self._filled += -(-size // 64) * 64 + APART_BYTES
        return self._mapping, first

    def _mapped_now(self, size: int) -> tuple[PagedMemory, int]:
        """So many bytes of new memory, and where in it the first large page begins."""
        whole = PagedMemory(-1, size + PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            whole.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # the system has none
            self._is_there = False
        self._mapped += size
        return whole, -np.ndarray((1,), np.uint8, whole).ctypes.data % PAGE_BYTES


PAGES = Pages()
