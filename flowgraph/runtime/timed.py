"""Timed: a plan whose kernels are timed one by one, on the caller's thread; those of a GPU by its own clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..compile import Plan, Unit
from ..compile.copies import CopyNode
from ..devices import Device
from .memory import Buffers
from .program import Program
from .run import Run
from .strip import Instruction

# A first run makes buffers and compiles kernels; of the others the fastest counts.
RUNS = 4


class TimedProgram(Program):
    """A program that notes what its kernels take, by the names of their nodes; it is never generated.

    clock  of a GPU, in this run, and ``marks``: (name, mark before, mark behind)
    """

    is_warm = False

    def __init__(self, plan: Plan, buffers: Buffers, device: Device) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self.clock: Any = None
        self.marks: list[tuple[str, Any, Any]] = []
        self.device: Any = device
        list(plan.units)  # as objects, of which each has an instruction
        super().__init__(plan, buffers)

    def execute(self, task: int, values: list[Any], run: Run) -> None:
        if self.device.is_host:
            super().execute(task, values, run)
            return
        with self.device.active():
            self.clock = self.device.clock = self.device.new_clock()
            try:
                super().execute(task, values, run)
            finally:
                self.device.clock = None

    def seconds(self) -> dict[str, float]:
        """What each kernel has taken in the run that is over, which is forgotten."""
        if self.clock is not None:
            self.clock.wait()
            seconds = self.clock.seconds
            for name, begun, over in (*self.marks, *[(name, begun, over) for name, _, begun, over in self.clock.copies]):
                self._seconds[name] += seconds(over) - seconds(begun)
        taken = dict(self._seconds)
        self._seconds.clear()
        self.marks.clear()
        return taken

    def _instruction(self, unit: Unit) -> Instruction:
        kernel, *rest = super()._instruction(unit)
        name, is_copy = unit.node.name, isinstance(unit.node, CopyNode)

        def timed(*arrays: Any) -> Any:
            start = time.perf_counter()
            result = kernel(*arrays)
            self._seconds[name] += time.perf_counter() - start
            return result

        def marked(*arrays: Any) -> Any:
            clock = self.clock
            clock.at = name
            clock.hold()
            begun = clock.mark()
            result = kernel(*arrays)
            if not is_copy:
                self.marks.append((name, begun, clock.mark()))
            return result

        return timed if self.device.is_host else marked, *rest  # type: ignore[return-value]


def kernel_seconds(plan: Plan, buffers: Buffers, device: Device, values: Sequence[Any]) -> dict[str, float]:
    """What the kernels of ``plan`` take on ``device``, by the names of their nodes.

    values  of its feeds, variables and the key of its draws, by slot; None elsewhere
    raises  what a kernel raises, with its node
    """
    program = TimedProgram(plan, buffers, device)
    fastest: dict[str, float] = {}
    for turn in range(RUNS):
        filled = [given if given is not None else first for given, first in zip(values, program.template, strict=True)]
        run = Run(program, filled, lambda run: None)
        run.run_here()
        if run.error is not None:
            raise run.error
        for name, seconds in program.seconds().items():
            if turn:
                fastest[name] = min(fastest.get(name, seconds), seconds)
    return fastest
