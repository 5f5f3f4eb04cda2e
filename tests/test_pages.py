"""Pages: arrays of kept buffers lie one behind the other in memory on large pages, and the memory goes when the last of them does."""

import gc
import mmap
import threading
import tracemalloc
import weakref
from itertools import pairwise

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices.pages import APART_BYTES, FEWEST_BYTES, LEAST_BYTES, PAGE_BYTES, PAGES, PagedMemory, Pages
from flowgraph.session.values import is_plain

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no large pages to ask for")
FLOAT = np.dtype("float32")


def mapping_of(array):
    """The mapping that an array lies in."""
    owner = array
    while not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else owner.base
    return owner


def bounds(array):
    first = array.ctypes.data
    return first, first + array.nbytes


def test_arrays_follow_each_other_and_do_not_begin_alike_in_a_page():
    pages = Pages()
    first, second, third = (pages.empty((256, 64), FLOAT) for _ in range(3))
    assert bounds(first)[0] % PAGE_BYTES == 0
    assert bounds(second)[0] == bounds(first)[1] + APART_BYTES
    assert bounds(second)[0] % 64 == bounds(third)[0] % 64 == 0
    assert len({bounds(array)[0] % 4096 for array in (first, second, third)}) == 3
    assert all(array.flags.c_contiguous and array.flags.writeable and array.shape == (256, 64) for array in (first, second, third))


def test_small_arrays_and_those_of_objects_come_from_numpy():
    pages = Pages()
    assert pages.empty((FEWEST_BYTES // 4 - 1,), FLOAT).base is None
    assert pages.empty((FEWEST_BYTES,), np.dtype(object)).base is None
    assert pages.empty((FEWEST_BYTES // 4,), FLOAT).base is not None


def test_a_large_array_has_a_mapping_of_its_own_and_leaves_the_shared_one_as_it_is():
    pages = Pages()
    before = pages.empty((256, 64), FLOAT)
    large = pages.empty((LEAST_BYTES, 4), FLOAT)
    after = pages.empty((256, 64), FLOAT)
    assert bounds(large)[0] % PAGE_BYTES == 0
    assert bounds(after)[0] == bounds(before)[1] + APART_BYTES
    large.fill(1)
    assert large.sum() == large.size


def test_memory_lives_as_long_as_the_last_array_in_it_and_its_views():
    pages = Pages()
    first, second = (pages.empty((LEAST_BYTES // 32,), FLOAT) for _ in range(2))
    mapping = weakref.ref(mapping_of(first))
    view = second[10:]
    del first, second
    while mapping_of(pages.empty((LEAST_BYTES // 3,), np.dtype("uint8"))) is mapping():
        pass
    gc.collect()
    assert mapping() is not None
    view[:] = 7
    del view
    gc.collect()
    assert mapping() is None


def test_threads_never_get_the_same_memory():
    pages, taken = Pages(), []

    def take():
        taken.extend([pages.empty((size,), np.dtype("uint8")) for size in range(FEWEST_BYTES, FEWEST_BYTES + 200)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = sorted(map(bounds, taken))
    assert len(places) == 800
    assert all(end <= start for (_, end), (start, _) in pairwise(places))


def test_a_system_without_large_pages_is_served_by_numpy(monkeypatch):
    pages = Pages()
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert Pages().empty((FEWEST_BYTES,), FLOAT).base is None

    def refuse(*_):
        raise OSError

    monkeypatch.undo()
    monkeypatch.setattr(PagedMemory, "madvise", refuse)
    assert pages.empty((FEWEST_BYTES,), FLOAT).base is not None  # what was mapped serves
    assert pages.empty((LEAST_BYTES,), FLOAT).base is None


def test_who_traces_memory_sees_each_array():
    pages = Pages()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        array = pages.empty((1 << 20,), FLOAT)
        assert tracemalloc.get_traced_memory()[0] - before >= array.nbytes
    finally:
        tracemalloc.stop()


def test_a_runs_buffers_come_from_there():
    with fg.Graph() as graph, fg.Session(graph) as session:
        x = fg.placeholder("x", (512, 64), "float32")
        result = session.run(fg.sort(x, axis=0), {x: np.ones((512, 64), np.float32)})
    assert isinstance(mapping_of(result), mmap.mmap)
    assert result.sum() == 512 * 64


def test_a_view_keeps_its_array_and_not_the_memory_alone():
    array = Pages().empty((256, 64), FLOAT)
    assert array[1:].base is array
    assert array.reshape(-1)[3:].base is array
    assert is_plain(array)
    assert not is_plain(array[1:])
    assert not is_plain(np.frombuffer(mmap.mmap(-1, 4096), np.uint8))


def test_new_values_of_variables_stay_where_the_run_made_them_and_their_memory_is_used_again():
    with fg.Graph() as graph, fg.Session(graph) as session:
        w = fg.variable(np.ones((300, 200), np.float32), name="w")
        step = session.function([], fg.assign(w, fg.sort(w * 1.5, axis=0)))
        places = set()
        for _ in range(3):
            step()
        mapped = PAGES._mapped
        held = session.run(w)  # as who looks at a value does
        for _ in range(20):
            step()
            places.add(session.variables[w].ctypes.data)
        assert PAGES._mapped == mapped
        assert len(places) <= 4
        assert held[0, 0] == np.float32(1.5**3)
