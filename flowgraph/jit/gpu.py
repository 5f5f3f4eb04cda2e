"""Loops on a GPU: the text that `cuda` makes of them, compiled by NVRTC through CuPy, and called with CuPy's arrays."""

from __future__ import annotations

import threading
from typing import Any

from . import lazy
from .loops import Loop


class GpuKernel:
    """A loop as a function of its operands and then its results, which it fills; it returns the last result.

    It is compiled by `build`, or in its first call; CuPy keeps what is compiled on disk. Other arrays than the loop was made for, such as
    views whose elements lie apart, are copied first.
    """

    def __init__(self, loop: Loop, xp: Any) -> None:
        self._loop, self._xp, self.empty = loop, xp, xp.empty
        self.cuda = lazy.cuda.cuda_loop(loop)
        self._functions: list[Any] = []
        self._lock = threading.Lock()

    def build(self) -> None:
        """Compiles it, unless that is done."""
        with self._lock:
            if not self._functions:
                module = self._xp.RawModule(code=self.cuda.text, options=lazy.cuda.OPTIONS)
                self._functions = [module.get_function(launch.name) for launch in self.cuda.launches]

    def __call__(self, *arrays: Any) -> Any:
        if not self._functions:
            self.build()
        xp, operands = self._xp, self._loop.operands
        given: list[Any] = []
        strides: list[int] = []
        for array, operand in zip(arrays, operands, strict=False):
            x = xp.asarray(array)
            if operand.strided and x.strides[1] == x.itemsize and x.strides[0] % x.itemsize == 0:
                strides.append(x.strides[0] // x.itemsize)
            else:
                x = xp.ascontiguousarray(x)
                if operand.strided:
                    strides.append(x.shape[1])
            given.append(x)
        results = arrays[len(operands) :]
        parts = xp.empty(max(self.cuda.parts, 1), "float64")
        for function, launch in zip(self._functions, self.cuda.launches, strict=True):
            function((launch.grid,), launch.block, (*given, *strides, *results, parts))
        return results[-1]
