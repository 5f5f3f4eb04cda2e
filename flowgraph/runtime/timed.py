"""Timed: a plan whose kernels are timed one by one, on the caller's thread."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..compile import Plan, Unit
from ..devices import Device
from .memory import Buffers
from .program import Program
from .run import Run
from .strip import Instruction

# A first run makes buffers and compiles kernels; of the others the fastest counts.
RUNS = 4


class TimedProgram(Program):
    """A program that adds up what its kernels take, in ``seconds`` by the names of their nodes; it is never generated."""

    is_warm = False

    def __init__(self, plan: Plan, buffers: Buffers, device: Device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.device = device
        list(plan.units)  # as objects, of which each has an instruction
        super().__init__(plan, buffers)

    def execute(self, task: int, values: list[Any], run: Run) -> None:
        with self.device.active():
            super().execute(task, values, run)

    def _instruction(self, unit: Unit) -> Instruction:
        kernel, *rest = super()._instruction(unit)
        name, seconds, wait = unit.node.name, self.seconds, self.device.wait

        def timed(*arrays: Any) -> Any:
            wait()
            start = time.perf_counter()
            result = kernel(*arrays)
            wait()
            seconds[name] += time.perf_counter() - start
            return result

        return timed, *rest  # type: ignore[return-value]


def kernel_seconds(plan: Plan, buffers: Buffers, device: Device, values: Sequence[Any]) -> dict[str, float]:
    """What the kernels of ``plan`` take on ``device``, by the names of their nodes.

    values  of its feeds, variables and the key of its draws, by slot; None elsewhere
    raises  what a kernel raises, with its node
    """
    program = TimedProgram(plan, buffers, device)
    fastest: dict[str, float] = {}
    for turn in range(RUNS):
        program.seconds.clear()
        filled = [given if given is not None else first for given, first in zip(values, program.template, strict=True)]
        run = Run(program, filled, lambda run: None)
        run.run_here()
        if run.error is not None:
            raise run.error
        for name, seconds in program.seconds.items():
            if turn:
                fastest[name] = min(fastest.get(name, seconds), seconds)
    return fastest
