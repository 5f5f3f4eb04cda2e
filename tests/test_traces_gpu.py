"""Traces of runs on GPUs, over the stand-in for CuPy with a simulated clock: when kernels and copies ran, and what lay beside what."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from benchmarks.gpu import overlap
from flowgraph.devices import clock
from flowgraph.runtime import tracing
from flowgraph.traces.streams import Streams
from tests import stand_in
from tests.stand_in import LINK, STARTING, standing_in
from tests.test_cuda import lenet, rows
from tests.test_traces import assert_nests


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in, where asking for a step takes the host a microsecond, and nothing else takes it any time."""
    with standing_in(simulated=True) as module:
        monkeypatch.setattr(tracing, "perf_counter", module.gpu.now)
        monkeypatch.setattr(clock, "perf_counter", module.gpu.now)
        monkeypatch.setattr("flowgraph.traces.trace.time.perf_counter", module.gpu.now)
        yield module


@pytest.fixture
def session(cupy):
    with fg.Graph() as graph, fg.Session(graph, device="cuda:0", threads=1, jit=False) as session:
        yield session


def span(run: Any, name: str) -> tuple[float, float]:
    begin, end = run.spans[[kernel.name for kernel in run.plan.kernels].index(name)]
    return begin, end


def two_parts() -> Any:
    """Products of a first feed, and then of a second: its tensors, and what they are fed."""
    a, b = fg.placeholder("a", (512, 512)), fg.placeholder("b", (512, 512))
    y = a
    for _ in range(4):
        y = fg.tanh(y @ a)
    return fg.matmul(y, b, name="end"), {a: rows(512, 512), b: rows(512, 512, seed=1)}


def test_the_copy_of_one_feed_lies_beside_the_kernels_of_another(session):
    y, feeds = two_parts()
    with session.trace() as t:
        session.run(y, feeds)
    (run,) = t.runs
    assert list(run.rows) == ["cuda:0 compute", "cuda:0 copies"]
    first, second, product, last = (span(run, name) for name in ("a to cuda:0", "b to cuda:0", "matmul", "end"))
    assert product[0] == first[1] == second[0]  # the product needs a alone
    assert last[0] >= second[1] and second[1] - second[0] == pytest.approx(STARTING + 512 * 512 * 4 / LINK)
    streams = t.summary(ceilings=False).streams["cuda:0"]
    assert streams.overlap == pytest.approx(1 / 3, rel=0.02)  # b's copy, and not a's or that of the result
    assert "of the copies lay beside kernels" in str(t) and "asking a GPU for kernels and copies" in str(t)


def test_copies_of_a_run_lie_beside_the_kernels_of_the_one_before(session):
    y, feeds = two_parts()
    step = session.function(list(feeds), y, device_arrays=True)
    with session.trace() as t:
        for _ in range(4):
            step(*feeds.values())
    assert [run.error for run in t.runs] == [""] * 4
    assert t.runs[1].begun < t.runs[0].done  # the host does not wait
    streams = t.summary(ceilings=False).streams["cuda:0"]
    assert 0.7 < streams.overlap < 1 and streams.seconds < sum(run.seconds for run in t.runs)


def test_nothing_is_waited_for_while_a_traced_run_goes_on(session, cupy):
    y, feeds = two_parts()
    step = session.function(list(feeds), y, device_arrays=True)
    step(*feeds.values())
    with session.trace() as t:
        step(*feeds.values())
        zeros = cupy.gpu.log.count(("wait on host",))
        start = len(cupy.gpu.log)
        step(*feeds.values())
        waits = [what for what in cupy.gpu.log[start:] if what[0] in ("synchronize", "wait on host")]
    assert len(waits) == clock.ZEROS <= zeros  # those on a stream that has nothing to do
    assert len(t.runs) == 2


def test_a_traced_run_gives_the_same_bits_and_is_told_to_go_kernel_by_kernel(cupy):
    results = []
    for is_traced in (False, True):
        with fg.Graph() as graph:
            fetches, feeds = lenet()
        with fg.Session(graph, device="cuda:0", threads=1, jit=False) as session:
            for _ in range(2):
                session.run(fetches, feeds)
            with session.trace() if is_traced else contextlib.nullcontext() as t:
                results.append([session.run(fetches, feeds)[0], *session.variables.copy().values()])
    assert t is not None and t.runs[0].by_graph and "a GPU replays their kernels as one graph" in str(t)
    for ours, theirs in zip(*results, strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_what_the_host_was_late_to_ask_for_is_told_apart(session, monkeypatch):
    monkeypatch.setattr(stand_in, "ASKING", 10e-6)
    x = fg.placeholder("x", (4, 4))
    y = fg.tanh(fg.exp(x, name="late")) @ x
    with session.trace() as t:
        session.run(y, {x: rows(4, 4)})
    (run,) = t.runs
    late = {run.plan.kernels[index].name: run.late(index) for index in run.on_gpus}
    assert late["x to cuda:0"] == 0.0 and 5e-6 < late["late"] <= 10e-6
    for index, (begin, end) in run.spans.items():
        assert run.asked[index][0] - 1e-9 <= begin <= end <= run.done
    assert t.summary(ceilings=False).streams["cuda:0"].late == pytest.approx(sum(late.values()))
    assert "while the host still asked for them" in str(t)


def test_why_leads_from_the_host_over_copies_and_kernels(session):
    y, feeds = two_parts()
    with session.trace() as t:
        session.run(y, feeds)
    why = t.why("end")
    names = [step.kernel for step in why.steps]
    assert names[0] == "a to cuda:0" and names[1] == "matmul" and names[-1] in ("end", "end to the host")
    assert {step.worker for step in why.steps} == {"cuda:0 compute", "cuda:0 copies"}
    assert why.totals["kernel"] == pytest.approx(sum(end - begin for begin, end in t.runs[0].rows["cuda:0 compute"].values()), rel=0.1)
    assert "computing kernels" in str(why)


def test_a_summary_counts_the_times_of_the_device(session):
    y, feeds = two_parts()
    with session.trace() as t:
        session.run(y, feeds)
    summary = t.summary(ceilings=False)
    products = [end - begin for index, (begin, end) in t.runs[0].spans.items() if t.runs[0].plan.kernels[index].op == "matmul"]
    assert summary["matmul"].seconds == pytest.approx(sum(products)) and len(products) == 5
    assert summary["copy"].seconds > 2 * 512 * 512 * 4 / LINK
    assert summary.account.seconds["asking"] > 0 and not summary.account.seconds["kernel"]
    assert t.runs[0].done > t.runs[0].over


def test_turns_of_loops_are_timed_on_the_device(session, monkeypatch):
    x = fg.placeholder("x", (64, 64))
    y = fg.while_loop(lambda v: fg.sum(v[0]) < 6, lambda v: (v[0] + 1, fg.tanh(v[1] @ x)), (fg.constant(0), x))[1]
    for most in (tracing.TURNS_ON_GPUS, 5):
        monkeypatch.setattr(tracing, "TURNS_ON_GPUS", most)
        with session.trace() as t:
            session.run(y, {x: rows(64, 64)})
        (run,) = t.runs
        loop = span(run, "while")
        turns = [(t.plans[number], marks) for task in run.tasks for number, marks in task.turns]
        assert turns and all(loop[0] <= marks[0] and marks[-1] <= loop[1] for _, marks in turns)
        assert t.summary(ceilings=False)["matmul"].calls == 6
    assert run.totals and all(seconds > 0 for turns, each in run.totals.values() for seconds in each)
    assert_nests(json.loads(t.save_text())["traceEvents"])


def test_memory_is_taken_as_kernels_are_asked_for(session):
    y, feeds = two_parts()
    with session.trace() as t:
        session.run(y, feeds)
    memory = t.memory()
    assert 3 * 512 * 512 * 4 <= memory.peak <= memory.predicted * 1.1
    assert {each.name for each in memory.at_peak} >= {"a to cuda:0"}


def test_memory_is_told_by_devices(session):
    x = fg.placeholder("x", (64, 64))
    y = fg.exp(fg.py_call(np.sort, x, fg.tanh(x)))
    with session.trace() as t:
        session.run(y, {x: rows(64, 64)})
    memory = t.memory()
    assert set(memory.peaks) == {"cpu:0", "cuda:0"} and memory.peaks["cuda:0"] >= 2 * 64 * 64 * 4
    assert max(memory.peaks.values()) <= memory.peak
    assert "by devices, at most" in str(memory) and "waiting for what a GPU sends" in str(t)


# --- files and pictures


@pytest.fixture
def recorded(session):
    y, feeds = two_parts()
    step = session.function(list(feeds), y)
    with session.trace() as t:
        for _ in range(3):
            step(*feeds.values())
    return t


def test_the_file_has_a_track_for_each_stream(recorded, tmp_path):
    events = json.loads(recorded.save_text())["traceEvents"]
    names = {event["args"]["name"]: event["tid"] for event in events if event["ph"] == "M" and event["name"] == "thread_name"}
    assert {"cuda:0 compute", "cuda:0 copies"} <= set(names)
    on = {name: [event["name"] for event in events if event["ph"] == "X" and event["tid"] == tid] for name, tid in names.items()}
    assert on["cuda:0 copies"] == ["a to cuda:0", "b to cuda:0", "end to the host"] * 3
    assert on["cuda:0 compute"].count("end") == 3 and on["MainThread"].count("ask for end") == 3
    assert_nests(events)
    starts, ends = ({event["id"]: event["ts"] for event in events if event["ph"] == phase and event["cat"] == "asks"} for phase in "sf")
    assert starts.keys() == ends.keys() and all(starts[key] <= ends[key] for key in starts)
    loaded = fg.Trace.load(recorded.save(tmp_path / "run.json"))
    assert str(loaded) == str(recorded) and loaded.runs[0].rows == recorded.runs[0].rows


def test_a_file_with_a_kernel_that_nobody_asked_for_is_damaged(recorded, tmp_path):
    found = json.loads(recorded.save_text())
    found["flowgraph"]["runs"][0][10][0][-1][0][0] = 99
    (tmp_path / "bad.json").write_text(json.dumps(found))
    with pytest.raises(fg.FileFormatError, match="a kernel on a GPU that its task has not asked for"):
        fg.Trace.load(tmp_path / "bad.json")


def test_pictures_have_a_row_for_each_stream(recorded):
    picture = str(recorded.gantt(run=1))
    assert ">cuda:0 compute<" in picture and ">cuda:0 copies<" in picture and "of its copies beside them" in picture
    assert "being asked for" in picture
    page = recorded.gantt(format="html").data.decode()
    data = json.loads(page[page.index("const DATA = ") + 13 : page.index(";\nconst ASKING")])
    assert data["workers"] == ["MainThread", "cuda:0 compute", "cuda:0 copies"]
    assert len(data["runs"][0]["streams"]) == len(recorded.runs[0].on_gpus)


# --- when it fails


def test_a_device_that_fails_leaves_a_trace_without_its_times(session, cupy):
    x = fg.placeholder("x", (4,))
    y = fg.exp(x)
    with session.trace() as t:
        with pytest.raises(fg.ExecutionError, match="cuda:0 has failed"):
            future = session.run_async(y, {x: rows(4)})
            while not t._recordings[0].over:
                pass
            cupy.gpu.failed = "cudaErrorIllegalAddress"
            future.result()
        assert t.runs[0].rows == {} and json.loads(t.save_text())
    cupy.gpu.failed = ""


def test_a_kernel_that_fails_ends_the_trace_of_its_run(session):
    x = fg.placeholder("x", (3, 3))
    y = fg.linalg.inv(fg.exp(x))
    with session.trace() as t, pytest.raises(fg.LinAlgError):
        session.run(y, {x: np.zeros((3, 3), np.float32)})
    (run,) = t.runs
    assert [run.plan.kernels[index].name for index in run.on_gpus] == ["exp", "x to cuda:0"] and run.error


def test_overlap_is_the_part_of_copies_beside_kernels():
    streams = Streams("cuda:0", 10.0, 6.0, 0.0, 4.0, 3.0)
    assert streams.overlap == 0.75 and "75 % of the copies lay beside kernels" in str(streams)
    assert Streams("cuda:0", 10.0, 6.0, 0.0, 0.0, 0.0).overlap == 0.0


# --- what is measured for placement


def test_kernels_are_measured_without_the_time_to_ask_for_them(session):
    x = fg.placeholder("x", (256, 256))
    measured = session.calibrate(fg.tanh(fg.matmul(x, x, name="product"), name="bent"), {x: rows(256, 256)})
    assert measured.kernels["cuda"]["product"] == pytest.approx(STARTING + 3 * 256 * 256 * 4 / 1e12 + 2 * 256**3 / 10e12, rel=0.01)
    assert measured.kernels["cuda"]["bent"] == pytest.approx(STARTING + 2 * 256 * 256 * 4 / 1e12, rel=0.01)


# --- for the day on which there is a card


def test_the_script_that_shows_the_overlap_runs_to_its_end(cupy, tmp_path, capsys):
    assert overlap.main(["--small", "--steps", "3", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "of the copies lay beside kernels" in text
    for name in ("large", "lenet"):
        assert {path.suffix for path in tmp_path.glob(f"{name}.*")} == {".json", ".svg", ".html", ".txt"}
    assert json.loads((tmp_path / "overlap.json").read_text())["large"]["overlap"] > 0.5


def test_the_script_says_what_is_missing_where_there_is_no_card(capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    assert overlap.main([]) == 0
    assert "nothing to trace" in capsys.readouterr().err
