"""Deciding what runs next, and running it: each race is forced with gates, never with sleeps."""

import asyncio
import gc
import os
import signal
import threading
import time
import weakref

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowgraph as fg
from flowgraph.compile.plan import Plan, Task, Unit
from flowgraph.devices import open_device
from flowgraph.errors import ExecutionError, RunCancelledError, RunTimeoutError, SessionClosedError
from flowgraph.graph import OPS, Op, Work, op
from flowgraph.graph.op import no_gradient
from flowgraph.runtime import BufferPool, Run, RunState, Schedule
from flowgraph.runtime.pool import Pool

GATES: dict[int, tuple[threading.Event, threading.Event]] = {}


class Gated(Op):
    """Passes ``x`` on once its gate opens; says when it has been entered. Claims to be expensive, so that it is a task."""

    vjp = no_gradient("for tests")
    is_stateful = True
    samples = ()

    def infer(self, x, *, gate, fails):
        return x

    def kernel(self, xp, x, *, gate, fails):
        entered, opened = GATES[gate]
        entered.set()
        assert opened.wait(60)
        if fails:
            raise ValueError("planted")
        return x + 1

    def work(self, x, **attrs):
        return Work(flops=1e9)


_gated = op(Gated)
OPS.pop("gated")


def gated(x, gate, fails=False):
    GATES[gate] = (threading.Event(), threading.Event())
    return _gated(x, gate=gate, fails=fails)


def test_a_join_is_ready_only_when_both_inputs_have_arrived():
    r"""
    a   b
     \ /
      c
    """
    run = RunState(Schedule({"a": [], "b": [], "c": ["a", "b"]}))
    assert run.start() == ["a", "b"]
    assert run.finish("a") == []
    assert run.finish("b") == ["c"]


def test_the_task_with_the_longest_remaining_path_leaves_first():
    run = RunState(Schedule({"short": [], "long": [], "next": ["long"]}))
    assert run.start() == ["long", "short"]


def test_after_a_stop_nothing_more_is_handed_out():
    run = RunState(Schedule({"a": [], "b": ["a"]}))
    run.start()
    run.stop()
    assert run.finish("a") == []
    assert run.is_over


def test_a_cycle_is_an_error_that_names_a_task():
    with pytest.raises(ValueError, match="'a' waits for itself"):
        Schedule({"a": ["b"], "b": ["a"]})


def two_branches(fails=False):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        a, b = gated(x, 0, fails=fails), gated(x, 1)
        y = a + b
    return graph, x, a, b, y


def test_independent_nodes_run_at_the_same_time():
    graph, x, _, _, y = two_branches()
    with fg.Session(graph, threads=2) as session:
        future = session.run_async(y, {x: 1.0})
        assert GATES[0][0].wait(60)
        assert GATES[1][0].wait(60)  # both have been entered although neither gate is open
        GATES[0][1].set()
        assert not future.done()
        GATES[1][1].set()
        assert future.result(60) == 4.0


def test_a_failing_branch_ends_the_run_after_the_other_kernel_and_the_session_stays_usable():
    graph, x, _, b, y = two_branches(fails=True)
    with fg.Session(graph, threads=2) as session:
        future = session.run_async(y, {x: 1.0})
        assert GATES[1][0].wait(60)
        GATES[0][1].set()
        GATES[1][1].set()
        with pytest.raises(ExecutionError, match=r"gated: planted \(ValueError\)") as caught:
            future.result(60)
        assert "test_scheduler.py" in str(caught.value)
        assert "() float64" in str(caught.value)
        assert isinstance(caught.value.__cause__, ValueError)
        assert session.run(b, {x: 2.0}) == 3.0


def tasks_of(size):
    """How many tasks 64 independent chains of 40 exponentials of ``size`` numbers are."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, size), "float64")
        ends = []
        for row in range(64):
            y = x[row]
            for _ in range(40):
                y = fg.exp(y)
            ends.append(y)
    with fg.Session(graph, threads=2) as session:
        return len(session.plan(ends, {x: (64, size)}).tasks)


def test_calls_of_tiny_kernels_are_one_task_as_they_hold_pythons_lock_and_chains_of_larger_ones_are_a_task_each():
    assert tasks_of(2) == 1
    assert tasks_of(10_000) == 64


def test_cancelling_ends_the_run_within_the_kernel_that_runs():
    graph, x, *_, y = two_branches()
    with fg.Session(graph, threads=2) as session:
        future = session.run_async(y, {x: 1.0})
        assert GATES[0][0].wait(60)
        assert GATES[1][0].wait(60)
        future.cancel()
        for _, opened in (GATES[0], GATES[1]):
            opened.set()
        with pytest.raises(RunCancelledError):
            future.result(60)


def test_a_timeout_ends_the_run():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        y = gated(x, 0) * 2
    with fg.Session(graph, threads=1) as session:
        opener = threading.Timer(0.2, GATES[0][1].set)  # long after the limit; the run must end by then and not before
        opener.start()
        with pytest.raises(RunTimeoutError, match=r"longer than 0.01 s"):
            session.run(y, {x: 1.0}, timeout=0.01)
        opener.join()
        assert session.run(y, {x: 1.0}, timeout=60) == 4.0


def test_closing_a_session_ends_its_runs():
    graph, x, *_, y = two_branches()
    session = fg.Session(graph, threads=2)
    future = session.run_async(y, {x: 1.0})
    assert GATES[0][0].wait(60)
    assert GATES[1][0].wait(60)
    closer = threading.Thread(target=session.close)
    closer.start()
    for _, opened in (GATES[0], GATES[1]):
        opened.set()
    closer.join(60)
    with pytest.raises((SessionClosedError, RuntimeError)):
        future.result(60)
    with pytest.raises(SessionClosedError):
        session.run(y, {x: 1.0})


def test_a_run_can_be_awaited():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        y = x + 1

    async def both(session):
        return await asyncio.gather(session.run_async(y, {x: 1.0}).__await__.__self__, session.run_async(y, {x: 2.0}))

    async def one_by_one(session):
        return [await session.run_async(y, {x: 1.0}), await session.run_async([y], {x: 2.0})]

    with fg.Session(graph, threads=2) as session:
        assert asyncio.run(one_by_one(session)) == [2.0, [3.0]]


def test_updates_of_concurrent_runs_are_not_lost():
    with fg.Graph() as graph:
        count = fg.variable(np.zeros(3), name="count")
        add_one = fg.assign(count, count + 1)
    with fg.Session(graph, threads=2) as session:
        start = threading.Barrier(4)

        def work():
            start.wait()
            for _ in range(50):
                session.run(add_one)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(session.variables["count"], 200)


def test_a_thousand_runs_leave_no_thread_buffer_or_reference():
    class Watched(np.ndarray):
        pass

    with fg.Graph() as graph:
        x = fg.placeholder("x", (100, 100), "float64")
        y = fg.sum(fg.tanh(x @ x) + x)
    before = threading.active_count()
    with fg.Session(graph, threads=2) as session:
        fed = np.ones((100, 100)).view(Watched)
        gone = weakref.ref(fed)
        for _ in range(1000):
            session.run(y, {x: fed})
        idle = session.memory.idle_bytes
        session.run(y, {x: fed})
        assert session.memory.idle_bytes == idle
        assert threading.active_count() <= before + 2
        del fed
        gc.collect()
        assert gone() is None
    assert threading.active_count() == before


def test_a_lent_array_is_idle_again_when_the_last_view_of_it_is_gone():
    pool = BufferPool(open_device("cpu:0"))
    lent = pool.lend((100, 100), np.dtype("float32"))
    place, view = lent.ctypes.data, lent[3:].T
    del lent
    other = pool.take((100, 100), np.dtype("float32"))
    assert other.ctypes.data != place
    del view
    assert pool.take((100, 100), np.dtype("float32")).ctypes.data == place
    assert pool.lend((2, 3), np.dtype(ml_dtypes.bfloat16)).dtype == ml_dtypes.bfloat16


def test_a_loop_stacks_its_results_in_the_memory_of_the_run_before(monkeypatch):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (50, 40, 40), "float64")
        _, sums = fg.scan(lambda total, row: (total + row, total + row), np.zeros((40, 40)), x)
        slope = fg.gradients(fg.sum(fg.tanh(sums)), x)
    with fg.Session(graph, threads=2) as session:
        call, rows = session.function([x], [sums, *slope]), np.ones((50, 40, 40))
        first = call(rows)
        wanted = [value.copy() for value in first]
        del first
        for _ in range(3):
            call(rows)
        made, empty = [], np.empty

        def watched(shape, *args, **options):
            array = empty(shape, *args, **options)
            made.append(array.nbytes)
            return array

        monkeypatch.setattr(np, "empty", watched)
        kept = call(rows)
        assert sum(made) < rows.nbytes
        again = call(rows)  # while the results of the call before are still with the caller
        for values in (kept, again):
            for value, right in zip(values, wanted, strict=True):
                np.testing.assert_array_equal(value, right)


def test_variables_are_read_at_the_start_and_written_at_the_end():
    with fg.Graph() as graph:
        a, b = fg.variable(1.0, name="a"), fg.variable(2.0, name="b")
        swap = fg.group([fg.assign(a, b), fg.assign(b, a)])
    with fg.Session(graph) as session:
        session.run(swap)
        assert session.run([a, b]) == [2.0, 1.0]


def test_a_run_that_fails_writes_nothing():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        a = fg.variable(1.0, name="a")
        update = fg.assign(a, a + 1)
        bad = gated(x, 0, fails=True)
    GATES[0][1].set()
    with fg.Session(graph) as session:
        with pytest.raises(ExecutionError):
            session.run([update, bad], {x: 1.0})
        assert session.run(a) == 1.0


def test_a_plan_prints_its_tasks_and_kernels():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 3))
        y = fg.exp(x) * 2
    with fg.Session(graph) as session:
        text = str(session.plan(y, {x: (4, 3)}))
    assert "plan of 2 kernels in 1 task" in text
    assert "exp: (4, 3) float32" in text
    assert {Plan, Task, Unit}


BINARY = [fg.add, fg.subtract, fg.multiply, fg.maximum]
NUMPY = [np.add, np.subtract, np.multiply, np.maximum]


@st.composite
def programs(draw):
    """A list of (operation, input, input), on values made so far."""
    count = draw(st.integers(1, 25))
    return [(draw(st.integers(0, 5)), draw(st.integers(0, 2 + i)), draw(st.integers(0, 2 + i))) for i in range(count)]


def built(program, size):
    """The graph of a program, its last tensors, feeds for its inputs, and what NumPy makes of them."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((size, size)) / size for _ in range(3)]
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", (None, size), "float64") for i in range(3)]
        nodes = list(inputs)
        expected = list(arrays)
        for kind, left, right in program:
            if kind < 4:
                nodes.append(BINARY[kind](nodes[left], nodes[right]))
                expected.append(NUMPY[kind](expected[left], expected[right]))
            elif kind == 4:
                nodes.append(fg.tanh(nodes[left]))
                expected.append(np.tanh(expected[left]))
            else:
                nodes.append(fg.permute_dims(nodes[left]))
                expected.append(expected[left].T)
    return graph, nodes[-3:], dict(zip(inputs, arrays, strict=True)), expected[-3:]


@settings(max_examples=25, deadline=None)
@given(programs(), st.sampled_from([3, 300]))
def test_random_graphs_have_the_bits_of_plain_numpy_with_any_number_of_threads(program, size):
    graph, wanted, feeds, expected = built(program, size)
    for threads in (1, 2, 4, 8):
        with fg.Session(graph, threads=threads, jit=False) as session:
            for _ in range(2):
                for result, truth in zip(session.run(wanted, feeds), expected, strict=True):
                    np.testing.assert_array_equal(result, truth)


@settings(max_examples=25, deadline=None)
@given(programs(), st.sampled_from([3, 300]))
def test_random_graphs_have_the_same_bits_with_any_number_of_threads_where_loops_are_compiled(program, size):
    graph, wanted, feeds, expected = built(program, size)
    first = None
    for threads in (1, 2, 4, 8):
        with fg.Session(graph, threads=threads) as session:
            for _ in range(2):
                results = session.run(wanted, feeds)
                first = first or results
                for result, same, truth in zip(results, first, expected, strict=True):
                    np.testing.assert_array_equal(result, same)
                    np.testing.assert_allclose(result, truth, rtol=1e-9, atol=1e-12)


@pytest.mark.frees_at_once
def test_the_old_value_of_a_variable_is_the_memory_of_a_later_one():
    with fg.Graph() as graph:
        w = fg.variable(fg.init.ones((100, 100)), name="w")
        step = fg.assign(w, w * 2)
    with fg.Session(graph, threads=1) as session:
        places = set()
        for _ in range(8):
            session.run(step)
            places.add(session._state.values[w.node.id].ctypes.data)
        assert len(places) <= 3
        assert session.variables["w"][0, 0] == 256


def test_a_value_that_somebody_still_reads_is_not_written_over():
    with fg.Graph() as graph:
        w = fg.variable(fg.init.ones((100, 100)), name="w")
        slow = gated(w, 8)
        step = fg.assign(w, w * 2)
    entered, opened = GATES[8]
    with fg.Session(graph, threads=2) as session:
        future = session.run_async(slow)
        assert entered.wait(60)
        for _ in range(5):
            session.run(step)
        opened.set()
        np.testing.assert_array_equal(future.result(), np.full((100, 100), 2.0))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_from_the_keyboard_ends_the_run_and_the_session_stays_usable(threads, monkeypatch):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        w = fg.variable(1.0, name="w")
        slow, other = gated(x, 9), gated(x, 10)
        step = fg.assign(w, slow + other)
    entered, opened = GATES[9]
    main = threading.get_ident()
    cancelled, cancel = threading.Event(), Run.cancel

    def telling(run, reason):
        cancel(run, reason)
        cancelled.set()

    monkeypatch.setattr(Run, "cancel", telling)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # (a shell starts what runs behind it without one)

    def interrupt():
        assert entered.wait(60)
        signal.pthread_kill(main, signal.SIGINT)
        # Python sees a signal that comes just before its thread blocks in a lock only once that has ended, or with the next signal.
        while not cancelled.wait(1):
            signal.pthread_kill(main, signal.SIGINT)
        opened.set()  # the kernel that runs is waited for

    GATES[10][1].set()
    thread = threading.Thread(target=interrupt)
    with fg.Session(graph, threads=threads) as session:
        try:
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                session.run(step, {x: 1.0})
            thread.join()
        finally:
            signal.signal(signal.SIGINT, before)
        assert session.variables["w"] == 1.0
        session.run(step, {x: 1.0})
        assert session.variables["w"] == 4.0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not let a thread choose its processors")
def test_a_pool_of_all_processors_has_a_worker_on_each():
    cpus = os.sched_getaffinity(0)
    for threads in {2, len(cpus), len(cpus) + 1} - {1}:
        pool, lock = Pool(threads), threading.Barrier(threads)
        seen: list[set[int]] = []

        def job(seen=seen, lock=lock):
            lock.wait(10)  # so that each worker has one
            seen.append(os.sched_getaffinity(0))

        pool.submit([((0.0, i), job) for i in range(threads)])
        while len(seen) < threads:
            time.sleep(0.001)
        pool.close()
        if threads == len(cpus):
            assert sorted(map(sorted, seen)) == sorted([cpu] for cpu in cpus)
        else:
            assert all(affinity == cpus for affinity in seen)
    assert os.sched_getaffinity(0) == cpus


def lending():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None,), "float32")
        y = fg.exp(x)
    return graph, x, y, np.linspace(0, 1, 1_000_000, dtype="f4")


def test_the_memory_of_a_large_result_serves_again_once_the_caller_has_dropped_it():
    graph, x, y, value = lending()
    with fg.Session(graph) as session:
        call = session.function([x], y)
        for run in (call, lambda value: session.run(y, {x: value})):
            places = {run(value).ctypes.data for _ in range(8)}
            assert len(places) <= 3
        kept = [call(value) for _ in range(4)]
        assert len({result.ctypes.data for result in kept}) == 4


@pytest.mark.parametrize("hold", [lambda r: r, lambda r: r[5:], lambda r: r.reshape(1000, 1000).T, lambda r: memoryview(r)])
def test_a_result_stays_as_it_is_for_as_long_as_anything_refers_to_it(hold):
    graph, x, y, value = lending()
    with fg.Session(graph) as session:
        held = hold(session.run(y, {x: value}))
        before = np.array(held)
        for k in range(1, 5):
            session.run(y, {x: value + k})
        np.testing.assert_array_equal(held, before)
    gc.collect()
    np.testing.assert_array_equal(held, before)


def test_a_result_that_a_function_of_the_users_own_made_is_never_taken_back():
    mine = np.ones(1_000_000)
    with fg.Graph() as graph:
        y = fg.py_call(lambda: mine, ((1_000_000,), "float64"))
        z = fg.exp(fg.zeros((1_000_000,), "float64"))
    with fg.Session(graph) as session:
        session.run(y)
        session.run(z)
    np.testing.assert_array_equal(mine, 1)


def test_tasks_each_of_which_waits_for_the_one_before_it_run_on_the_callers_thread(monkeypatch):
    handed_over, submit = [], Pool.submit

    def noted(pool, jobs):
        handed_over.append(pool)
        submit(pool, jobs)

    monkeypatch.setattr(Pool, "submit", noted)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        first, other = gated(x, 31), gated(x, 32)
        chain, fork = first + gated(first, 33), first + other
    for gate in (31, 32, 33):
        GATES[gate][1].set()
    with fg.Session(graph, threads=2) as session:
        assert len(session.plan(chain, {x: ()}).tasks) > 1
        assert session.run(chain, {x: 1.0}) == 5.0
        assert not handed_over
        assert session.run(fork, {x: 1.0}) == 4.0
        assert handed_over
