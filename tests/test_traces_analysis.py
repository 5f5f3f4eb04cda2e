"""What is worked out of a trace: waits with their reasons, the longest path, other numbers of threads; on runs that are made up."""

import json

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices.speed import SPEEDS
from flowgraph.traces import ceilings
from flowgraph.traces.costs import learnt
from flowgraph.traces.data import Kernel, Member, PlanData, RunData, Task, TaskRun
from flowgraph.traces.predict import longest, predict
from flowgraph.traces.simulate import Costs, simulate
from flowgraph.traces.summary import summary
from flowgraph.traces.waits import Waits
from flowgraph.traces.why import why

# name: (tasks that it waits for, thread, begin, end)
Told = dict[str, tuple[list[str], str, float, float]]


def made_up(told: Told, threads=2, cpu=None, admitted=None, limit=None):
    """A run of tasks with one kernel each, as told."""
    names = list(told)
    kernels, tasks, ran = [], [], []
    for index, (name, (after, worker, begin, end)) in enumerate(told.items()):
        befores = [names.index(other) for other in after]
        kernels.append(
            Kernel(name, name, name.rstrip("0123456789"), "", f"t.py:{index}", "", "t.py", "", "", "cpu:0", "", end - begin, 0.0, 0.0,
                   100, 0, befores, index, -1, [], [])
        )  # fmt: skip
        tasks.append(Task(index, index, index + 1, "cpu:0", befores, 0.0, end - begin, [], [], 100, 100))
        ready = max([told[other][3] for other in after], default=0.0)
        started = (admitted or {}).get(name, ready)
        ran.append(TaskRun(index, worker, "cpu:0", ready, started, begin, end, (cpu or {}).get(name, end - begin), [begin, end]))
    for task in reversed(tasks):
        task.priority = task.estimate + max((other.priority for other in tasks if task.index in other.after), default=0.0)
    plan = PlanData(0, kernels, tasks, {}, {}, [len(told) - 1], {}, 0, limit)
    over = max(task.end for task in ran)
    pool = {"cpu:0": threads} if threads > 1 else {}
    return RunData(0, plan, "t.py:9", "session.run(y)", pool, 0.0, 0.0, over, "", 0, ran, {}, {})


DIAMOND: Told = {
    "a": ([], "t0", 0.0, 4.0),
    "b": (["a"], "t0", 4.0, 9.0),
    "c": (["a"], "t1", 5.0, 7.0),
    "d": (["b", "c"], "t0", 9.0, 10.0),
}


def test_a_kernel_waited_for_the_input_that_came_last_and_what_that_waited_for():
    """B from 4 to 9, behind a on its thread; c from 5 to 7, after a hand-over; d reads both."""
    run = made_up(DIAMOND)
    found = why(run, [run], "d")
    assert [(step.kernel, step.begin, step.reads) for step in found.steps] == [("a", 0.0, False), ("b", 4.0, True), ("d", 9.0, True)]
    assert found.totals["kernel"] == pytest.approx(10.0)
    assert sum(found.totals.values()) == pytest.approx(10.0)
    assert why(run, [run], "c").totals["hand-over"] == pytest.approx(1.0)


def test_what_a_task_stood_off_the_processor_falls_on_the_kernel_that_took_longer_than_it_can():
    """A and b are one task: in the second run b takes 9 instead of 1, of which the thread computed for 2 with a."""
    plan = made_up({"a": ([], "t0", 0.0, 1.0), "b": (["a"], "t0", 1.0, 2.0)}, threads=1).plan
    plan.tasks = [Task(0, 0, 2, "cpu:0", [], 0.0, 2.0, [], [], 100, 100)]
    runs = []
    for number, marks in enumerate([[0.0, 1.0, 2.0], [10.0, 11.0, 20.0]]):
        ran = TaskRun(0, "t0", "cpu:0", marks[0], marks[0], marks[0], marks[-1], 2.0, marks)
        runs.append(RunData(number, plan, "", "", {}, marks[0], marks[0], marks[-1], "", 0, [ran], {}, {}))
    first, second = why(runs[1], runs, "b").steps
    assert (first.own["kernel"], first.own["system"]) == (1.0, 0.0)
    assert (second.own["kernel"], second.own["system"]) == (1.0, 8.0)


def test_a_task_that_is_ready_while_all_threads_are_busy_waits_for_a_thread():
    run = made_up(
        {"a": ([], "t0", 0.0, 1.0), "long0": (["a"], "t0", 1.0, 5.0), "long1": (["a"], "t1", 1.0, 5.0), "late": (["a"], "t0", 5.0, 6.0)}
    )
    waits = Waits([run]).before(run, run.by_task[3])
    assert waits == {"gate": 0.0, "worker": pytest.approx(4.0), "hand-over": 0.0}
    assert "for a free thread" in str(why(run, [run], "late"))


def test_what_the_memory_gate_held_back_waited_for_room():
    run = made_up({"a": ([], "t0", 0.0, 1.0), "b": ([], "t1", 1.0, 2.0)}, admitted={"b": 1.0}, limit=100)
    assert why(run, [run], "b").totals["gate"] == pytest.approx(1.0)
    assert Waits([run]).account().seconds["gate"] == pytest.approx(1.0)


def test_time_off_the_processor_is_the_locks_where_another_task_ran():
    run = made_up({"a": ([], "t0", 0.0, 4.0), "b": ([], "t1", 0.0, 1.0), "c": (["a"], "t0", 4.0, 6.0)}, cpu={"a": 1.0, "c": 1.5})
    waits = Waits([run])
    assert waits.off(run.by_task[0]) == {"lock": pytest.approx(1.0), "system": pytest.approx(2.0)}
    assert waits.off(run.by_task[2]) == {"lock": 0.0, "system": pytest.approx(0.5)}


def test_the_account_of_a_run_is_all_of_its_threads_time():
    run = made_up(DIAMOND, cpu={"b": 4.0})
    account = Waits([run]).account()
    assert sum(account.seconds.values()) == pytest.approx(2 * 10.0)
    assert account.seconds["input"] == pytest.approx(4 + 2 + 1)  # while only a ran, then only b, then only d
    assert account.seconds["hand-over"] == pytest.approx(1.0)
    assert account.blamed["b"] == pytest.approx(2.0)
    assert account.working == {1: pytest.approx(8.0), 2: pytest.approx(2.0)}
    assert account.efficiency == pytest.approx((12 - 1) / 20)


def test_a_loops_own_time_is_without_that_of_its_turns():
    run = made_up({"scan": ([], "t0", 0.0, 10.0)}, threads=1)
    inner = made_up({"tanh": ([], "t0", 0.0, 1.0)}).plan
    inner.number = 1
    run.plan.kernels[0].bodies = [1]
    run.tasks[0].turns = [(1, [1.0, 3.0]), (1, [4.0, 7.0])]
    found = summary([run], [run.plan, inner], [run], "op", None)
    assert {row.name: (row.calls, row.seconds) for row in found.rows} == {"scan": (1, 5.0), "tanh": (2, 5.0)}
    run.totals = {1: (2, [1.0])}  # turns that were not noted one by one
    found = summary([run], [run.plan, inner], [run], "op", None)
    assert {row.name: (row.calls, row.seconds) for row in found.rows} == {"scan": (1, 4.0), "tanh": (4, 6.0)}


# --- other settings


def free_of_cost(seconds):
    return Costs(seconds, [0.0] * len(seconds), 1, 0.0, 0.0, 0.0, 0.0)


def test_independent_tasks_take_the_work_divided_by_the_threads():
    plan = made_up({f"a{i}": ([], "t0", 0.0, 1.0) for i in range(8)}).plan
    taken = [simulate(plan, free_of_cost([1.0] * 8), {"cpu:0": count}).seconds for count in (1, 2, 4, 8, 16)]
    assert taken == pytest.approx([8, 4, 2, 1, 1])


def test_a_chain_takes_its_length_on_any_number_of_threads():
    plan = made_up({"a": ([], "t0", 0, 1), "b": (["a"], "t0", 1, 2), "c": (["b"], "t0", 2, 3)}).plan
    assert [simulate(plan, free_of_cost([1.0] * 3), {"cpu:0": n}).seconds for n in (1, 2, 8)] == pytest.approx([3, 3, 3])


def test_hand_overs_and_what_threads_share_cost_what_they_cost():
    plan = made_up({"a": ([], "t0", 0, 1), "b": (["a"], "t0", 1, 2), "c": (["a"], "t1", 1, 2)}).plan
    costs = Costs([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], 1, follow=0.1, hand_over=0.5, lead=0.2, wake=0.0)
    assert simulate(plan, costs, {"cpu:0": 2}).seconds == pytest.approx(0.1 + 1 + 0.5 + 1 + 0.1)
    slowed = Costs([1.0, 1.0, 1.0], [0.0, 1.0, 1.0], 1, 0.0, 0.0, 0.0, 0.0)  # b and c side by side take twice as long
    assert simulate(plan, slowed, {"cpu:0": 2}).seconds == pytest.approx(3.0)


def test_the_rule_of_priority_decides_which_task_goes_first():
    plan = made_up({"short": ([], "t0", 0, 1), "long": ([], "t1", 0, 1), "tail": (["long"], "t1", 1, 5)}).plan
    for task, other in zip(plan.tasks, (1.0, 5.0, 4.0), strict=True):
        task.priority = other
    runs = [made_up({"short": ([], "t0", 0, 1), "long": ([], "t1", 0, 1), "other": ([], "t0", 1, 2), "tail": (["long"], "t1", 1, 5)})]
    by_path = predict(runs, [runs[0].plan], threads=1).forecasts[0].bars.bars
    assert [bar.task for bar in by_path] == [0, 1, 2, 3]  # one thread goes through the tasks in their order
    two = predict(runs, [runs[0].plan], threads=2, priority="shortest").best.bars.bars
    assert two[-1].task == 3
    with pytest.raises(fg.ArgumentError, match="priority is one of path, order, shortest, longest, memory"):
        predict(runs, [runs[0].plan], priority="random")


def test_the_prediction_for_the_recorded_setting_is_what_was_recorded():
    run = made_up(DIAMOND)
    found = predict([run], [run.plan], threads=[1, 2, 16])
    assert learnt([run]).hand_over == pytest.approx(1.0)
    assert found.measured == 10.0 and found.error == pytest.approx(0.0)
    assert found["2"].seconds == pytest.approx(10.0) and found["2"].path_bound == pytest.approx(10.0)
    assert found["1"].seconds == pytest.approx(12.0) and found["1"].utilisation == pytest.approx(1.0)
    assert found["16"].work_bound == pytest.approx(12 / 16)
    assert found["2"].gains[0][0] == "b" and found["2"].gains[0][1] == pytest.approx(2.0)  # then c, with its hand-over, is as late as b
    assert "4 kernels in 4 tasks, recorded on 2 threads: 10 s measured, 10 s predicted (+0.0 %)" in str(found)


def test_faster_kernels_are_named_by_op_node_scope_line_or_member():
    run = made_up(DIAMOND)
    run.plan.kernels[1].scope = "layer/one"
    run.plan.kernels[3].members = [Member("relu", "relu", 0.5, "t.py:7", ""), Member("add", "add", 0.5, "t.py:8", "")]
    takes = {
        name: predict([run], [run.plan], threads=1, faster={name: 2}).best.seconds for name in ("b", "layer", "layer/one", "t.py:0", "relu")
    }
    assert takes == pytest.approx({"b": 9.5, "layer": 9.5, "layer/one": 9.5, "t.py:0": 10.0, "relu": 11.75})
    with pytest.raises(fg.UnknownNameError, match="nothing in the trace is of the op, node, scope or line 'reluu'") as caught:
        predict([run], [run.plan], faster={"reluu": 2})
    assert caught.value.help == "did you mean relu?"


def test_a_kernel_in_the_turns_of_a_loop_may_be_faster():
    run = made_up({"scan": ([], "t0", 0.0, 10.0)}, threads=1)
    inner = made_up({"tanh": ([], "t0", 0.0, 1.0)}).plan
    run.plan.kernels[0].bodies = [1]
    run.tasks[0].turns = [(1, [1.0, 3.0]), (1, [4.0, 6.0])]
    assert predict([run], [run.plan, inner], threads=1, faster={"tanh": 2}).best.seconds == pytest.approx(8.0)


def test_tasks_go_to_the_device_that_has_them_done_first_and_copies_take_their_time():
    run = made_up(
        {f"a{i}": ([], "t0", float(i), i + 1.0) for i in range(4)} | {"end": (["a0", "a1", "a2", "a3"], "t0", 4.0, 5.0)}, threads=1
    )
    alone, fast, both = predict([run], [run.plan], devices={"cpu:0": 1, "cuda:0": 3}, link=1e9).forecasts
    assert (alone.label, fast.label, both.label) == ("cpu:0 alone", "cuda:0 alone", "cpu:0 + cuda:0")
    assert alone.seconds == pytest.approx(5.0) and fast.seconds == pytest.approx(5 / 3)
    assert both.seconds < fast.seconds
    slow_link = predict([run], [run.plan], devices={"cpu:0": 1, "cuda:0": 3}, link=100).forecasts[2]
    assert slow_link.seconds > both.seconds


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threads": 0}, "predict: threads is a whole number, at least 1"),
        ({"threads": []}, "threads is a number or a list of them"),
        ({"devices": "cuda"}, "devices is a number, a list of names, or how much faster each is"),
        ({"devices": {"cuda:0": -1}}, "the speed of cuda:0 is a number above 0"),
        ({"devices": 2, "link": "fast"}, "link is bytes a second or one of memory, pcie3"),
        ({"faster": {"b": 0}}, "how much faster b is is a number above 0"),
        ({"faster": ["b"]}, "faster is a dict from names to factors"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(wrong, message):
    run = made_up(DIAMOND)
    with pytest.raises(fg.ArgumentError) as caught:
        predict([run], [run.plan], **wrong)
    assert message in str(caught.value)


def test_the_longest_path_is_found_by_the_recorded_times():
    plan = made_up(DIAMOND).plan
    assert longest(plan, [4.0, 5.0, 2.0, 1.0]) == (10.0, [0, 1, 3])
    assert longest(plan, [4.0, 1.0, 2.0, 1.0]) == (7.0, [0, 2, 3])


# --- on real runs


def test_printing_a_trace_tells_what_took_the_time_and_where_it_went():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (300, 300), "float64")
        with fg.scope("net"):
            y = fg.sum(fg.sort(x, axis=0) @ x)
    with fg.Session(graph, threads=2) as session, session.trace() as t:
        for _ in range(3):
            session.run(y, {x: np.ones((300, 300))})
    printed = str(t)
    assert printed.startswith("3 runs of ")
    for told in ("matmul", "sort", "on the longest path", "computing kernels", "were alive; the plan predicted"):
        assert told in printed
    assert [row.name for row in t.summary("scope", ceilings=False).rows] == ["net"]
    assert all(
        row.name.startswith("test_traces_analysis.py:") and "fg.sum(fg.sort" in row.detail for row in t.summary("line", ceilings=False).rows
    )
    assert t.summary("node", ceilings=False)["net/matmul"].flops == pytest.approx(3 * 2 * 300**3)
    assert t.why("matmul").steps[-1].node == "net/matmul"
    assert t.why(y).steps[-1].node == "net/sum"
    assert t.why().efficiency > 0
    with pytest.raises(fg.UnknownNameError, match="no kernel of the run is called 'matmull'"):
        t.why("matmull")
    with pytest.raises(fg.ArgumentError, match="summary: by is"):
        t.summary("colour")


def test_ceilings_are_measured_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWGRAPH_CACHE", str(tmp_path))
    calls = []

    def measure(names):
        calls.append(names)
        return fg.Calibration({"cpu:0": SPEEDS["cpu"]})

    monkeypatch.setattr(ceilings, "calibrate", measure)
    first = ceilings.ceilings()
    assert ceilings.ceilings() == first and len(calls) == 1
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["flops_per_second"] == first.flops_per_second
    file.write_text("{")
    assert ceilings.ceilings() == first and len(calls) == 2
    other = [{"user_api": "blas", "architecture": "SkylakeX", "version": "9"}]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: other)
    assert ceilings.ceilings() == first and len(calls) == 3, "another BLAS has other ceilings"


def test_a_thread_that_was_slower_is_slower_in_the_prediction_for_as_many_threads():
    """Four tasks of one kind: those on t1 took twice as long, as its processor had other work."""
    runs = [
        made_up({"a0": ([], "t0", 0, 1), "a1": ([], "t1", 0, 2), "a2": ([], "t0", 1, 2), "a3": ([], "t0", 2, 3)}),
        made_up({"a0": ([], "t1", 0, 2), "a1": ([], "t0", 0, 1), "a2": ([], "t0", 1, 2), "a3": ([], "t0", 2, 3)}),
    ]
    costs = learnt(runs)
    assert costs.paces[0] < 1 < costs.paces[1]
    alike = Costs(costs.seconds, costs.slowed, costs.others, costs.follow, costs.hand_over, costs.lead, costs.wake)
    plan = runs[0].plan
    assert simulate(plan, costs, {"cpu:0": 2}).seconds == pytest.approx(3.0, rel=0.2)
    assert simulate(plan, costs, {"cpu:0": 4}).seconds == simulate(plan, alike, {"cpu:0": 4}).seconds


def test_another_batch_scales_what_grows_with_it():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 64), "float64")
        w = fg.variable(np.eye(64), name="w")
        loss = fg.sum(fg.sort(x @ w, axis=1))
        train = fg.optim.SGD(0.1).minimize(loss)
    with fg.Session(graph, threads=1, jit=False) as session, session.trace() as t:
        session.run([loss, train], {x: np.ones((128, 64))})
        session.run(fg.exp(w), {})
    plan = t.run().plan
    assert plan.batch == 128
    grows = {kernel.node: (round(kernel.grows, 1), round(kernel.fills, 1)) for kernel in plan.kernels}
    assert grows["matmul"][0] > 0.5 and grows["matmul"][1] == grows["sort"][1] == 1.0
    assert grows["gradients/matmul/matmul"][0] > 0.5 and grows["gradients/matmul/matmul"][1] == 0.0  # as large a result, from more
    assert grows["train/w/updated"] == (0.0, 0.0)
    same, larger = (predict([t.runs[0]], t.plans, threads=1, batch=size) for size in (128, 512))
    assert same.best.seconds == pytest.approx(predict([t.runs[0]], t.plans, threads=1).best.seconds)
    assert larger.best.seconds > same.best.seconds and larger.best.peak_bytes > 2 * same.best.peak_bytes
    with pytest.raises(fg.ArgumentError, match="no size that was left open"):
        predict([t.runs[1]], t.plans, threads=1, batch=2)


def test_a_trace_and_a_record_may_be_made_of_the_same_runs(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        y = fg.sum(fg.exp(x))
    with fg.Session(graph, threads=1) as session:
        plain = session.run(y, {x: [1.0, 2.0, 3.0]})
        with session.record(tmp_path / "run.fgr"), session.trace() as t:
            assert session.run(y, {x: [1.0, 2.0, 3.0]}) == plain
    assert len(t) == 1 and (tmp_path / "run.fgr").exists()


def test_a_thread_that_is_done_before_another_has_woken_takes_the_task():
    """A makes c and b ready at 1; its thread goes on with c, and whoever is woken for b, which takes 0.2, needs 5."""
    plan = made_up({"a": ([], "t0", 0, 1), "b": (["a"], "t0", 1, 1.2), "c": (["a"], "t0", 1.2, 2.2)}).plan
    costs = Costs([1.0, 0.2, 1.0], [0.0] * 3, 1, follow=0.0, hand_over=5.0, lead=0.0, wake=0.0)
    assert simulate(plan, costs, {"cpu:0": 2}).seconds == pytest.approx(2.2)
    quick = Costs([1.0, 0.2, 1.0], [0.0] * 3, 1, follow=0.0, hand_over=0.1, lead=0.0, wake=0.0)
    assert simulate(plan, quick, {"cpu:0": 2}).seconds == pytest.approx(2.0)


def test_a_summary_says_where_runs_are_quicker_without_a_trace():
    run = made_up(DIAMOND)
    assert "without a trace such runs are quicker" not in str(summary([run], [run.plan], [run], "op", None))
    run.by_crew = True
    assert "without a trace such runs are quicker" in str(summary([run], [run.plan], [run], "op", None))


def test_a_summary_names_the_rows_that_are_near_one_that_it_has_not():
    x = fg.placeholder("x", (8, 8), "float64")
    with fg.Session(x.graph) as session, session.trace() as t:
        session.run(fg.sort(x), {x: np.zeros((8, 8))})
    assert t.summary(ceilings=False)["sort"].calls == 1
    with pytest.raises(fg.UnknownNameError, match=r"no op in the summary is called 'sorts'(.|\n)*near: sort"):
        t.summary(ceilings=False)["sorts"]
