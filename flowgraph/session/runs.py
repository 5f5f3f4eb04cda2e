"""Runs: how a session's runs begin, where they run, what looks on, and what is done at their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..devices import Device
from ..errors import ArgumentError, RunTimeoutError, SessionClosedError
from ..graph import Node, Shape, Tensor
from ..graph.location import here
from ..runtime import Buffers, Crew, Pool, Program, Recording, Run, RunReport, TracedRun
from .alone import Alone, may_be_alone
from .checks import Check, not_finite, warn
from .guards import BLAS, Turnstile
from .recorder import RECORDED, Recorder
from .state import State
from .values import arrived, closed, handed_out
from .watch import Watch, watched

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..compile import Plan
    from ..traces import Trace


class Runs:
    """Makes runs on ``devices``, with ``threads`` on each; they read ``state`` as they begin and write it as they end.

    may_team  whether helpers may work off tasks in machine code together
    captures  whether a run that is alone may replay what a GPU has captured

    `state.lock` guards all that changes.
    """

    def __init__(self, state: State, buffers: Buffers, devices: Sequence[Device], threads: int, may_team: bool, captures: bool) -> None:
        from concurrent.futures import Future  # with logging behind it, 3 ms that building a graph does without

        self._new_future = Future[list[Any]]
        self._state, self._buffers, self._devices = state, buffers, devices
        self._threads, self._captures = threads, captures
        several = len(devices) > 1
        self.crew = Crew(threads - 1 if may_team and not several else 0)
        self._pools = {
            each.name: Pool(threads if each.is_host else 1, f"flowgraph-{each.name}" if several else "flowgraph", alone=not several)
            for each in devices
        }
        self.pools: list[Pool | Crew] = [*self._pools.values(), self.crew]
        self._updates = Turnstile()
        self.active: set[Run] = set()
        self.last_report: RunReport | None = None
        self.is_closed = False
        self._detour = False  # whether functions leave their calls to `perform`: closed, traced, watched or recorded
        self._has_warned = False  # of a loss that is not finite
        self._traces: tuple[Trace, ...] = ()  # that are being recorded
        self.watches: tuple[Watch, ...] = ()
        self.recorder: Recorder | None = None

    def close(self) -> None:
        """Ends the runs that go on, and begins no other."""
        with self._state.lock:
            self.is_closed = self._detour = True
            active = list(self.active)
        for run in active:
            run.cancel(SessionClosedError("the session was closed during the run"))
        for run in active:
            run.wait()

    # --- from its beginning

    def perform(self, program: Program, arrays: Sequence[Any], timeout: float | None, check: bool | None = False) -> list[Any]:
        """One run on behalf of a caller who waits for it."""
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
            raise ArgumentError(f"Session: timeout is a number of seconds, at least 0, got {timeout!r:.80}")
        if timeout is None and not check and not self._detour:
            alone = self.alone(program)
            results = None if alone is None else alone(arrays)
            if results is not None:
                return self.looked_over(program, results) if check is None else results
        may_spread = self._may_spread(program)
        together = timeout is None and not self._detour and program.is_warm and self.may_team(program) and program.team is not None
        background = timeout is not None or (may_spread and not together)
        future, run, start = self.made(program, arrays, background, check, self.crew if together else None)
        try:
            start()
            try:
                results = arrived(future.result(timeout))
                return self.looked_over(program, results) if check is None else results
            except TimeoutError:
                if future.done():
                    raise
                run.cancel(RunTimeoutError(f"the run took longer than {timeout} s", help="nothing was written to any variable"))
                return arrived(future.result())
        except KeyboardInterrupt as interrupt:
            run.cancel(interrupt)
            if run.has_begun:
                run.wait()
            raise

    def alone(self, program: Program) -> Alone | None:
        """What calls a program of which the runs to come may be `Alone`; None for any other."""
        if program.alone is None and program.on_devices and program.is_warm:
            program.alone = Alone(program, self._state, self, self._captures) if may_be_alone(program) else False
        return program.alone or None

    @property
    def is_idle(self) -> bool:
        """Whether no run goes on or is about to, and one may begin. The lock is held."""
        return not (self.active or self.is_closed or self._updates.is_busy)

    def looked_over(self, program: Program, results: list[Any]) -> list[Any]:
        """``results``, with one warning where a number of a run on a GPU that writes variables is not finite.

        (For which node has made it, the run would have to be repeated; a replay has written over what it was given.)
        """
        plan = program.plan
        if plan.updates and not plan.host_only and not self._has_warned:
            wrong = not_finite(plan.request.fetches, results)
            if wrong is not None:
                self._has_warned = True
                warn(wrong)
        return results

    def made(
        self, program: Program, arrays: Sequence[Any], background: bool, check: bool | None, crew: Crew | None = None
    ) -> tuple[Future[list[Any]], Run, Callable[[], None]]:
        """A new run, what it will give, and the function that starts it: at once, or when the updates before it are over."""
        future: Future[list[Any]] = self._new_future()
        plan = program.plan
        values = _given(program, arrays)
        run = self.new_run(program, values, lambda run: self._finish(run, future), background)

        def begin() -> None:
            try:
                with self._state.lock:
                    if self.is_closed:
                        raise closed()
                    number = self._state.begin(plan, values)
                    self.active.add(run)
                    recorder = self.recorder
                    may_fail = check or program.extra or recorder is not None  # (or what a run was given is still to be read)
                    run.may_replay = self._captures and len(self.active) == 1 and not may_fail
                if recorder is not None:
                    recorder.begins(run, self._state.seed, number)
                if check or (check is None and plan.updates and plan.host_only and not self._has_warned):
                    run.check = Check(plan, values, bool(check))
                if not background:
                    run.run_here(crew)
                else:
                    run.run_on(self._pools)
            except BaseException as error:
                if run.has_begun:
                    run.cancel(error)  # it ends by itself
                else:
                    self._abandon(run, future, error)

        if plan.updates:
            return future, run, lambda: self._updates.enter(begin, wait=not background)
        return future, run, begin

    def new_run(self, program: Program, values: list[Any], finish: Callable[[Run], None], background: bool) -> Run:
        """One that is recorded in the traces that are on."""
        traces = self._traces
        if not traces:
            return Run(program, values, finish)
        threads = {device.name: self._threads for device in self._devices} if background else {}
        by_crew = background and self.may_team(program) and program.team is not None
        by_graph = self._captures and any(not each.why for each in program.on_devices.values())
        recording = Recording(program.plan, threads, here(), any(trace.by_kernel for trace in traces), by_crew, by_graph)
        for trace in traces:
            trace.add(recording)
        return TracedRun(program, values, finish, recording)

    def begun(self, program: Program, arrays: Sequence[Any]) -> list[Any]:
        """The values that a run would start with, as they are now, for one that the caller drives; it counts as a run."""
        values = _given(program, arrays)
        with self._state.lock:
            if self.is_closed:
                raise closed()
            self._state.begin(program.plan, values)
        return values

    def _may_spread(self, program: Program) -> bool:
        """Whether several threads are of use to a run."""
        plan = program.plan
        several = len(self._devices) > 1 and (plan.host_only or len({task.device for task in plan.tasks}) > 1)
        return program.schedule is not None and (several or (self._threads > 1 and plan.host_only and not program.is_serial))

    def may_team(self, program: Program) -> bool:
        """Whether they may work off its tasks in machine code, if it has a team for that."""
        return self.crew.is_possible and self._may_spread(program)

    # --- to its end

    def _finish(self, run: Run, future: Future[list[Any]]) -> None:
        """The end of a run, on the thread that did its last work: writes variables, hands out results, lets the next update in."""
        plan, results, error = run.program.plan, [], run.error
        try:
            if error is None:
                values = run.values
                wrong = None if run.check is None else run.check.error(run, self._buffers)
                if wrong is not None and run.check.is_strict:
                    raise wrong
                results = [self._result(plan, slot, values[slot]) if slot >= 0 else None for slot in plan.fetches]
                if run.program.extra:
                    results = arrived(results)
                    self.look(run.program, results)
                written = [(node, self._state.kept(node, values[slot])) for node, slot in plan.updates]
                replaced = self._state.write(written)
                if run.ended is not None:
                    run.ended(results, written, None)
                values.clear()  # views of variables are among them, too
                self._state.recycle(replaced, plan.updates)
                if wrong is not None:
                    self._has_warned = True
                    warn(wrong)
        except BaseException as failure:
            error = failure
        if error is not None and run.ended is not None:
            run.ended((), (), error)
        with self._state.lock:
            self.active.discard(run)
        self.last_report = run.report
        if plan.updates:
            self._updates.leave()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(results[: len(results) - run.program.extra] if run.program.extra else results)

    def _result(self, plan: Plan, slot: int, value: Any) -> Any:
        if slot in plan.away:
            device: Any = self._buffers.device(plan.away[slot])
            return device.handed_over(device.copied(value) if slot in plan.copied else value)
        return self._buffers.on(plan.lent[slot]).lent(value) if slot in plan.lent else handed_out(value, slot in plan.copied)

    def _abandon(self, run: Run, future: Future[list[Any]], error: BaseException) -> None:
        """A run that could not begin."""
        with self._state.lock:
            self.active.discard(run)
        if run.program.plan.updates:
            self._updates.leave()
        future.set_exception(error)

    def stored(self, node: Node, value: Any) -> Any:
        """A copy of ``value``, of the host, as a variable may hold it."""
        return self._state.stored(node, np.array(value, order="C"))

    def write(self, written: Sequence[tuple[Node, Any]]) -> None:
        """Writes variables when it is its turn among the runs that do."""

        def begin() -> None:
            self._state.write(written)

        if written:
            self._updates.enter(begin, wait=True)
            self._updates.leave()

    # --- what looks on

    def watched(self, flat: Sequence[Tensor | Node], shapes: Mapping[Tensor, Shape]) -> list[Tensor]:
        """What a request computes that is watched."""
        return watched(self.watches, flat, shapes) if self.watches else []

    def look(self, program: Program, results: list[Any]) -> None:
        """Shows to the watches what they asked for, which are the last results."""
        tensors = program.plan.request.fetches[-program.extra :]
        for tensor, value in zip(tensors, results[-program.extra :], strict=True):
            for watch in self.watches:
                if watch.tensor is tensor:
                    watch.look(value)

    def watch(self, watch: Watch, is_on: bool) -> None:
        """Begins or ends to show values to ``watch``."""
        with self._state.lock:
            if is_on and self.is_closed:
                raise closed()
            others = tuple([each for each in self.watches if each is not watch])
            self.watches = (*others, watch) if is_on else others
            self._set_detour()

    def trace(self, trace: Trace, is_on: bool) -> None:
        """Begins or ends to record in ``trace``."""
        with self._state.lock:
            others = tuple([each for each in self._traces if each is not trace])
            self._traces = (*others, trace) if is_on else others
            self._set_detour()

    def record(self, recorder: Recorder) -> Recorder | None:
        """Tells ``recorder`` of all runs from now on; gives the one in whose place it is."""
        with self._state.lock:
            if self.is_closed:
                raise closed()
            before = self.recorder
            if before is not None and RECORDED.get() is None:
                raise ArgumentError("record: a record of this session is being made already")
            self.recorder = recorder
            self._set_detour()
        return before

    def restore(self, before: Recorder | None) -> None:
        """Ends a record; ``before``, if there was one, goes on."""
        with self._state.lock:
            self.recorder = before
            self._set_detour()

    def _set_detour(self) -> None:
        self._detour = self.is_closed or bool(self._traces or self.watches) or self.recorder is not None


def _given(program: Program, arrays: Sequence[Any]) -> list[Any]:
    """The values of a run that has its feeds."""
    values = program.template.copy()
    for (_, slot), array in zip(program.plan.feeds, arrays, strict=True):
        values[slot] = array
    return values


def shut(pools: Sequence[Pool | Crew]) -> None:
    """Ends a session's threads, and its hold on BLAS."""
    for pool in pools:
        pool.close()
    BLAS.release()
