"""Replay: a run of a record, run again: step by step, or as a whole to see whether it gives the same bits here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, FlowgraphError
from ..graph import Node
from ..graph.report import where
from ..jit import llvm
from ..runtime import Walk, started
from ..runtime.chaos import Orders
from ..session import Session
from ..session.bisect import Bisecting, Bisection
from ..session.recorder import RecordedRun, Recorder
from .orders import difference
from .record import Record, load_record, task_hash
from .stepping import Stepping


@dataclass(frozen=True)
class Comparison:
    """A run beside its record. Printing it says what was compared, and where they first differ.

    tasks   how many tasks were compared, ``values``: how many fetched values and updates
    first   what differs first: a task with its nodes, or a value; empty where nothing does
    notes   what is otherwise here, a line each
    """

    tasks: int
    values: int
    first: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether all of it is equal, bit by bit."""
        return not self.first

    def __str__(self) -> str:
        compared = f"{self.tasks} task{'s' * (self.tasks != 1)} and {self.values} result{'s' * (self.values != 1)} compared"
        lines = [f"{compared}: equal, bit by bit" if self.is_same else f"{compared}: {self.first}"]
        return "\n".join([*lines, *[f"  note: {note}" for note in self.notes]])


class Replay(Stepping):
    """A recorded run that is gone through step by step, forwards and backwards.

    record     a `Record`, or the path of one
    run        which of its runs, by its place; -1 for the last
    functions  the Python functions of its graph by name, see `load_record`
    device     the device to run it on, such as ``"cpu:0"`` for a run of a GPU, whose last digits then differ; None for those of the record
    jit        whether compiled loops serve, as in the record (None); False makes a step of each node, by NumPy's kernels, whose last digits
               may differ from the run's
    raises     ArgumentError where there is no such run; what `load_record` raises

    Values are those of the run, bit by bit, however many threads it had. All that have been made are kept as long as the replay.
    Use it as a context, or call ``close``.

    >>> x = fg.placeholder("x", (2,), "float64")
    >>> y = fg.sqrt(x) * 2
    >>> with session.record("run.fgr"):
    ...     value = session.run(y, {x: [4.0, 9.0]})
    >>> with fg.replay.Replay("run.fgr", jit=False) as replay:
    ...     step = replay.forward()
    ...     print(step.node.name, replay.value("sqrt"))
    ...     replay.change("sqrt", [1.0, 1.0])
    ...     _ = replay.run()
    ...     print(replay.results())
    ...     print(replay.verify())
    sqrt [2. 3.]
    [array([2., 2.])]
    1 task and 1 result compared: equal, bit by bit
    """

    def __init__(
        self,
        record: Record | str | os.PathLike[str],
        run: int = -1,
        *,
        functions: Mapping[str, Any] | None = None,
        jit: bool | None = None,
        device: str | None = None,
    ) -> None:
        self.record = record if isinstance(record, Record) else load_record(record, functions)
        runs = self.record.runs
        if isinstance(run, bool) or not isinstance(run, int) or not -len(runs) <= run < len(runs):
            raise ArgumentError(
                f"the record has {len(runs)} runs, and {run!r:.40} is none of them", help="they are numbered from 0; -1: the last"
            )
        self.recorded: RecordedRun = runs[run]
        self._jit, self._device = jit, device
        self._written: dict[RecordedRun, dict[Node, Any]] = {}
        self.session = self._session(1)
        plan = self._plan(self.session, self.recorded)
        values = started(plan, self.session._buffers)
        for (_, slot), array in zip(plan.feeds, self.recorded.feeds.values(), strict=True):
            values[slot] = array
        before = self._before(self.recorded)
        for node, slot in plan.variables:
            values[slot] = self.session._state.stored(node, before[node])
        if plan.run_key >= 0:
            values[plan.run_key] = np.array([self.recorded.seed, self.recorded.number, 0], np.uint64)
        super().__init__(Walk(plan, values, self.session._buffers), self.record.graph)
        self.plan = plan

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session that it has for itself."""
        self.session.close()

    def results(self) -> list[Any]:
        """What the run fetched, once all steps have run; None for nodes without output."""
        if not self.is_over:
            raise ArgumentError(f"the run is at step {self.place} of {len(self.steps)}, and has no results yet")
        return [self.walk.buffers.home(self.walk.values[slot]) if slot >= 0 else None for slot in self.plan.fetches]

    def updates(self) -> dict[str, Any]:
        """What the run wrote to variables, by name, once all steps have run."""
        self.results()
        return {node.name: self.walk.buffers.home(self.walk.values[slot]) for node, slot in self.plan.updates}

    def verify(self, threads: int = 1) -> Comparison:
        """Runs it as a whole, with ``threads`` threads and without changes, and compares it with the record, task by task.

        raises  what the run raises, unless it raised that when it was recorded
        """
        with self._session(threads) as session:
            again = self._run(session, self.recorded)
            plan = self._plan(session, self.recorded)
        was, notes = self.recorded, self.record.differences()
        there, here = (", ".join(names) for names in (self.record.session["devices"], _names(session)))
        if there != here:
            notes.append(f"it ran on {there}, and runs on {here} here, so last digits differ")
        if bool(was.error) != bool(again.error):
            return Comparison(
                0, 0, f"it ended with {again.error or 'no error'}, and the recorded run with {was.error or 'no error'}", tuple(notes)
            )
        compared = sorted(was.tasks.keys() & again.tasks.keys())
        if task_hash(plan) != was.grouping:
            compared = []
            notes.append("kernels are put together otherwise here, so tasks cannot be compared")
        first = next((task for task in compared if was.tasks[task] != again.tasks[task]), None)
        if first is not None:
            units = plan.tasks[first].units
            names = ", ".join(dict.fromkeys(unit.node.name for unit in units))
            what = f"task {first} is the first that differs: {names}, {where(units[0].node.location)}"
            return Comparison(len(compared), 0, what, tuple(notes))
        named = [fetch.name for fetch in was.fetches]
        values = [(f"the value of {name}", a, b) for name, a, b in zip(named, was.fetched, again.fetched, strict=False)]
        values += [(f"what {name} is set to", made, again.updated.get(name)) for name, made in was.updated.items()]
        what = next((f"{name} differs" for name, a, b in values if a != b), "")
        return Comparison(len(compared), len(values), what, tuple(notes))

    def bisect(self, bound: float | None = None) -> Bisection:
        """The rewrite of the compiler that changes a result of this run by more than it may: see `flowgraph.Session.bisect`."""
        given: dict[Any, Any] = {tensor: self._given[tensor] for tensor, _ in self.plan.feeds}
        given |= {node: self.session._state.stored(node, self.walk.known[node.outputs[0]]) for node, _ in self.plan.variables}
        key = np.array([self.recorded.seed, self.recorded.number, 0], np.uint64)
        return Bisecting(self.plan, self.session._buffers, given, key, bound).bisected()

    def check_order(self) -> Comparison:
        """Runs its tasks one by one in the order in which they began when it was recorded, and compares that with their usual order here.

        raises  ArgumentError where that order is not possible here, as a task would run before another that it waits for
        """
        was, before = self.recorded, self._before(self.recorded)
        with self._session(1) as session:
            session.variables.update([(node.outputs[0], value) for node, value in before.items()])
            session.random_state = was.seed, was.number
            program, _, values = session._to_be_run(list(was.fetches), was.feeds)
            tasks = program.plan.tasks
            if set(was.order) - set(range(len(tasks))) or len(set(was.order)) < len(was.order):
                raise ArgumentError("the recorded order names tasks that the plan does not have here")
            order = [*was.order, *sorted(set(range(len(tasks))) - set(was.order))]
            place = {task: number for number, task in enumerate(order)}
            for task in tasks:
                late = next((other for other in task.after if place[other] > place[task.index]), None)
                if late is not None:
                    what = f"task {task.index} waits for task {late}, which comes later"
                    raise ArgumentError(f"the recorded order cannot be run here: {what}")
            orders = Orders(program, values.copy)
            usual = orders.in_order(range(len(tasks)))
            outcome = orders.in_order(order)
        said = f"in the recorded order, {difference(program.plan, usual, outcome)}" if outcome.differs(usual) else ""
        return Comparison(len(outcome.tasks), len(outcome.results), said)

    # --- running recorded runs again

    def _session(self, threads: int) -> Session:
        was = self.record.session
        jit = (was["jit"] and llvm.is_available()) if self._jit is None else self._jit
        devices = was["devices"] if self._device is None else [self._device]
        try:
            return Session(
                self.record.graph, threads=threads, passes=was["passes"], devices=devices, calibration=was["calibration"], jit=jit
            )
        except FlowgraphError:
            if devices[:1] == ["cpu:0"] or self._device is not None:
                raise
            return Session(self.record.graph, threads=threads, passes=was["passes"], jit=jit)  # a GPU's record, looked at elsewhere

    def _plan(self, session: Session, run: RecordedRun) -> Any:
        shapes = {tensor: array.shape for tensor, array in run.feeds.items()}
        return session._program(list(run.fetches), shapes, run.memory_limit).plan

    def _before(self, run: RecordedRun) -> dict[Node, Any]:
        """What the variables held that it reads; runs whose updates they are run again."""
        wanted, order = [run], []
        while wanted:
            current = wanted.pop()
            order.append(current)
            wanted += {was for was in current.variables.values() if isinstance(was, RecordedRun) and was not in self._written}
        for earlier in sorted(set(order) - {run}, key=self.record.runs.index):
            if earlier not in self._written:
                with self._session(1) as session:
                    self._run(session, earlier)
                    self._written[earlier] = {node: session.variables[node.outputs[0]] for node in self._nodes(earlier.updated)}
        return {node: self._written[was][node] if isinstance(was, RecordedRun) else was for node, was in run.variables.items()}

    def _nodes(self, names: Any) -> list[Node]:
        return [self.record.graph.node(name) for name in names]

    def _run(self, session: Session, run: RecordedRun) -> RecordedRun:
        """Runs it in ``session``, and gives what a recorder notes of that."""
        session.variables.update([(node.outputs[0], value) for node, value in self._before(run).items()])
        session.random_state = run.seed, run.number
        program = session._program(list(run.fetches), {tensor: array.shape for tensor, array in run.feeds.items()}, run.memory_limit)
        session._runs.recorder = recorder = Recorder()
        try:
            session._runs.perform(program, list(run.feeds.values()), None)
        except FlowgraphError as error:
            if not run.error:
                raise
            if not recorder.runs:  # it could not even begin
                return RecordedRun(run.number, run.seed, run.fetches, run.feeds, error=f"{type(error).__name__}: {error}")
        finally:
            session._runs.recorder = None
        return recorder.runs[0]


def _names(session: Session) -> list[str]:
    return [device.name for device in session.devices if not device.last_resort]
