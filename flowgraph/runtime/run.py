"""One execution of a plan: its values, its progress, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..records import Record
from .crew import Crew
from .gate import Gate
from .generated import is_in_order
from .memory import BufferPool
from .pool import Pool
from .program import Program
from .schedule import RunState

# So many of the tasks that wait for memory are looked at when another has ended, and the one whose turn it is.
TRIED = 32


class RunReport(Record, slots=True):
    """What a finished run says of itself.

    tasks       number of tasks of its plan
    peak_bytes  most bytes alive at once of what the run made, counting each running task at its own peak
    """

    tasks: int
    peak_bytes: int


class Run:
    """One execution. Made by the session, which fills ``values`` with feeds and variables.

    It ends once: what runs its last task ends it, or `cancel` where tasks have been handed out and none runs. One that is cancelled before
    it begins, or on the caller's thread, is ended by who begins or runs it.

    `_lock` guards `state`, `gate`, `left`, `error`, `_live`, `_counted`, `_held`, `_is_spread`, `_is_ending` and `peak_bytes`, and the
    making of buffers that several tasks share.
    A value is written by one task and read only by tasks that are handed out after that one has finished, so `values` needs no lock.
    """

    recording: ClassVar[Any] = None  # what a `TracedRun` notes

    def __init__(self, program: Program, values: list[Any], finished: Callable[[Run], None]) -> None:
        self.program, self.values, self.finished = program, values, finished
        self.behind: Callable[[int, list[Any]], None] | None = None  # called behind each task, with it and all values, before any dies
        self.ended: Callable[..., None] | None = None  # called by the session with results, updates, and the error
        self.stop: BaseException | None = None  # set once: why the run must end; read between units
        self.error: BaseException | None = None
        self.has_begun = False  # whether it ends by itself
        self._is_spread = False  # whether its tasks are handed out to threads
        self._is_ending = False
        self.may_replay = False  # whether it is alone, and nothing but a kernel could make it fail: see `on_device`
        self.check: Any = None  # what the session looks at when it is over
        self.in_order = True  # whether what it is given lies in memory as tapes need it
        self.peak_bytes = 0
        self._live = 0
        self._counted: set[int] = set()  # buffers that `_live` counts already
        self._held: list[int] = []  # tasks that are ready, and that the gate has not let start
        self._lock = threading.Lock()
        self._over = threading.Event()
        plan = program.plan
        self.left = {storage: entry.sharers for storage, entry in plan.storages.items()} if plan.storages else {}
        self.state = RunState(program.schedule) if program.schedule is not None else None
        self.gate: Gate | None = None
        self._limit = plan.memory_limit
        if plan.run_slot >= 0:
            values[plan.run_slot] = self

    # --- on the caller's thread

    def run_here(self, crew: Crew | None = None) -> None:
        """Runs every task on this thread: with the help of ``crew``, or in order."""
        self._begin()
        self.has_begun = True
        with np.errstate(all="ignore"):
            try:
                if not self._runs_together(crew):
                    for task in range(len(self.program.tasks)):
                        self._execute(task)
            except BaseException as error:
                self.error = error
        self._end_here()

    def _end_here(self) -> None:
        """Ends a run whose tasks were run one behind the other."""
        with self._lock:
            self._is_ending = True
        self._end()

    def _runs_together(self, crew: Crew | None) -> bool:
        """Runs all tasks with the help of ``crew``; whether that could be."""
        program = self.program
        if crew is None or program.team is None or not self.in_order or self.stop is not None or not crew.busy.acquire(blocking=False):
            return False
        try:
            program.execute_all(self.values, self, crew)
            if self.stop is not None:
                raise self.stop
            self.peak_bytes = program.team.nbytes + program.team.scratch * min(crew.count + 1, len(program.tasks))
        finally:
            crew.busy.release()
        return True

    # --- on the pools

    def run_on(self, pools: Mapping[str, Pool]) -> None:
        """Starts the run on the threads of the pools, each task on that of its device; `wait` tells when it is over."""
        self._begin()
        if self.state is None:
            tasks = self.program.plan.tasks
            pool = pools[tasks[0].device] if tasks else next(iter(pools.values()))
            pool.submit([((-self.program.plan.seconds, 0), self._run_all)])
            self.has_begun = True
            return
        with self._lock:
            if self.program.room is not None:
                self.gate = Gate(self.program.room)
            self.has_begun = self._is_spread = True
            if self.stop is not None:
                self.state.stop()
            ready = self._admitted(self.state.start())
            over = self._is_last(self.state)
        if over:
            self._end()
        self._offer(pools, ready)

    def _begin(self) -> None:
        plan, values = self.program.plan, self.values
        if plan.sections is not None:
            self.in_order = all(is_in_order(values[slot]) for _, slot in (*plan.feeds, *plan.variables))

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end; whether it has come."""
        return self._over.wait(timeout)

    def cancel(self, reason: BaseException) -> None:
        """Ends the run with ``reason``, within the time of the kernels that run now."""
        over = False
        with self._lock:
            if self.stop is None and not self._is_ending:
                self.stop = self.error = reason
                if self.state is not None and self._is_spread:
                    over = self._dropped(self.state)
        if over:
            self._end()

    def _run_all(self) -> None:
        try:
            for task in range(len(self.program.tasks)):
                self._execute(task)
        except BaseException as error:
            with self._lock:
                self.error = self.stop or error
        self._end_here()

    def _key(self, task: int) -> tuple[float, int]:
        return -self.program.plan.tasks[task].priority, task

    def _job(self, pools: Mapping[str, Pool], task: int) -> Callable[[], None]:
        return lambda: self._work(pools, task)

    def _offer(self, pools: Mapping[str, Pool], ready: Sequence[int]) -> None:
        """Gives ``ready`` to the pools of their devices. Where a pool is closed, the session was in the middle of a run: that ends then."""
        tasks = self.program.plan.tasks
        while ready:
            device = tasks[ready[0]].device
            jobs = [task for task in ready if tasks[task].device == device]
            ready = [task for task in ready if tasks[task].device != device]
            try:
                pools[device].submit([(self._key(task), self._job(pools, task)) for task in jobs])
            except RuntimeError as error:
                self._drop(error, len(jobs) + len(ready))
                return

    def _drop(self, error: BaseException, count: int) -> None:
        """Ends the run with ``error``, as ``count`` tasks that were handed out will not run."""
        state = self.state
        assert state is not None
        with self._lock:
            self.stop = self.error = self.stop or error
            over = self._dropped(state, count)
        if over:
            self._end()

    def _work(self, pools: Mapping[str, Pool], task: int) -> None:
        """Runs ``task``, then of what it made ready the most urgent on its device, and so on; the rest goes to the pools."""
        state, tasks = self.state, self.program.plan.tasks
        assert state is not None
        while True:
            ready: list[int] = []
            try:
                self._execute(task)
            except BaseException as error:
                with self._lock:
                    self.stop = self.error = self.stop or error
                    over = self._dropped(state, 1)
            else:
                with self._lock:
                    ready = self._admitted(state.finish(task))
                    over = self._is_last(state)
            if over:
                self._end()
            device = tasks[task].device
            following = next((other for other in ready if tasks[other].device == device), None)
            if len(ready) > (following is not None):
                self._offer(pools, [other for other in ready if other != following])
            if following is None:
                return
            task = following

    def _admitted(self, ready: list[int]) -> list[int]:
        """Of the tasks that are ready, and those that were before, the ones that may start now; the lock is held."""
        gate, state = self.gate, self.state
        if gate is None or state is None:
            return ready
        held = sorted([*self._held, *ready], key=self._key)
        started: list[int] = []
        for task in dict.fromkeys([*held[:TRIED], *([min(held)] if held else [])]):
            if gate.admits(task, self._live, self._new_buffers(task)):
                self._count(task)
                started.append(task)
        if held and not started and state.running == len(held):
            # Nothing runs, and for nothing is there room: a plan that keeps its word does not come here. Go on all the same.
            started = [min(held)]
            gate.start(started[0])
            self._count(started[0])
        self._held = [task for task in held if task not in started]
        return started

    def _dropped(self, state: RunState[int], tasks: int = 0) -> bool:
        """Hands nothing more out, drops ``tasks`` and those that are held; whether the run is over. The lock is held."""
        state.stop()
        for _ in range(tasks + len(self._held)):
            state.drop()
        self._held = []
        return self._is_last(state)

    def _is_last(self, state: RunState[int]) -> bool:
        """Whether the run is over and this is the first to notice, who ends it. The lock is held."""
        if self._is_ending or not state.is_over:
            return False
        self._is_ending = True
        return True

    @property
    def report(self) -> RunReport:
        return RunReport(len(self.program.tasks), self.peak_bytes)

    def _end(self) -> None:
        try:
            if self.error is None:
                self.program.has_run()  # before the caller is told, who may ask how often it has run
            self.finished(self)
        finally:
            self.values = []
            self._over.set()

    # --- one task

    def _execute(self, task: int) -> None:
        plan = self.program.plan
        entry = plan.tasks[task]
        if self.stop is not None:
            raise self.stop
        if self.gate is None:
            with self._lock:
                self._count(task)
        if entry.prepares:
            self._prepare(entry.prepares, self.program.buffers.on(entry.device))
        self._compute(task)
        if self.behind is not None:
            self.behind(task, self.values)
        with self._lock:
            self._live += entry.kept_bytes - entry.peak_bytes
        if entry.releases:
            self._release(entry.releases)
        if self._limit is not None:  # the pool may keep what is left of it
            self.program.buffers.bound(self._limit - self._live)

    def _compute(self, task: int) -> None:
        self.program.execute(task, self.values, self)

    def _count(self, task: int) -> None:
        """Counts what a task will take as alive; the lock is held."""
        entry = self.program.plan.tasks[task]
        if entry.prepares:
            self._live += self._new_buffers(task)
            self._counted.update([slot for slot, _ in entry.prepares])
        self._live += entry.peak_bytes
        self.peak_bytes = max(self.peak_bytes, self._live)
        if self._limit is not None:
            self.program.buffers.bound(self._limit - self._live)

    def _new_buffers(self, task: int) -> int:
        """Bytes of the buffers that no task before has made."""
        return sum([spec.nbytes for slot, spec in self.program.plan.tasks[task].prepares if slot not in self._counted])

    def _prepare(self, prepares: tuple[tuple[int, Any], ...], buffers: BufferPool) -> None:
        """Makes the buffers that slices are written into, unless another task was first."""
        for slot, spec in prepares:
            if self.values[slot] is None:
                with self._lock:
                    if self.values[slot] is None:
                        self.values[slot] = buffers.take(spec.shape, spec.dtype)

    def _release(self, storages: tuple[int, ...]) -> None:
        plan = self.program.plan
        for storage in storages:
            with self._lock:
                self.left[storage] -= 1
                last = not self.left[storage]
                entry = plan.storages[storage]
                if last:
                    self._live -= entry.nbytes
            if last:
                array = self.values[entry.recycles] if entry.recycles >= 0 else None
                for slot in entry.slots:
                    self.values[slot] = None
                if array is not None:
                    self.program.buffers.on(entry.device).give(array)
