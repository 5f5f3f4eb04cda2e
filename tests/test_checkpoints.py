"""Checkpoints: a training that is killed at any moment goes on, and ends with the bits of one that was left alone."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import ArgumentError, FileFormatError
from flowgraph.io import Checkpoints, WeightsError, load_weights, save_weights

# A training of 12 steps with all that has to be taken along: an optimiser's state and step, random draws in the graph, the order of the
# data and the draws of its transform. It saves every third step, and kills itself where it is told to.
PROGRAM = """
import os, signal, sys
import numpy as np
import flowgraph as fg
import flowgraph.io.files, flowgraph.io.weights

folder, moment, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def at_call(function, instead):
    calls = 0
    def counted(*args, **options):
        nonlocal calls
        calls += 1
        return (instead if calls == count else function)(*args, **options)
    return counted

if moment == "before the new file takes its name":
    flowgraph.io.files.os.replace = at_call(os.replace, die)
if moment == "before an old file is removed":
    fg.io.checkpoints.Path.unlink = at_call(fg.io.checkpoints.Path.unlink, die)
if moment == "half way through the new file":
    import safetensors.numpy
    def half(arrays, path, metadata):
        data = safetensors.numpy.save(arrays, metadata)
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        die()
    safetensors.numpy.save_file = at_call(safetensors.numpy.save_file, half)

rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
x = fg.placeholder("x", ("batch", 3))
h = fg.nn.dropout(fg.nn.relu(fg.nn.Linear(3, 16)(x)), 0.5)
loss = fg.mean(fg.square(fg.nn.Linear(16, 1)(h) - fg.sum(x, axis=1, keepdims=True)))
train = fg.optim.Adam(fg.optim.cosine(0.1, 12)).minimize(loss)

with fg.Session(seed=7, threads=1) as session:
    batches = fg.data.batches(rows, 6, epochs=3, seed=5, transform=lambda b, rng: b + rng.normal(size=b.shape).astype(np.float32))
    checkpoints = fg.io.Checkpoints(folder, session, keep=2, states={"batches": batches})
    step = checkpoints.restore()
    print("from", step, flush=True)
    for batch in batches:
        session.run(train, {x: batch})
        step += 1
        if moment == "after a step" and step == count:
            die()
        if step % 3 == 0:
            checkpoints.save(step)
    fg.io.save_weights(session, os.path.join(folder, "last.safetensors"))
"""


def trained(folder: Path, moment: str = "never", count: int = 0) -> tuple[int, int]:
    """Runs the training until it ends or kills itself; gives its exit code and the step that it began behind."""
    command = [sys.executable, "-c", PROGRAM, str(folder), moment, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert done.stdout.startswith("from "), done.stderr
    return done.returncode, int(done.stdout.split()[1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert trained(folder) == (0, 0)
    return (folder / "last.safetensors").read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a process kills itself with SIGKILL, which this system has not")
@pytest.mark.parametrize(
    ("moment", "count", "goes_on_behind"),
    [
        ("after a step", 2, 0),
        ("after a step", 3, 0),
        ("after a step", 8, 6),
        ("after a step", 12, 9),
        ("before the new file takes its name", 1, 0),
        ("before the new file takes its name", 3, 6),
        ("half way through the new file", 2, 3),
        ("before an old file is removed", 1, 9),
    ],
)
def test_a_training_that_was_killed_ends_with_the_same_bits(tmp_path, undisturbed, moment, count, goes_on_behind):
    assert trained(tmp_path, moment, count) == (-signal.SIGKILL, 0)
    assert trained(tmp_path) == (0, goes_on_behind)
    assert (tmp_path / "last.safetensors").read_bytes() == undisturbed
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "checkpoint-000000009.safetensors",
        "checkpoint-000000012.safetensors",
        "last.safetensors",
    ]


@pytest.fixture
def session():
    with fg.Graph() as graph, fg.Session(graph, threads=1, seed=3) as session:
        w = fg.variable(np.zeros(2), name="w")
        graph.memo["train"] = fg.assign(w, w + fg.random.normal((2,), dtype="float64"))
        yield session


def run(session, times=1):
    for _ in range(times):
        session.run(session.graph.memo["train"])


def test_restoring_from_an_empty_folder_changes_nothing_and_gives_0(session, tmp_path):
    run(session, 2)
    w, random_state = session.variables["w"], session.random_state
    assert Checkpoints(tmp_path / "none", session).restore() == 0
    assert not (tmp_path / "none").exists()
    assert session.random_state == random_state == (3, 2)
    np.testing.assert_array_equal(session.variables["w"], w)


def test_random_draws_go_on_where_they_were_even_under_another_seed(session, tmp_path):
    run(session, 5)
    Checkpoints(tmp_path, session).save(5)
    run(session, 3)
    with fg.Session(session.graph, threads=1, seed=99) as other:
        assert Checkpoints(tmp_path, other).restore() == 5
        assert other.random_state == (3, 5)
        run(other, 3)
        np.testing.assert_array_equal(other.variables["w"], session.variables["w"])


def test_a_numpy_generator_goes_on_where_it_was(session, tmp_path):
    rng = np.random.default_rng(1)
    checkpoints = Checkpoints(tmp_path, session, states={"rng": rng.bit_generator})
    checkpoints.save(0)
    drawn = rng.random(5)
    checkpoints.restore()
    np.testing.assert_array_equal(rng.random(5), drawn)


def test_the_newest_are_kept_and_any_of_them_can_be_restored(session, tmp_path):
    checkpoints = Checkpoints(tmp_path, session, keep=2)
    values = {}
    for step in (5, 10, 15):
        run(session)
        values[step] = session.variables["w"]
        assert checkpoints.save(step) == tmp_path / f"checkpoint-{step:09d}.safetensors"
    assert checkpoints.steps == [10, 15]
    assert checkpoints.restore(10) == 10
    np.testing.assert_array_equal(session.variables["w"], values[10])
    assert checkpoints.restore() == 15
    np.testing.assert_array_equal(session.variables["w"], values[15])
    with pytest.raises(FileNotFoundError):
        checkpoints.restore(5)
    assert repr(checkpoints) == f"<Checkpoints {tmp_path}: steps 10, 15>"


def test_keep_none_keeps_all_and_other_files_of_the_folder_stay(session, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".checkpoint-mine.safetensors").write_text("mine")
    checkpoints = Checkpoints(tmp_path, session, keep=None)
    for step in range(5):
        checkpoints.save(step)
    assert checkpoints.steps == [0, 1, 2, 3, 4]
    one = Checkpoints(tmp_path, session, keep=1)
    one.save(4)  # again: the same step may be written anew
    assert one.steps == [4]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".checkpoint-mine.safetensors",
        "checkpoint-000000004.safetensors",
        "notes.txt",
    ]


def test_a_step_before_the_newest_is_not_saved_as_a_restart_would_not_take_it(session, tmp_path, text_of):
    checkpoints = Checkpoints(tmp_path, session)
    checkpoints.save(10)
    checkpoints.save(20)
    checkpoints.restore(10)
    with pytest.raises(ArgumentError) as raised:
        checkpoints.save(15)
    assert text_of(raised.value) == (
        f"Checkpoints: cannot save step 15, as {tmp_path} has later ones: 20\n"
        "  at     test_checkpoints.py:LINE    checkpoints.save(15)\n"
        "  help   remove them, or save to another folder: a restart would go on from the latest"
    )
    assert checkpoints.steps == [10, 20]


def test_a_disk_that_is_full_costs_no_older_checkpoint_and_leaves_no_half_of_a_new_one(session, tmp_path, monkeypatch):
    import safetensors.numpy

    def full(arrays, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path, session, keep=1)
    kept = checkpoints.save(1)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(safetensors.numpy, "save_file", full)
        checkpoints.save(2)
    assert list(tmp_path.iterdir()) == [kept]
    assert checkpoints.restore() == 1


def test_a_checkpoint_is_a_file_of_weights_and_loads_in_part(session, tmp_path):
    run(session)
    path = Checkpoints(tmp_path, session).save(1)
    with fg.Graph() as graph, fg.Session(graph, threads=1) as other:
        fg.variable(np.zeros(2), name="w")
        fg.variable(np.zeros(3), name="new")
        report = load_weights(other, path, strict=False)
        assert (report.loaded, report.missing) == (("w",), ("new",))
        np.testing.assert_array_equal(other.variables["w"], session.variables["w"])


def test_variables_that_do_not_fit_are_listed_and_nothing_is_changed(session, tmp_path, text_of):
    fg.variable(np.zeros(3), name="gone")
    fg.variable(np.zeros(3), name="wide")
    batches = fg.data.batches(np.arange(10), 2)
    Checkpoints(tmp_path, session, states={"batches": batches}).save(7)
    with fg.Graph() as graph, fg.Session(graph, threads=1, seed=1) as other:
        fg.variable(np.ones(2), name="w")
        fg.variable(np.ones(4), name="wide")
        fg.variable(np.ones(1), name="new")
        next(batches)
        with pytest.raises(WeightsError) as raised:
            Checkpoints(tmp_path, other, states={"batches": batches}).restore()
        path = tmp_path / "checkpoint-000000007.safetensors"
        assert text_of(raised.value) == (
            f"Checkpoints: {path} does not fit the session's variables: 1 missing, 1 extra, 1 mismatched\n"
            '  at           test_checkpoints.py:LINE    Checkpoints(tmp_path, other, states={"batches": batches}).restore()\n'
            "  missing      new\n"
            "  extra        gone\n"
            "  mismatched   wide: (3,) float64 in the file, (4,) float64 here\n"
            "  help         fg.io.load_weights(session, path, strict=False) loads what fits; nothing has been loaded now"
        )
        assert other.random_state == (1, 0)
        np.testing.assert_array_equal(other.variables["w"], [1, 1])
    assert batches.state["taken"] == 1
    batches.close()


def test_other_states_than_those_saved_are_told(session, tmp_path, text_of):
    batches = fg.data.batches(np.arange(10), 2)
    checkpoints = Checkpoints(tmp_path, session, states={"train": batches})
    path = checkpoints.save(0)
    with pytest.raises(ArgumentError) as raised:
        Checkpoints(tmp_path, session).restore()
    assert text_of(raised.value) == (
        f"Checkpoints: {path} has other states than these\n"
        "  at      test_checkpoints.py:LINE    Checkpoints(tmp_path, session).restore()\n"
        "  there   train\n"
        "  here    none\n"
        '  help    fg.io.Checkpoints(folder, session, states={"batches": batches}) with the names from before'
    )
    with pytest.raises(ArgumentError) as raised:
        Checkpoints(tmp_path, session, states={"train": fg.data.batches(np.arange(12), 2, seed=4)}).restore()
    assert text_of(raised.value) == (
        "batches: the state is of other batches than these\n"
        '  at          test_checkpoints.py:LINE    Checkpoints(tmp_path, session, states={"train": '
        "fg.data.batches(np.arange(12), 2, seed=4)}).restore()\n"
        "  rows        10 there, 12 here\n"
        "  seed        0 there, 4 here\n"
        "  per_epoch   5 there, 6 here\n"
        "  help        call fg.data.batches with the arguments from before"
    )


def test_a_state_that_is_no_plain_data_is_refused_before_anything_is_written(session, tmp_path):
    class Mine:
        state = np.zeros(3)

    with pytest.raises(ArgumentError, match="the state of mine is no plain data: Object of type ndarray"):
        Checkpoints(tmp_path, session, states={"mine": Mine()}).save(1)
    assert list(tmp_path.iterdir()) == []


WRONG: Any = np.random.default_rng(0)
HALF: Any = 1.5


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: Checkpoints("x", s, keep=0), "keep is a number of checkpoints, at least 1, or None for all, got 0"),
        (lambda s: Checkpoints("x", s, states={"rng": WRONG}), "rng has no state, it is Generator"),
        (lambda s: Checkpoints("x", s).save(-1), "a step is a number of steps, at least 0, got -1"),
        (lambda s: Checkpoints("x", s).save(HALF), "a step is a number of steps, at least 0, got 1.5"),
    ],
)
def test_arguments_that_do_not_fit_are_told(session, call, text):
    with pytest.raises(ArgumentError, match=text):
        call(session)


def damaged(entry):
    return {"flowgraph.checkpoint": entry}


WHOLE = {"format": 1, "step": 4, "seed": 0, "runs": 0, "states": {}}


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, "holds weights and is no checkpoint"),
        (damaged("{"), "is a damaged checkpoint"),
        (damaged("[]"), "is a damaged checkpoint"),
        (damaged(json.dumps({**WHOLE, "runs": "3"})), "is a damaged checkpoint"),
        (damaged(json.dumps({**WHOLE, "states": []})), "is a damaged checkpoint"),
        (damaged(json.dumps({**WHOLE, "format": 2})), "is a checkpoint of format 2, and this version reads 1"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_with_the_reason(session, tmp_path, metadata, text):
    checkpoints = Checkpoints(tmp_path, session)
    save_weights(session, checkpoints.path(4), metadata=metadata)
    with pytest.raises(FileFormatError, match=text):
        checkpoints.restore()


def test_a_truncated_checkpoint_is_an_error_and_no_older_one_is_taken_in_silence(session, tmp_path):
    checkpoints = Checkpoints(tmp_path, session)
    checkpoints.save(1)
    path = checkpoints.save(2)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileFormatError, match=r"checkpoint-000000002\.safetensors is damaged, truncated"):
        checkpoints.restore()


# What a checkpoint is made of: the state of batches, of a session's draws, and all variables at once


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("taken", [0, 1, 3, 4, 7, 9])
def test_batches_go_on_from_a_state_as_if_nothing_had_happened(prefetch, taken):
    def made():
        return fg.data.batches(np.arange(10), 4, epochs=3, seed=2, prefetch=prefetch, transform=lambda b, rng: b + rng.random(len(b)))

    first, second = made(), made()
    whole = [b.tolist() for b in made()]
    for _ in range(taken):
        next(first)
    next(second)  # its thread has begun elsewhere
    second.state = json.loads(json.dumps(first.state))
    assert second.state == first.state
    assert [b.tolist() for b in second] == whole[taken:]
    assert second.state["taken"] == len(whole)
    first.close()


def test_batches_that_are_over_or_too_few_take_no_state():
    batches = fg.data.batches(np.arange(4), 2, epochs=2)
    state = batches.state
    with pytest.raises(ArgumentError, match="the state is behind 5 batches, but there are 4"):
        batches.state = {**state, "taken": 5}
    batches.close()
    with pytest.raises(fg.DataError, match="these batches are closed"):
        batches.state = state


def test_the_random_state_of_a_session_takes_two_ints(session):
    session.random_state = (4, 2**64 - 1)
    assert (session.random_state, session.seed) == ((4, 2**64 - 1), 4)
    with pytest.raises(ArgumentError, match=r"the seed is an int from 0 to 2\*\*64 - 1, got -1"):
        session.random_state = (-1, 0)
    with pytest.raises(ArgumentError, match=r"the number of runs is an int from 0 to 2\*\*64 - 1, got 1.5"):
        session.random_state = (0, 1.5)


def test_a_copy_of_the_variables_has_the_values_of_one_moment_and_is_the_callers(session):
    copy = session.variables.copy()
    copy["w"][:] = 5
    np.testing.assert_array_equal(session.variables["w"], [0, 0])
    assert list(copy) == list(session.variables)
