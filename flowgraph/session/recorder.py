"""Recorder: what a session's runs were asked for and given, kept so that each can be run again, and looked at, elsewhere.

Not the intermediate values: equal feeds, variables, seed and run number give them again, bit by bit. It keeps a hash of what each task
left behind, by which a run that differs shows where.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..compile import Plan
from ..graph import Node, Tensor
from ..runtime import Run
from ..runtime.digest import Digests, digest, left_by

# Where it is set, sessions that are made record their last runs, and add themselves: the command line runs a file so.
RECORDED: ContextVar[list[Any] | None] = ContextVar("flowgraph_recorded", default=None)
RUNS_RECORDED = 8


@dataclass(eq=False)
class RecordedRun:
    """One run: what it was asked for and given, and what came of it.

    number       of the runs of its session; with ``seed`` it decides all random draws
    fetches      tensors and nodes, in the order of the request, without their nesting
    feeds        tensor -> array
    variables    node of a variable that it reads -> the value before: an array, or the `RecordedRun` that has written it
    plan         what was run; None in a record from a file, of which ``memory_limit`` and ``grouping`` (see `task_hash`) are known
    order        the tasks in the order in which they began
    tasks        task -> hash of what it left behind, for those that ended
    fetched      hash of each fetched value, None where there is none; ``updated``: by name, of what was written to variables
    error        what it raised, as text; empty where it ended well
    """

    number: int
    seed: int
    fetches: Sequence[Tensor | Node]
    feeds: Mapping[Tensor, Any]
    plan: Any = None
    memory_limit: int | None = None
    grouping: str = ""
    variables: dict[Node, Any] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    tasks: dict[int, bytes] = field(default_factory=dict)
    fetched: list[bytes | None] = field(default_factory=list)
    updated: dict[str, bytes] = field(default_factory=dict)
    error: str = ""


class Recorder:
    """Records runs from when they begin; made by ``session.record``.

    runs  those recorded, in the order in which they began; with ``last``, only so many

    `_lock` guards everything.
    """

    def __init__(self, last: int | None = None) -> None:
        self.runs: deque[RecordedRun] = deque(maxlen=last)
        self._keeps_all = last is None
        self._written: dict[Node, tuple[Any, RecordedRun]] = {}  # a variable -> the array that a recorded run wrote, and which
        self._left: dict[int, list[list[tuple[int, Any]]]] = {}  # id of a plan -> see `left_by`; the runs keep the plans
        self._plans: list[Plan] = []
        self._feeds: dict[bytes, Any] = {}  # hash -> a copy: the same batch is fed in many epochs
        self._lock = threading.Lock()

    def begins(self, run: Run, seed: int, number: int) -> None:
        """Notes what a run has been given, and lets more be noted as it goes on; its values are in place, and nothing has run."""
        plan, home = run.program.plan, run.program.buffers.home
        feeds = {tensor: self._copied(home(run.values[slot])) for tensor, slot in plan.feeds}
        note = RecordedRun(number, seed, plan.request.fetches, feeds, plan, plan.request.memory_limit)
        with self._lock:
            for node, slot in plan.variables:
                array, writer = self._written.get(node, (None, None))
                # What a recorded run has written it writes again; where runs are dropped, each keeps what it was given.
                is_known = self._keeps_all and array is not None and array is run.values[slot]
                note.variables[node] = writer if is_known else home(run.values[slot])
            if id(plan) not in self._left:
                self._left[id(plan)] = left_by(plan)
                self._plans.append(plan)
            self.runs.append(note)
        digests = Digests(self._left[id(plan)], home)
        note.tasks = digests.of_task

        def behind(task: int, values: list[Any]) -> None:
            note.order.append(task)
            digests(task, values)

        run.behind, run.ended = behind, partial(self._ends, note, plan, home)

    def _copied(self, array: Any) -> Any:
        key = digest(array)
        with self._lock:
            if key not in self._feeds or not self._keeps_all:
                self._feeds[key] = np.array(array)
            copy = self._feeds[key]
            if not self._keeps_all:
                self._feeds.clear()
        return copy

    def _ends(
        self,
        note: RecordedRun,
        plan: Plan,
        home: Callable[[Any], Any],
        results: Sequence[Any],
        written: Sequence[tuple[Node, Any]],
        error: Any,
    ) -> None:
        if error is not None:
            note.error = f"{type(error).__name__}: {error}"
            return
        note.fetched = [None if slot < 0 else digest(home(value)) for slot, value in zip(plan.fetches, results, strict=True)]
        note.updated = {node.name: digest(home(value)) for node, value in written}
        with self._lock:
            for node, value in written:
                self._written[node] = value, note
