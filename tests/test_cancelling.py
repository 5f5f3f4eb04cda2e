"""Cancelling runs on their caller's thread: those whose tasks wait for each other, and those that threads work off together."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.runtime.program import Program
from flowgraph.runtime.run import Run

PATIENCE = 60.0  # seconds after which what a test waits for has hung


def training():
    """A step whose products are cut, and a value that tells how often it was written."""
    random = np.random.default_rng(2)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (512, 400), "float32")
        first, last = fg.nn.Linear(400, 600), fg.nn.Linear(600, 10)
        loss = fg.mean(fg.square(last(fg.nn.relu(first(x)))))
        train = fg.optim.SGD(0.01).minimize(loss)
    return graph, x, [loss, train], [first.w, last.w], random.standard_normal((512, 400)).astype("f4")


def in_a_row():
    """Two tasks, the second of which waits for the first."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (1500, 1500), "float64")
        count = fg.variable(0.0, name="count")
        y = fg.sum(fg.sort(fg.sort(x, axis=1), axis=0))
        counted = fg.assign(count, count + 1.0 + 0.0 * y)
    return graph, x, [y, counted], [count], np.zeros((1500, 1500))


@contextmanager
def held(patch, where, method):
    """Holds the next call of ``method`` in its middle; gives the events that tell that it is there, and that let it go on."""
    there, go_on = threading.Event(), threading.Event()
    usual = getattr(where, method)

    def holding(self, *given):
        if not there.is_set():
            there.set()
            assert go_on.wait(PATIENCE)
        return usual(self, *given)

    patch.setattr(where, method, holding)
    yield there, go_on
    go_on.set()


def ends(patch):
    """A list that grows with each end of a run."""
    found: list[Run] = []
    usual = Run._end

    def counted(self):
        found.append(self)
        usual(self)

    patch.setattr(Run, "_end", counted)
    return found


def started(function, *given):
    """A thread that calls a function, and the list that gets what it gives, or raises."""
    results = []

    def call():
        try:
            results.append(function(*given))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, results


def check_closing(patch, session, method, call, values):
    """That a session that is closed while a run is in ``method`` of its program waits for it, and that the run ends once, with an error."""
    ended = ends(patch)
    with held(patch, Program, method) as (there, go_on):
        thread, results = started(call, values)
        assert there.wait(PATIENCE)
        closing, closed = started(session.close)
        while not session._runs.is_closed:
            pass
        go_on.set()
        thread.join(PATIENCE)
        closing.join(PATIENCE)
    assert not thread.is_alive() and not closing.is_alive()
    assert closed == [None]
    assert isinstance(results[0], fg.SessionClosedError)
    assert len(ended) == 1


def team_of(session, call, values):
    """Warms a function up until threads work off its tasks together; skips where they cannot."""
    for _ in range(3):
        call(values)
    program = session._programs.values()[-1]
    if not session._runs.may_team(program) or program.team is None:
        pytest.skip("tasks are not worked off together here")
    return program


def test_a_session_that_is_closed_ends_a_run_that_threads_work_off_together_once_and_writes_nothing(monkeypatch):
    graph, x, outputs, parameters, values = training()
    session = fg.Session(graph, threads=2)
    call = session.function([x], outputs)
    team_of(session, call, values)
    written = [session.variables[each].tobytes() for each in parameters]
    check_closing(monkeypatch, session, "execute_all", call, values)
    assert [session._state.values[each.node.id].tobytes() for each in parameters] == written
    assert not [each for each in threading.enumerate() if each.name.startswith("flowgraph")]


def test_a_run_of_tasks_in_a_row_that_is_closed_ends_once_when_its_kernel_does(monkeypatch):
    graph, x, y, (count,), values = in_a_row()
    session = fg.Session(graph, threads=1, jit=False)
    call = session.function([x], y)
    assert len(call.plan().tasks) > 1
    assert not session._runs._may_spread(session._programs.values()[-1])
    check_closing(monkeypatch, session, "execute", call, values)
    assert session._state.values.get(count.node.id, 0) == 0


def test_a_time_limit_ends_a_step_that_threads_would_work_off_together_and_they_are_free_for_the_next(monkeypatch):
    graph, x, outputs, parameters, values = training()
    with fg.Session(graph, threads=2) as session:
        call = session.function([x], outputs)
        program = team_of(session, call, values)
        written = [session.variables[each].tobytes() for each in parameters]
        with pytest.raises(fg.RunTimeoutError, match="longer than 0 s"):
            call(values, timeout=0)
        assert [session.variables[each].tobytes() for each in parameters] == written
        together: list[bool] = []
        usual = program.execute_all

        def noted(*given):
            usual(*given)
            together.append(True)

        monkeypatch.setattr(program, "execute_all", noted)
        call(values)
        assert together == [True]
        assert [session.variables[each].tobytes() for each in parameters] != written


def test_an_interrupt_during_a_step_that_threads_work_off_together_writes_nothing_and_the_next_step_is_fine(monkeypatch):
    graph, x, outputs, parameters, values = training()
    with fg.Session(graph, threads=2) as session:
        call = session.function([x], outputs)
        program = team_of(session, call, values)
        written = [session.variables[each].tobytes() for each in parameters]
        ended = ends(monkeypatch)

        def interrupted(*given):
            Program.execute_all(program, *given)
            raise KeyboardInterrupt  # it comes when machine code is over

        with monkeypatch.context() as patch:
            patch.setattr(program, "execute_all", interrupted)
            with pytest.raises(KeyboardInterrupt):
                call(values)
        assert len(ended) == 1
        assert [session.variables[each].tobytes() for each in parameters] == written
        assert session._runs.crew.busy.acquire(blocking=False)
        session._runs.crew.busy.release()
        call(values)
        assert [session.variables[each].tobytes() for each in parameters] != written
        assert not session._runs.active


def test_a_run_that_is_cancelled_before_it_begins_ends_once_and_runs_nothing(monkeypatch):
    graph, x, y, (count,), values = in_a_row()
    with fg.Session(graph, threads=1, jit=False) as session:
        call = session.function([x], y)
        ended = ends(monkeypatch)
        usual = Run.run_here

        def cancelled(self, *given):
            self.cancel(fg.RunCancelledError("not today"))
            usual(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Run, "run_here", cancelled)
            with pytest.raises(fg.RunCancelledError, match="not today"):
                call(values)
        assert len(ended) == 1
        assert session.run(count) == 0
        call(values)
        assert session.run(count) == 1
