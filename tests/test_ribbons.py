"""Ribbons: stretches of very large plans run as tapes that are made from columns, with the bits of their kernels."""

import gc
import random
import tracemalloc
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.compile import ribbon
from flowgraph.runtime import program
from flowgraph.runtime.strip import Strip

pytest.importorskip("llvmlite")

MAKING: list[Any] = [fg.add, fg.maximum, fg.minimum, fg.subtract, lambda a, b: -a, lambda a, b: fg.maximum(a, a)]
WITHOUT_LOOPS = ("algebra", "fold", "common")


def random_graph(size, seed=0, shapes=((16,),), last=None):
    """A graph of ``size`` nodes and more, of which each reads one or two of the last; its placeholders, and what needs most of it."""
    draw = random.Random(seed)
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{k}", shape, "float32") for k, shape in enumerate(shapes)]
        tensors = [*inputs]
        for _ in range(size):
            a, b = draw.choice(tensors[-40:]), draw.choice(tensors[-40:])
            tensors.append(draw.choice(MAKING)(a, b))
        total = tensors[-1]
        for each in tensors[-40:-1]:
            total = fg.maximum(total, each)
    return graph, inputs, total if last is None else last(total, tensors)


@contextmanager
def counting(patch):
    """Within it any plan is very large; gives a list with an entry for each stretch that has run: whether it ran as tapes."""
    followed: list[bool] = []
    follow = Strip.follow

    def counted(self, values, run):
        followed.append(follow(self, values, run))
        return followed[-1]

    patch.setattr(program, "GENERATED_UNITS", 0)
    patch.setattr(Strip, "follow", counted)
    yield followed


def values_of(inputs, seed=0):
    draw = np.random.default_rng(seed)
    return {tensor: draw.standard_normal(tensor.shape).astype("f4") for tensor in inputs}


def test_a_node_of_a_large_graph_takes_less_than_450_bytes_with_its_plan(monkeypatch):
    def kept_bytes(size):
        """What is kept of a graph, its plan and its first run."""
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        graph, inputs, y = random_graph(size)
        with fg.Session(graph, passes=WITHOUT_LOOPS) as session:
            session.run(y, values_of(inputs))
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - before

    with counting(monkeypatch) as followed:
        tracemalloc.start()
        try:
            kept_bytes(1_000)  # (what is loaded and compiled once)
            assert kept_bytes(15_000) < 450 * 15_000
        finally:
            tracemalloc.stop()
    assert all(followed)


@pytest.mark.parametrize("seed", range(8))
def test_ribbons_give_the_bits_of_kernels_called_one_by_one(seed):
    graph, inputs, y = random_graph(900, seed, shapes=((16,), (3, 16), (3, 1)))
    feeds = values_of(inputs)
    with fg.Session(graph, jit=False) as session:
        expected = session.run(y, feeds)
    with pytest.MonkeyPatch.context() as patch, counting(patch) as followed, fg.Session(graph, passes=WITHOUT_LOOPS) as session:
        for _ in range(3):
            assert session.run(y, feeds).tobytes() == expected.tobytes()
        assert len(followed) >= 3 and all(followed)
        assert session.plan(y, {x: x.shape for x in inputs}).units.chunks  # no unit has become an object


def test_a_ribbon_hands_on_what_is_read_behind_it(monkeypatch):
    graph, inputs, y = random_graph(600, last=lambda total, tensors: [fg.sort(total), tensors[300], fg.sum(total)])
    feeds = values_of(inputs)
    with fg.Session(graph, jit=False) as session:
        expected = session.run(y, feeds)
    with counting(monkeypatch) as followed, fg.Session(graph, passes=WITHOUT_LOOPS) as session:
        for have, want in zip(session.run(y, feeds), expected, strict=True):
            assert have.tobytes() == want.tobytes()
        assert followed == [True]


def test_what_does_not_lie_in_c_order_runs_kernel_by_kernel(monkeypatch):
    graph, inputs, y = random_graph(600)
    (x,) = inputs
    wide = np.arange(32, dtype="f4")
    with counting(monkeypatch) as followed, fg.Session(graph, passes=WITHOUT_LOOPS) as session:
        even = session.run(y, {x: wide[::2]})
        assert not any(followed)
        assert session.run(y, {x: wide[::2].copy()}).tobytes() == even.tobytes()
        assert followed[-1]


@pytest.mark.parametrize("op", [fg.floor_divide, fg.sort])
def test_what_may_fail_or_has_no_inner_loop_is_called_from_python(monkeypatch, op):
    with fg.Graph() as graph:
        y = x = fg.placeholder("x", (4,), "int64")
        for k in range(600):
            y = (fg.floor_divide(y, x) if op is fg.floor_divide else fg.sort(y)) if k == 300 else y + x
    with fg.Session(graph, jit=False) as session:
        expected = session.run(y, {x: [4, 3, 2, 1]})
    with counting(monkeypatch) as followed, fg.Session(graph, passes=WITHOUT_LOOPS) as session:
        np.testing.assert_array_equal(session.run(y, {x: [4, 3, 2, 1]}), expected)
        assert followed == ([False] if op is fg.floor_divide else [True, True])


def test_a_run_ends_between_two_tapes_of_a_ribbon(monkeypatch):
    monkeypatch.setattr(ribbon, "LONGEST_SECONDS", 100 * 50e-9)
    graph, inputs, y = random_graph(600)
    with counting(monkeypatch), fg.Session(graph, passes=WITHOUT_LOOPS) as session:
        feeds = values_of(inputs)
        session.run(y, feeds)
        strip = next(piece for piece in session._programs.values()[0].tasks[0] if isinstance(piece, Strip))
        assert strip._tapes is not None
        made, calls = strip._tapes
        assert len(calls) == 6

        class Stopped:
            stop = None

        def stopping(*arrays):
            Stopped.stop = fg.RunCancelledError("enough")

        late = []
        strip.__dict__["_tapes"] = made, [calls[0], stopping, lambda *arrays: late.append(arrays)]
        values = [None] * session.plan(y, {x: x.shape for x in inputs}).slots
        for (_, slot), array in zip(session.plan(y, {x: x.shape for x in inputs}).feeds, feeds.values(), strict=True):
            values[slot] = array
        with pytest.raises(fg.RunCancelledError, match="enough"):
            strip.follow(values, cast(Any, Stopped))
        assert not late
        assert session.memory.idle_bytes == made.arena  # what it had taken is back


@pytest.mark.parametrize(("step", "expected"), [(0, True), (4, False)])
def test_arrays_of_ever_other_sizes_do_not_lie_in_one_piece(monkeypatch, step, expected):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{k}", (16 + step * k,), "float32") for k in range(200)]
        chains = []
        for y in inputs:  # one chain behind the other, so that few arrays are alive at once
            for _ in range(12):
                y = -y
            chains.append(y)
        y = fg.max(fg.stack([fg.max(each) for each in chains]))
    with counting(monkeypatch) as followed, fg.Session(graph, passes=()) as session:
        assert session.run(y, {x: np.full(x.shape, 3, "f4") for x in inputs}) == 3
        assert followed == [expected]
