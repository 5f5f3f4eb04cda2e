"""Traces: what runs did, recorded without changing what they give; files that Perfetto opens; what is worked out of them."""

import json
import threading

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.cli import main
from flowgraph.runtime import Run, tracing
from flowgraph.traces.data import packed
from flowgraph.traces.lifetimes import curve, of_run


def wide(branches=4, size=200):
    """A graph of independent products that are added up: its input and the sum."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (size, size), "float64")
        parts = []
        for i in range(branches):
            with fg.scope(f"branch_{i}"):
                parts.append(fg.sum(fg.sort(x * (i + 1.0), axis=0) @ x))
        total = sum(parts)
    return graph, x, total


def recurrent():
    with fg.Graph() as graph:
        xs = fg.placeholder("xs", (12, 3), "float64")
        w = fg.variable(np.eye(3), name="w")
        last, _ = fg.scan(lambda h, x: (fg.tanh(h @ w + x), None), fg.constant(np.zeros(3)), xs)
        count = fg.while_loop(lambda i: i < 5, lambda i: i + 1, 0)
        (dw,) = fg.gradients(fg.sum(last), w)
    return graph, xs, [last, dw, count]


ROWS = np.random.default_rng(0).standard_normal((200, 200))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_traced_run_gives_the_same_bits(threads):
    graph, x, total = wide()
    loops, xs, outputs = recurrent()
    with fg.Session(graph, threads=threads) as session, fg.Session(loops, threads=threads) as looping:
        plain = [np.asarray(session.run(total, {x: ROWS})).tobytes() for _ in range(3)]
        turns = [np.asarray(y).tobytes() for y in looping.run(outputs, {xs: ROWS[:12, :3]})]
        with session.trace() as t, looping.trace():
            assert [np.asarray(session.run(total, {x: ROWS})).tobytes() for _ in range(3)] == plain
            assert [np.asarray(y).tobytes() for y in looping.run(outputs, {xs: ROWS[:12, :3]})] == turns
        assert len(t) == 3


def test_every_task_and_kernel_is_noted_within_its_task_and_after_what_it_reads():
    graph, x, total = wide()
    with fg.Session(graph, threads=2) as session, session.trace() as t:
        session.run(total, {x: ROWS})
    (run,) = t.runs
    assert sorted(run.by_task) == [task.index for task in run.plan.tasks]
    assert sorted(run.spans) == list(range(len(run.plan.kernels)))
    for task in run.tasks:
        assert run.begun <= task.ready <= task.admitted <= task.start <= task.marks[0]
        assert task.marks == sorted(task.marks) and task.marks[-1] <= task.end <= run.over
    for kernel, befores in enumerate(run.plan.befores):
        assert all(run.spans[before][1] <= run.spans[kernel][0] for before in befores)
    assert {kernel.where.partition(":")[0] for kernel in run.plan.kernels} == {"test_traces.py"}


def test_outside_a_trace_nothing_is_noted_and_functions_call_their_program_directly():
    with fg.Graph() as graph, fg.Session(graph, threads=1) as session:
        x = fg.placeholder("x", (), "float64")
        function = session.function([x], x * 2 + 1)
        for _ in range(3):
            function(1.0)
        direct = function._direct
        with session.trace() as t:
            assert function(3.0) == 7.0
            assert type(session._runs.new_run(session._program([x], {x: ()}, None), [None], print, False)) is tracing.TracedRun
        assert len(t) == 1
        assert type(session._runs.new_run(session._program([x], {x: ()}, None), [None], print, False)) is Run
        assert function._direct is direct and function(3.0) == 7.0
        assert len(t) == 1


def test_turns_of_loops_are_noted_with_their_kernels():
    graph, xs, outputs = recurrent()
    with fg.Session(graph, threads=1) as session:
        with session.trace() as t:
            session.run(outputs, {xs: ROWS[:12, :3]})
    (run,) = t.runs
    turns = [(t.plans[number].label, len(t.plans[number].kernels), len(marks)) for task in run.tasks for number, marks in task.turns]
    assert [label for label, _, _ in turns].count("gradients/scan/scan") == 12  # what gives the gradient, too, runs in the scan's place
    assert len([label for label, _, _ in turns if label == "while"]) == 5 + 6  # bodies, conditions
    assert all(marks == kernels + 1 for _, kernels, marks in turns if kernels)


def test_of_very_many_turns_the_later_ones_are_added_up(monkeypatch):
    monkeypatch.setattr(tracing, "TURNS_KEPT", 4)
    graph, xs, outputs = recurrent()
    with fg.Session(graph, threads=1) as session, session.trace() as t:
        session.run(outputs[0], {xs: ROWS[:12, :3]})
    (run,) = t.runs
    assert sum(len(task.turns) for task in run.tasks) == 4
    ((number, (turns, seconds)),) = run.totals.items()
    assert turns == 8 and len(seconds) == len(t.plans[number].kernels) and all(each > 0 for each in seconds)


def test_a_failed_run_is_in_the_trace_with_its_error_and_what_ran_before():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None,), "float64")
        y = fg.exp(x) + fg.py_call(lambda a: 1 / 0, x, x)
    with fg.Session(graph, threads=1) as session, session.trace() as t:
        with pytest.raises(fg.ExecutionError, match="division by zero"):
            session.run(y, {x: [1.0, 2.0]})
        session.run(y.node.inputs[0], {x: [1.0]})
    failed, passed = t.runs
    assert failed.error.startswith("ExecutionError") and not passed.error
    assert len(failed.spans) < len(failed.plan.kernels)
    assert json.loads(t.save_text())["traceEvents"]


def test_a_cancelled_run_is_in_the_trace():
    entered, opened = threading.Event(), threading.Event()

    def wait(a):
        entered.set()
        assert opened.wait(60)
        return a

    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        y = fg.exp(fg.py_call(wait, x, x))
    with fg.Session(graph, threads=2) as session:
        with session.trace() as t:
            future = session.run_async(y, {x: [1.0, 2.0]})
            assert entered.wait(60)
            future.cancel()
            assert t.runs == []  # it is not over
            opened.set()
            with pytest.raises(fg.RunCancelledError):
                future.result(60)
        (run,) = t.runs
        assert run.error.startswith("RunCancelledError") and len(run.spans) == 0


def test_several_threads_and_traces_at_once_note_each_run_once():
    graph, x, total = wide(2, 50)
    with fg.Session(graph, threads=2) as session, session.trace() as one, session.trace() as two:
        threads = [threading.Thread(target=lambda: [session.run(total, {x: ROWS[:50, :50]}) for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(one) == len(two) == 20
    assert all(len(run.spans) == len(run.plan.kernels) for run in one.runs)
    assert len(one.plans) == 1
    assert_nests(json.loads(one.save_text())["traceEvents"])


def test_copies_between_devices_are_kernels_of_the_device_that_gets_them():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (300, 300), "float64")
        with fg.device("cpu:0"):
            y = fg.sort(x, axis=0)
        with fg.device("cpu:1"):
            z = fg.sort(y, axis=1)
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=1) as session, session.trace() as t:
        session.run(z, {x: ROWS[:1].repeat(300, 0)[:, :1].repeat(300, 1)})
    (run,) = t.runs
    copies = [kernel for kernel in run.plan.kernels if kernel.op == "copy"]
    assert [kernel.device for kernel in copies] == ["cpu:1"] and copies[0].moved == 2 * 300 * 300 * 8
    assert {task.worker for task in run.tasks} == {"flowgraph-cpu:0-0", "flowgraph-cpu:1-0"}


def test_a_plan_too_large_for_generated_source_is_traced_as_well(monkeypatch):
    graph, x, total = wide()
    monkeypatch.setattr(tracing, "GENERATED_UNITS", 3)
    with fg.Session(graph, threads=2) as session:
        plain = session.run(total, {x: ROWS})
        with session.trace() as t:
            assert session.run(total, {x: ROWS}) == plain
    (run,) = t.runs
    assert sorted(run.spans) == list(range(len(run.plan.kernels)))


def test_sizes_that_only_the_run_knows_count_as_memory():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (1000,), "float64")
        y = fg.sum(fg.exp(x)[fg.nonzero(x)[0]])
    with fg.Session(graph, threads=1) as session, session.trace() as t:
        session.run(y, {x: np.arange(1000.0)})
    (run,) = t.runs
    assert 999 * 8 in run.sizes.values()


def test_the_peak_of_the_lifetimes_is_what_the_run_reports():
    graph, x, total = wide(3)
    with fg.Session(graph, threads=2) as session, session.trace() as t:
        session.run(total, {x: ROWS})
        report = session.last_report
    assert report is not None
    lived = of_run(t.runs[0])
    assert max(nbytes for _, nbytes in curve(lived)) <= report.peak_bytes
    assert curve(lived)[-1][1] == 0
    assert max(nbytes for _, nbytes in curve(lived)) >= t.plans[0].peak_bytes / 2


# --- files


def assert_nests(events):
    """On each track, of two slices one is within the other, or they are apart."""
    tracks: dict[int, list[tuple[int, int, str]]] = {}
    for event in events:
        if event["ph"] == "X":
            first = round(event["ts"] * 1000)
            tracks.setdefault(event["tid"], []).append((first, first + round(event["dur"] * 1000), event["name"]))
    assert tracks
    for slices in tracks.values():
        open_until: list[tuple[int, int]] = []
        for first, last, name in sorted(slices, key=lambda each: (each[0], -each[1])):
            while open_until and open_until[-1][1] <= first:
                open_until.pop()
            assert not open_until or last <= open_until[-1][1], (name, open_until[-1])
            open_until.append((first, last))


@pytest.fixture(scope="module")
def loops():
    graph, xs, outputs = recurrent()
    with fg.Session(graph, threads=2) as session, session.trace() as t:
        for _ in range(3):
            session.run(outputs, {xs: ROWS[:12, :3]})
    return t


def test_the_file_is_in_chromes_format_with_slices_that_nest(loops):
    found = json.loads(loops.save_text())
    events = found["traceEvents"]
    assert found["displayTimeUnit"] == "ms"
    needed = {
        "X": {"name", "cat", "ts", "dur", "pid", "tid"},
        "M": {"name", "pid", "tid", "args"},
        "C": {"name", "ts", "pid", "args"},
        "s": {"id", "ts", "pid", "tid", "name", "cat"},
        "f": {"id", "ts", "pid", "tid", "name", "cat", "bp"},
    }
    for event in events:
        assert needed[event["ph"]] <= event.keys(), event
    named = {event["tid"] for event in events if event["ph"] == "M" and event["name"] == "thread_name"}
    assert {event["tid"] for event in events if event["ph"] == "X"} == named
    assert_nests(events)
    assert len([event for event in events if event["ph"] == "X" and event["cat"] == "turn"]) == 3 * (24 + 11)


def test_an_arrow_leads_from_each_task_to_those_that_wait_for_it():
    graph, x, total = wide()
    with fg.Session(graph, threads=2) as session, session.trace() as t:
        session.run(total, {x: ROWS})
    events = json.loads(t.save_text())["traceEvents"]
    starts, ends = ({event["id"]: event["ts"] for event in events if event["ph"] == phase} for phase in "sf")
    edges = sum(len(task.after) for task in t.plans[0].tasks)
    assert len(starts) == edges > 0 and starts.keys() == ends.keys()
    assert all(starts[each] <= ends[each] for each in starts)


def test_a_loaded_trace_is_the_one_that_was_saved(loops, tmp_path):
    loaded = fg.Trace.load(loops.save(tmp_path / "run.json"))
    assert packed(loaded.runs) == packed(loops.runs)
    assert packed(loaded.plans) == packed(loops.plans)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "is no trace: "),
        (lambda text: "[]", "is no trace that flowgraph wrote"),
        (lambda text: '{"traceEvents": []}', "is no trace that flowgraph wrote"),
        (lambda text: text.replace('"version":1', '"version":7'), "has version 7 of the format"),
        (lambda text: text.replace('"plans":[[', '"plans":[[null,'), "is damaged"),
        (lambda text: text.replace('"runs":[[0,0', '"runs":[[0,99'), "is damaged: IndexError"),
    ],
)
def test_a_damaged_file_says_so(loops, tmp_path, damage, message):
    file = tmp_path / "run.json"
    file.write_text(damage(loops.save_text()))
    with pytest.raises(fg.errors.FileFormatError, match=message):
        fg.Trace.load(file)


def test_a_trace_without_runs_says_what_to_do():
    with fg.Session(fg.Graph()) as session, session.trace() as t:
        pass
    assert repr(t) == "<Trace of 0 runs: 0 kernels in 0 tasks>"
    with pytest.raises(fg.ArgumentError, match=r"no run is over"):
        t.run()
    with pytest.raises(fg.ArgumentError, match="nothing records in this one any more"):
        t.__enter__()


def test_of_more_runs_than_are_kept_the_last_ones_are():
    graph, x, total = wide(1, 10)
    with fg.Session(graph, threads=1) as session, session.trace(keep=3) as t:
        for _ in range(4):
            session.run(total, {x: ROWS[:10, :10]})
        assert len(t) == 3
        session.run(total, {x: ROWS[:10, :10]})
    assert [run.number for run in t.runs] == [2, 3, 4]
    assert t.run(4) is t.runs[-1]
    with pytest.raises(fg.ArgumentError, match="the number of a run is from 2 to 4, got 1"):
        t.run(1)


# --- the command line

SCRIPT = """
import sys
import numpy as np
import flowgraph as fg
from flowgraph.cli import main

x = fg.placeholder("x", (300, 300), "float64")
with fg.scope("layer"):
    y = fg.sum(fg.sort(x, axis=0) @ x)
if __name__ == "__main__":
    with fg.Session(threads=2) as session:
        for _ in range(int(sys.argv[1])):
            session.run(y, {x: np.ones((300, 300))})
    assert len(sys.argv) < 3, "planted"
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    return "train.py"


def test_the_command_traces_every_session_of_a_file(script, capsys):
    assert main(["trace", script, "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 runs of ") and printed.endswith("train.trace.json\n")
    assert main(["trace", "train.trace.json", "--by", "line"]) == 0
    assert "train.py:9" in capsys.readouterr().out
    assert main(["trace", "train.trace.json", "--why", "layer/matmul", "-o", "run.html", "-o", "run.svg"]) == 0
    assert capsys.readouterr().out.startswith("layer/matmul")
    assert main(["trace", "train.trace.json", "--memory"]) == 0
    assert "read by layer/matmul" in capsys.readouterr().out
    assert main(["predict", "train.trace.json", "--threads", "1,4", "--faster", "layer=2", "-o", "speed.svg"]) == 0
    assert "with layer 2 times as fast" in capsys.readouterr().out


def test_the_command_leaves_a_trace_of_a_file_that_fails(script, capsys):
    with pytest.raises(AssertionError, match="planted"):
        main(["trace", script, "--by", "node", "--", "2", "-o"])
    assert "train.trace.json" in capsys.readouterr().out
    assert len(fg.Trace.load("train.trace.json")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "train.py", "-o", "run.gif"], "trace: run.gif must end in one of .json"),
        (["trace", "train.py", "0"], "trace: train.py ran nothing in a session"),
        (["trace", "none.json"], "FileNotFoundError"),
        (["predict", "train.py", "--threads", "x"], "--threads: a number is expected, got 'x'"),
        (["predict", "train.py", "--faster", "layer"], "--faster: NAME=NUMBER is expected, got 'layer'"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_arguments(script, capsys, arguments, message):
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


# --- kernels that run as one call of machine code


def small():
    """A chain of kernels on small arrays, which run together where llvmlite is installed."""
    pytest.importorskip("llvmlite")
    with fg.Graph() as graph:
        x = fg.placeholder("x", (8, 8), "float64")
        h = x
        for i in range(30):
            h = fg.cumulative_sum(h @ x, axis=1) * 0.01 + float(i) if i % 10 == 9 else h @ x + float(i)
    return graph, x, fg_sum(graph, h)


def fg_sum(graph, h):
    with graph:
        return fg.sum(h)


def test_kernels_that_run_together_are_timed_together_and_their_time_is_shared_out(own_kernels):
    graph, x, y = small()
    with fg.Session(graph, threads=1, jit=True) as session:
        plain = [session.run(y, {x: ROWS[:8, :8] * 0.1}) for _ in range(3)]
        with session.trace() as t:
            assert session.run(y, {x: ROWS[:8, :8] * 0.1}) == plain[0]
        with session.trace(by_kernel=True) as apart:
            assert session.run(y, {x: ROWS[:8, :8] * 0.1}) == plain[0]
        with session.trace() as fortran:  # arrays that do not lie as the machine code needs them
            assert session.run(y, {x: np.asfortranarray(ROWS[:8, :8] * 0.1)}) == pytest.approx(plain[0])
    (run,) = t.runs
    together = [kernel.together for kernel in run.plan.kernels]
    assert max(together) > 5
    assert sorted(run.spans) == list(range(len(run.plan.kernels)))
    assert all(begin <= end for begin, end in run.spans.values())
    for other in (apart, fortran):
        assert sorted(other.runs[0].spans) == list(range(len(run.plan.kernels)))
        assert max(kernel.together for kernel in other.plans[0].kernels) == 0


def test_turns_that_run_together_are_timed_with_their_loop(own_kernels):
    pytest.importorskip("llvmlite")
    graph, xs, outputs = recurrent()
    with fg.Session(graph, threads=1, jit=True) as session:
        plain = [np.asarray(y).tobytes() for y in session.run(outputs, {xs: ROWS[:12, :3].copy()})]
        for by_kernel in (False, True):
            with session.trace(by_kernel=by_kernel) as t:
                assert [np.asarray(y).tobytes() for y in session.run(outputs, {xs: ROWS[:12, :3].copy()})] == plain
            assert all(len(marks) == len(t.plans[number].kernels) + 1 for task in t.runs[0].tasks for number, marks in task.turns)
        assert sum(len(task.turns) for task in t.runs[0].tasks) == 24 + 11


def test_kernels_of_a_gpu_are_waited_for_and_give_the_same_bits():
    from test_cuda import standing_in  # type: ignore[import-not-found]

    with standing_in(), fg.Graph() as graph, fg.Session(graph, devices=["cpu:0", "cuda:0"], threads=1, jit=False) as session:
        x = fg.placeholder("x", (20, 20), "float64")
        with fg.device("cuda:0"):
            y = fg.exp(x @ fg.constant(ROWS[:20, :20])) * 2.0
        z = fg.sum(y)
        plain = session.run(z, {x: ROWS[:20, :20]})
        with session.trace() as t:
            assert session.run(z, {x: ROWS[:20, :20]}) == plain
    (run,) = t.runs
    assert sorted(run.spans) == list(range(len(run.plan.kernels)))
    assert {kernel.device for kernel in run.plan.kernels} >= {"cuda:0"}


def test_an_interrupt_ends_the_file_and_leaves_its_trace(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT.replace('    assert len(sys.argv) < 3, "planted"\n', "    raise KeyboardInterrupt\n"))
    with pytest.raises(SystemExit) as ended:
        main(["trace", "train.py", "2"])
    assert ended.value.code == 130
    assert capsys.readouterr().out.endswith("train.trace.json\n")
    assert len(fg.Trace.load("train.trace.json")) == 2
