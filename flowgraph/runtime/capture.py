"""Capturing kernels as one graph, on one stream or on several side by side: on which, `lanes` says, and in what memory, `arena`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..compile.plan import Unit
from .arena import Arena
from .lanes import START, lanes_of, steps_of
from .strip import Instruction


class Capture:
    """A graph of kernels, captured when this is made. raises what a kernel raises, and CUDA for what cannot be captured.

    kernels  the units with their instructions, in order
    frame    slot -> array, of what they read; has at the end what is ``kept``, too
    updates  slot of a new value -> slot of the variable whose array it is written into at the end
    most     branches at most
    budget   bytes of memory that branches should not exceed together

    graph    the graph; ``branches``: how many it has
    """

    def __init__(
        self,
        device: Any,
        kernels: Sequence[tuple[Unit, Instruction]],
        frame: dict[int, Any],
        kept: Collection[int],
        updates: Mapping[int, int],
        most: int,
        budget: int,
    ) -> None:
        self._device, self._kernels, self._frame, self._kept, self._updates = device, kernels, frame, kept, updates
        self._steps = steps_of([unit for unit, _ in kernels], updates)
        self._lanes = lanes_of(self._steps, most)
        self._last = {slot: index for index, step in enumerate(self._steps) for slot in (*step.reads, step.makes)}
        self.branches = self._lanes.width
        self._streams = device.lanes(self.branches)
        self._arena = Arena(device.cupy, self._streams, budget)  # (the graph's memory, which it needs as long as it lives)
        self._news: dict[int, Any] = {}
        compute = self._streams[0]
        with device.cupy.cuda.using_allocator(self._arena.malloc):
            compute.begin_capture()
            try:
                self._ask()
            finally:
                with suppress(Exception):  # (where the capture has failed, its end says so)
                    for stream in self._streams[1:]:
                        if stream.is_capturing():
                            compute.wait_event(stream.record())
                self.graph = compute.end_capture()

    def _ask(self) -> None:
        """Asks for all steps, each on its lane."""
        lanes, streams, events = self._lanes, self._streams, dict[int, Any]()
        marked = lanes.marked
        if START in marked:
            events[START] = streams[0].record()
        for index, (lane, waits) in enumerate(zip(lanes.lane, lanes.waits, strict=True)):
            with streams[lane]:
                for before in waits:
                    streams[lane].wait_event(events[before])
                self._arena.enter(index, lane, lanes.known[index])
                if index < len(self._kernels):
                    self._call(index)
                else:
                    self._update(*self._steps[index].reads, *self._steps[index].writes)
                if index in marked:
                    events[index] = streams[lane].record()
            for slot in {*self._steps[index].reads, self._steps[index].makes}:
                if self._last[slot] == index and slot not in self._kept:
                    self._frame.pop(slot, None)

    def _call(self, index: int) -> None:
        unit, (kernel, _, _, _, inputs, output, _) = self._kernels[index]
        step, arena = self._steps[index], self._arena
        arrays = [self._frame[slot] for slot in (inputs or unit.inputs)]
        for array in _arrays(arrays, self._device):
            arena.touch(array)
        made = arena.made
        self._frame[output] = result = kernel(*arrays)
        for array in _arrays([result], self._device):
            arena.touch(array)
            # (Others would have to wait for who writes what it was given.)
            if self.branches > 1 and step.kind == "kernel" and step.seconds and not arena.has(array):
                raise RuntimeError(f"{unit.node.name} gives what it was given")
        if self.branches > 1 and step.kind == "view" and arena.made != made:
            raise RuntimeError(f"{unit.node.name} makes a copy")

    def _update(self, slot: int, variable: int | None = None) -> None:
        """Keeps a new value from being written over, or writes it into the variable's array."""
        if variable is None:
            self._hold(slot)
            return
        if not self._news.keys() >= self._updates.keys():  # before the first is written
            for each in self._updates:
                if each not in self._news:
                    self._hold(each, is_late=True)
        self._arena.touch(self._news[slot])
        self._frame[variable][...] = self._news[slot]

    def _hold(self, slot: int, is_late: bool = False) -> None:
        array = self._frame[slot]
        if not self._arena.has(array):  # it lies in a variable's memory
            if is_late and self.branches > 1:
                raise RuntimeError("a new value is what a variable holds")
            array = array.copy()
        self._arena.touch(array)
        self._news[slot] = array


def _arrays(values: Sequence[Any], device: Any) -> Iterator[Any]:
    """The arrays of the device that are not empty, of values and tuples of them."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _arrays(value, device)
        elif device.has(value) and value.nbytes:
            yield value
