"""Chaos: runs whose tasks come in an order of somebody's choice, or at random and with delays. Their bits must be those of any other run.

The decision is the schedule's (`RunState.urgency`, `hurried`); here it is carried out, and what comes of a run is hashed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .digest import Digests, digest, left_by
from .pool import Pool
from .program import Program
from .run import Run
from .schedule import RunState

# The longest of the delays put before and behind tasks. Most are much shorter, or none.
DELAY_SECONDS = 1e-3


@dataclass
class Outcome:
    """What came of a run: hashes that can be compared with another's.

    order    tasks as they began; ``ended``: how many had begun when each of them ended, where several ran at once
    tasks    task -> hash of what it left behind
    results  of each fetched value and then each update
    error    the kind of error that it ended with, empty for none; ``failure``: that itself
    """

    order: list[int] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)
    tasks: dict[int, bytes] = field(default_factory=dict)
    results: list[bytes | None] = field(default_factory=list)
    error: str = ""
    failure: BaseException | None = None

    def differs(self, other: Outcome) -> bool:
        """Whether anything is not equal, bit by bit; the order does not count."""
        return (self.tasks, self.results, self.error) != (other.tasks, other.results, other.error)


class ChaosRun(Run):
    """A run that takes ready tasks in a random order, and waits before and behind some."""

    def __init__(self, program: Program, values: list[Any], finished: Callable[[Run], None], seed: int) -> None:
        super().__init__(program, values, finished)
        self.begun: list[int] = []
        self.done: dict[int, int] = {}
        chance = random.Random(seed)
        count = len(program.plan.tasks)
        self._keys = [chance.random() for _ in range(count)]
        self._delays = [chance.random() ** 4 * DELAY_SECONDS * (chance.random() < 0.5) for _ in range(2 * count)]
        if program.schedule is not None:
            self.state = RunState(program.schedule, self._keys.__getitem__)

    def _key(self, task: int) -> tuple[float, int]:
        return self._keys[task], task

    def _compute(self, task: int) -> None:
        self.begun.append(task)
        if self._delays[2 * task]:
            time.sleep(self._delays[2 * task])
        super()._compute(task)
        self.done[task] = len(self.begun)
        if self._delays[2 * task + 1]:
            time.sleep(self._delays[2 * task + 1])


class OrderedRun(Run):
    """A run on the caller's thread, in an order that it is given."""

    def run_in(self, order: Iterable[int]) -> None:
        self._begin()
        with np.errstate(all="ignore"):
            try:
                for task in order:
                    self._execute(task)
            except BaseException as error:
                self.error = error
        self._end_here()


class Orders:
    """Runs one program with the same values again and again, in different orders.

    values  gives the values of a run at its start, each time the same
    """

    def __init__(self, program: Program, values: Callable[[], list[Any]]) -> None:
        self.program, self.values = program, values
        self._left = left_by(program.plan)
        self._runs = 0

    def in_order(self, order: Sequence[int]) -> Outcome:
        """What comes of a run on this thread, in the order of ``order``."""
        outcome = Outcome(list(order))
        run = OrderedRun(self.program, self.values(), self._ending(outcome))
        with self._noted(run, outcome):
            run.run_in(order)
        return outcome

    def at_random(self, seed: int, pools: Mapping[str, Pool]) -> Outcome:
        """What comes of a run on the threads of ``pools``, in a random order and with delays."""
        outcome = Outcome()
        over = threading.Event()
        end = self._ending(outcome)

        def ended(run: Run) -> None:
            end(run)
            over.set()

        run = ChaosRun(self.program, self.values(), ended, seed)
        with self._noted(run, outcome):
            run.run_on(pools)
            over.wait()
        outcome.order, outcome.ended = run.begun, run.done
        return outcome

    @contextmanager
    def _noted(self, run: Run, outcome: Outcome) -> Iterator[None]:
        digests = Digests(self._left, self.program.buffers.home)
        run.behind, outcome.tasks = digests, digests.of_task
        self._runs += 1
        # Else a kernel that runs too early would read from a kept buffer what the run before has left there, which is right.
        with self.program.buffers.spoiled((0x5F, 0xFF, 0x3C)[self._runs % 3]):
            yield

    def _ending(self, outcome: Outcome) -> Callable[[Run], None]:
        plan, home = self.program.plan, self.program.buffers.home

        def ended(run: Run) -> None:
            if run.error is not None:
                outcome.error, outcome.failure = type(run.error).__name__, run.error
                return
            slots = [*plan.fetches, *[slot for _, slot in plan.updates]]
            outcome.results = [None if slot < 0 else digest(home(run.values[slot])) for slot in slots]

        return ended


def random_order(after: Sequence[Sequence[int]], seed: int) -> list[int]:
    """An order of tasks, each behind those that it waits for, chosen at random.

    >>> random_order([[], [], [0], [1, 2]], 3)
    [0, 1, 2, 3]
    """
    chance = random.Random(seed)
    waiting = {task: set(befores) for task, befores in enumerate(after)}
    ready = [task for task, befores in waiting.items() if not befores]
    order = []
    while ready:
        task = ready.pop(chance.randrange(len(ready)))
        order.append(task)
        for other, befores in waiting.items():
            if task in befores:
                befores.discard(task)
                if not befores:
                    ready.append(other)
    return order


def one_by_one(outcome: Outcome, after: Sequence[Sequence[int]], seed: int) -> list[int]:
    """An order for one thread that a run on several may stand for: of tasks that ran at the same time either may be the first.

    >>> overlapping = Outcome([0, 1, 2], {0: 2, 1: 2, 2: 3})  # 1 began before 0 had ended
    >>> sorted({tuple(one_by_one(overlapping, [[], [], [0, 1]], seed)) for seed in range(9)})
    [(0, 1, 2), (1, 0, 2)]
    """
    place = {task: number for number, task in enumerate(outcome.order)}
    rest = [task for task in range(len(after)) if task not in place]  # an error came before
    place.update({task: len(place) + number for number, task in enumerate(rest)})
    behind = [list(befores) for befores in after]
    for task, number in place.items():
        behind[task] += [other for other, ended in outcome.ended.items() if other != task and ended <= number]
    return random_order(behind, seed)


def shrunk(items: Sequence[Any], fails: Callable[[Sequence[Any]], bool]) -> list[Any]:
    """A part of ``items``, in their order, that still ``fails`` and of which no one item can be left out (delta debugging).

    source  A. Zeller, R. Hildebrandt: Simplifying and isolating failure-inducing input, 2002

    >>> shrunk(range(100), lambda part: 17 in part and 93 in part)
    [17, 93]
    """
    items, pieces = list(items), 2
    if fails([]):
        return []
    while len(items) > 1:
        size = -(-len(items) // pieces)
        starts = range(0, len(items), size)
        for start in starts:
            part = [*items[:start], *items[start + size :]]
            if fails(part):
                items, pieces = part, max(pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            pieces = min(2 * pieces, len(items))
    return items


def nearest(order: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """An order that still ``fails`` and is as near to 0, 1, 2... as exchanging neighbours leads to."""
    order = list(order)
    moved = True
    while moved:
        moved = False
        for place in range(len(order) - 1):
            if order[place] > order[place + 1]:
                exchanged = [*order[:place], order[place + 1], order[place], *order[place + 2 :]]
                if fails(exchanged):
                    order, moved = exchanged, True
    return order
