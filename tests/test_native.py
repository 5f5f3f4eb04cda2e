"""Stretches of kernels that run as one call of machine code: the same bits as kernels one by one, on arrays in any order."""

import importlib
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.compile.section import Section
from flowgraph.compile.team import team_of
from flowgraph.devices import HOST
from flowgraph.jit.kernels import bare, compiled
from flowgraph.jit.tape import Tape, helper, place, team_call
from flowgraph.jit.ufuncs import Code, code_of
from flowgraph.runtime import turning
from flowgraph.runtime.memory import Buffers
from flowgraph.runtime.turning import Turning

llvm = pytest.importorskip("llvmlite")
F4, F8 = np.dtype("float32"), np.dtype("float64")


def network(x, y):
    """Products, views, broadcasts, sums between them, of small matrices."""
    a = fg.tanh(x) @ y
    b = a * x + y
    c = b.T @ x
    d = fg.exp(-c * c)
    e = d + x[0]
    f = fg.sum(e) * 2.0
    return [a, e, f * f, d @ y.T, fg.sum(fg.sqrt(abs(b) + 1) @ c, axis=0), fg.reshape(b, (2, -1)) * 3.0]


def numbers(u, v):
    """Of shape ()."""
    w = u * v + u
    z = fg.sin(w) * v
    for _ in range(9):
        z = fg.maximum(z / w - u, z) * u
    return [w, z]


def spread(u, v):
    """Along both axes."""
    w = u * v + v
    return [w, fg.minimum(fg.cos(w) * v, u) + w]


R = np.random.default_rng(0)
SQUARES = R.standard_normal((2, 8, 8)).astype("f4")


class Own(np.ndarray):
    """Somebody's own kind of array."""


CASES = {
    "small matrices": (network, list(SQUARES)),
    "in Fortran's order": (network, [np.asfortranarray(SQUARES[0]), SQUARES[1]]),
    "backwards": (network, [SQUARES[0][::-1], SQUARES[1].T]),
    "of a class of its own": (network, [SQUARES[0].view(Own), SQUARES[1]]),
    "not aligned": (network, [np.frombuffer(b"-" + SQUARES[0].tobytes(), "f4", offset=1).reshape(8, 8), SQUARES[1]]),
    "numbers": (numbers, [np.float64(2), np.float64(3)]),
    "broadcast": (spread, [R.standard_normal((5, 1)), R.standard_normal((1, 4))]),
}


@pytest.mark.parametrize("name", CASES)
def test_runs_behind_the_first_have_its_bits_and_kinds_whatever_lies_how_in_memory(name):
    build, feeds = CASES[name]
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", feed.shape, feed.dtype) for i, feed in enumerate(feeds)]
        results = build(*inputs)
    with fg.Session(graph, threads=2, passes=("algebra",)) as session:
        call = session.function(inputs, results)
        runs = [call(*feeds) for _ in range(3)] + [session.run(results, dict(zip(inputs, feeds, strict=True))) for _ in range(3)]
        assert "native_0(" in call.source()
    for run in runs[1:]:
        assert [(type(x), x.tobytes()) for x in run] == [(type(x), x.tobytes()) for x in runs[0]]


def test_one_call_serves_a_stretch_and_plan_and_source_say_which_kernels_are_in_it():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4, 4), "float32")
        y = fg.exp(fg.sin(x @ x) + x) * x
    with fg.Session(graph, threads=1, passes=()) as session:
        call = session.function([x], y)
        for _ in range(3):
            call(np.eye(4, dtype="f4"))
    assert "one call of 5 kernels:" in str(call.plan())
    lines = [line.strip().partition("  #")[0].rstrip() for line in call.source().splitlines()]
    start = lines.index("# 5 kernels as one call of machine code:")
    assert lines[start - 1 : start + 9] == [
        "s5 = new_0()",
        "# 5 kernels as one call of machine code:",
        "#   s1 = matmul(s0, s0)",
        "#   s2 = sin(s1)",
        "#   s3 = add(s2, s0)",
        "#   s4 = exp(s3)",
        "#   s5 = multiply(s4, s0)",
        "native_0(s0, s5)",
        "except not_in_order:",
        "return otherwise(a0)",
    ]


def test_what_was_summed_as_a_broadcast_goes_back_is_read_by_a_stretch():
    with fg.Graph() as graph:
        x, b = fg.placeholder("x", (8, 4), "float32"), fg.placeholder("b", (4,), "float32")
        (g,) = fg.gradients(fg.sum(fg.sin(x + b)), [b])  # may be a view, where nothing is summed
        y = ((g * 2 + b) * g - b) / (g + 3)
    with fg.Session(graph, threads=1) as session:
        text = session.function([x, b], y).source()
    assert "6 kernels as one call of machine code" in text and "native_0(s4, " in text


@pytest.mark.parametrize("options", [{"jit": False}, {"memory_limit": "1MB"}], ids=str)
def test_without_a_compiler_and_under_a_memory_limit_kernels_are_called_one_by_one(options):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4, 4), "float32")
        y = fg.exp(fg.sin(x @ x) + x) * x
    with fg.Session(graph, threads=1, passes=(), **options) as session:
        assert "native_0" not in session.function([x], y).source()


def test_a_kernel_that_may_fail_is_in_no_stretch_and_its_error_names_the_node():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "int64")
        y = fg.pow((x + x) * x - x + x * x, x)
    with fg.Session(graph, threads=1, passes=()) as session:
        call = session.function([x], y)
        for _ in range(3):
            np.testing.assert_array_equal(call(np.array([1, 2, 0])), [2, 100, 1])
            with pytest.raises(fg.ExecutionError, match="pow"):
                call(np.array([1, -2, 0]))
        source = call.source()
    assert "native_0(" in source
    assert "pow" in source.partition("native_0(")[2]


@pytest.mark.parametrize("how", ["given", "set", "drawn"])
def test_a_variable_lies_in_c_order_however_its_value_was_made(how):
    value = np.asfortranarray(SQUARES[0, :4])
    with fg.Graph() as graph:
        w = fg.variable({"given": value, "set": SQUARES[0, :4], "drawn": fg.init.orthogonal((4, 8))}[how], name="w")
        y = fg.exp(fg.sin(w @ w.T) @ w + w) * w
        step = fg.assign(w, w * 0.5)
    with fg.Session(graph, threads=1, passes=()) as session:
        if how == "set":
            session.variables["w"] = value
        call = session.function([], y)
        assert session.variables["w"].flags.c_contiguous
        runs = [call().tobytes() for _ in range(3)]
        assert len(set(runs)) == 1
        session.run(step)
        assert call().tobytes() == call().tobytes() != runs[0]


def test_the_turns_of_a_loop_run_as_calls_too():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4, 4), "float32")
        last, ys = fg.scan(lambda c, turn: (fg.tanh(c @ x + c) * x - c, c @ c), x, length=9)
    for passes in [(), ("algebra", "fold", "common", "fuse")]:
        with fg.Session(graph, threads=2, passes=passes) as session:
            assert "one call of" in str(session.plan([last, ys], {x: (4, 4)})) or passes
            for feed in [SQUARES[0][:4, :4].copy(), SQUARES[0][:4, :4].T]:
                runs = {tuple(r.tobytes() for r in session.run([last, ys], {x: feed})) for _ in range(3)}
                assert len(runs) == 1


def test_a_loop_of_numpy_is_found_by_its_dtypes_and_a_tape_has_its_bits():
    add, product = code_of(np.add, (F8,) * 3), code_of(np.matmul, (F8,) * 3)
    assert add != code_of(np.add, (F4,) * 3) and code_of(np.add, (F4, F8, F8)) is None and code_of(np.divmod, (F8,) * 4) is None
    x, y = R.standard_normal((2, 5, 5))
    made = Tape()
    assert add is not None and product is not None
    rows = (40, 8)
    made.add(product, [place(1), place(2), place(3)], (1, 5, 5, 5), (0, 0, 0, *rows, *rows[::-1], *rows))
    made.add(add, [place(3), place(1), place(3)], (5,), (8, 8, 8), 5, (40, 40, 40))  # row by row
    call = made.call(lambda *arrays: "refused", with_lock=False)
    out = np.empty((5, 5))
    assert call(x, y, out) is out
    assert out.tobytes() == (x @ y.T + x).tobytes()
    assert call(x.T, y, out) == call(x, y, [0.0]) == "refused"


def test_a_loop_that_is_cut_by_rows_goes_through_all_its_turns_in_one_call():
    random = np.random.default_rng(1)
    feeds = [random.standard_normal((128, 9, 8)).astype("f4"), np.tile(np.arange(2), 64)]
    with fg.Graph() as graph:
        x = fg.placeholder("x", (128, 9, 8), "float32")
        labels = fg.placeholder("labels", (128,), "int64")
        lstm = fg.nn.LSTM(8, 128)
        dense = fg.nn.Linear(128, 2)
        loss = fg.mean(fg.nn.softmax_cross_entropy(dense(lstm(x)[:, -1]), labels))
        train = fg.optim.SGD(0.1).minimize(loss)
        parameters = [lstm.w, lstm.u, lstm.b, dense.w, dense.b]
    learnt = []
    for threads, limit in [(2, None), (1, None), (2, "1GB")]:  # under a limit kernels are called one by one
        with fg.Session(graph, threads=threads, memory_limit=limit) as session:
            call = session.function([x, labels], [loss, train])
            losses = [call(*feeds)[0].tobytes() for _ in range(4)]
            learnt.append((losses, [value.tobytes() for value in session.run(parameters)]))
            lines = call.source().splitlines()
        calls = [number for number, line in enumerate(lines) if line.strip() == "# 1 kernel as one call of machine code:"]
        assert sum(" = scan(" in lines[number + 1] for number in calls) == (0 if limit else 4)
    assert learnt[0] == learnt[1] == learnt[2]


def training():
    """A step of a network whose products are cut: the graph, its inputs, outputs, parameters and feeds."""
    random = np.random.default_rng(2)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (128, 400), "float32")
        labels = fg.placeholder("labels", (128,), "int64")
        first, last = fg.nn.Linear(400, 600), fg.nn.Linear(600, 10)
        loss = fg.mean(fg.nn.softmax_cross_entropy(last(fg.nn.relu(first(x))), labels))
        train = fg.optim.SGD(0.1).minimize(loss)
    feeds = [random.standard_normal((128, 400)).astype("f4"), random.integers(0, 10, 128)]
    return graph, [x, labels], [loss, train], [first.w, first.b, last.w, last.b], feeds


def crew_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("flowgraph-crew")]


def test_threads_that_work_off_tasks_together_learn_the_bits_of_one_and_end_with_the_session():
    graph, inputs, outputs, parameters, feeds = training()
    learnt = []
    for threads, limit in [(2, None), (1, None), (4, None), (2, "1GB")]:
        with fg.Session(graph, threads=threads, memory_limit=limit) as session:
            call = session.function(inputs, outputs)
            losses = [call(*feeds)[0].tobytes() for _ in range(30)]
            learnt.append((losses, [value.tobytes() for value in session.run(parameters)]))
            together = session._runs.crew.is_possible and limit is None
            assert ("several threads work off together" in call.source()) == together
            assert len(crew_threads()) == (min(threads, len(os.sched_getaffinity(0))) - 1 if together else 0)
        assert not crew_threads()
    assert learnt[0] == learnt[1] == learnt[2] == learnt[3]
    assert learnt[0][0][0] != learnt[0][0][-1]


ON_ONE_PROCESSOR = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.path.insert(0, sys.argv[1])
import flowgraph as fg, test_native
graph, inputs, outputs, parameters, feeds = test_native.training()
with fg.Session(graph, threads=4) as session:
    call = session.function(inputs, outputs)
    print([call(*feeds)[0].tobytes() for _ in range(5)], test_native.crew_threads())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not let a process choose its processors")
def test_on_one_processor_nobody_helps_and_the_bits_are_those_of_several():
    graph, inputs, outputs, _, feeds = training()
    with fg.Session(graph, threads=2) as session:
        call = session.function(inputs, outputs)
        losses = [call(*feeds)[0].tobytes() for _ in range(5)]
    command = [sys.executable, "-c", ON_ONE_PROCESSOR, os.path.dirname(__file__)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == f"{losses} []"


def images():
    """A training step of a network of convolutions with batch norm and pooling."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (32, 3, 24, 24), "float32")
        random = np.random.default_rng(0)
        w, v = (fg.variable(random.standard_normal(shape).astype("f4") / 5) for shape in ((32, 3, 3, 3), (32, 32, 3, 3)))
        h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.batch_norm(fg.nn.conv2d(x, w, padding=1), fg.variable(np.ones(32, "f4")))[0]), 2)
        h = fg.nn.avg_pool2d(fg.nn.batch_norm(fg.nn.conv2d(h, v, padding=1), fg.variable(np.ones(32, "f4")))[0], 2)
        loss = fg.mean(fg.square(h) * h)
        train = fg.optim.SGD(0.01).minimize(loss)
    return graph, x, [loss, train], random.standard_normal((32, 3, 24, 24)).astype("f4")


def test_convolutions_and_what_goes_with_them_are_worked_off_together_with_the_bits_of_kernels_one_by_one():
    graph, x, fetches, feed = images()
    learnt = []
    for threads in (1, 2, 3):
        for is_traced in (False, True):
            with fg.Session(graph, threads=threads) as session:
                call = session.function([x], fetches)
                with session.trace() if is_traced else nullcontext():
                    losses = [call(feed)[0].tobytes() for _ in range(4)]
                learnt.append((losses, [value.tobytes() for value in session.variables.values()]))
                assert ("several threads work off together" in call.source()) == session._runs.crew.is_possible
    assert all(run == learnt[0] for run in learnt)
    assert learnt[0][0][0] != learnt[0][0][-1]


def test_a_kernel_that_finds_no_memory_to_work_in_is_an_error_also_where_it_is_part_of_a_stretch(monkeypatch):
    conv = importlib.import_module("flowgraph.jit.conv")
    usual = conv._Conv.__init__

    def greedy(self, *given):
        usual(self, *given)
        self.scratch = 2**56

    monkeypatch.setattr(conv._Conv, "__init__", greedy)
    arrays = [np.zeros(shape, "f4") for shape in ((2, 3, 8, 8), (4, 3, 3, 3), (2, 4, 6, 6))]
    kernel = compiled(conv.Conv(conv.Convolution(F4, (3, 8, 8), (4, 3, 3))))
    with pytest.raises(MemoryError):
        kernel(*arrays)
    short = np.zeros(1, np.int64)
    section = Section([], short=short)
    section.tape.add(Code(bare(kernel), short.ctypes.data, short), [place(1), place(2), place(3)], (2,), ())
    call = section.bind(lambda *arrays: "refused")
    for _ in range(2):
        with pytest.raises(MemoryError, match="a kernel found no memory to work in"):
            call(*arrays)


def test_memory_that_was_short_in_a_stretch_ends_the_run_and_writes_nothing(monkeypatch):
    graph, x, fetches, feed = images()
    with fg.Session(graph, threads=2) as session:
        call = session.function([x], fetches)

        def watched(self, run):
            def short(*arrays):
                run(*arrays)
                raise MemoryError("a kernel found no memory to work in")

            return short

        monkeypatch.setattr(Section, "watched", watched)
        before = [value.tobytes() for value in session.variables.values()]
        with pytest.raises(MemoryError, match="a kernel found no memory to work in"):
            call(feed)
            before = [value.tobytes() for value in session.variables.values()]
            call(feed)
        assert [value.tobytes() for value in session.variables.values()] == before


def test_what_several_tasks_fill_lies_where_others_have_been_read_to_the_end():
    graph, x, fetches, _ = images()
    with fg.Session(graph, threads=2) as session:
        plan = session.plan(fetches, {x: x.shape})
        team = team_of(plan)
    assert team is not None
    assert team.stands
    assert not {slot for slot, _, _ in team.makes} & set(team.stands)
    assert set(team.stands.values()) <= {slot for slot, _, _ in team.makes}
    assert not {*plan.fetches, *[slot for _, slot in plan.updates]} & {*team.stands, *team.stands.values()}
    # Whoever gets an array begins when all have ended that touch it by the name of another.
    before: list[set[int]] = []
    for task in plan.tasks:
        before.append({other for first in task.after for other in (first, *before[first])})
    touching: dict[int, set[int]] = {}
    for number, task in enumerate(plan.tasks):
        for unit in task.units:
            for slot in (*unit.inputs, unit.buffer, unit.output):
                touching.setdefault(slot, set()).add(number)
    for slot, other in team.stands.items():
        sharing = [other, *[one for one, its in team.stands.items() if its == other]]
        for one in sharing[: sharing.index(slot)]:
            assert all(touching[one] <= before[task] for task in touching[slot]) or all(
                touching[slot] <= before[task] for task in touching[one]
            )


def test_an_error_before_the_tasks_names_its_node_and_writes_nothing_and_the_next_step_is_fine():
    graph, inputs, outputs, parameters, feeds = training()
    with fg.Session(graph, threads=2) as session:
        call = session.function(inputs, outputs)
        for _ in range(3):
            call(*feeds)
        before = [value.tobytes() for value in session.run(parameters)]
        with pytest.raises(fg.ExecutionError, match=r"a label is outside 0 \.\.\. 9"):
            call(feeds[0], np.full(128, 10))
        assert [value.tobytes() for value in session.run(parameters)] == before
        call(*feeds)
        assert [value.tobytes() for value in session.run(parameters)] != before


def test_of_runs_at_once_one_has_the_helpers_and_all_have_the_bits():
    graph, inputs, outputs, _, feeds = training()
    with fg.Session(graph, threads=2) as session:
        call = session.function(inputs, outputs[0])
        expected = call(*feeds).tobytes()
        call(*feeds)
        found: list[bytes] = []

        def several():
            found.extend(call(*feeds).tobytes() for _ in range(20))

        threads = [threading.Thread(target=several) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(found) == {expected}
    assert len(found) == 80


def test_tapes_of_a_team_run_behind_those_that_they_wait_for_whoever_helps():
    add, multiply = code_of(np.add, (F8,) * 3), code_of(np.multiply, (F8,) * 3)
    assert add is not None and multiply is not None

    def tape(code, *places):
        made = Tape()
        made.add(code, [place(number) for number in places], (1000,), (8, 8, 8))
        return made

    # 1 is x; 2 = x + x, 3 = x * x, 4 = 2 * 3, 5 = 4 + 3; the last waits for both of those that it reads.
    tasks = [(tape(add, 1, 1, 2), ()), (tape(multiply, 1, 1, 3), ()), (tape(multiply, 2, 3, 4), (0, 1)), (tape(add, 4, 3, 5), (1, 2))]
    board = np.zeros(8, np.int64)
    call = team_call(tasks, lambda *arrays: "refused", board)
    x = R.standard_normal(1000)
    helping = threading.Thread(target=helper(board, 10_000_000))
    helping.start()
    for _ in range(200):
        made = [np.zeros(1000) for _ in range(4)]
        assert call(x, *made) is made[-1]
        np.testing.assert_array_equal(made[-1], (x + x) * (x * x) + x * x)
    helping.join()
    assert board[:3].tolist() == [0, 0, 0]
    assert call(x[::-1], *made) == "refused"


def test_numbers_are_handed_out_as_they_are():
    with fg.Graph() as graph:
        x, y = (fg.placeholder(name, (), "float32") for name in "xy")
    with fg.Session(graph, threads=1) as session:
        call = session.function([x, y], [x + y, y, y])
        for _ in range(3):
            assert call(np.float32(1), np.float32(2)) == [3, 2, 2]
        assert "return [s2, s1, s1]" in call.source()


def walk(random):
    """Loops with a carry of each kind: one that is a row of a stack, one that stays, and numbers."""

    def turn(carry, entry):
        u, kept, time = carry
        u = fg.tanh(u @ kept.T @ entry) - u * 0.5
        return (u, kept, time * 0.5 + 0.1), (u, entry * 2.0, time, kept)

    with fg.Graph() as graph:
        x = fg.placeholder("x", (9, 7), "float32")
        xs = fg.placeholder("xs", (23, 9, 7), "float32")
        forwards = fg.scan(turn, (x, x, np.float32(1)), xs)
        (u, kept, time), ys = fg.scan(turn, (x, x * 2, np.float32(0)), xs, reverse=True)
        fetches = [*forwards[0], *forwards[1], u, kept, time, *ys, *fg.gradients(fg.sum(u * u), [xs])]
    return graph, [x, xs], fetches, [random.standard_normal((9, 7)).astype("f4"), random.standard_normal((23, 9, 7)).astype("f4")]


def heat(random):
    """Loops whose kernels have windows."""

    def turn(u, _):
        p = fg.pad(u, 1)
        return u + 0.2 * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u), None

    with fg.Graph() as graph:
        x = fg.placeholder("x", (130, 120), "float32")
        u, _ = fg.scan(turn, x, length=12)
        fetches = [u, *fg.gradients(fg.sum(u * u), [x])]
    return graph, [x], fetches, [random.standard_normal((130, 120)).astype("f4")]


@pytest.fixture
def turned(monkeypatch):
    """For each loop that was asked to whether it has gone through its turns in machine code."""
    result, call = [], Turning.__call__

    def told(self, *given):
        end = call(self, *given)
        result.append(end is not None)
        return end

    monkeypatch.setattr(Turning, "__call__", told)
    return result


@pytest.mark.parametrize("loops", [walk, heat])
@pytest.mark.parametrize("seconds", [0.0, 2e-4, 1.0])
def test_a_loop_that_is_not_cut_goes_through_its_turns_in_machine_code_with_the_same_bits(turned, monkeypatch, seconds, loops):
    monkeypatch.setattr(turning, "BATCH_SECONDS", seconds)  # as many calls as turns, a few, and one
    graph, inputs, fetches, arrays = loops(np.random.default_rng(2))
    given = [array.copy() for array in arrays]
    with fg.Session(graph) as session, fg.Session(graph, memory_limit="1GB") as limited:
        call = session.function(inputs, fetches)
        wanted = limited.function(inputs, fetches)(*arrays)
        assert turned and not any(turned)  # under a limit kernels are called one by one
        turned.clear()
        first, second = call(*arrays), call(*arrays)
    assert turned and all(turned)
    bits = [[(type(value), np.asarray(value).tobytes()) for value in values] for values in (first, second, wanted)]
    assert bits[0] == bits[1] == bits[2]
    assert all(np.array_equal(a, b) for a, b in zip(given, arrays, strict=True))
    assert not any(np.shares_memory(a, b) for k, a in enumerate(first) for b in [*first[:k], *second, *arrays])


def test_a_loop_over_entries_that_lie_apart_is_one_of_pythons(turned):
    graph, inputs, fetches, (x, xs) = walk(np.random.default_rng(3))
    apart = np.repeat(xs, 2, axis=0)[::2]
    with fg.Session(graph) as session:
        call = session.function(inputs, fetches)
        wanted, made = call(x, xs), call(x, apart)
    assert not all(turned)
    assert [np.asarray(value).tobytes() for value in made] == [np.asarray(value).tobytes() for value in wanted]


def test_a_loop_can_be_stopped_between_calls_of_machine_code(monkeypatch):
    monkeypatch.setattr(turning, "BATCH_SECONDS", 0.0)
    looked = []

    class Stopped(Exception):
        pass

    class Run:  # what a call looks at
        program = SimpleNamespace(plan=SimpleNamespace(memory_limit=None))

        @property
        def stop(self):
            looked.append(True)
            return Stopped() if len(looked) > 5 else None

    with fg.Graph() as graph:
        x = fg.placeholder("x", (4,))
        end, _ = fg.scan(lambda c, _: (c * 2.0 + x, None), x, length=100)
    with fg.Session(graph) as session:
        plan = session.plan(end, {x: (4,)})
    (unit,) = [unit for unit in plan.units if unit.bodies]
    start = np.arange(4.0, dtype="f4")
    with pytest.raises(Stopped):
        Turning(unit, Buffers([HOST]))(cast("Any", Run()), 100, [start], [], [start], [])
    assert len(looked) < 10


@pytest.mark.parametrize("threads", [1, 2])
def test_a_result_is_not_written_over_what_is_read_transposed_as_well(threads):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3, 3), "float64")
        total = x + 1.0
        symmetric = total + fg.permute_dims(total)
        outputs = [x + symmetric, fg.sin(x) @ x, fg.cos(x) @ x]
    array = R.standard_normal((3, 3))
    with fg.Session(graph, threads=threads, passes=("algebra", "fold", "common")) as session:
        assert "one call" in str(session.plan(outputs, {x: (3, 3)}))
        for _ in range(3):
            made = session.run(outputs, {x: array})
            np.testing.assert_array_equal(made[0], array + ((array + 1.0) + (array + 1.0).T))


@pytest.mark.parametrize(
    ("step", "told"),
    [(fg.tanh, "turns behind the first in machine code"), (fg.argsort, "each turn called from Python")],
    ids=["tanh", "argsort"],
)
def test_a_plan_and_its_program_tell_of_a_loop_whether_its_turns_run_in_machine_code(step, told):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (5,), "float64")
        last, _ = fg.scan(lambda carry, _: (fg.tanh(carry) + step(x + carry), carry), x, length=20)
    with fg.Session(graph, threads=1) as session:
        call = session.function([x], last)
        assert told in str(call.plan()) and told in call.source()
    with fg.Session(graph, threads=1, memory_limit="1GB") as session:
        call = session.function([x], last)
        assert "turns behind the first" not in str(call.plan()) + call.source()
