"""Loops on a GPU: the text that `cuda` makes of them, compiled by NVRTC through CuPy, and called with CuPy's arrays."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

from . import lazy
from .loops import Loop


@cache
def cuda_of(loop: Loop) -> Any:
    """The kernels of a loop; written once for equal ones, as of the blocks of a network."""
    return lazy.cuda.cuda_loop(loop)


class GpuKernel:
    """A loop as a function of its operands and then its results, which it fills; it returns the last result.

    It is compiled by `build`, or in its first call; CuPy keeps what is compiled on disk. Other arrays than the loop was made for, such as
    views whose elements lie apart, are copied first.
    """

    def __init__(self, loop: Loop, xp: Any) -> None:
        self._loop, self._xp, self.empty = loop, xp, xp.empty
        self.cuda = cuda_of(loop)
        self._is_strided = any(operand.strided for operand in loop.operands)
        self._functions: list[Any] = []
        self._lock = threading.Lock()

    def build(self) -> None:
        """Compiles it, unless that is done."""
        with self._lock:
            if not self._functions:
                module = self._xp.RawModule(code=self.cuda.text, options=lazy.cuda.OPTIONS)
                launches = self.cuda.launches
                self._functions = [(module.get_function(launch.name), (launch.grid,), launch.block) for launch in launches]

    def __call__(self, *arrays: Any) -> Any:
        if not self._functions:
            self.build()
        count, kind = len(self._loop.operands), arrays[-1].__class__
        given: Sequence[Any] = arrays[:count]
        for x in given:
            if self._is_strided or x.__class__ is not kind or not x.flags.c_contiguous:
                given = self._fitting(given)
                break
        results = arrays[count:]
        parts = self._xp.empty(self.cuda.parts, "float64") if self.cuda.parts else None
        for function, grid, block in self._functions:
            function(grid, block, (*given, *results, parts))
        return results[-1]

    def _fitting(self, arrays: Sequence[Any]) -> list[Any]:
        """The operands as the kernels take them, and the distances of the rows of those that are strided."""
        xp, given, strides = self._xp, list[Any](), list[int]()
        for array, operand in zip(arrays, self._loop.operands, strict=True):
            x = xp.asarray(array)
            if operand.strided and x.strides[1] == x.itemsize and x.strides[0] % x.itemsize == 0:
                strides.append(x.strides[0] // x.itemsize)
            else:
                x = xp.ascontiguousarray(x)
                if operand.strided:
                    strides.append(x.shape[1])
            given.append(x)
        return [*given, *strides]


class GpuTogether:
    """Loops that are one kernel, as a function of the operands of all and then of their results; it returns the last result."""

    def __init__(self, loops: Sequence[Loop], xp: Any) -> None:
        self._xp, self.empty = xp, xp.empty
        self._count = sum(len(loop.operands) for loop in loops)
        self.cuda = lazy.cuda_together.cuda_together([cuda_of(loop) for loop in loops])
        # The kernel takes the arrays loop by loop: for each its number among those of a call.
        self._order: list[int] = []
        read, made = 0, self._count
        for loop in loops:
            operands, results = len(loop.operands), len(loop.results)
            self._order += [*range(read, read + operands), *range(made, made + results)]
            read, made = read + operands, made + results
        self._function: Any = None
        self._lock = threading.Lock()

    def build(self) -> None:
        """Compiles it, unless that is done."""
        with self._lock:
            if self._function is None:
                module = self._xp.RawModule(code=self.cuda.text, options=lazy.cuda.OPTIONS)
                self._function = module.get_function("together")

    def __call__(self, *arrays: Any) -> Any:
        if self._function is None:
            self.build()
        if not all(x.flags.c_contiguous for x in arrays[: self._count]):
            arrays = (*map(self._xp.ascontiguousarray, arrays[: self._count]), *arrays[self._count :])
        self._function((self.cuda.grid,), self.cuda.block, tuple([arrays[i] for i in self._order]))
        return arrays[-1]
