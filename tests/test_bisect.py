"""Which rewrite of the compiler changes a result: found by making plans with fewer and fewer of them."""

from importlib import import_module

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.cli import main
from flowgraph.compile import fuse, simplify
from flowgraph.session.bisect import Rewrite, distance

GRAPHS = import_module("test_observe").GRAPHS
needs_llvm = pytest.mark.skipif(not fg.Session(fg.Graph()).jit, reason='llvmlite is not installed: pip install "flowgraph[jit]"')


def layered():
    """Some rewrites of each kind."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 64), "float64")
        with fg.scope("layer1"):
            scale = fg.constant(2.0, name="scale") * 3.0
            hidden = fg.exp(x * 1.0) * scale
        with fg.scope("layer2"):
            biased = x + 0.5
            twice = fg.exp(x * 1.0) + biased
        loss = fg.sum(fg.tanh(hidden) * twice)
        (slope,) = fg.gradients(loss, x)
    return graph, [loss, slope], {x: np.random.default_rng(0).standard_normal((3000, 64)) * 0.3}


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=needs_llvm)])
@pytest.mark.parametrize("build", [*GRAPHS, layered])
def test_no_rewrite_changes_a_result(build, jit):
    graph, fetches, feeds = build()
    with fg.Session(graph, threads=2, jit=jit) as session:
        found = session.bisect(fetches, feeds)
        assert found.is_fine, found
        assert found.runs == 6
        assert found.culprits == ()
        assert "none changes a result by more than it may" in str(found)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=needs_llvm)])
def test_a_wrong_rule_of_algebra_is_found_with_the_node_that_it_was_applied_to(jit, monkeypatch):
    def wrong(found, node, x, y):
        """Takes x + 0.5 for x."""
        return x if y in found.values and found.values[y].size == 1 and found.values[y] == 0.5 else None

    monkeypatch.setitem(simplify.RULES, "add", wrong)
    graph, fetches, feeds = layered()
    with fg.Session(graph, jit=jit) as session:
        found = session.bisect(fetches, feeds)
    assert [(culprit.kind, culprit.node.name) for culprit in found.culprits] == [("algebra", "layer2/add")]
    assert found.result == "sum"
    text = str(found)
    assert "with 1 of them, sum is off by 0.3" in text
    assert "of its largest element, and they may not change a bit\n" in text
    assert "algebra: takes layer2/add for its input   test_bisect.py:" in text
    assert text.endswith("biased = x + 0.5")


@needs_llvm
def test_a_wrong_loop_is_found_among_many(monkeypatch):
    made = fuse.Fused.bind

    def wrong(self, xp, attrs):
        kernel = made(self, xp, attrs)
        if not any(member.name.startswith("branch3") for member in self.members):
            return kernel
        return lambda *arrays, out=None: np.multiply(kernel(*arrays, out=out), 1.001, out=out)

    monkeypatch.setattr(fuse.Fused, "bind", wrong)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (400, 400), "float64")
        parts = []
        for number in range(6):
            with fg.scope(f"branch{number}"):
                parts.append(fg.tanh(fg.exp(fg.sort(x * (number + 1.0), axis=0)) + 1.0))
        fetches = [fg.matmul(part, part) for part in parts]
    with fg.Session(graph, jit=True) as session:
        found = session.bisect(fetches, {x: np.random.default_rng(0).standard_normal((400, 400)) * 0.1})
    assert {culprit.kind for culprit in found.culprits} == {"fuse"}
    assert all(culprit.node.name.startswith("branch3") for culprit in found.culprits)
    assert 1e-3 < found.difference < 1e-2
    assert "is off by" in str(found)


def test_a_rewrite_with_which_the_run_fails_is_found(monkeypatch):
    def wrong(found, node, x, y):
        """Takes a * sqrt(b) for sqrt(b)."""
        return y if y.node.op.name == "sqrt" else None

    monkeypatch.setitem(simplify.RULES, "multiply", wrong)
    with fg.Graph() as graph:
        a, b = fg.placeholder("a", (2, 2), "float64"), fg.placeholder("b", (2, 2), "float64")
        y = fg.linalg.inv(fg.identity(a * fg.sqrt(b)))
    with fg.Session(graph, jit=False) as session:
        found = session.bisect(y, {a: np.eye(2), b: np.ones((2, 2))})
    assert [culprit.node.name for culprit in found.culprits] == ["multiply"]
    assert "the run ends with LinAlgError" in str(found)
    assert "without any, with no error" in str(found)


def test_a_bound_of_ones_own_is_kept_to():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2000, 200))
        y = fg.sum(x * x, axis=0)
    with fg.Session(graph) as session:
        feeds = {x: np.random.default_rng(0).standard_normal((2000, 200)).astype("f4")}
        usual = session.bisect(y, feeds)
        assert usual.is_fine
        strict = session.bisect(y, feeds, bound=0.0)
        assert strict.is_fine is (usual.difference == 0)
        assert all(culprit.kind in ("fuse", "cut", "compile") for culprit in strict.culprits)


def test_distances_are_of_the_largest_element():
    one = np.array([1.0, np.nan, np.inf, -4.0])
    assert distance(one, one.copy()) == 0.0
    assert distance(np.array([1.0, np.nan, np.inf, -3.0]), one) == 0.25
    assert distance(one, np.array([1.0, 2.0, np.inf, -4.0])) == np.inf
    assert 0 < distance(np.array([0.0]), np.array([-0.0])) < 1e-300
    assert distance(np.zeros(3), np.zeros(4)) == np.inf
    assert distance(np.array([3, 4]), np.array([3, 8])) == 0.5


def test_variables_and_draws_are_the_same_in_all_runs_and_none_is_written():
    with fg.Graph() as graph:
        w = fg.variable(np.ones(3), name="w")
        noise = fg.random.normal((3,), dtype="float64")
        step = fg.assign(w, w * 1.0 + noise)
    with fg.Session(graph) as session:
        found = session.bisect([step, w])
        assert found.is_fine
        assert found.difference == 0
        assert session.variables["w"].tolist() == [1.0, 1.0, 1.0]


def test_a_rewrite_says_what_it_does():
    with fg.Graph():
        node = fg.exp(fg.placeholder("x", ())).node
    assert str(Rewrite("cut", node)).startswith("cut: cuts exp into slices   test_bisect.py:")


PROGRAM = """
import numpy as np
import flowgraph as fg

with fg.Graph() as graph:
    x = fg.placeholder("x", (3,), "float64")
    biased = x + 0.5
    y = fg.sum(biased)
if __name__ == "__main__":
    with fg.Session(graph, jit=False) as session:
        for number in range(3):
            session.run(y, {x: [number, 1.0, 2.0]})
"""


def test_the_command_runs_a_python_file_and_finds_what_is_wrong(tmp_path, capsys, monkeypatch):
    file = tmp_path / "train.py"
    file.write_text(PROGRAM)
    assert main(["bisect", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"recorded the last 3 runs in {tmp_path / 'train.fgr'}" in out
    assert "none changes a result by more than it may" in out
    monkeypatch.setitem(simplify.RULES, "add", lambda found, node, x, y: x)
    assert main(["bisect", str(tmp_path / "train.fgr"), "--run", "0"]) == 1
    assert "algebra: takes add for its input   train.py:7    biased = x + 0.5" in capsys.readouterr().out
    monkeypatch.undo()
    assert main(["replay", str(file), "-c", "runs; show x"]) == 0
    out = capsys.readouterr().out
    assert "->    2  sum from x (3,): 1 tasks" in out
    assert "[2. 1. 2.]" in out
    file.write_text("x = 1\n")
    assert main(["replay", str(file)]) == 1
    assert "ran nothing in a session" in capsys.readouterr().err


def test_a_file_that_fails_leaves_its_record(tmp_path, capsys):
    file = tmp_path / "broken.py"
    failing = PROGRAM.replace("session.run(y", "session.run(fg.linalg.inv(fg.reshape(x[:1] * 0.0, (1, 1)))")
    file.write_text(failing.replace("range(3)", "range(1)"))
    assert main(["replay", str(file)]) == 1
    assert "LinAlgError" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "broken.fgr"), "-c", "continue"]) == 0
    assert "LinAlgError" in capsys.readouterr().out
