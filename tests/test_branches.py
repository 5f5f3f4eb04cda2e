"""Captured graphs with branches, over the stand-in: the bits are those of kernels one by one, and no wait is without need."""

import gc
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices.cuda import Cuda
from flowgraph.ops.elementwise.exponential import Exp
from flowgraph.runtime import arena, capture, lanes
from flowgraph.runtime.lanes import START
from tests.stand_in import Race, standing_in
from tests.test_cuda import MIXED, launches, lenet, mlp, recurrent, rows, train


@pytest.fixture
def spread(monkeypatch):
    """Each kernel goes where it can start first, however little that saves."""
    for name, value in {"HOP_SECONDS": 0.0, "WORTH": -1.0, "WORTH_SECONDS": -1.0}.items():
        monkeypatch.setattr(lanes, name, value)


def wide(chains=6, length=4):
    x = fg.placeholder("x", (8, 8))
    ends = []
    for i in range(chains):
        y = x
        for _ in range(length):
            y = fg.tanh(y @ fg.variable(rows(8, 8, seed=i), name=f"w{i}"))
        ends.append(y)
    return [sum(ends[1:], ends[0])], {x: rows(8, 8, seed=99)}


def swap():
    """Two variables take each other's value, views of one among them, and a third counts."""
    a, b = fg.variable(rows(4, 4), name="a"), fg.variable(rows(4, 4, seed=1), name="b")
    count = fg.variable(np.float32(0), name="count")
    x = fg.placeholder("x", (4, 4))
    seen = fg.sum(fg.tanh(fg.exp(a) @ x)) + fg.sum(fg.tanh(fg.exp(b) @ x))
    turned, doubled = fg.permute_dims(b, (1, 0)), fg.exp(a) * 0.5
    with fg.control_dependencies([seen, turned, doubled]):
        update = fg.group([fg.assign(a, turned), fg.assign(b, doubled), fg.assign(count, count + seen)])
    return [seen, update], {x: rows(4, 4, seed=2)}


def notes(graph_of, cupy, runs=4, **options):
    """The notes of captures, and the results of each run."""
    with fg.Graph() as graph:
        fetches, feeds = graph_of()
    with fg.Session(graph, device="cuda:0", jit=False, **options) as session:
        results = [[np.asarray(x) for x in session.run(fetches, feeds) if x is not None] for _ in range(runs)]
        plan = session.plan(fetches, {x: value.shape for x, value in feeds.items()})
        return [note for note in plan.notes if note.startswith("capture")], results


def test_a_wide_graph_is_captured_in_branches(cupy):
    said, results = notes(wide, cupy)
    assert said == ["capture: cuda:0 replays 53 kernels as one graph, of 6 branches"]
    assert len(launches(cupy)) == 3
    for result in results:
        assert result[0].tobytes() == results[0][0].tobytes()


def test_a_chain_is_captured_as_a_chain(cupy):
    said, _ = notes(lambda: wide(1, 10), cupy)
    assert said == ["capture: cuda:0 replays 20 kernels as one graph"]
    assert not [what for what in cupy.gpu.log if what[0] in ("wait", "record") and what[-1] not in ("stream1", "stream2")]


def test_who_asks_for_a_chain_gets_one(cupy):
    said, results = notes(wide, cupy, capture="serial")
    assert said == ["capture: cuda:0 replays 53 kernels as one graph"] and len(launches(cupy)) == 3
    assert results[3][0].tobytes() == notes(wide, cupy)[1][3][0].tobytes()
    with pytest.raises(fg.ArgumentError, match="got 'parallel'"):
        fg.Session(capture="parallel")


@pytest.mark.parametrize("network", [wide, swap, mlp, lenet, recurrent])
def test_bits_are_those_of_kernels_one_by_one(network, cupy, spread):
    ours, theirs = train(network, ["cuda:0"], steps=6), train(network, ["cuda:0"], steps=6, capture=False)
    assert len(launches(cupy)) == 5
    for a, b in zip(ours, theirs, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("network", [mlp, lenet])
def test_bits_with_loops_are_those_of_kernels_one_by_one(network, cupy, spread):
    ours, theirs = train(network, ["cuda:0"], steps=4, jit=None), train(network, ["cuda:0"], steps=4, jit=None, capture=False)
    for a, b in zip(ours, theirs, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("seed", range(12))
def test_bits_of_a_random_program_are_those_of_kernels_one_by_one(seed, cupy, spread):
    def network():
        rng = np.random.default_rng(seed)
        x = fg.placeholder("x", (16, 16))
        made: list[Any] = [x, fg.variable(rows(16, 16, seed=seed) / 16, name="w"), fg.variable(rows(16, 16) / 16, name="v")]
        for _ in range(14):
            a, b = rng.integers(len(made), size=2)
            made.append([*MIXED[:3], MIXED[4], lambda a, b: a + fg.permute_dims(b, (1, 0))][rng.integers(5)](made[a], made[b]))
        loss = fg.mean(fg.square(fg.tanh(made[-1]))) + fg.mean(fg.stack([fg.mean(t) for t in made[1:]]))
        return [loss, fg.optim.SGD(0.1, momentum=0.9).minimize(loss)], {x: rows(16, 16, seed=seed + 7)}

    ours, theirs = train(network, ["cuda:0"]), train(network, ["cuda:0"], capture=False)
    assert launches(cupy)
    for a, b in zip(ours, theirs, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("network", "every"), [(wide, 1), (swap, 1), (mlp, 7)])
def test_without_any_one_of_the_waits_there_is_a_race_or_no_capture(network, every, monkeypatch):
    of = lanes.lanes_of
    dropped, numbered, is_alone = 0, [(0, 0)], []

    def fewer(steps, most):
        found = of(steps, most)
        is_alone.append(most == 1)
        if most > 1:
            numbered[:] = [(index, step) for index, waits in enumerate(found.waits) for step in waits if step != START]
            waits = [tuple(step for step in each if (i, step) != numbered[dropped]) for i, each in enumerate(found.waits)]
            found = found._replace(waits=waits)
        return found

    monkeypatch.setattr(capture, "lanes_of", fewer)
    if network is not wide:
        for name, value in {"HOP_SECONDS": 0.0, "WORTH": -1.0, "WORTH_SECONDS": -1.0}.items():
            monkeypatch.setattr(lanes, name, value)
    while dropped < len(numbered):
        is_alone.clear()
        with standing_in() as cupy:
            try:
                train(network, ["cuda:0"], steps=3)
            except (Race, fg.ExecutionError):
                cupy.gpu.races.clear()
            else:
                assert any(is_alone)  # a lane whose first wait is left out takes no part in the capture
        dropped += every
    assert dropped > 3


def test_memory_that_is_used_again_too_early_is_a_race(cupy, spread, monkeypatch):
    monkeypatch.setattr(arena.Arena, "_is_free", lambda self, place: True)
    with pytest.raises((Race, fg.ExecutionError)):
        train(mlp, ["cuda:0"])


def test_lanes_wait_for_memory_where_more_would_be_too_much(cupy, spread, monkeypatch):
    class Small(arena.Arena):
        def __init__(self, cupy, lanes, budget):
            super().__init__(cupy, lanes, budget=0)
            made.append(self)

    made: list[Any] = []
    plenty = train(lenet, ["cuda:0"], steps=5)
    monkeypatch.setattr(capture, "Arena", Small)
    monkeypatch.setattr(arena, "CHUNK_BYTES", 512)
    few = train(lenet, ["cuda:0"], steps=5)
    assert made and any(step > -1 for waited in made[0]._waited for step in waited)
    for a, b in zip(plenty, few, strict=True):
        assert a.tobytes() == b.tobytes()


def test_where_branches_cannot_be_captured_one_stream_is(cupy, monkeypatch):
    of = Cuda.lanes
    monkeypatch.setattr(Cuda, "lanes", lambda self, count: of(self, count) if count == 1 else 1 / 0)
    said, results = notes(wide, cupy)
    assert said == ["capture: cuda:0 replays 53 kernels as one graph"] and len(launches(cupy)) == 3
    assert results[0][0].tobytes() == results[3][0].tobytes()


def test_where_nothing_can_be_captured_the_plan_says_so(cupy, monkeypatch):
    monkeypatch.setattr("tests.stand_in.Stream.begin_capture", lambda self, mode=None: 1 / 0)
    said, results = notes(wide, cupy)
    assert said == ["capture: not on cuda:0: division by zero"] and not launches(cupy)
    assert results[0][0].tobytes() == results[3][0].tobytes()


def test_a_kernel_that_gives_what_it_was_given_is_captured_on_one_stream(cupy, spread, monkeypatch):
    """Others would have to wait for who writes that memory, which the plan does not tell."""
    monkeypatch.setattr(Exp, "bind_for", lambda self, xp, attrs, *inputs: lambda x, **out: x)
    said, _ = notes(swap, cupy)
    assert said == [said[0]] and said[0].endswith("kernels as one graph")


def test_what_a_graph_holds_goes_with_its_session():
    with standing_in() as cupy, fg.Graph() as graph:
        fetches, feeds = wide()
        session = fg.Session(graph, device="cuda:0", jit=False)
        for _ in range(3):
            session.run(fetches, feeds)
        assert launches(cupy)
        session.close()
        del session
        gc.collect()
        cupy.gpu.pool.free_all_blocks()
        assert cupy.gpu.total == 0
