"""Stand-alone programs: the same values, without flowgraph."""

import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import flowgraph as fg
from tests.test_operations import TRIED


def load(path):
    """The module in a file, which may import nothing of flowgraph."""
    text = path.read_text()
    assert not re.search(r"^\s*(import|from) flowgraph", text, re.MULTILINE)
    return SimpleNamespace(**runpy.run_path(str(path)))


def exported(tmp_path, inputs, outputs, arrays, **options):
    """What a function and its exported form give."""
    with fg.Session(inputs[0].graph, threads=1, **options) as session:
        function = session.function(inputs, outputs)
        module = load(function.export(tmp_path / "program.py"))
        return function(*arrays), module.program(*arrays)


@pytest.mark.parametrize("op", [op for op in TRIED if not op.is_stateful], ids=str)
def test_every_operation_gives_the_same_values_exported(op, tmp_path):
    sample = next(iter(op.samples))
    with fg.Graph():
        inputs = [fg.placeholder(f"x{i}", (None,) * x.ndim, x.dtype) for i, x in enumerate(sample.inputs)]
        y = op.node(inputs, sample.attrs).outputs
    here, there = exported(tmp_path, inputs, list(y), sample.inputs, passes=())
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)
        assert np.asarray(theirs).dtype == ours.dtype


def test_a_network_is_exported_with_its_weights(tmp_path):
    with fg.Graph():
        images = fg.placeholder("images", ("batch", 1, 8, 8))
        conv = fg.nn.Conv2d(1, 3, 3, name="conv")
        h = fg.nn.flatten(fg.nn.max_pool2d(fg.nn.relu(conv(images))))
        outputs = {"p": fg.nn.softmax(fg.nn.Linear(27, 4)(h)), "rest": (fg.sum(h),)}
    for batch in (1, 5):
        x = np.random.default_rng(0).standard_normal((batch, 1, 8, 8)).astype("f4")
        here, there = exported(tmp_path, [images], outputs, [x])
        np.testing.assert_allclose(there["p"], here["p"], rtol=1e-6)
        np.testing.assert_allclose(there["rest"][0], here["rest"][0], rtol=1e-6)
    text = (tmp_path / "program.py").read_text()
    assert "WEIGHTS['conv/w']" in text and "xp is" not in text  # nothing of a GPU's
    assert "# h = fg.nn.flatten(fg.nn.max_pool2d(fg.nn.relu(conv(images))))" in text
    with np.load(tmp_path / "program.npz", allow_pickle=False) as arrays:
        assert {"conv/w", "conv/b"} <= set(arrays)


def test_loops_and_branches_are_exported(tmp_path):
    with fg.Graph():
        x, w = fg.placeholder("x", (None, 3), "float64"), fg.placeholder("w", (3, 3), "float64")
        h, ys = fg.scan(lambda h, row: (fg.tanh(h @ w + row), fg.sum(h)), fg.constant(np.zeros(3)), x)
        count = fg.while_loop(lambda n: n * n < fg.sum(x * x), lambda n: n + 1, 0)
        sign = fg.cond(fg.sum(x) > 0, lambda: fg.sum(h), lambda: -fg.sum(h))
        slope = fg.gradients(fg.sum(ys), [w])
    rng = np.random.default_rng(1)
    for rows in (4, 0):
        arrays = [rng.standard_normal((rows, 3)), rng.standard_normal((3, 3))]
        here, there = exported(tmp_path, [x, w], [h, ys, count, sign, slope], arrays)
        np.testing.assert_allclose(there[0], here[0])
        np.testing.assert_allclose(there[1], here[1])
        assert (there[2], there[3]) == pytest.approx((here[2], here[3]))
        np.testing.assert_allclose(there[4][0], here[4][0])


def test_the_program_runs_where_flowgraph_cannot_be_imported(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 3), "float32")
        y = fg.nn.softmax(x @ fg.variable(fg.init.he_normal((3, 2)), name="w"))
    with fg.Session(graph, threads=1) as session:
        function = session.function([x], y)
        function.export(tmp_path / "predict.py")
        rows = np.ones((2, 3), "f4")
        np.save(tmp_path / "rows.npy", rows)
        want = function(rows)
    program = (
        "import sys; sys.modules['flowgraph'] = None; sys.path.insert(0, '.'); "
        "import numpy as np, predict; np.save('y.npy', predict.predict(np.load('rows.npy')))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), want, rtol=1e-6)
    shown = subprocess.run([sys.executable, "predict.py", "rows.npy"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("[[")
    asked = subprocess.run([sys.executable, "predict.py"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "usage: python predict.py x.npy" in asked.stderr


def test_what_cannot_be_exported_says_why(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,))
        w = fg.variable(np.ones(3, "f4"), name="w")
        update = fg.assign(w, w + x)
        noisy = x + fg.random.normal((3,))
    with fg.Session(graph, threads=1) as session:
        with pytest.raises(fg.ArgumentError, match="the function writes variables"):
            session.function([x], update).export(tmp_path / "a.py")
        with pytest.raises(fg.ArgumentError, match="draws random numbers"):
            session.function([x], noisy).export(tmp_path / "a.py")
        with pytest.raises(fg.ArgumentError, match=r"a file like predict\.py is expected"):
            session.function([x], x).export(tmp_path / "my-model.txt")
    assert list(tmp_path.iterdir()) == []
