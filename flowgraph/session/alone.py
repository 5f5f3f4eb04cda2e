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
        # Of the last call: the graph that served it, the values that it began with but for feeds, and how often variables had changed.
        self._captured: Any = None
        self._start: list[Any] = []
        self._changes = -1

    def __call__(self, arrays: Sequence[Any]) -> list[Any] | None:
        """The results of a run that has ``arrays``, which fit, as its feeds; None where it is not alone. raises as a run."""
        program, state, device, runs, task = self.program, self._state, self._device, self._runs, self._task
        plan = program.plan
        with state.lock:
            if not runs.is_idle:
                return None
            captured = task.captured if self.may_replay else None
            if captured is not None and (captured is not self._captured or state.changes != self._changes):
                captured = self._known(captured)
            if captured is None and plan.run_slot >= 0:
                return None
            values = (program.template if captured is None else self._start).copy()
            for slot, array in zip(self._feeds, arrays, strict=True):
                values[slot] = array
            token = _set_errors(_ignored)
            try:
                if captured is None:
                    state.begin(plan, values)
                else:
                    state.count(plan, values)
                with device.active():
                    if captured is None:
                        task.execute(values, self)
                    else:
                        task.replay(captured, values, self)
                    results = self._results(values)
                    written = self._written(values) if captured is None or captured.leaves else []
                    if self._hands_over:
                        device.hand_over()
            finally:
                _reset_errors(token)
            for node, value in written:
                state.put(node, value)
        program.calls.add()
        runs.last_report = self._report
        return arrived(results)

    def _known(self, captured: Any) -> Any:
        """The graph, with what a call of it begins with, if it fits the variables; else None. The lock is held."""
        values = self.program.template.copy()
        for node, slot in self.program.plan.variables:
            values[slot] = self._state.read(node)
        if not captured.steady or not captured.fits(values):
            return None
        self._captured, self._start, self._changes = captured, values, self._state.changes
        return captured

    def _results(self, values: list[Any]) -> list[Any]:
        return [self._result(slot, values[slot]) if slot >= 0 else None for slot in self.program.plan.fetches]

    def _written(self, values: list[Any]) -> list[tuple[Any, Any]]:
        """What variables will hold that is not in their arrays already."""
        state = self._state
        new = [(node, values[slot]) for node, slot in self.program.plan.updates if state.values.get(node.id) is not values[slot]]
        return [(node, state.kept(node, value)) for node, value in new]

    def _result(self, slot: int, value: Any) -> Any:
        plan = self.program.plan
        if slot in plan.away:
            return self._device.copied(value) if slot in plan.copied else value
        return handed_out(value, slot in plan.copied)


def may_be_alone(program: Program) -> bool:
    """Whether a program has one task, on a GPU, that asks nothing of the run that it is part of."""
    plan = program.plan
    is_one = len(plan.tasks) == 1 and 0 in program.on_devices
    return is_one and not (plan.tasks[0].prepares or plan.lent or program.extra) and plan.memory_limit is None


def quick_call(
    alone: Alone, runs: Runs, inputs: Sequence[Tensor], fed: Sequence[Any], otherwise: Callable[..., list[Any]], is_looked_over: bool
) -> Callable[..., list[Any]]:
    """A function of arrays that are like those in ``fed`` and need no other look; all else it leaves to ``otherwise``."""
    program = alone.program
    plan = program.plan
    is_looked_over = is_looked_over and bool(plan.updates) and any(slot not in plan.away for slot in plan.fetches if slot >= 0)
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
