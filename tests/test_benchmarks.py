"""The benchmarks compare turns of the same round, and say where that leaves first place open; likewise one thread and several."""

import os

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import parallel, report, rounds
from benchmarks.environment import cpus
from benchmarks.rivals import RIVALS
from benchmarks.rounds import Options, Row
from benchmarks.spread import ratios
from benchmarks.workload import Behind, Setup, Workload, deviation
from benchmarks.workloads import LIMITS, WORKLOADS


class Scripted:
    """A process whose turns take what they are told to."""

    def __init__(self, name: str, seconds: list[float | None], log: list[str]) -> None:
        self.row, self.taken, self.seconds, self.log = Row("toy", name), 0.0, iter(seconds), log

    def ask(self, *question: object) -> float | None:
        self.log.append(self.row.rival)
        return next(self.seconds)


def take_turns(options: Options, *processes: Scripted) -> list[float]:
    loops: list[float] = []
    rounds.take_turns(list(processes), options, loops)  # type: ignore[arg-type]
    return loops


def toy_rows(**times: list[float]) -> list[Row]:
    return [Row("toy", rival, times=each, deviation=0.0) for rival, each in times.items()]


def test_the_order_of_turns_changes_from_round_to_round():
    log: list[str] = []
    loops = take_turns(Options(1, rounds=4), *(Scripted(name, [1.0] * 4, log) for name in "abc"))
    assert ["".join(log[k : k + 3]) for k in range(0, 12, 3)] == ["abc", "acb", "cab", "cba"]
    assert len(loops) == 4


def test_a_slow_rival_sits_out_after_the_least_rounds():
    log: list[str] = []
    slow, quick = Scripted("slow", [9.0] * 6, log), Scripted("quick", [1.0] * 6, log)
    slow.taken = 5.0
    take_turns(Options(1, rounds=6, rival_seconds=4.0), slow, quick)
    assert len(slow.row.times) == rounds.LEAST_ROUNDS
    assert len(quick.row.times) == 6


def test_a_rival_that_fails_in_a_round_is_not_asked_again():
    log: list[str] = []
    failing = Scripted("failing", [1.0, None], log)
    take_turns(Options(1, rounds=4), failing, Scripted("other", [1.0] * 4, log))
    assert failing.row.times == [1.0]
    assert log.count("failing") == 2


def test_a_ratio_is_taken_within_a_round():
    """The host is ten times as slow in every second round; by medians of times the second would be the quicker one."""
    ours, theirs = [1.0, 10.0, 1.0, 10.0, 10.0], [2.0, 20.0, 2.0, 2.0]
    found = ratios(ours, theirs)
    assert found is not None
    assert (found.low, found.median) == (0.5, 0.5)
    assert ratios(ours, []) is None


@pytest.mark.parametrize(
    ("ours", "is_first"),
    [([1.0, 1.0, 1.0], "yes"), ([3.0, 3.0, 3.0], "no"), ([1.0, 2.0, 3.0], "within the noise")],
)
def test_the_summary_says_whether_first_place_is_within_the_noise(ours, is_first):
    line = report.summary([WORKLOADS["toy"]], toy_rows(flowgraph=ours, numpy=[2.0, 2.0, 2.0], torch=[9.0, 9.0, 9.0])).splitlines()[-1]
    assert line.split(" | ")[2] == "numpy 2 s"
    assert line.split(" | ")[4] == "torch 9 s"
    assert line.endswith(f"| {is_first} |")


def test_the_best_rival_is_the_one_with_the_largest_ratio_in_the_rounds_that_both_took():
    """torch sat out when the host was slow, so its median is the smallest."""
    rows = toy_rows(flowgraph=[2.0, 2.0, 8.0, 8.0, 8.0], numpy=[1.0, 1.0, 4.0, 4.0, 4.0], torch=[1.5, 1.5])
    best = report.best_rival(WORKLOADS["toy"], rows)
    assert best is not None
    assert best.rival == "numpy"


def test_a_page_explains_only_where_flowgraph_is_not_first():
    toy = WORKLOADS["toy"]
    assert report.not_first(toy, toy_rows(flowgraph=[1.0, 1.0], numpy=[2.0, 2.0])) == ""
    text = report.not_first(toy, toy_rows(flowgraph=[3.0, 3.0], numpy=[2.0, 2.0]))
    assert text.startswith("flowgraph takes 1.50 (1.50 to 1.50) times as long as numpy. NumPy's line is")
    assert text in report.markdown(toy_rows(flowgraph=[3.0, 3.0], numpy=[2.0, 2.0]), {"host": "calm"})


def test_a_row_without_an_explanation_says_so():
    rows = [Row("wide", rival, times=times) for rival, times in {"flowgraph": [1.0, 3.0, 2.5], "jax": [2.0, 2.0, 2.0]}.items()]
    text = report.not_first(Workload("wide", "wide", "", lambda: None, 0.0), rows)
    assert text == "flowgraph takes 1.25 (0.88 to 1.38) times as long as jax, which is within the noise. This is not explained yet."


@pytest.mark.parametrize("name", [name for name, workload in WORKLOADS.items() if workload.behind])
def test_an_explanation_names_two_designs_or_more(name):
    behind = WORKLOADS[name].behind
    assert behind is not None
    assert len(behind.tried) >= 2
    assert any(letter.isdigit() for letter in behind.time)


def test_an_explanation_reads_as_a_paragraph():
    behind = Behind("Most is in the products.", ("tiles of 8 (1 ms)", "tiles of 6 (2 ms)"), left="prefetching")
    assert str(behind) == "Most is in the products. Tried: tiles of 8 (1 ms); tiles of 6 (2 ms). Not yet: prefetching."


def test_a_rival_too_slow_for_a_larger_graph_is_not_tried():
    rows = [
        Row("random-1e4", "flowgraph", times=[1.0], seconds={"all": 0.1}),
        Row("random-1e4", "pytensor", times=[1.0], seconds={"all": 4.0}),
        Row("random-1e4", "jax", "stopped"),
    ]
    assert bench.too_slow(WORKLOADS["random-1e5"], rows, limit=20.0) == {
        "pytensor": "not tried: by its time for a smaller graph, it would take 40 s until the first result",
        "jax": "not tried: no result on a smaller graph",
    }
    assert bench.too_slow(WORKLOADS["toy"], rows, limit=20.0) == {}


def test_two_rivals_are_measured_in_processes_of_their_own():
    """flowgraph's own figures from end to end; NumPy, which is not asked for, only gives the reference."""
    loops: list[float] = []
    options = Options(1, rounds=2, turn_seconds=0.001)
    (row,) = rounds.measure(WORKLOADS["toy"], ["flowgraph"], options, {}, loops)
    assert (row.rival, row.state, row.deviation) == ("flowgraph", "measured", 0.0)
    assert len(row.times) == len(loops) == 2
    assert all(seconds > 0 for seconds in row.times)


def test_a_process_that_gives_no_answer_is_stopped_and_the_row_says_why():
    row = Row("random-1e4", "numpy")
    with rounds.Process(row, WORKLOADS["random-1e4"], RIVALS["numpy"], Options(1, limit_seconds=0.0)) as process:
        assert process.is_loaded()
        assert process.ask("prepare") is None
    assert (row.state, row.reason) == ("stopped", "no answer to prepare in 0 s")


def test_what_differs_from_numpy_is_told():
    assert deviation([np.array([1.0, np.nan])], [np.array([1.0, 4.0])]) == float("inf")
    assert deviation([np.ones(2)], [np.ones(3)]) == float("inf")


def test_a_gain_is_taken_within_rounds_and_of_a_limit_counts_the_work_of_all_threads():
    times = {1: [4.0, 40.0], 2: [2.0, 20.0]}
    gained = parallel.Gain("wide graph", times=times).speed_up(2)
    limit = parallel.Gain("copy", scales=True, times=times).speed_up(2)
    assert gained is not None
    assert limit is not None
    assert (gained.median, limit.median) == (2.0, 4.0)


def test_the_page_on_threads_tells_gain_efficiency_and_bits():
    gains = [
        parallel.Gain("wide graph", times={1: [4e-3], 2: [2.5e-3], 4: [2e-3]}),
        parallel.Gain("MLP step", times={1: [1e-3], 2: [1e-3]}, differs=[4, 8]),
        parallel.Gain("gelu", reason="failed on 8 threads: no memory"),
    ]
    limit = parallel.Gain("copy", scales=True, times={1: [1e-3], 2: [1.6e-3]})
    text = parallel.markdown([limit], gains, {"host": "calm"})
    assert "| copy | 2 | 1 ms | 1.6 ms | 1.25 (1.25 to 1.25) | 62% |\n" in text
    assert text.splitlines()[-4:] == [
        "| wide graph | 2 | 4 ms | 2.5 ms | 1.60 (1.60 to 1.60) | 80% | yes |",
        "| wide graph | 4 | 4 ms | 2 ms | 2.00 (2.00 to 2.00) | 50% | yes |",
        "| MLP step | 2 | 1 ms | 1 ms | 1.00 (1.00 to 1.00) | 50% | other ones on 4, 8 |",
        "| gelu | - | - | - | failed on 8 threads: no memory | - | - |",
    ]


def test_the_same_values_may_have_other_bits():
    assert parallel.same_bits([np.array([np.nan, 1.0])], [np.array([np.nan, 1.0])])
    assert not parallel.same_bits([np.array([0.0])], [np.array([-0.0])])
    assert not parallel.same_bits([np.zeros(2)], [np.zeros((2, 1))])


@pytest.mark.parametrize("name", list(LIMITS))
def test_in_a_limit_each_thread_does_the_same_work(name):
    prepared = LIMITS[name].implementations["numpy"](np.ones((10, 10), "f4"), Setup(3))
    prepared.step()
    assert [result.tolist() for result in prepared.values()] == [np.full((10, 10), 10.0 if name == "limit-product" else 1.0).tolist()] * 3


def test_flowgraph_is_measured_on_one_thread_and_on_two():
    gain = parallel.measure(WORKLOADS["mlp"], RIVALS["flowgraph"], [1, 2], [1, 2, 8], Options(2, rounds=2, turn_seconds=0.001), [])
    assert (gain.reason, gain.differs) == ("", [])
    assert {threads: len(times) for threads, times in gain.times.items()} == {1: 2, 2: 2}


def test_one_thread_takes_its_turn_on_each_processor(monkeypatch):
    """The first one is a third as fast as the second: at the mean of their speeds, 1 a second and 3, a call takes half a second."""
    asked: list[tuple[object, ...]] = []

    def ask(process: rounds.Process, *question: object) -> float:
        asked.append(question)
        return 1 / 3 if question[-1] == 7 else 1.0

    monkeypatch.setattr(rounds.Process, "ask", ask)
    with parallel.OneThread([5, 7], Row("toy", "numpy"), WORKLOADS["toy"], RIVALS["numpy"], Options(1)) as process:
        assert process.ask("measure", 0.1) == 0.5
    assert asked == [("measure", 0.1, 5), ("measure", 0.1, 7)]


@pytest.mark.skipif(not cpus(), reason="no setting of processors here")
def test_a_turn_runs_on_the_processor_that_it_is_told():
    last = cpus()[-1]
    with rounds.Process(Row("toy", "numpy"), WORKLOADS["toy"], RIVALS["numpy"], Options(1)) as process:
        assert process.is_loaded()
        process.ask("prepare")
        assert os.sched_getaffinity(process.process.pid) == {cpus()[0]}
        process.ask("measure", 0.001, last)
        assert os.sched_getaffinity(process.process.pid) == {last}
