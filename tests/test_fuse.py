"""Stretches of a graph that become compiled loops: their values, gradients and bits, and the account that a plan gives of them."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flowgraph as fg
from flowgraph import nn
from flowgraph.compile import fuse
from flowgraph.graph import OPS

SCALAR = [op for op in OPS.values() if op.scalar is not None or op.fold is not None]


@pytest.fixture
def always(monkeypatch):
    """Makes every stretch a loop, however little it saves."""
    monkeypatch.setattr(fuse, "WORTH_SECONDS", -1.0)


def both(graph, fetches, feeds, **options):
    """The values with compiled loops and without, and the plan with them."""
    with fg.Session(graph, jit=True, **options) as session:
        plan, fused = session.plan(fetches, feeds), session.run(fetches, feeds)
    with fg.Session(graph, jit=False, **options) as session:
        return fused, session.run(fetches, feeds), plan


def loops(plan):
    return [unit for unit in plan.units if isinstance(unit.node, fuse.FusedNode)]


def agree(fused, plain):
    for a, b in zip(fused, plain, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        tolerance = {"float32": 2e-6, "float64": 4e-15}.get(str(a.dtype), 0.0)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b[np.isfinite(b)]).max(initial=0.0))


@pytest.mark.parametrize("op", SCALAR, ids=lambda op: op.name)
def test_an_op_in_a_loop_has_the_values_of_its_kernel(op, always):
    samples = [s for s in op.samples if all(x.dtype in ("float32", "float64", "int64", "bool") for x in s.inputs)]
    tried = 0
    for sample in [*samples[:6], *[s for s in samples if s.edges]]:
        with fg.Graph() as graph:
            inputs = [fg.placeholder(f"x{i}", x.shape, x.dtype) for i, x in enumerate(sample.inputs)]
            y = op(*inputs, **sample.attrs)
        feeds = dict(zip(inputs, sample.inputs, strict=True))
        with np.errstate(all="ignore"):
            fused, plain, plan = both(graph, [y], feeds)
        tried += len(loops(plan))
        agree(fused, plain)
    if op.name in ("add", "exp", "softmax", "relu", "normal_cdf", "where", "cross_entropy", "less"):
        assert tried > 0


PIECES: dict[str, Any] = {
    "layer_norm": (lambda x, a, b: nn.layer_norm(x, a, b), (2, 4, 6), (6,), (6,)),
    "rms_norm": (lambda x: nn.rms_norm(x), (4, 33)),
    "batch_norm": (lambda x, a: nn.batch_norm(x, a, a)[0], (4, 3, 5, 5), (3,)),
    "group_norm": (lambda x: nn.group_norm(x, 2), (2, 4, 3, 3)),
    "softmax": (lambda x: nn.softmax(x), (2, 4, 17)),
    "softmax along another axis": (lambda x: nn.softmax(x, axis=1), (2, 4, 5)),
    "cross-entropy": (lambda x, y: nn.softmax_cross_entropy(x, nn.softmax(y)), (4, 6), (4, 6)),
    "sparse cross-entropy": (lambda x: nn.softmax_cross_entropy(x, np.array([1, 0, 5, 2])), (4, 6)),
    "gelu": (lambda x: nn.gelu(x), (4, 6)),
    "bias and relu": (lambda x, b: nn.relu(x + b), (40, 6), (6,)),
    "bias of channels": (lambda x, b: nn.relu(x + b[:, None, None]), (4, 3, 5, 5), (3,)),
    "attention": (lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, causal=True), (2, 2, 5, 6), (2, 2, 5, 6), (2, 2, 5, 6)),
    "means of rows and of all": (lambda x: fg.mean(x * x, axis=1) * fg.mean(x), (4, 6)),
    "standard score": (lambda x: (x - fg.mean(x, axis=0)) / fg.std(x, axis=0), (5, 6)),
    "around a product": (lambda x, w: fg.tanh(fg.tanh(x) @ w + fg.tanh(x)), (4, 4), (4, 4)),
    "around two products": (lambda x, w: fg.tanh(x) * ((fg.tanh(x) @ w) * 2 + 1) + (fg.exp(x) @ w), (4, 4), (4, 4)),
    "a sum used again": (lambda x: x * x - x * fg.sum(x * x, axis=0, keepdims=True), (6, 3)),
    "parts of columns": (lambda x: nn.sigmoid(x[:, :4]) * fg.tanh(x[:, 4:]), (5, 8)),
    "one axis": (lambda x: nn.softmax(x) * 2 + fg.max(x), (9,)),
    "branches": (lambda x: fg.where(x > 0, fg.log1p(x * x), fg.expm1(x)) + fg.clip(x, -0.5, 0.5), (7, 5)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PIECES)
def test_networks_and_their_gradients_have_the_values_of_numpys_kernels(name, dtype, always):
    build, *shapes = PIECES[name]
    random = np.random.default_rng(0)
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", shape, dtype) for i, shape in enumerate(shapes)]
        y = build(*inputs)
        gradients = fg.gradients(fg.sum(y * fg.cos(y)), inputs)
    feeds = {x: random.normal(size=shape).astype(dtype) for x, shape in zip(inputs, shapes, strict=True)}
    fused, plain, plan = both(graph, [y, *gradients], feeds)
    assert loops(plan)
    for a, b in zip(fused, plain, strict=True):
        scale = 2e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(a, b, rtol=scale, atol=scale)


def test_a_training_step_of_a_transformer_is_the_same(always):
    with fg.Graph() as graph:
        net = nn.Sequential(nn.Embedding(5, 16), nn.RNN(16, 16), nn.TransformerBlock(16, 2), nn.Linear(16, 5))
        words = fg.placeholder("words", ("batch", "time"), "int32")
        loss = fg.mean(nn.softmax_cross_entropy(net(words)[:, 1:], words[:, :-1]))
        train = fg.optim.AdamW(0.01).minimize(loss)
    rows = np.random.default_rng(0).integers(0, 5, (8, 6)).astype(np.int32)
    losses = []
    for jit in (True, False):
        with fg.Session(graph, jit=jit) as session:
            losses.append([session.run([loss, train], {words: rows})[0] for _ in range(6)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def big():
    """A graph whose loops are cut into slices, with several results and sums."""
    with fg.Graph() as graph:
        x, b = fg.placeholder("x", (None, None), "float32"), fg.placeholder("b", (None,), "float32")
        h = fg.tanh(x * 2 + b) * fg.exp(-x * x)
        p = nn.softmax(h)
        loss = fg.mean(fg.sum(p * h, axis=1))
        fetches = [loss, h, *fg.gradients(loss, [x, b])]
    random = np.random.default_rng(0)
    return graph, fetches, {x: random.normal(size=(1000, 600)).astype("f4"), b: random.normal(size=600).astype("f4")}


def test_slices_with_several_results_and_sums_have_the_values_of_numpys_kernels():
    graph, fetches, feeds = big()
    fused, plain, plan = both(graph, fetches, feeds)
    assert len({unit.node for unit in loops(plan)}) < len(loops(plan)), "nothing is cut"
    assert any(unit.writes for unit in loops(plan)), "no loop has several results"
    for a, b in zip(fused, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_bits_do_not_depend_on_threads_nor_on_the_interpreter():
    graph, fetches, feeds = big()
    runs = []
    for threads in (1, 2, 4, 8):
        with fg.Session(graph, jit=True, threads=threads) as session:
            runs += [session.run(fetches, feeds) for _ in range(3)]  # the first by the interpreter, the others generated
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            np.testing.assert_array_equal(np.asarray(a).view("i4"), np.asarray(b).view("i4"))


def test_a_long_sum_over_the_first_and_the_last_axis_is_a_loop_that_is_cut_and_a_short_one_is_numpys():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (16, 8, None), "float32")
        y = fg.mean(x, axis=(0, 2))
    value = np.random.default_rng(0).normal(1, size=(16, 8, 20_000)).astype("f4")
    fused, _, plan = both(graph, y, {x: value})
    assert len(loops(plan)) > 1, "it is not cut"
    np.testing.assert_allclose(fused, value.mean(axis=(0, 2), dtype="f8"), rtol=1e-6)
    assert not loops(both(graph, y, {x: value[..., :100]})[2])


def test_what_one_loop_makes_for_another_of_what_it_gives_anyway_is_made_by_that():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, 4096), "float32")
        a = fg.tanh(x) * 3
        total = fg.sum(a, axis=0)
        made = fg.exp(a)
        fetches = [a, (made + total) * 0.5]
    value = np.random.default_rng(0).normal(size=(64, 4096)).astype("f4")
    fused, plain, plan = both(graph, fetches, {x: value})
    first, second = dict.fromkeys(unit.node for unit in loops(plan))
    assert [result.tensor for result in first.op.results] == [total, a]
    assert made.node in second.op.members
    for one, other in zip(fused, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_loop_works_in_place_of_what_dies_in_it():
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", (64, 256), "float32"), fg.placeholder("w", (256, 256), "float32")
        y = fg.tanh(x @ w + 1.0)
    a, m = np.ones((64, 256), "f4"), np.eye(256, dtype="f4")
    fused, plain, plan = both(graph, y, {x: a, w: m})
    (loop,) = loops(plan)
    assert loop.mode == "reuse"
    np.testing.assert_allclose(fused, plain, rtol=1e-6)
    np.testing.assert_array_equal(a, 1)


def test_a_plan_says_what_became_loops_and_small_stretches_stay_numpys():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None,), "float32")
        y = fg.exp(x) * 2 + 1
    with fg.Session(graph, jit=True) as session:
        large = str(session.plan(y, {x: (1_000_000,)}))
        assert "fuse: 3 nodes become 1 compiled loop" in large
        assert "exp_multiply_add" in large
        assert "fuse" not in str(session.plan(y, {x: (10,)}))
    with fg.Session(graph, jit=False) as session:
        assert "fuse" not in str(session.plan(y, {x: (1_000_000,)}))


def test_what_others_read_of_a_stretch_comes_out_of_its_loop(always):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4, 5), "float64")
        a = fg.exp(x)
        b = a * 2
        row = fg.sum(b, axis=1)
        c = b / row[:, None]
        fetches = [a, b, row, row[:, None], c, fg.linalg.norm(b), fg.permute_dims(b, (1, 0)), fg.sum(c)]
    value = np.random.default_rng(0).normal(size=(4, 5))
    fused, plain, plan = both(graph, fetches, {x: value})
    assert loops(plan)
    agree(fused, plain)


def test_control_edges_and_fed_tensors_keep_their_meaning(always):
    with fg.Graph() as graph:
        v = fg.variable(np.ones(3), name="v")
        x = fg.placeholder("x", (3,), "float64")
        inner = fg.exp(x)
        y = inner * 2 + 1
        with fg.control_dependencies([y]):
            update = fg.assign(v, v + 1)
    with fg.Session(graph, jit=True) as session:
        np.testing.assert_array_equal(session.run([y, update], {inner: np.arange(3.0)})[0], np.arange(3.0) * 2 + 1)
        np.testing.assert_array_equal(session.run(v), 2)


def test_insisting_on_the_compiler_where_it_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with fg.Graph() as graph:
        fg.constant(1.0)
    with pytest.raises(fg.MissingExtraError, match=r'pip install "flowgraph\[jit\]"'):
        fg.Session(graph, jit=True)
    with fg.Session(graph) as session:
        assert session.jit is False


def test_a_loop_that_does_not_compile_is_left_to_numpy_with_a_warning(monkeypatch, always):
    def refuse(loop):
        raise RuntimeError("LLVM refuses")

    monkeypatch.setattr("flowgraph.session.session.compiled", refuse)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        y = fg.exp(x) * 2
    with fg.Session(graph, jit=True) as session, pytest.warns(RuntimeWarning, match="could not be compiled.*LLVM refuses"):
        np.testing.assert_array_equal(session.run(y, {x: np.arange(3.0)}), np.exp(np.arange(3.0)) * 2)


def test_the_loss_of_classes_is_part_of_the_loop_and_a_class_out_of_range_is_still_an_error(always):
    with fg.Graph() as graph:
        x, labels = fg.placeholder("x", (None, 40), "float32"), fg.placeholder("labels", (None,), "int64")
        loss = fg.mean(nn.softmax_cross_entropy(x, labels))
        (slope,) = fg.gradients(loss, [x])
    rows = np.random.default_rng(0).normal(size=(9, 40)).astype("f4")
    fused, plain, plan = both(graph, [loss, slope], {x: rows, labels: np.arange(9) * 4})
    assert [unit.node.op.name for unit in plan.units if unit.node.op.name == "sparse_cross_entropy"] == []
    np.testing.assert_allclose(fused[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(fused[1], plain[1], rtol=1e-5, atol=1e-8)
    with fg.Session(graph, jit=True) as session:
        for wrong in (-1, 40):
            with pytest.raises(fg.ExecutionError, match=r"a label is outside 0 \.\.\. 39") as caught:
                session.run(loss, {x: rows, labels: [*range(8), wrong]})
            assert "softmax_cross_entropy(x, labels)" in str(caught.value)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid", "softplus", "normal_cdf", "erf"])
def test_what_numpy_computes_in_many_steps_is_a_loop_also_by_itself(name):
    with fg.Graph():
        x = fg.placeholder("x", (400, 300), "float32")
        function = {"normal_cdf": fg.special.ndtr, "erf": fg.special.erf}.get(name) or getattr(nn, name)
        y = function(x)
    with fg.Session(x.graph, jit=True, threads=1) as session:
        plan = session.plan(y, {x: (400, 300)})
    assert [unit.node.op.name for unit in loops(plan)] == [name] * len(plan.units)
