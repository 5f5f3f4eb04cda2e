"""The memory of a captured graph: what its kernels make lies here, and a place is used again behind all that touched it.

CuPy's pool would give memory of a lane to the next kernel of that lane, also while kernels of other lanes still read it. Here each place
knows the last step of each lane that touched it, and goes to a lane that is behind these, whichever made it. Where more memory than
``budget`` would be taken, a lane waits for the others to have their places.

Nothing goes back to the device before the graph does, which writes into it in each launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

ALIGNMENT = 512
# At least so much is taken from the device at once.
CHUNK_BYTES = 2**18


class Place:
    """Adjacent bytes: idle, or of one array.

    touched  for each lane the last step that touched it
    """

    __slots__ = ("address", "chunk", "is_idle", "size", "touched")

    def __init__(self, chunk: Chunk, address: int, size: int, touched: list[int]) -> None:
        self.chunk, self.address, self.size, self.touched, self.is_idle = chunk, address, size, touched, True


class Chunk:
    """What the device gave at once: its places by address, and how many bytes of them are idle."""

    __slots__ = ("idle", "memory", "places")

    def __init__(self, memory: Any, touched: list[int]) -> None:
        self.memory, self.idle = memory, memory.size
        self.places = [Place(self, memory.ptr, memory.size, touched)]


class Arena:
    """The memory of one graph: handed out while that is captured, and kept as long as it lives.

    lanes   streams
    budget  bytes beyond which lanes wait for each other rather than take more
    made    number of arrays so far
    """

    def __init__(self, cupy: Any, lanes: Sequence[Any], budget: int) -> None:
        self._cupy, self._lanes, self._budget = cupy, lanes, budget
        self._pool = cupy.cuda.MemoryPool()
        self._chunks: list[Chunk] = []
        self._given: dict[int, list[Place]] = {}  # size -> places of arrays that have died; some are no more, or taken again
        self._arrays: dict[int, Place] = {}  # address -> the place of an array
        self._step, self._lane = -1, 0
        self._known: list[int] = []
        self._latest = [-1] * len(lanes)  # the last step of each lane
        self._waited = [[-1] * len(lanes) for _ in lanes]  # for each lane, the steps that it has waited for, to have their places
        self.nbytes = self.made = 0

    def enter(self, step: int, lane: int, known: Sequence[int]) -> None:
        """What comes now is asked for by a step on ``lane``, which is behind the steps ``known`` of the lanes."""
        self._step, self._lane = step, lane
        self._known = [max(pair) for pair in zip(known, self._waited[lane], strict=True)]
        self._latest[lane] = step

    def touch(self, array: Any) -> None:
        """Notes that the step reads or writes an array, which may be another's than this arena's."""
        place = self._arrays.get(array.data.mem.ptr)
        if place is not None:
            place.touched[self._lane] = self._step

    def has(self, array: Any) -> bool:
        """Whether an array lies here."""
        return array.data.mem.ptr in self._arrays

    def malloc(self, nbytes: int) -> Any:
        """Memory for an array, for the step: what CuPy takes as an allocator."""
        size = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        place = self._again(size) or self._found(size, self._is_free) or self._taken(size)
        place.is_idle = False
        place.chunk.idle -= size
        place.touched = [-1] * len(self._lanes)
        place.touched[self._lane] = self._step
        self._arrays[place.address] = place
        self.made += 1
        memory = self._cupy.cuda.UnownedMemory(place.address, size, _Loan(self, place), place.chunk.memory.device_id)
        return self._cupy.cuda.MemoryPointer(memory, 0)

    def give(self, place: Place) -> None:
        """Takes back the place of an array that has died."""
        del self._arrays[place.address]
        place.is_idle = True
        place.chunk.idle += place.size
        self._given.setdefault(place.size, []).append(place)

    def _is_free(self, place: Place) -> bool:
        """Whether the lane may write there as things are."""
        return all(step <= self._known[lane] or lane == self._lane for lane, step in enumerate(place.touched))

    def _taken(self, size: int) -> Place:
        """A place in more memory of the device; beyond the budget, one for which the lane waits, where there is any."""
        if self.nbytes + size > self._budget:
            place = self._found(size, lambda place: True)
            if place is not None:
                self._wait(place)
                return place
        memory = self._pool.malloc(max(size, CHUNK_BYTES)).mem
        self.nbytes += memory.size
        self._chunks.append(Chunk(memory, [-1] * len(self._lanes)))
        return _cut(self._chunks[-1], 0, size)

    def _wait(self, place: Place) -> None:
        """Lets the lane wait for those that touched a place."""
        waited = self._waited[self._lane]
        for other, step in enumerate(place.touched):
            if other != self._lane and step > self._known[other]:
                self._lanes[self._lane].wait_event(self._lanes[other].record())
                self._known[other] = waited[other] = self._latest[other]

    def _again(self, size: int) -> Place | None:
        """A place of exactly that size which had an array, as most have."""
        given = self._given.get(size, [])
        for index in range(len(given) - 1, -1, -1):
            place = given[index]
            if not place.is_idle or place.size != size:
                del given[index]
            elif self._is_free(place):
                del given[index]
                return place
        return None

    def _found(self, size: int, suits: Callable[[Place], bool]) -> Place | None:
        """A place among adjacent idle ones that suit: where the fewest bytes are together of those that suffice."""
        best: tuple[int, Chunk, int] | None = None
        for chunk in self._chunks:
            if chunk.idle < size:
                continue
            first, total = 0, 0
            for index, place in enumerate([*chunk.places, None]):
                if place is not None and place.is_idle and suits(place):
                    total += place.size
                    continue
                if total >= size and (best is None or total < best[0]):
                    best = total, chunk, first
                first, total = index + 1, 0
        return None if best is None else _cut(best[1], best[2], size)


class _Loan:
    """What an array and its views hold on to."""

    __slots__ = ("_arena", "_place")

    def __init__(self, arena: Arena, place: Place) -> None:
        self._arena, self._place = arena, place

    def __del__(self) -> None:
        self._arena.give(self._place)


def _cut(chunk: Chunk, first: int, size: int) -> Place:
    """The first ``size`` bytes from an idle place on, as one place."""
    places, total, end = chunk.places, 0, first
    while total < size:
        total += places[end].size
        end += 1
    parts = places[first:end]
    place = Place(chunk, parts[0].address, size, [max(steps) for steps in zip(*[part.touched for part in parts], strict=True)])
    rest = [Place(chunk, place.address + size, total - size, list(parts[-1].touched))] if total > size else []
    for part in parts:
        part.is_idle = False  # (it is no more)
    places[first:end] = [place, *rest]
    return place
