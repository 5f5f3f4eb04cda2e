"""Kernels of operations for a GPU: adding at positions in a fixed order, random bits, and poolings with the bits of the host."""

import re

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices import open_device
from flowgraph.graph.op import OPS
from flowgraph.ops.random_bits import fold_key, random_bits
from flowgraph.ops.scatter_device import add_at
from tests import cuda_on_host
from tests.stand_in import standing_in

pytestmark = pytest.mark.skipif(cuda_on_host.COMPILER is None, reason="g++ is not installed")

R = np.random.default_rng(0)
INDICES = [
    ((5,), (R.integers(0, 5, 40),)),
    ((5, 3), (R.integers(0, 5, 40),)),
    ((5, 3), (R.integers(-5, 5, (4, 10)), slice(None))),
    ((5, 3), (slice(None), R.integers(0, 3, 7))),
    ((5, 3), (R.integers(0, 5, 40), R.integers(0, 3, 40))),
    ((5, 3, 4), (R.integers(0, 5, 6), slice(1, 3), R.integers(0, 4, 6))),
    ((5, 3), (None, R.integers(0, 5, 6))),
    ((5, 3), (np.array(2),)),
    ((5, 3), (np.zeros(0, "int64"),)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64", "int32", "bool"])
@pytest.mark.parametrize(("shape", "index"), INDICES, ids=lambda value: str(value)[:40])
def test_adding_at_positions_gives_what_numpy_gives(shape, index, dtype):
    wide = np.dtype("float32" if dtype == "float16" else dtype)
    out = (R.standard_normal(shape) * 3).astype(wide)
    g = (R.standard_normal(out[index].shape) * 3).astype(wide)
    expected = out.copy()
    np.add.at(expected, index, g)
    with standing_in():
        device = open_device("cuda:0")
        with device.active():
            made = device.copied(out.astype(dtype))
            given = tuple(device.copied(item) if isinstance(item, np.ndarray) else item for item in index)
            add_at(device.xp, made, given, device.copied(g.astype(dtype)))
            ours = device.to_host(made)
    if dtype == "float16":
        np.testing.assert_allclose(ours, expected, 2e-2, 2e-2)
    else:
        np.testing.assert_allclose(ours, expected, 1e-6, 1e-6)


def test_the_gradient_of_an_embedding_is_that_of_the_host():
    with fg.Graph() as graph:
        words = fg.placeholder("words", (50,), "int64")
        table = fg.variable(R.standard_normal((7, 16)).astype("f"), name="table")
        (change,) = fg.gradients(fg.sum(fg.square(fg.take(table, words, axis=0))), [table])
    feeds = {words: R.integers(0, 7, 50)}
    with fg.Session(graph, device="cpu:0", jit=False) as host:
        expected = host.run(change, feeds)
    with standing_in(), fg.Session(graph, device="cuda:0", jit=False) as session:
        first = session.run(change, feeds)
        np.testing.assert_allclose(first, expected, 1e-5)
        for _ in range(3):  # captured, too
            assert session.run(change, feeds).tobytes() == first.tobytes()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (1000,), (4099,)])
@pytest.mark.parametrize("key", [(0, 0, 0, 0), (2**64 - 1, 3, 2**63 + 5, 2**32 + 7)])
def test_random_bits_of_a_gpu_are_those_of_the_host(key, shape, dtype):
    *given, stream = key
    attrs = {"shape": shape, "dtype": np.dtype(dtype), "stream": stream}
    folded = fold_key.kernel(np, np.array(given, np.uint64), np.int64(3))
    expected = random_bits.kernel(np, folded, **attrs)
    with standing_in() as cupy:
        device = open_device("cuda:0")
        with device.active():
            here = device.copied(np.array(given, np.uint64))
            cupy.gpu.log.clear()
            made = random_bits.kernel(cupy, fold_key.kernel(cupy, here, np.int64(3)), **attrs)
            assert not {"to host", "synchronize", "wait on host"}.intersection([what for what, *_ in cupy.gpu.log])
            ours = device.to_host(made)
    assert ours.tobytes() == expected.tobytes() and ours.dtype == dtype


WINDOWS = [
    {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))},
    {"window": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))},
    {"window": (3, 2), "stride": (1, 3), "padding": ((1, 0), (0, 1))},
    {"window": (2, 3), "stride": (3, 1), "padding": ((1, 1), (2, 1))},
    {"window": (3,), "stride": (2,), "padding": ((1, 1),)},
    {"window": (2, 1, 3), "stride": (1, 1, 2), "padding": ((1, 1), (0, 0), (1, 2))},
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("attrs", WINDOWS, ids=lambda attrs: str(attrs["window"]))
def test_pooling_and_its_gradient_have_the_bits_of_the_host(attrs, dtype):
    x = np.round(R.standard_normal((2, 3, 5, 6, 7)) * 2).astype(dtype) + 0  # with many that are equal, and no -0, which may be either zero
    x[0, 0, 0, 0, 0], x[1, 2, 4, 4:, 5:] = np.nan, -np.inf
    x[1, 0] = -np.inf
    pool, grad = OPS["max_pool"], OPS["max_pool_grad"]
    y = pool.kernel(np, x, **attrs)
    g = R.standard_normal(y.shape).astype(dtype)
    expected = grad.kernel(np, g, x, y, **attrs)
    with standing_in() as cupy:
        device = open_device("cuda:0")
        with device.active():
            arrays = [device.copied(each) for each in (g, x, y)]
            start = len(cupy.gpu.log)
            pooled, made = pool.kernel(device.xp, arrays[1], **attrs), grad.kernel(device.xp, *arrays, **attrs)
            names = [what for what, *_ in cupy.gpu.log[start:] if what not in ("allocate", "free", "empty", "ascontiguousarray")]
            results = [device.to_host(each) for each in (pooled, made)]
    assert names == ["max_pool", "max_pool_grad"]  # one kernel each
    for ours, theirs in zip(results, (y, expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert not np.any(np.signbit(ours) != np.signbit(theirs), where=theirs == 0)


def all_draws():
    """One of each distribution, some of many numbers, and those of the turns of a loop."""
    x = fg.placeholder("x", (30, 40))
    draws = [fg.random.normal((30, 40), x, dtype=dtype) for dtype in ("float32", "float64")]
    draws += [fg.random.truncated_normal((5, 7)), fg.random.exponential((1000,)), fg.random.uniform((33,), dtype="float64")]
    draws += [fg.random.randint((50,), -3, 4, "int8"), fg.random.randint((50,), -(2**62), 2**63), fg.random.bernoulli(x, 0.3)]
    draws += [fg.random.permutation(x, axis=1), fg.random.categorical(x), fg.nn.dropout(x, 0.5, shared=1), fg.random.permutation(9)]
    draws += [fg.map(lambda row: fg.nn.dropout(row, 0.5) + fg.random.normal((40,)), x)]
    return x, draws


@pytest.mark.parametrize("jit", [False, True])
def test_draws_of_a_gpu_are_those_of_the_host_and_new_in_each_replay(jit):
    value = R.standard_normal((30, 40)).astype(np.float32)
    with fg.Graph() as graph:
        x, draws = all_draws()
    runs = []
    for device in ("cpu:0", "cuda:0"):
        with standing_in(), fg.Session(graph, device=device, jit=jit, seed=5) as session:
            runs.append([session.run(draws, {x: value}) for _ in range(4)])
            notes = "\n".join(session.plan(draws, {x: (30, 40)}).notes)
    assert re.search(r"capture: cuda:0 replays \d+ kernels as one graph", notes)
    for ours, theirs in zip(*runs, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.tobytes() == b.tobytes() and a.dtype == b.dtype
    for place in range(len(draws)):
        assert len({run[place].tobytes() for run in runs[1]}) == 4
