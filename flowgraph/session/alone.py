"""Alone: a plan that is one task of a GPU, called while nothing else runs: on the caller's thread, with no run, no future and no turn.

For a step of some dozen microseconds all that would take longer than what the GPU is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Tensor
from ..runtime import Program, RunReport
from ..runtime.generated import QUIET
from .state import State
from .values import arrived, handed_out

if TYPE_CHECKING:
    from .runs import Runs

_set_errors, _ignored, _reset_errors = QUIET["set_errors"], QUIET["ignored"], QUIET["reset_errors"]


class Alone:
    """What calls a program that `may_be_alone`.

    It holds the lock of the state from the beginning to the end, so that no run begins meanwhile. So it may write variables where they
    are, as a captured graph does: whoever reads them has read them before, or reads all of them behind it.
    """

    stop = None  # (it cannot be cancelled)

    def __init__(self, program: Program, state: State, runs: Runs, may_replay: bool) -> None:
        self.program, self._state, self._runs, self.may_replay = program, state, runs, may_replay
        plan = program.plan
        self._task = program.on_devices[0]
        self._device = self._task.device
        self._feeds = [slot for _, slot in plan.feeds]
        self._hands_over = any(slot in plan.away for slot in plan.fetches)
        self._report = RunReport(1, plan.peak_bytes)

    def __call__(self, arrays: Sequence[Any]) -> list[Any] | None:
        """The results of a run that has ``arrays``, which fit, as its feeds; None where it is not alone. raises as a run."""
        program, state, device, runs = self.program, self._state, self._device, self._runs
        plan = program.plan
        with state.lock:
            if not runs.is_idle:
                return None
            values = program.template.copy()
            for slot, array in zip(self._feeds, arrays, strict=True):
                values[slot] = array
            state.begin(plan, values)
            token = _set_errors(_ignored)
            try:
                with device.active():
                    self._task.execute(values, self)
                    results = [self._result(slot, values[slot]) if slot >= 0 else None for slot in plan.fetches]
                    held = state.values
                    new = [(node, values[slot]) for node, slot in plan.updates if held.get(node.id) is not values[slot]]
                    written = [(node, state.kept(node, value)) for node, value in new]
            finally:
                _reset_errors(token)
            for node, value in written:
                held[node.id] = value
        if self._hands_over:
            device.hand_over()
        program.calls.add()
        runs.last_report = self._report
        return arrived(results)

    def _result(self, slot: int, value: Any) -> Any:
        plan = self.program.plan
        if slot in plan.away:
            return self._device.copied(value) if slot in plan.copied else value
        return handed_out(value, slot in plan.copied)


def may_be_alone(program: Program) -> bool:
    """Whether a program has one task, on a GPU, that asks nothing of the run that it is part of."""
    plan = program.plan
    is_one = len(plan.tasks) == 1 and 0 in program.on_devices
    return is_one and plan.run_slot < 0 and not (plan.tasks[0].prepares or plan.lent or program.extra) and plan.memory_limit is None


def quick_call(
    alone: Alone, runs: Runs, inputs: Sequence[Tensor], fed: Sequence[Any], otherwise: Callable[..., list[Any]], is_looked_over: bool
) -> Callable[..., list[Any]]:
    """A function of arrays that are like those in ``fed`` and need no other look; all else it leaves to ``otherwise``."""
    program = alone.program
    is_looked_over = is_looked_over and bool(program.plan.updates)
    expected = [
        (((np.ndarray, tensor.dtype.type) if isinstance(x, np.ndarray | np.generic) else (x.__class__,)), tensor.dtype, x.shape)
        for tensor, x in zip(inputs, fed, strict=True)
    ]
    on_device = [(place, x.device.id) for place, x in enumerate(fed) if not isinstance(x, np.ndarray | np.generic)]

    def call(*arrays: Any) -> list[Any]:
        if not runs._detour:
            for x, (kinds, dtype, shape) in zip(arrays, expected, strict=True):
                if x.__class__ not in kinds or x.dtype != dtype or x.shape != shape:
                    break
            else:
                if not on_device or all(arrays[place].device.id == index for place, index in on_device):
                    results = alone(arrays)
                    if results is not None:
                        return runs.looked_over(program, results) if is_looked_over else results
        return otherwise(*arrays)

    return call
