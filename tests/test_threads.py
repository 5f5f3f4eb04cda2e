"""Several threads at once: what they may do with one graph, one session and one function, with a global lock of Python and without."""

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.compile import compile_plan
from flowgraph.graph.context import _Default
from flowgraph.runtime.program import Program, Tally
from flowgraph.runtime.run import Run
from flowgraph.session import programs
from flowgraph.session.runs import Runs

COUNT = 8


@pytest.fixture(autouse=True)
def _in_small_pieces() -> Iterator[None]:
    """Where there is a global lock, another thread gets it after each few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """What ``works`` give, each on a thread of its own, begun at the same moment. raises what any of them raised."""
    gate, results, errors = threading.Barrier(len(works)), [None] * len(works), []

    def run(number: int) -> None:
        try:
            gate.wait()
            results[number] = works[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


# --- building


def test_threads_that_build_in_one_graph_at_once_leave_it_as_each_has_entered_it():
    graph, gate = fg.Graph(), threading.Barrier(2)

    def build(leaves_first: bool) -> Any:
        with fg.Graph() as own:
            with graph:
                gate.wait()  # both are in
                fg.constant(1.0)
                if not leaves_first:
                    gate.wait()
            if leaves_first:
                gate.wait()
            return fg.get_default_graph() is own

    assert at_once(lambda: build(True), lambda: build(False)) == [True, True]


def test_the_graph_that_is_used_when_none_is_open_is_one_for_all_threads():
    for _ in range(50):
        default = _Default()
        default.make = fg.Graph
        assert len({id(context) for context in at_once(*[default.get] * COUNT)}) == 1


def test_gradients_that_several_threads_ask_for_are_made_once():
    def build() -> tuple[fg.Graph, Callable[[], Any]]:
        with fg.Graph() as graph:
            x = fg.placeholder("x", (4,), "float64")
            h = x
            for _ in range(30):
                h = fg.sin(h) * x + h
            y = fg.sum(h)
        return graph, lambda: fg.gradients(y, x)

    graph, ask = build()
    ask()
    nodes = len(graph)
    for _ in range(5):
        graph, ask = build()
        made = at_once(*[ask] * COUNT)
        assert {id(each[0]) for each in made} == {id(made[0][0])}
        assert len(graph) == nodes


def test_nodes_that_several_threads_make_have_names_and_numbers_of_their_own():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")

    def build() -> list[str]:
        with graph:
            return [(x + k).name for k in range(50)]

    names = [name for made in at_once(*[build] * COUNT) for name in made]
    assert len(set(names)) == 50 * COUNT
    assert [node.id for node in graph] == list(range(len(graph)))
    assert all(graph.node(node.name) is node for node in graph)


# --- running


def wide() -> tuple[fg.Graph, fg.Tensor, fg.Tensor]:
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 160), "float32")
        total = fg.sum(fg.stack([fg.sum(fg.tanh(fg.matmul(x.T * k, x)), axis=0) for k in range(1, 7)]), axis=0)
    return graph, x, total


def test_a_plan_that_several_threads_ask_for_is_made_once(monkeypatch):
    graph, x, total = wide()
    made = []
    compiled = compile_plan

    def counting(*args: Any, **options: Any) -> Any:
        made.append(args)
        return compiled(*args, **options)

    monkeypatch.setattr(programs, "compile_plan", counting)
    rows = np.ones((160, 160), np.float32)
    with fg.Session(graph, threads=2) as session:
        results = at_once(*[lambda: session.run(total, {x: rows})] * COUNT)
    assert len(made) == 1
    assert len({result.tobytes() for result in results}) == 1


def test_a_plan_that_cannot_be_made_is_an_error_for_each_thread_that_asks_for_it():
    graph, x, total = wide()
    with fg.Session(graph, threads=2, memory_limit=1) as session:

        def ask() -> bool:
            with pytest.raises(fg.MemoryLimitError):
                session.run(total, {x: np.ones((160, 160), np.float32)})
            return True

        assert at_once(*[ask] * COUNT) == [True] * COUNT


def test_calls_and_runs_are_counted_each():
    tally = Tally()

    def count() -> None:
        for _ in range(500):
            tally.add()

    def look() -> None:
        for _ in range(100):
            assert tally.total >= 0

    at_once(count, count, count, look, look)
    assert tally.total == tally.total == 1500
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
    with fg.Session(graph, threads=1) as session:
        program: Program = session._program([fg.exp(x)], {x: ()}, None)

        def run() -> None:
            for _ in range(500):
                program.has_run()

        at_once(*[run] * 4)
    assert program.runs == 2000


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_everything_that_a_session_does_can_be_done_by_several_threads_at_once_with_the_bits_of_one(threads):
    rng = np.random.default_rng(3)
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n", 48), "float32")
        w = fg.variable(rng.standard_normal((48, 48)).astype("f4"), name="w")
        count = fg.variable(0, name="count")
        h = fg.tanh(x @ w)
        last, _ = fg.scan(lambda c, row: (fg.sin(c + row) * 0.5, c), fg.zeros((48,), "float32"), h)
        loss = fg.sum(h * h) + fg.sum(fg.cond(fg.sum(last) > 0, lambda: last, lambda: last * last))
        grads = fg.gradients(loss, [x, w])
        tick = fg.assign(count, count + 1)
    sizes = [16, 130, 700]
    feeds = {n: rng.standard_normal((n, 48)).astype("f4") for n in sizes}
    stop, traces = threading.Event(), []

    def bits(values: Any) -> list[bytes]:
        return [np.asarray(value).tobytes() for value in values]

    with fg.Session(graph, threads=threads) as session:
        call = session.function([x], [loss, *grads])
        call(feeds[16])
        expected = {n: bits(session.run([loss, *grads], {x: feeds[n]})) for n in sizes}

        def runs(number: int) -> None:
            for turn in range(9):
                n = sizes[(number + turn) % 3]
                how = (number + turn) % 4
                if how == 0:
                    made = call(feeds[n])
                elif how == 1:
                    made = session.run([loss, *grads], {x: feeds[n]})
                elif how == 2:
                    made = session.run_async([loss, *grads], {x: feeds[n]}).result()
                else:
                    with session.trace() as trace:
                        made = call(feeds[n])
                    traces.append(trace)
                assert bits(made) == expected[n]
                session.run(tick)

        def looks() -> None:
            while not stop.is_set():
                assert "tanh" in call.source()
                assert set(session.variables.copy()) == {"w", "count"}
                assert session.plan(loss, {x: (16, 48)}).peak_bytes > 0
                session.ledger()
                session.memory.trim()

        looking = threading.Thread(target=looks)
        looking.start()
        try:
            at_once(*[lambda number=number: runs(number) for number in range(COUNT)])
        finally:
            stop.set()
            looking.join()
        assert len(traces) == 9 * COUNT // 4
        assert all(len(trace) for trace in traces)
        assert session.variables["count"] == 9 * COUNT


# --- ending


@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_may_be_closed_while_other_threads_run_it(threads):
    graph, x, total = wide()
    rows = np.ones((160, 160), np.float32)
    for _ in range(5):
        session = fg.Session(graph, threads=threads)
        call, began = session.function([x], total), threading.Barrier(3)

        def until_closed(call: Any = call, began: Any = began) -> bool:
            began.wait()
            with pytest.raises(fg.SessionClosedError):
                while True:
                    call(rows)
            return True

        def close(call: Any = call, began: Any = began, session: Any = session) -> bool:
            began.wait()
            call(rows)
            session.close()
            return True

        assert at_once(until_closed, until_closed, close) == [True] * 3


def test_a_run_on_the_callers_thread_that_is_cancelled_ends_once_its_kernel_is_over(monkeypatch):
    entered, cancelled, finished = threading.Event(), threading.Event(), []
    cancel, finish = Run.cancel, Runs._finish

    def wait(value: Any) -> Any:
        entered.set()
        cancelled.wait()
        return value

    def cancelling(run: Run, reason: BaseException) -> None:
        cancel(run, reason)
        finished.append(False)
        cancelled.set()

    def finishing(runs: Runs, run: Run, future: Any) -> None:
        finish(runs, run, future)
        finished.append(True)

    monkeypatch.setattr(Run, "cancel", cancelling)
    monkeypatch.setattr(Runs, "_finish", finishing)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (400, 400), "float32")
        waited = fg.py_call(wait, x, x)
        total = fg.sum(waited @ waited) + fg.sum(x @ x)
    session = fg.Session(graph, threads=1)
    assert len(session.plan(total, {x: (400, 400)}).tasks) > 1

    def run() -> bool:
        with pytest.raises(fg.SessionClosedError):
            session.run(total, {x: np.ones((400, 400), np.float32)})
        return True

    def close() -> bool:
        entered.wait()
        session.close()
        return True

    assert at_once(run, close) == [True, True]
    assert finished == [False, True]


def test_a_run_that_is_cancelled_before_it_begins_lets_no_other_in_before_its_turn():
    entered, gate = threading.Event(), threading.Event()

    def wait(value: Any) -> Any:
        entered.set()
        gate.wait()
        return value

    with fg.Graph() as graph:
        count = fg.variable(0, name="count")
        slow = fg.assign(count, fg.py_call(wait, count, count + 1))
        large = [fg.variable(np.zeros((400, 400), np.float32), name=name) for name in "ab"]
        quick = fg.group([fg.assign(count, count + 10), *[fg.assign(w, w @ w) for w in large]])
    with fg.Session(graph, threads=2) as session:
        assert len(session.plan(quick).tasks) > 1
        first = session.run_async(slow)
        entered.wait()
        second, third = session.run_async(quick), session.run_async(quick)  # these wait for the first
        third.cancel()
        gate.set()
        first.result(), second.result()
        with pytest.raises(fg.RunCancelledError):
            third.result()
        assert session.variables["count"] == 11
        session.run(quick)
        assert session.variables["count"] == 21


def test_a_run_is_counted_before_its_caller_is_told(monkeypatch):
    counts, finish = [], Runs._finish

    def finishing(runs: Runs, run: Run, future: Any) -> None:
        counts.append(run.program.runs)
        finish(runs, run, future)

    monkeypatch.setattr(Runs, "_finish", finishing)
    graph, x, total = wide()
    with fg.Session(graph, threads=2) as session:
        for _ in range(2):
            session.run(total, {x: np.ones((160, 160), np.float32)})
    assert counts == [1, 2]
