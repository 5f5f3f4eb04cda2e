"""A recorded run is replayed elsewhere: with the same bits, step by step, forwards and backwards, at a prompt and from Python."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.cli import main
from flowgraph.replay import Replay, load_record
from flowgraph.replay.terminal import COMMANDS, Terminal
from flowgraph.session.expressions import Expression


def training():
    """A network with dropout, and a step of its training."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 64))
        y = fg.placeholder("y", ("batch",), "int64")
        with fg.scope("net"):
            model = fg.nn.Sequential(fg.nn.Linear(64, 256), fg.nn.relu, fg.nn.Dropout(0.5), fg.nn.LayerNorm(256), fg.nn.Linear(256, 10))
            scores = model(x, training=True)
        loss = fg.identity(fg.mean(fg.nn.softmax_cross_entropy(scores, y)), name="loss")
        train = fg.optim.Adam(1e-3).minimize(loss)
    return graph, x, y, loss, train


def batches(count, rows=3000):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((rows, 64)).astype("f4"), rng.integers(0, 10, rows)) for _ in range(count)]


@pytest.fixture
def recorded(tmp_path):
    """The path of a record of three steps of training, made with 8 threads, and the losses."""
    graph, x, y, loss, train = training()
    with fg.Session(graph, threads=8, seed=3) as session:
        step = session.function([x, y], [loss, train])
        step(*batches(1)[0])  # runs that are not recorded come before
        with session.record(tmp_path / "run.fgr"):
            losses = [step(*batch)[0] for batch in batches(3)]
    return tmp_path / "run.fgr", losses


def simple(path, value=4.0):
    """A record of a run of few nodes."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        with fg.scope("layer1"):
            root = fg.identity(fg.sqrt(x), name="root")
        y = fg.sum(root * 10.0)
    with fg.Session(graph, jit=False) as session, session.record(path):
        session.run([root, y], {x: [value, 9.0, 16.0]})
    return path


def test_a_record_made_with_8_threads_replays_on_1_with_every_tensor_equal_bit_by_bit(recorded):
    path, losses = recorded
    record = load_record(path)
    assert record.session["threads"] == 8
    assert len(record.runs) == 3
    for number, loss in enumerate(losses):
        with Replay(record, number) as replay:
            assert len(replay.plan.tasks) > 8  # several threads had something to do
            for threads in (1, 2):
                comparison = replay.verify(threads)
                assert comparison.is_same, comparison
                assert comparison.tasks == len(replay.plan.tasks)  # what each task left behind, compared by its hash
            while replay.forward():
                pass
            assert replay.results()[0] == loss


def test_values_stepped_to_are_those_of_the_run(recorded):
    """Each tensor that the stepped plan makes, against the same run with that tensor among its results."""
    path, _ = recorded
    with Replay(path, 1) as replay:
        replay.run()
        known = {tensor: replay.value(tensor) for step in replay.steps for tensor, _ in step.made}
        before = replay._before(replay.recorded)
        with fg.Session(replay.record.graph, threads=8) as session:
            for tensor, value in list(known.items())[::5]:
                session.variables.update([(node.outputs[0], array) for node, array in before.items()])
                session.random_state = replay.recorded.seed, replay.recorded.number
                assert np.allclose(session.run(tensor, replay.recorded.feeds), value, rtol=1e-4, atol=1e-6), tensor


def test_variables_are_kept_once_and_found_again_through_the_runs_that_wrote_them(recorded, tmp_path):
    path, _ = recorded
    record = load_record(path)
    first, second, third = record.runs
    written = [node for node in second.variables if second.variables[node] is first]
    assert len(written) > 10
    assert all(third.variables[node] is second for node in written)
    with Replay(record, 2) as replay:
        assert replay.verify().is_same
    kept = zipfile.ZipFile(path).getinfo("values.safetensors").file_size
    feeds = sum(array.nbytes for run in record.runs for array in run.feeds.values())
    variables = sum(array.nbytes for array in first.variables.values())
    assert kept < feeds + variables + 10_000


def test_only_the_last_runs_are_kept_where_that_is_asked_for(tmp_path):
    graph, x, y, loss, train = training()
    with fg.Session(graph, threads=2) as session:
        with session.record(tmp_path / "run.fgr", last=2) as recorder:
            for batch in batches(5, rows=50):
                session.run([loss, train], {x: batch[0], y: batch[1]})
            assert len(recorder.runs) == 2
    record = load_record(tmp_path / "run.fgr")
    assert [run.number for run in record.runs] == [3, 4]
    for number in (0, 1):
        with Replay(record, number) as replay:
            assert replay.verify().is_same


def test_a_value_that_the_user_sets_between_runs_is_in_the_record(tmp_path):
    with fg.Graph() as graph:
        v = fg.variable(1.0, name="v", dtype="float64")
        up = fg.assign(v, v * 2)
    with fg.Session(graph) as session, session.record(tmp_path / "run.fgr"):
        session.run(up)
        session.variables["v"] = 10.0
        session.run(up)
        session.run(v)
    for number, value in ((0, 1.0), (1, 10.0), (2, 20.0)):
        with Replay(tmp_path / "run.fgr", number) as replay:
            assert replay.value("v") == value
            assert replay.verify().is_same


def test_calls_of_a_function_that_need_no_run_of_their_own_are_recorded_too(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        y = x * 2
    with fg.Session(graph) as session:
        double = session.function([x], y)
        for _ in range(4):
            double([1.0, 2.0])
        assert double._direct is not None
        with session.record(tmp_path / "run.fgr"):
            double([1.0, 2.0])
            double([3.0, 4.0])
        for _ in range(3):
            double([1.0, 2.0])
        assert double._direct is not None  # and afterwards they are quick again
    assert [run.feeds[run.fetches[0].graph["x"]].tolist() for run in load_record(tmp_path / "run.fgr").runs] == [[1.0, 2.0], [3.0, 4.0]]


def test_feeds_are_kept_as_they_were_when_the_run_began(tmp_path):
    array = np.array([4.0, 9.0])
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        y = fg.sqrt(x)
    with fg.Session(graph) as session, session.record(tmp_path / "run.fgr"):
        session.run(y, {x: array})
        array[:] = 0
    with Replay(tmp_path / "run.fgr") as replay:
        assert replay.value("x").tolist() == [4.0, 9.0]


def test_a_run_that_failed_is_replayed_to_where_it_failed(tmp_path):
    with fg.Graph() as graph:
        a = fg.placeholder("a", ("n", "n"), "float64")
        twice = fg.identity(a * 2.0, name="twice")
        inverse = fg.linalg.inv(twice)
    with fg.Session(graph, jit=False) as session, pytest.raises(fg.LinAlgError), session.record(tmp_path / "run.fgr"):
        session.run(inverse, {a: np.zeros((2, 2))})
    with Replay(tmp_path / "run.fgr") as replay:
        assert "LinAlgError" in replay.recorded.error
        assert replay.verify().is_same
        with pytest.raises(fg.LinAlgError, match="inv"):
            replay.run()
        assert name_of(replay.step) == "multiply"
        assert replay.failure is not None
        replay.change("multiply", np.eye(2))
        replay.run()
        np.testing.assert_array_equal(replay.results()[0], np.eye(2))


def test_a_record_is_a_graph_file_as_well(tmp_path):
    path = simple(tmp_path / "run.fgr")
    assert "layer1/root" in fg.io.load_graph(path)


# --- stepping


def name_of(step):
    assert step is not None
    return step.node.name


def test_a_replay_goes_forwards_and_backwards(tmp_path):
    with Replay(simple(tmp_path / "run.fgr")) as replay:
        names = [name_of(replay.forward()) for _ in replay.steps]
        assert names == ["layer1/sqrt", "multiply", "sum"]
        assert replay.forward() is None
        assert replay.value("sum") == 90.0
        assert name_of(replay.back(2)) == "layer1/sqrt"
        with pytest.raises(fg.ArgumentError, match="multiply is not there yet"):
            replay.value("multiply")
        assert replay.go(0) is None
        with pytest.raises(fg.ArgumentError, match="step 1 of 3 makes it"):
            replay.value("layer1/root")
        replay.go(3)
        np.testing.assert_array_equal(replay.results()[0], [2.0, 3.0, 4.0])
        with pytest.raises(fg.ArgumentError, match="there are 3 steps"):
            replay.go(4)


def test_a_changed_value_is_read_by_all_that_comes_and_can_be_taken_back(tmp_path):
    with Replay(simple(tmp_path / "run.fgr")) as replay:
        replay.run()
        replay.change("layer1/sqrt", [1.0, 1.0, 1.0])
        assert replay.place == 1  # back behind the step that makes it
        replay.run()
        assert replay.value("sum") == 30.0
        replay.go(0)
        replay.run()  # a change stays, however often its step runs
        assert replay.value("sum") == 30.0
        replay.restore("layer1/sqrt")
        replay.run()
        assert replay.value("sum") == 90.0
        replay.change("x", 1.0)  # a feed: all its elements
        assert replay.place == 0
        replay.run()
        assert replay.value("sum") == 30.0
        replay.restore("x")
        replay.run()
        assert replay.value("sum") == 90.0
        with pytest.raises(fg.ArgumentError, match="has shape"):
            replay.change("x", [1.0, 2.0])
        with pytest.raises(fg.ArgumentError, match="was not changed"):
            replay.restore("sum")


def test_what_is_written_over_in_place_can_be_gone_back_to(recorded):
    path, _ = recorded
    with Replay(path) as replay:
        values = {}
        while replay.forward():
            for tensor, _ in replay.steps[replay.place - 1].made:
                values[tensor] = np.array(replay.value(tensor))
        while replay.place:
            for tensor, _ in replay.steps[replay.place - 1].made:
                np.testing.assert_array_equal(replay.value(tensor), values[tensor])
            replay.back()
        while replay.forward():
            for tensor, _ in replay.steps[replay.place - 1].made:
                np.testing.assert_array_equal(replay.value(tensor), values[tensor])


def test_loops_are_entered_turn_by_turn(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (5,), "float64")
        last, _ = fg.scan(lambda c, v: (c + fg.log(v), c), 0.0, x)
        y = last * 2
    with fg.Session(graph, jit=False) as session, session.record(tmp_path / "run.fgr"):
        session.run(y, {x: [1.0, 2.0, 0.0, 3.0, 4.0]})
    with Replay(tmp_path / "run.fgr") as replay:
        replay.breakpoints.append(fg.replay.stepping.Breakpoint("any(isinf(x))", replay.graph))
        replay.run()
        assert replay.inner is not None and replay.inner.path[0].number == 2
        inner = replay.into(2)
        inner.run()
        assert inner.value("scan/log") == -np.inf
        with pytest.raises(fg.ArgumentError, match="had no call 7"):
            replay.into(7)
        replay.go(0)
        replay.breakpoints[:] = [fg.replay.stepping.Breakpoint("scan/log if x > 1", replay.graph)]
        replay.run()
        assert replay.inner is not None and replay.inner.path[0].number == 3  # the logarithm of 3
        assert replay.place == 1
        replay.run()
        assert replay.value("multiply") == -np.inf


# --- breakpoints and expressions


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("multiply", ["multiply"]),
        ("layer1", ["layer1/sqrt"]),
        ("layer1/*", ["layer1/sqrt"]),
        ("*", ["layer1/sqrt", "multiply", "sum"]),
        ("any(x > 35)", ["multiply", "sum"]),
        ("* if x.ndim == 0", ["sum"]),
        ("test_replay.py:53", ["layer1/sqrt"]),
    ],
)
def test_a_breakpoint_stops_behind_what_it_says(text, stops, tmp_path):
    with Replay(simple(tmp_path / "run.fgr")) as replay:
        line = next(node.location.line for node in replay.graph.nodes if node.name == "layer1/sqrt")
        replay.breakpoints.append(fg.replay.stepping.Breakpoint(text.replace("53", str(line)), replay.graph))
        found = []
        while replay.run() is not None:
            found.append(name_of(replay.step))
        assert found == stops
        back = []
        while replay.run_back() is not None:
            back.append(name_of(replay.step))
        assert back == [name for name in reversed(stops) if name != "sum"] or stops[-1] != "sum"


def test_a_breakpoint_that_can_never_stop_is_refused(tmp_path):
    with Replay(simple(tmp_path / "run.fgr")) as replay:
        for text, said in [
            ("layer2", "near: layer1"),
            ("train.py:3", "no node was made in train.py"),
            ("test_replay.py:1", "lines near it"),
            ("any(isnam(x))", "near: isnan"),
            ("any(isnan(x)", "is no expression"),
        ]:
            with pytest.raises(fg.ArgumentError) as caught:
                fg.replay.stepping.Breakpoint(text, replay.graph)
            assert said in str(caught.value), text


def test_expressions_are_arithmetic_and_nothing_else():
    assert Expression("norm(x) > 4 and not any(isnan(x))", {"x"})(x=np.array([3.0, 4.0]))
    for text in ("__import__('os')", "x.__class__", "(lambda: x)()", "[y for y in x]", "open('f')", "x.tofile('f')", "x := 1", "f'{x}'"):
        with pytest.raises(fg.ArgumentError):
            Expression(text, {"x"})


# --- the prompt


def answers(path, commands, **options):
    out = io.StringIO()
    terminal = Terminal(Replay(path, **options), out)
    terminal.run(commands)
    terminal.replay.close()
    return out.getvalue()


def test_the_prompt_answers_each_command(tmp_path):
    path = simple(tmp_path / "run.fgr")
    text = answers(path, ["step", "where", "show", "show layer1/sqrt[1:]", "show norm(value('x')) > 1", "set layer1/sqrt[0] = x[1] * 2"])
    assert "step 1 of 3   layer1/sqrt   (3,) float64   test_replay.py:" in text
    assert "reads  x   (3,) float64, min 4, max 16, mean 9.667, norm 18.79" in text
    assert "makes  layer1/sqrt   (3,) float64, min 2, max 4, mean 3, norm 5.385" in text
    assert "[2. 3. 4.]" in text
    assert "[3. 4.]" in text
    assert "True" in text
    assert "min 3, max 6, mean 4.333, norm 7.81, changed" in text

    text = answers(path, ["b", "c", "c", "r", "step", "", "unset x", "zork", "delete 4", "goto x", "out", "into", "set x", "set zork = 1"])
    assert "at the start, before 3 steps" in text
    assert "step 3 of 3, the last   sum" in text
    assert "all 3 steps have run" in text
    assert "step 2 of 3   multiply" in text  # the empty line repeats step
    assert "ArgumentError: x was not changed" in text
    assert "there is no command 'zork': help lists them" in text
    assert "there is no breakpoint 4" in text
    assert "a number is expected, got 'x'" in text
    assert "this is the run itself" in text
    assert "is no loop and no branch" in text
    assert "a name and a value are expected" in text
    assert "no node is called 'zork'" in text

    text = answers(path, ["break multiply", "continue", "break", "results", "verify", "runs", "info", "source", "list"])
    assert "breakpoint 0: multiply\nbreakpoint 0: multiply\nstep 2 of 3   multiply" in text
    assert "sum   () float64, 90.0" in text
    assert "1 task and 2 results compared: equal, bit by bit" in text
    assert "->    0  layer1/root, sum from x (3,): 1 tasks" in text
    assert "def task_0(v, run):" in text
    assert "->    3  sum   () float64   test_replay.py:" in text


def test_help_tells_of_each_command(tmp_path):
    path = simple(tmp_path / "run.fgr")
    text = answers(path, ["help", *[f"help {name}" for name in COMMANDS], "help zork"])
    for name, (_, _, told) in COMMANDS.items():
        assert len(re.findall(rf" {re.escape(told)}$", text, re.MULTILINE)) == 2, name
    assert "break any(isnan(x))" in text
    assert "there is no command 'zork'" in text


def test_the_command_line_replays_and_says_what_is_wrong(tmp_path, capsys):
    path = simple(tmp_path / "run.fgr", value=-4.0)
    assert main(["replay", str(path), "-c", "break any(isnan(x)); continue; where"]) == 0
    out = capsys.readouterr().out
    assert "run 0, the only one: 3 steps" in out
    assert "(replay) continue\nbreakpoint 0: any(isnan(x))\nstep 1 of 3   layer1/sqrt" in out
    assert "makes  layer1/sqrt   (3,) float64, min 3, max 4, mean 3.5, norm 5, 1 nan" in out
    assert main(["replay", str(path), "--run", "3"]) == 1
    assert "the record has 1 runs, and 3 is none of them" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "none.fgr")]) == 1
    assert "FileNotFoundError" in capsys.readouterr().err


def test_commands_may_come_through_a_pipe(tmp_path):
    path = simple(tmp_path / "run.fgr")
    script = f"import sys; from flowgraph.cli import main; sys.exit(main(['replay', {str(path)!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", script], input="step\nshow\nquit\nstep\n", capture_output=True, text=True, timeout=120, check=True
    )
    assert "[2. 3. 4.]" in done.stdout
    assert done.stdout.count("step 1 of 3") == 1


# --- Python functions


@fg.custom_op(infer=lambda x: x)
def cube(x):
    return x * x * x


def test_a_python_function_is_named_in_the_record_and_given_again(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n",), "float64")
        y = fg.sum(cube(fg.exp(x)) + 1.0)
    with fg.Session(graph) as session, session.record(tmp_path / "run.fgr"):
        session.run(y, {x: [0.0, 0.0]})
    record = load_record(tmp_path / "run.fgr")
    assert record.functions == ("cube",)
    with Replay(record) as replay:
        replay.forward()
        assert replay.value("exp").tolist() == [1.0, 1.0]
        with pytest.raises(fg.FlowgraphError, match="cube is a Python function, which no file holds"):
            replay.run()
    with Replay(tmp_path / "run.fgr", functions={"cube": cube.__wrapped__}) as replay:
        replay.run()
        assert replay.results() == [4.0]
        assert replay.verify().is_same
    with pytest.raises(fg.FileFormatError, match="names a Python function"):
        fg.io.load_graph(tmp_path / "run.fgr")
    with pytest.raises(fg.ArgumentError, match="functions are a dict"):
        load_record(tmp_path / "run.fgr", functions=cast("Any", [cube]))


# --- what differs


def test_a_run_that_differs_is_said_to_differ_first_where_it_does(recorded, tmp_path):
    path, _ = recorded
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(entries["record.json"])
    task = len(document["runs"][0]["tasks"]) // 2
    document["runs"][0]["tasks"][str(task)] = "00" * 12
    document["made"]["numpy"] = "1.0"
    entries["record.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(tmp_path / "other.fgr", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with Replay(tmp_path / "other.fgr", 0) as replay:
        comparison = replay.verify()
    assert not comparison.is_same
    assert f"task {task} is the first that differs: {replay.plan.tasks[task].units[0].node.name}" in str(comparison)
    assert f"note: numpy 1.0 made it, {np.__version__} is here" in str(comparison)


# --- damage


def test_a_damaged_record_is_a_clear_error_and_never_runs_code(tmp_path):
    path = simple(tmp_path / "run.fgr")
    content = path.read_bytes()
    damaged = tmp_path / "damaged.fgr"
    for size in (0, 10, len(content) // 2, len(content) - 1):
        damaged.write_bytes(content[:size])
        with pytest.raises(fg.FileFormatError, match=r"load_record: .*damaged.fgr is damaged, truncated, or no record"):
            load_record(damaged)
    fg.io.save_graph(load_record(path).graph, damaged)
    with pytest.raises(fg.FileFormatError, match="no record"):
        load_record(damaged)
    rng = np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        damaged.write_bytes(changed)
        try:
            load_record(damaged)
        except fg.FileFormatError:
            continue


CHANGES = [
    (lambda d: d.update(version=2), "version 2 of the format"),
    (lambda d: d.update(format="x"), "holds no record"),
    (lambda d: d.pop("runs"), "'runs' is missing"),
    (lambda d: d["session"].update(threads="8"), "what the session was"),
    (lambda d: d["plans"][0]["fetches"].append([99, 0]), "a node that is not there"),
    (lambda d: d["plans"][0]["fetches"].append([0, 5]), "a tensor that is none"),
    (lambda d: d["plans"][0].update(memory_limit="x"), "a memory limit"),
    (lambda d: d["runs"][0].update(plan=7), "plan 7"),
    (lambda d: d["runs"][0].update(feeds=[]), "do not fit"),
    (lambda d: d["runs"][0].update(feeds=[3]), "no array"),
    (lambda d: d["runs"][0].update(variables={"0": {"run": 0}}), "which is no variable"),
    (lambda d: d["runs"][0].update(seed=-1), "seed -1"),
    (lambda d: d["runs"][0].update(order=["a"]), "a task that is none"),
    (lambda d: d["runs"][0].update(tasks={"0": "zz"}), "a hash that is none"),
    (lambda d: d["runs"][0].update(error=None), "'error' is missing"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=lambda value: value if isinstance(value, str) else "")
def test_each_claim_of_a_record_is_checked(change, said, tmp_path):
    path = simple(tmp_path / "run.fgr")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(entries["record.json"])
    change(document)
    entries["record.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(fg.FileFormatError) as caught:
        load_record(path)
    assert said in str(caught.value)


def test_two_records_of_one_session_at_once_are_refused(tmp_path):
    with fg.Graph() as graph, fg.Session(graph) as session, session.record(tmp_path / "a.fgr"):
        with pytest.raises(fg.ArgumentError, match="being made already"), session.record(tmp_path / "b.fgr"):
            pass
        with pytest.raises(fg.ArgumentError, match="last"), session.record(tmp_path / "b.fgr", last=0):
            pass
    assert [path.name for path in Path(tmp_path).iterdir()] == ["a.fgr"]
