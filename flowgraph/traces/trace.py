"""Trace: what runs did, for people. It is recorded by a session, or loaded from a file, and hands each question to the module for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from ..errors import ArgumentError, UnknownNameError
from ..graph import Node, Tensor
from ..graph.arguments import as_count, as_flag, counted
from ..graph.node import FUNCTIONS
from ..runtime import Recording
from .ceilings import ceilings as measured
from .chrome import read, written
from .data import PlanData, RunData
from .gather import Gathered, members_of
from .lifetimes import curve, of_run
from .memory import MemoryTimeline, timeline
from .predict import Prediction, predict
from .summary import Summary, bytes_told, summary
from .waits import Account, Waits
from .why import Why, matching, why

KEPT = 1000
# Runs whose marks on GPUs still stand for times: what they take there is not waited for while others go on.
UNSETTLED = 16


class Trace:
    """What the runs within ``with session.trace() as t`` did: every task and kernel, when it ran, on which thread, and why not sooner.

    keep   how many runs are kept; of more, the last ones
    runs   those that are over, in the order in which they were asked for
    plans  what they ran, sub-graphs among them

    >>> x = fg.placeholder("x", (200, 200), "float64")
    >>> with session.trace() as t:
    ...     y = session.run(fg.sum(x @ x), {x: np.ones((200, 200))})
    >>> t
    <Trace of 1 run: 2 kernels in 1 task>
    """

    def __init__(self, runs: Any = None, keep: int = KEPT, by_kernel: bool = False) -> None:
        self._recorded, self.keep, self.by_kernel = runs, as_count(keep, "Trace: keep", 1), as_flag(by_kernel, "Trace: by_kernel")
        self._let_go = 0  # runs that are not kept any more
        self._zero = time.perf_counter()
        self._recordings: list[Recording] = []  # that are not among the runs yet
        self._gathered = Gathered()
        self._runs: list[RunData] = []
        self._plans: Sequence[PlanData] = self._gathered.plans
        self._lock = threading.Lock()  # guards `_recordings` and `_runs`

    def __enter__(self) -> Trace:
        if self._recorded is None:
            raise ArgumentError("Trace: nothing records in this one any more", help="with session.trace() as t: ...")
        self._recorded.trace(self, True)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._recorded.trace(self, False)
        self._recorded = None

    def add(self, recording: Recording) -> None:
        """Takes in a run that begins."""
        with self._lock:
            self._recordings.append(recording)
            if len(self._recordings) + len(self._runs) > self.keep:
                (self._runs or self._recordings).pop(0)
                self._let_go += 1
            for each in self._recordings[-2 * UNSETTLED : -UNSETTLED]:
                if each.over:
                    each.settle()

    @property
    def runs(self) -> list[RunData]:
        """The runs that are over."""
        with self._lock:
            while self._recordings and self._recordings[0].over:
                self._runs.append(self._gathered.run(self._recordings.pop(0), self._let_go + len(self._runs), self._zero))
            return list(self._runs)

    @property
    def plans(self) -> list[PlanData]:
        """The plans that ran, those of sub-graphs among them."""
        _ = self.runs
        return list(self._plans)

    def run(self, number: int | None = None) -> RunData:
        """The run of that number; without one, the one that took the median time of those of the plan that took longest in all."""
        runs = self.runs
        if not runs:
            raise ArgumentError("Trace: no run is over", help="with session.trace() as t: session.run(...)")
        if number is not None:
            found = next((run for run in runs if run.number == number), None)
            if found is None:
                raise ArgumentError(f"Trace: the number of a run is from {runs[0].number} to {runs[-1].number}, got {number!r:.60}")
            return found
        alike = self.alike()
        return sorted(alike, key=lambda run: run.seconds)[(len(alike) - 1) // 2]

    def alike(self) -> list[RunData]:
        """The runs of the plan that took longest in all, without those that failed where others did not."""
        by_plan: dict[int, list[RunData]] = {}
        for run in self.runs:
            by_plan.setdefault(run.plan.number, []).append(run)
        runs = max(by_plan.values(), key=lambda runs: sum(run.seconds for run in runs))
        return [run for run in runs if not run.error] or runs

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        runs = self.runs
        kernels, tasks = sum(len(run.spans) for run in runs), sum(len(run.tasks) for run in runs)
        return f"<Trace of {counted(len(runs), 'run')}: {counted(kernels, 'kernel')} in {counted(tasks, 'task')}>"

    # --- questions

    def summary(self, by: str = "op", *, ceilings: bool = True) -> Summary:
        """What took the time, how fast it was, and what bounds the run; print it.

        by        "op", "scope", "line" or "node"
        ceilings  whether to compare with what this machine can do: measured once, in about a second, and kept

        >>> x = fg.placeholder("x", (300, 300), "float64")
        >>> with session.trace() as t:
        ...     y = session.run(x @ x @ x, {x: np.ones((300, 300))})
        >>> t.summary(ceilings=False)["matmul"].flops
        108000000.0
        """
        return summary(self._some_runs(), self.plans, self.alike(), by, measured() if ceilings else None)

    @overload
    def why(self, name: str | Node | Tensor, run: int | None = None) -> Why: ...
    @overload
    def why(self, name: None = None, run: int | None = None) -> Account: ...
    def why(self, name: Any = None, run: int | None = None) -> Why | Account:
        """What a node waited for, step by step from the begin of the run on; without a name, where all the threads' time went. Print it.

        name    of a node, or the end of it, as long as it is one of the run
        run     the number of a run; by itself the usual one
        raises  UnknownNameError for a name that is none

        >>> x = fg.placeholder("x", (), "float64")
        >>> y = fg.tanh(fg.exp(x))
        >>> with session.trace() as t:
        ...     value = session.run(y, {x: 0.0})
        >>> [step.kernel for step in t.why("tanh").steps]
        ['exp', 'tanh']
        """
        if name is None:
            return Waits(self._some_runs() if run is None else [self.run(run)]).account()
        if not isinstance(name, str):
            name = name.name if isinstance(name, Node) else name.node.name if isinstance(name, Tensor) else repr(name)
        chosen = self.run(run)
        if run is None and not _has(chosen, name):
            chosen = next((each for each in self.runs if _has(each, name)), chosen)
        return why(chosen, self.runs, name)

    def predict(
        self,
        threads: Any = None,
        *,
        devices: Any = None,
        link: Any = "memory",
        faster: Mapping[str, float] | None = None,
        priority: Any = None,
        batch: int | None = None,
    ) -> Prediction:
        """How long the usual run would take elsewhere, by the recorded costs and the scheduler's own rules; print it, or draw it.

        threads   a number, or a list of them; by itself 1, 2, 4, 8 and 16
        devices   to place the tasks on: how many, their names, or how much faster each is than the recorded one
        link      bytes a second between devices, as a number, as text ("12 GB/s"), or a kind: memory, pcie3, pcie4, pcie5, nvlink
        faster    op, node, scope or line -> how many times as fast it is
        priority  which of the tasks that are ready goes first: "path" (longest remaining path, by the recorded times), "order",
                  "shortest", "longest", "memory", or a function of a task; by itself what the plan says
        batch     another size of the dimension of the feeds that was left open when the graph was built: each kernel's work grows with
                  it as its op says

        >>> x = fg.placeholder("x", (), "float64")
        >>> with session.trace() as t:
        ...     value = session.run(fg.exp(x), {x: 0.0})
        >>> [forecast.label for forecast in t.predict(threads=[1, 2]).forecasts]
        ['1', '2']
        """
        self._some_runs()
        return predict(self.alike(), self.plans, threads, devices, link, faster, priority, batch)

    def gantt(self, file: str | os.PathLike[str] | None = None, *, run: int | None = None, format: str | None = None) -> Any:
        """A picture of what ran when on which thread, with the memory below it, and what the end of the run waited for.

        file     ends in .svg, .png, .pdf (by matplotlib), or .html: one page with all runs, to zoom and search
        run      the number of a run; by itself the usual one
        returns  the path; without a file a `flowgraph.viz.Drawing`, which a notebook shows

        >>> x = fg.placeholder("x", (), "float64")
        >>> with session.trace() as t:
        ...     value = session.run(fg.exp(x), {x: 0.0})
        >>> t.gantt("run.svg")
        PosixPath('run.svg')
        """
        return FUNCTIONS["draw_gantt"](self, file, run=run, format=format)

    def memory(self, run: int | None = None) -> MemoryTimeline:
        """What a run held in memory from when to when, what was there at the peak, and what for; print it, or draw it.

        run  the number of a run; by itself the usual one

        >>> x = fg.placeholder("x", (1000,), "float64")
        >>> with session.trace() as t:
        ...     value = session.run(fg.sort(fg.sort(x)), {x: np.ones(1000)})
        >>> memory = t.memory()
        >>> memory.peak, memory.at_peak[0].name
        (16000, 'sort')
        """
        return timeline(self.run(run))

    def _repr_svg_(self) -> str | None:
        """What a notebook shows."""
        return str(self.gantt()) if self.runs else None

    def _some_runs(self) -> list[RunData]:
        self.run()  # raises where there is none
        return [run for run in self.runs if not run.error] or self.runs

    def __str__(self) -> str:
        if not self.runs:
            return repr(self)
        runs = self._some_runs()
        whole = summary(runs, self.plans, self.alike(), "op", None)
        peak = max(nbytes for _, nbytes in curve(of_run(self.run())) or [(0.0, 0)])
        failed = [f"run {run.number} ended with {run.error}" for run in self.runs if run.error]
        return "\n".join([str(whole), "", str(whole.account), bytes_told(peak, self.run().plan.peak_bytes), *failed])

    # --- files

    def save(self, file: str | os.PathLike[str]) -> Path:
        """Writes the trace as JSON that Perfetto (ui.perfetto.dev) and Chrome open, and `Trace.load` reads. Returns the path."""
        path = _path(file)
        path.write_text(self.save_text(), "utf-8")
        return path

    def save_text(self) -> str:
        """What `save` writes."""
        return written(self.runs, self.plans)

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Trace:
        """The trace in a file that `save` wrote. raises FileFormatError for any other file.

        >>> x = fg.placeholder("x", (), "float64")
        >>> with session.trace() as t:
        ...     y = session.run(fg.exp(x), {x: 1.0})
        >>> fg.Trace.load(t.save("run.json"))
        <Trace of 1 run: 1 kernel in 1 task>
        """
        trace = cls()
        trace._runs, trace._plans = read(_path(file))
        return trace

    # --- for drawings

    def nodes(self, plan: PlanData) -> list[Sequence[Node]]:
        """For each kernel of a plan the nodes of the graph that it computes. Not of a trace that was loaded: that has no graph."""
        return members_of(self._gathered.nodes[plan.number]) if self._gathered.nodes else []


def _has(run: RunData, name: str) -> bool:
    try:
        return bool(matching(run, name))
    except UnknownNameError:
        return False


def _path(file: Any) -> Path:
    if not isinstance(file, str | os.PathLike):
        raise ArgumentError(f"Trace: the path of a file is expected, got {file!r:.80}", help='for example "run.json"')
    return Path(file)
