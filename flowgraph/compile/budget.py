"""Budget: an order of the units in which less memory is alive at once, and the error where no order stays below a limit.

Finding the best order is NP-hard (Sethi 1975), so a few simple rules each make one, and the one with the lowest peak is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count

from ..errors import MemoryLimitError
from ..graph.report import blamed_line, where
from ..graph.spec import format_spec
from ..graph.text import format_bytes
from .lower import Lowering
from .memory import Memory, transient_bytes
from .plan import Plan, Unit

# So many tensors an error lists.
LISTED = 6

# How urgent a ready unit is, by the bytes that running it adds and by how many units were ready before it: less is more urgent.
Rule = Callable[[int, int], tuple[int, ...]]

RULES: tuple[Rule, ...] = (
    lambda net, turn: (net, -turn),  # what frees most; of equals what became ready last, so that a branch is gone through to its end
    lambda net, turn: (net > 0, -turn),  # anything that adds nothing; else what became ready last
)


class Demands:
    """What each unit of a lowering adds to memory and takes from it, in any order: storages, who touches them, and their bytes."""

    def __init__(self, lowering: Lowering) -> None:
        plan, memory = lowering.plan, Memory(lowering)
        roots = memory.roots()
        permanent = memory.kept | memory.outside
        self.units: Sequence[Unit] = plan.units
        self.after = lowering.waits()
        self.nbytes = [0] * plan.slots  # of each storage, once it is made
        self.touched: list[tuple[int, ...]] = []  # by each unit: storages
        self.users: list[list[int]] = [[] for _ in range(plan.slots)]  # of each storage: units, none where it stays to the end
        self.makes: list[tuple[int, ...]] = []  # by each unit, unless another slice has: storages
        for index, unit in enumerate(self.units):
            slots = [*unit.inputs, unit.output, *([unit.buffer] if unit.buffer >= 0 else [])]
            storages = tuple(dict.fromkeys(roots[slot] for slot in slots))
            self.touched.append(storages)
            made = [roots[slot] for slot in (unit.buffer, *unit.writes) if slot in lowering.buffers]
            for slot in made:
                self.nbytes[slot] = lowering.buffers[slot].nbytes
            if unit.bytes_made:
                made.append(roots[unit.output])
                self.nbytes[roots[unit.output]] += unit.bytes_made
            self.makes.append(tuple(made))
            for storage in storages:
                if storage not in permanent:
                    self.users[storage].append(index)

    def order(self, rule: Rule) -> list[int]:
        """The units as ``rule`` picks them, of those that are ready."""
        state = Progress(self)
        waiting = [len(befores) for befores in self.after]
        readers: list[list[int]] = [[] for _ in self.units]
        for index, befores in enumerate(self.after):
            for before in befores:
                readers[before].append(index)
        turns = count(1)
        turn = {index: 0 for index, missing in enumerate(waiting) if not missing}
        heap = [(rule(state.net(index), 0), index) for index in turn]
        heapify(heap)
        order: list[int] = []
        while heap:
            key, index = heappop(heap)
            if state.done[index]:
                continue
            now = rule(state.net(index), turn[index])
            if now > key:  # it was more urgent than it is
                heappush(heap, (now, index))
                continue
            changed = state.run(index)
            order.append(index)
            moment = next(turns)
            for reader in readers[index]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    turn[reader] = moment
                    heappush(heap, (rule(state.net(reader), moment), reader))
            for other in changed:  # what may have become more urgent
                if other in turn and not state.done[other]:
                    heappush(heap, (rule(state.net(other), turn[other]), other))
        return order

    def peak(self, order: Sequence[int]) -> int:
        """Most bytes alive at once in that order."""
        state, peak = Progress(self), 0
        for index in order:
            peak = max(peak, state.live + state.added(index) + transient_bytes(self.units[index]))
            state.run(index)
        return peak


class Progress:
    """What is alive when some of the units have run."""

    def __init__(self, demands: Demands) -> None:
        self.demands = demands
        self.live = 0
        self.done = bytearray(len(demands.units))
        self._made = bytearray(len(demands.users))
        self._left = [len(users) for users in demands.users]

    def added(self, index: int) -> int:
        """Bytes that a unit would make."""
        return sum(self.demands.nbytes[storage] for storage in self.demands.makes[index] if not self._made[storage])

    def net(self, index: int) -> int:
        """Bytes that are more, or less, once it has run."""
        freed = sum(self.demands.nbytes[storage] for storage in self.demands.touched[index] if self._left[storage] == 1)
        return self.added(index) - freed

    def run(self, index: int) -> list[int]:
        """Runs a unit; returns others for which less is left to do than there was."""
        demands = self.demands
        changed: list[int] = []
        self.live += self.net(index)
        self.done[index] = 1
        for storage in demands.makes[index]:
            if not self._made[storage]:
                self._made[storage] = 1
                changed += demands.users[storage]
        for storage in demands.touched[index]:
            if self._left[storage]:
                self._left[storage] -= 1
                if self._left[storage] == 1:
                    changed += [user for user in demands.users[storage] if not self.done[user]]
        return changed


def save_memory(lowering: Lowering) -> None:
    """Puts the units into the order with the lowest peak of those that the rules make, and the one that they are in."""
    demands = Demands(lowering)
    usual = list(range(len(demands.units)))
    orders = [usual, *[demands.order(rule) for rule in RULES]]
    peaks = [demands.peak(order) for order in orders]
    best = orders[peaks.index(min(peaks))]
    if best is not usual:
        lowering.reorder(best)


def check_limit(plan: Plan, limit: int) -> None:
    """raises MemoryLimitError where the plan takes more than ``limit`` bytes, with the largest tensors that are alive then."""
    if plan.peak_bytes <= limit:
        return
    alive, during = alive_at_peak(plan)
    rows = [("while", f"{during.node.name} runs, made at {where(during.node.location)}")] if during is not None else []
    largest = sorted(alive, key=lambda entry: -entry[0])
    for nbytes, unit, what in largest[:LISTED]:
        rows.append((format_bytes(nbytes), f"{what}   {unit.node.name}, made at {where(unit.node.location)}"))
    if len(largest) > LISTED:
        rows.append((format_bytes(sum(entry[0] for entry in largest[LISTED:])), f"{len(largest) - LISTED} more"))
    error = MemoryLimitError(
        f"the run would take {format_bytes(plan.peak_bytes)}, in the best order that was found, and the limit is {format_bytes(limit)}",
        rows=rows,
        help='feed a smaller batch, or compute values again for the gradient instead of keeping them: fg.gradients(..., recompute="sqrt")',
        blamed=blamed_line(largest[0][1].node) if largest else None,
    )
    error.needed = plan.peak_bytes
    raise error


def alive_at_peak(plan: Plan) -> tuple[list[tuple[int, Unit, str]], Unit | None]:
    """What is alive when most is, as (bytes, unit that makes it, what it is), and the unit that runs then."""
    live: dict[int, tuple[int, Unit, str]] = {}
    writers = {slot: unit for unit in reversed(plan.units) for slot in (unit.buffer, *unit.writes) if slot >= 0}
    left = {storage: entry.sharers for storage, entry in plan.storages.items()}
    total, most = 0, -1
    found: list[tuple[int, Unit, str]] = []
    during: Unit | None = None
    for task in plan.tasks:
        for slot, spec in task.prepares:
            if slot not in live:
                live[slot] = (spec.nbytes, writers[slot], format_spec(spec.shape, spec.dtype))
                total += spec.nbytes
        for unit in task.units:
            if unit.bytes_made:
                what = "all results of" if unit.spec is None else format_spec(unit.spec.shape, unit.spec.dtype)
                live[unit.output] = (unit.bytes_made, unit, what)
                total += unit.bytes_made
            scratch = transient_bytes(unit)
            if total + scratch > most:
                most, during = total + scratch, unit
                found = [*live.values(), *([(scratch, unit, "while it runs")] if scratch else [])]
            total -= _dropped(live, unit.frees)
        for storage in task.releases:
            left[storage] -= 1
            if not left[storage]:
                total -= _dropped(live, plan.storages[storage].slots)
    return found, during


def _dropped(live: dict[int, tuple[int, Unit, str]], slots: Sequence[int]) -> int:
    """Takes ``slots`` out of what is alive; their bytes."""
    return sum(live.pop(slot)[0] for slot in slots if slot in live)
