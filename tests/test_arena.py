"""The memory of a captured graph: a place is used again by who is behind all that touched it, and by nobody else."""

import gc
from typing import Any

import numpy as np
import pytest

from flowgraph.runtime.arena import CHUNK_BYTES, Arena
from tests.stand_in import stand_in


@pytest.fixture
def cupy():
    return stand_in()


def arena_of(cupy, lanes=2, budget=2**40):
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(lanes)]
    streams[0].begin_capture()
    for stream in streams[1:]:
        stream.wait_event(streams[0].record())
    return Arena(cupy, streams, budget), streams


def array(cupy, arena, nbytes=CHUNK_BYTES):
    with cupy.cuda.using_allocator(arena.malloc):
        return cupy.empty(nbytes, np.uint8)


def where(x):
    return int(x.data.mem.ptr)


def test_a_lane_has_its_own_places_again_at_once(cupy):
    arena, _ = arena_of(cupy)
    arena.enter(0, 0, (-1, -1))
    first = where(array(cupy, arena))  # (dies at once)
    arena.enter(1, 0, (0, -1))
    assert where(array(cupy, arena)) == first and arena.nbytes == CHUNK_BYTES and arena.made == 2


def test_what_another_lane_still_reads_is_not_written(cupy):
    arena, _ = arena_of(cupy)
    arena.enter(0, 0, (-1, -1))
    x = array(cupy, arena)
    place = where(x)
    arena.enter(1, 1, (0, -1))
    arena.touch(x)
    del x
    arena.enter(2, 0, (0, -1))
    assert where(array(cupy, arena)) != place  # lane 1 may be at it
    arena.enter(3, 0, (2, 1))
    ours = array(cupy, arena), array(cupy, arena)
    assert place in map(where, ours)


def test_a_place_goes_to_another_lane_that_is_behind_it(cupy):
    arena, _ = arena_of(cupy)
    arena.enter(0, 0, (-1, -1))
    place = where(array(cupy, arena))
    arena.enter(1, 1, (-1, -1))
    other = where(array(cupy, arena))
    assert other != place
    arena.enter(2, 1, (0, 1))
    both = array(cupy, arena), array(cupy, arena)
    assert set(map(where, both)) == {place, other}


def test_beyond_the_budget_a_lane_waits_for_a_place(cupy):
    arena, streams = arena_of(cupy, budget=CHUNK_BYTES)
    arena.enter(0, 0, (-1, -1))
    place = where(array(cupy, arena))
    before = streams[1].capture.streams[streams[1]]
    with streams[0]:
        cupy.exp(cupy.ones(4))
    arena.enter(1, 1, (-1, -1))
    with streams[1]:
        assert where(array(cupy, arena)) == place
    assert streams[1].capture.streams[streams[1]] > before and arena.nbytes == CHUNK_BYTES
    arena.enter(2, 1, (-1, 1))
    assert where(array(cupy, arena)) == place  # (it has waited, and knows it)


def test_adjacent_places_become_one_and_what_is_more_stays_idle(cupy):
    arena, _ = arena_of(cupy, 1)
    arena.enter(0, 0, (-1,))
    parts = [array(cupy, arena, CHUNK_BYTES // 4) for _ in range(4)]
    assert arena.nbytes == CHUNK_BYTES and len({where(x) for x in parts}) == 4
    first = where(parts[0])
    parts.clear()
    whole = array(cupy, arena)
    assert where(whole) == first and arena.nbytes == CHUNK_BYTES
    assert array(cupy, arena, 100).size == 100 and arena.nbytes == 2 * CHUNK_BYTES


def test_views_keep_a_place_and_others_arrays_are_none_of_its(cupy):
    arena, streams = arena_of(cupy, 1)
    arena.enter(0, 0, (-1,))
    x = array(cupy, arena)
    view = x[10:20]
    del x
    assert arena.has(view) and where(array(cupy, arena)) != where(view)
    streams[0].end_capture()
    other = cupy.ones(4)
    assert not arena.has(other)
    arena.touch(other)


def test_an_arena_that_is_gone_gives_its_memory_back(cupy):
    arena, _ = arena_of(cupy)
    arena.enter(0, 0, (-1, -1))
    array(cupy, arena)
    assert cupy.gpu.total == CHUNK_BYTES
    del arena
    gc.collect()
    cupy.gpu.pool.free_all_blocks()
    assert cupy.gpu.total == 0


@pytest.mark.parametrize("seed", range(10))
def test_no_two_arrays_share_bytes_and_no_lane_gets_what_it_is_not_behind(seed, cupy):
    rng = np.random.default_rng(seed)
    arena, _ = arena_of(cupy, 3)
    clocks = [[-1] * 3 for _ in range(3)]
    alive: list[Any] = []
    touched: dict[tuple[int, int], list[int]] = {}
    for step in range(300):
        lane = int(rng.integers(3))
        if rng.random() < 0.2:
            other = int(rng.integers(3))
            clocks[lane] = [max(pair) for pair in zip(clocks[lane], clocks[other], strict=True)]
        arena.enter(step, lane, clocks[lane])
        for x in alive:
            if rng.random() < 0.1:
                arena.touch(x)
                touched[where(x), x.nbytes][lane] = step
        made = array(cupy, arena, int(rng.integers(1, CHUNK_BYTES)))
        start, stop = where(made), where(made) + made.nbytes
        for (begin, size), steps in list(touched.items()):
            if begin < stop and start < begin + size:
                assert all(at <= clocks[lane][other] or other == lane for other, at in enumerate(steps))
                if start <= begin and begin + size <= stop:
                    del touched[begin, size]
        assert all(where(x) >= stop or where(x) + x.nbytes <= start for x in alive)
        touched[start, made.nbytes] = [step if other == lane else -1 for other in range(3)]
        alive.append(made)
        if len(alive) > 12:
            del alive[int(rng.integers(12))]
        del made
        clocks[lane][lane] = step
    assert arena.nbytes < 40 * CHUNK_BYTES
