"""Strips: what the interpreter runs of a stretch of a large plan: instructions that are kept as columns, or tapes made of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile.ribbon import Ribbon, ribbon_of
from ..compile.units import Stretch
from .generated import NotInOrder, refuse
from .memory import BufferPool

if TYPE_CHECKING:
    from .run import Run

# What the interpreter runs: (kernel, number of inputs, first input, second input, all inputs, output, slots to empty).
Instruction = tuple[Callable[..., Any], int, int, int, tuple[int, ...], int, tuple[int, ...]]


class Strip:
    """The kernels of a stretch. It holds no state of any run; columns and tapes are made when a run first needs them.

    memory  where the memory for its tapes comes from; None where there are none
    """

    def __init__(self, stretch: Stretch, memory: BufferPool | None) -> None:
        self._stretch, self._memory = stretch, memory

    def __iter__(self) -> Iterator[Any]:
        return zip(*self._columns, strict=True)

    def instructions(self) -> Iterable[Instruction]:
        """Those of kernels with one or two inputs."""
        stretch = self._stretch
        counts, inputs = (2 - (stretch.reads[1] < 0)).tolist(), [()] * len(stretch)  # inputs are listed only where they are more than two
        return zip(stretch.kernels(), counts, *stretch.reads.tolist(), inputs, stretch.outputs, stretch.frees(), strict=True)

    @cached_property
    def _columns(self) -> tuple[Iterable[Any], ...]:
        return tuple(zip(*self.instructions(), strict=True))

    @cached_property
    def _tapes(self) -> tuple[Ribbon, list[Callable[..., Any]]] | None:
        ribbon = None if self._memory is None else ribbon_of(self._stretch)
        if ribbon is None:
            return None
        calls = [tape.call(refuse, with_lock=False) for tape in ribbon.tapes]
        ribbon.tapes.clear()  # (they take twice the memory of what was made of them)
        return ribbon, calls

    def follow(self, values: list[Any], run: Run) -> bool:
        """Runs it all as tapes over ``values``; whether it could. raises what stopped the run."""
        memory, tapes = self._memory, self._tapes
        if memory is None or tapes is None:
            return False
        ribbon, calls = tapes
        made = [np.empty(spec.shape, spec.dtype) for _, spec in ribbon.makes]
        arena = memory.take((ribbon.arena,), _BYTE)
        arrays = [*[values[slot] for slot in ribbon.reads], *made, arena]
        try:
            for call in calls:
                if run.stop is not None:
                    raise run.stop
                call(*arrays)
        except NotInOrder:  # all get the same arrays, so that nothing has run
            return False
        finally:
            memory.give(arena)
        for (slot, _), array in zip(ribbon.makes, made, strict=True):
            values[slot] = array if array.ndim else array[()]
        for slot in ribbon.frees:
            values[slot] = None
        return True


class Pairs(Strip):
    """The same where all kernels have two inputs, as in hardly any large plan they have not.

    They come as (kernel, first input, second input, output, slots to empty), which takes half the memory.
    """

    @cached_property
    def _columns(self) -> tuple[Iterable[Any], ...]:
        stretch = self._stretch
        return stretch.kernels(), *stretch.reads.tolist(), stretch.outputs, stretch.frees()


_BYTE = np.dtype("uint8")
