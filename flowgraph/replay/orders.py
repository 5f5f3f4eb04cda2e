"""Orders: a request run in many orders of its tasks, whose bits are compared; one that differs is made as small as can be."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..compile import Plan
from ..errors import ArgumentError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..graph.report import where
from ..runtime import Program
from ..runtime.chaos import Orders, Outcome, nearest, one_by_one, random_order, shrunk
from ..runtime.pool import Pool
from ..runtime.schedule import Schedule, hurried
from ..session import Session
from ..session.recorder import RecordedRun
from .record import save_record

# What is done in the rounds, by turns: one task after the other is run as soon as it may, tasks come at random, or on so many threads.
HURRY, RANDOM = 0, 1
# So many orders on one thread are tried that a run on several may stand for.
TRIES = 20
ROUNDS = (HURRY, 2, HURRY, 4, RANDOM, 8, HURRY, 16)


@dataclass(frozen=True)
class OrderReport:
    """What orders have come to. Printing it says what was tried and, where an order gave something else, which and how.

    rounds    orders tried
    tasks     how many the plan has
    order     the smallest order found that gives other bits, as task numbers; empty where none does
    found     the order that was found first
    pairs     (early, late): neighbours in ``order`` that must not be exchanged as they are
    said      what is otherwise, in words
    """

    rounds: int
    tasks: int
    order: tuple[int, ...] = ()
    found: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    said: str = ""

    @property
    def is_same(self) -> bool:
        """Whether all orders gave the same bits."""
        return not self.said

    def __str__(self) -> str:
        tried = f"{self.rounds} order{'s' * (self.rounds != 1)} of {self.tasks} task{'s' * (self.tasks != 1)}"
        return f"{tried}: the same bits in all" if self.is_same else f"{tried}: {self.said}"


def check_orders(
    session: Session,
    fetches: Any,
    feeds: Mapping[Tensor, Any] | None = None,
    *,
    rounds: int | None = None,
    seed: int = 0,
    record: str | os.PathLike[str] | None = None,
) -> OrderReport:
    """Runs a request in many orders, at random on one thread, and on 2 to 16 with delays, and compares what each task makes, bit by bit.

    rounds   how many orders; None for three times as many as tasks, at least 16 and at most 100. With three times as many, each task
             is also run as soon as it may, by which a dependency that is missing shows
    seed     of the random numbers
    record   where to write a record of an order that gives other bits, made small: ``flowgraph replay`` runs it again with ``verify order``
    returns  a report; print it
    raises   what a run of the request raises in its usual order

    No variable is written. It is how the engine tests itself; with ops of your own (`flowgraph.custom_op`) it tells whether their
    functions keep to what they are given.

    >>> x = fg.placeholder("x", (600, 600))
    >>> total = sum(fg.sum(fg.matmul(x + k, x)) for k in range(4))
    >>> with fg.Session(graph) as many:
    ...     print(fg.replay.check_orders(many, total, {x: np.ones((600, 600), np.float32)}, rounds=4))
    4 orders of 11 tasks: the same bits in all
    """
    rounds = None if rounds is None else as_count(rounds, "check_orders: rounds", 1)
    if not isinstance(session, Session):
        raise ArgumentError(f"check_orders: a session is expected, got {session!r:.80}", help="check_orders(session, y, {x: array})")
    if not session.host_only:
        raise ArgumentError("check_orders: only on the host can orders be compared", help='Session(device="cpu:0")')
    program, arrays, given = session._to_be_run(fetches, feeds)
    rounds = min(max(16, 3 * len(program.plan.tasks)), 100) if rounds is None else rounds
    orders = Orders(program, given.copy)
    usual = orders.in_order(range(len(program.plan.tasks)))
    if usual.failure is not None:
        raise usual.failure
    tried, failed = _tried(orders, program, usual, rounds, seed, [device.name for device in session.devices])
    if failed is None:
        return OrderReport(tried, len(program.plan.tasks))
    report = _explained(orders, program, usual, failed, tried)
    if record is not None:
        _save(session, program, arrays, given, orders.in_order(report.order or failed.order), record)
    return report


def _tried(orders: Orders, program: Program, usual: Outcome, rounds: int, seed: int, devices: Sequence[str]) -> tuple[int, Outcome | None]:
    """How many orders were run until one gave something else, and that one."""
    after, chance = _after(program), random.Random(seed)
    early = chance.sample(range(len(after)), len(after))
    for number in range(rounds):
        kind = ROUNDS[number % len(ROUNDS)]
        if kind == HURRY and program.schedule is not None:
            early.append(early.pop(0))
            outcome = orders.in_order(hurried(program.schedule, early[-1:]))
        elif kind in (HURRY, RANDOM) or program.schedule is None:
            outcome = orders.in_order(random_order(after, seed + number))
        else:
            pools = {device: Pool(kind, "flowgraph-chaos", alone=False) for device in devices}
            try:
                outcome = orders.at_random(seed + number, pools)
            finally:
                for pool in pools.values():
                    pool.close()
        if outcome.differs(usual):
            return number + 1, outcome
    return rounds, None


def _after(program: Program) -> list[list[int]]:
    """For each task those that it waits for, as the schedule has it."""
    after: list[list[int]] = [[] for _ in program.plan.tasks]
    if program.schedule is not None:
        for task, readers in program.schedule.readers.items():
            for reader in readers:
                after[reader].append(task)
    return after


def _explained(orders: Orders, program: Program, usual: Outcome, failed: Outcome, tried: int) -> OrderReport:
    """The report on an order that gave something else, made as small as can be."""
    count, after = len(program.plan.tasks), _after(program)
    schedule: Schedule[int] = program.schedule or Schedule({task: after[task] for task in range(count)})

    def fails(order: Sequence[int]) -> bool:
        return _is_allowed(order, after) and orders.in_order(order).differs(usual)

    # Of tasks that ran at the same time on several threads either may be the one to blame.
    for seed in range(TRIES):
        start = one_by_one(failed, after, seed)
        if fails(start):
            early = shrunk(start, lambda first: fails(hurried(schedule, first)))
            small = nearest(hurried(schedule, early), fails)
            pairs = tuple((a, b) for a, b in pairwise(small) if a > b)
            said = _said(program, usual, orders.in_order(small), small, pairs)
            return OrderReport(tried, count, tuple(small), tuple(failed.order), pairs, said)
    said = f"{difference(program.plan, usual, failed)}, but not with one task at a time: they disturb each other"
    return OrderReport(tried, count, (), tuple(failed.order), (), said)


def _is_allowed(order: Sequence[int], after: Sequence[Sequence[int]]) -> bool:
    place = {task: number for number, task in enumerate(order)}
    return all(place[before] < place[task] for task in order for before in after[task])


def difference(plan: Plan, usual: Outcome, other: Outcome) -> str:
    """In what another run of a plan first differs from the usual one."""
    if other.error:
        return f"a run ended with {other.error}"
    first = next((task for task in sorted(other.tasks) if other.tasks[task] != usual.tasks.get(task)), None)
    return "a result has other bits" if first is None else f"{_named(plan, first)} makes something else"


def _said(program: Program, usual: Outcome, other: Outcome, order: Sequence[int], pairs: Sequence[tuple[int, int]]) -> str:
    text = [difference(program.plan, usual, other)]
    for early, late in pairs:
        text.append(f"when {_named(program.plan, early)} runs before {_named(program.plan, late)}, for which nothing makes it wait")
    return "\n  ".join([*text, f"order {' '.join(map(str, order))}"])


def _named(plan: Plan, task: int) -> str:
    units = plan.tasks[task].units
    names = ", ".join(dict.fromkeys(str(unit) for unit in units[:3])) + (", ..." if len(units) > 3 else "")
    return f"task {task} ({names}, {where(units[0].node.location)})"


def _save(
    session: Session, program: Program, arrays: Sequence[Any], given: Sequence[Any], outcome: Outcome, path: str | os.PathLike[str]
) -> None:
    plan = program.plan
    run = RecordedRun(
        number=int(given[plan.run_key][1]) if plan.run_key >= 0 else 0,
        seed=session.seed,
        fetches=plan.request.fetches,
        feeds={tensor: array for (tensor, _), array in zip(plan.feeds, arrays, strict=True)},
        plan=plan,
        memory_limit=plan.request.memory_limit,
        variables={node: given[slot] for node, slot in plan.variables},
        order=outcome.order,
        tasks=outcome.tasks,
        error=outcome.error,
    )
    if not outcome.error:
        run.fetched = outcome.results[: len(plan.fetches)]
        updated = outcome.results[len(plan.fetches) :]
        run.updated = {node.name: made for (node, _), made in zip(plan.updates, updated, strict=True) if made is not None}
    save_record(session, [run], path)
