"""Loops as CUDA kernels, compiled as C++ for the host: they have the bits of the loops that LLVM compiles."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.compile.fuse import FusedNode
from flowgraph.jit import cuda_bundles, gpu, llvm
from flowgraph.jit.cuda import cuda_loop
from flowgraph.jit.gpu import GpuKernel
from tests import cuda_on_host
from tests.stand_in import standing_in
from tests.test_cuda import train

pytestmark = [
    pytest.mark.skipif(cuda_on_host.COMPILER is None, reason="g++ is not installed"),
    pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed"),
]

XP = SimpleNamespace(asarray=np.asarray, ascontiguousarray=np.ascontiguousarray, empty=np.empty, RawModule=cuda_on_host.HostModule)


def f(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def several(x, y):
    z = fg.tanh(x) * fg.exp(y)
    return [z, fg.sum(z, axis=0), fg.sum(z), fg.max(z, axis=1)]


def normal(x, scale, offset):
    centred = x - fg.mean(x, axis=1, keepdims=True)
    return centred / fg.sqrt(fg.mean(fg.square(centred), axis=1, keepdims=True) + 1e-5) * scale + offset


# What is built, what it is fed, and the kernels that serve it.
CASES = {
    "elements": (lambda x, y: fg.tanh(x) * fg.exp(y) + fg.log(fg.abs(x) + 1), [f(300, 400), f(300, 400)], "elements"),
    "broadcast": (lambda x, b: fg.nn.relu(x + b) * 2.0, [f(300, 400), f(400)], "elements"),
    "by rows": (lambda x, b: fg.tanh(x * b), [f(300, 400), f(300, 1)], "elements"),
    "gelu": (fg.nn.gelu, [f(100000)], "elements"),
    "doubles": (lambda x: fg.exp(x) * fg.tanh(x) - fg.log1p(fg.abs(x)), [f(200, 300).astype(np.float64)], "elements"),
    "integers": (
        lambda x, n: fg.where(n * 3 - 7 > n + 1, x, -x) + fg.astype(n & 12, "float32"),
        [f(50000), np.arange(50000) - 20000],
        "elements",
    ),
    "windows": (
        lambda x: x[1:-1, 1:-1] + 0.1 * (x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]),
        [f(300, 400)],
        "elements",
    ),
    "rims": (lambda x: fg.tanh(fg.pad(x, 1)[2:, 2:] + fg.pad(x, 1)[:-2, :-2]), [f(300, 400)], "elements"),
    "columns of a wider array": (lambda x: fg.tanh(x[:, 10:200]) + x[:, 300:490], [f(400, 500)], "elements"),
    "a softmax": (fg.nn.softmax, [f(200, 333)], "rows"),
    "a narrow softmax": (fg.nn.softmax, [f(5000, 10)], "rows"),
    "a softmax of few long rows": (fg.nn.softmax, [f(4, 9000)], "rows"),
    "the sum of all": (lambda x: fg.sum(fg.square(x) * 3.0 + 1.0), [f(300, 400)], "elements ends"),
    "the mean of all": (lambda x: fg.mean(fg.exp(x)), [f(120001)], "elements ends"),
    "sums of columns": (lambda x: fg.sum(fg.tanh(x) * fg.exp(x), axis=0), [f(700, 600)], "columns ends"),
    "sums of few columns": (lambda x: fg.sum(fg.tanh(x) * fg.exp(x), axis=0), [f(20000, 3)], "columns ends"),
    "sums of rows": (lambda x: fg.sum(fg.exp(x) * x, axis=1), [f(700, 200)], "rows"),
    "sums but for an axis in the middle": (lambda x: fg.sum(fg.exp(x) * x, axis=(0, 2)), [f(40, 50, 60)], "rows ends"),
    "sums but for the last axes": (lambda x: fg.sum(fg.exp(x) * x, axis=0), [f(40, 50, 60)], "columns ends"),
    "the gradient of a softmax": (
        lambda x, g: fg.gradients(fg.sum(fg.nn.softmax(x) * g), x),
        [f(300, 100), f(300, 100)],
        "rows",
    ),
    "rows of several warps": (lambda x: fg.nn.softmax(x) * fg.sum(x, axis=1, keepdims=True), [f(40, 2050)], "rows"),
    "a softmax of long rows": (fg.nn.softmax, [f(3, 40000)], "rows"),
    "normal rows with their gradients": (
        lambda x, a, b, g: fg.gradients(fg.sum(normal(x, a, b) * g), [x, a, b]),
        [f(300, 256), f(256), f(256), f(300, 256)],
        "rows ends",
    ),
    "short normal rows with their gradients": (
        lambda x, a, b, g: fg.gradients(fg.sum(normal(x, a, b) * g), [x, a, b]),
        [f(3000, 6), f(6), f(6), f(3000, 6)],
        "rows ends",
    ),
    "long normal rows with their gradients": (
        lambda x, a, b, g: fg.gradients(fg.sum(normal(x, a, b) * g), [x, a, b]),
        [f(7, 8192), f(8192), f(8192), f(7, 8192)],
        "rows ends",
    ),
    "the mean of a number of each row": (
        lambda x: [fg.mean(fg.log(fg.sum(fg.exp(x), axis=1))), fg.sum(x)],
        [f(700, 120)],
        "rows ends",
    ),
    "sums that keep every other axis": (lambda x, a: fg.sum(fg.tanh(x) * a, axis=(0, 2)), [f(10, 12, 14, 16), f(12, 1, 1)], "columns ends"),
    "sums that keep the last axes, by channel": (lambda x, a: fg.sum(fg.tanh(x) * a, axis=0), [f(50, 12, 14), f(12, 1)], "columns ends"),
    "sums that keep different axes": (
        lambda x: [fg.sum(fg.exp(x) * x, axis=(0, 2)), fg.sum(fg.exp(x) * x, axis=(0, 1)), fg.sum(fg.exp(x) * x)],
        [f(40, 50, 60)],
        "rows ends",
    ),
    "a NaN in a maximum": (lambda x: fg.max(fg.sqrt(x), axis=1), [f(300, 200)], "rows"),
}


def fused(build, feeds):
    """The compiled loops of a plan."""
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", value.shape, value.dtype) for i, value in enumerate(feeds)]
        made = build(*inputs)
    with fg.Session(graph, jit=True, threads=1) as session:
        plan = session.plan(made, dict(zip(inputs, [value.shape for value in feeds], strict=True)))
    return list(dict.fromkeys(unit.node.op for unit in plan.units if isinstance(unit.node, FusedNode)))


@pytest.mark.parametrize("case", CASES)
def test_a_loop_on_a_gpu_has_the_bits_of_the_loop_on_the_host(case):
    build, feeds, names = CASES[case]
    seen = []
    for op in fused(build, feeds):
        rng = np.random.default_rng(1)
        given = [np.asarray(rng.standard_normal(source.spec.shape) * 3).astype(source.spec.dtype) for source in op.sources]
        host, ours = ([np.empty(made.spec.shape, made.spec.dtype) for made in op.results] for _ in range(2))
        kernel = GpuKernel(op.loop, XP)
        with np.errstate(all="ignore"):
            op._kernel(*given, *host)
            kernel(*given, *ours)
        seen.append(" ".join(launch.name for launch in kernel.cuda.launches))
        for a, b in zip(ours, host, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.tobytes() == b.tobytes() or np.isnan(b).any()
    assert names in seen


@pytest.mark.parametrize(
    "case", ["windows", "columns of a wider array", "a narrow softmax", "sums of few columns", "sums that keep different axes"]
)
def test_places_of_huge_arrays_are_reckoned_with_in_64_bits(case, monkeypatch):
    build, feeds, _ = CASES[case]
    for op in fused(build, feeds):
        given = [np.asarray(np.random.default_rng(1).standard_normal(source.spec.shape)).astype(source.spec.dtype) for source in op.sources]
        kept = []
        for small in (2**31, 0):
            monkeypatch.setattr(cuda_bundles, "SMALL", small)
            monkeypatch.setattr(gpu, "cuda_of", cuda_loop)
            results = [np.empty(made.spec.shape, made.spec.dtype) for made in op.results]
            kernel = GpuKernel(op.loop, XP)
            kernel(*given, *results)
            assert ("unsigned long long j" in kernel.cuda.text) == (small == 0)
            kept.append([result.tobytes() for result in results])
        assert kept[0] == kept[1]


def test_what_a_loop_gives_does_not_depend_on_strides():
    (op,) = fused(lambda x, y: fg.tanh(x) * fg.exp(y), [f(300, 400), f(300, 400)])
    x, y = f(400, 300).T, f(300, 800)[:, ::2]
    results = [np.empty((300, 400), np.float32) for _ in range(2)]
    GpuKernel(op.loop, XP)(x, y, results[0])
    GpuKernel(op.loop, XP)(np.array(x, order="C"), np.array(y, order="C"), results[1])
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("case", ["elements", "columns of a wider array", "a softmax", "sums of columns", "sums of rows"])
def test_what_a_loop_gives_does_not_depend_on_where_arrays_begin(case):
    build, feeds, _ = CASES[case]
    for op in fused(build, feeds):
        given = [np.asarray(np.random.default_rng(1).standard_normal(source.spec.shape)).astype(source.spec.dtype) for source in op.sources]
        kept = []
        for shift in (0, 1):
            arrays = [*given, *[np.empty(made.spec.shape, made.spec.dtype) for made in op.results]]
            moved = [np.empty(array.size + 16, array.dtype) for array in arrays]
            moved = [
                room[-room.ctypes.data % 16 // room.itemsize + shift :][: array.size].reshape(array.shape)
                for room, array in zip(moved, arrays)
            ]
            for room, array in zip(moved, arrays, strict=True):
                room[...] = array
            GpuKernel(op.loop, XP)(*moved)
            kept.append([result.tobytes() for result in moved[len(given) :]])
        assert kept[0] == kept[1]


def test_quotients_have_all_bits_of_divisions_wherever_their_numbers_are():
    (op,) = fused(lambda x, b: [x / b, fg.nn.sigmoid(x)], [f(400, 64), f(400, 1)])
    rng = np.random.default_rng(2)
    scales = 2.0 ** rng.integers(-149, 128, (400, 1)), 2.0 ** rng.integers(-126, 127, (400, 1))
    x, b = [(rng.uniform(1, 2, (400, n)) * scale * rng.choice([-1, 1], (400, n))).astype(np.float32) for n, scale in zip((64, 1), scales)]
    x[::3, 5], x[::4, 6], x[::5, 7], x[::6, 8] = 0.0, -0.0, np.inf, np.nan
    b[::7], b[1::20], b[2::20], b[3::20], b[4::20] = rng.uniform(1, 2, (58, 1)), 0.0, np.inf, np.nan, 3e-41
    host, ours = ([np.empty(made.spec.shape, made.spec.dtype) for made in op.results] for _ in range(2))
    with np.errstate(all="ignore"):
        op._kernel(x, b, *host)
        GpuKernel(op.loop, XP)(x, b, *ours)
        quotients = x / b
    for mine, theirs in zip(ours, host, strict=True):
        np.testing.assert_array_equal(mine.view(np.int32)[~np.isnan(mine)], theirs.view(np.int32)[~np.isnan(theirs)])
    assert any(np.array_equal(mine, quotients, equal_nan=True) for mine in ours)


def network():
    x, labels = fg.placeholder("x", ("n", 200)), fg.placeholder("labels", ("n",), "int64")
    h = fg.nn.LayerNorm(300)(fg.nn.gelu(fg.nn.Linear(200, 300)(x)))
    loss = fg.mean(fg.nn.softmax_cross_entropy(fg.nn.Linear(300, 10)(h), labels))
    return [loss, fg.optim.Adam(0.01).minimize(loss)], {x: f(400, 200), labels: np.arange(400) % 10}


def test_a_training_with_loops_on_the_gpu_is_that_of_the_host():
    with standing_in() as cupy:
        ours = train(network, ["cuda:0"], jit=True)
        assert {"rows", "together"} <= {what for what, *_ in cupy.gpu.log}
    for a, b in zip(ours, train(network, ["cpu:0"], jit=True), strict=True):
        np.testing.assert_allclose(a, b, 2e-4, 1e-4)  # (Adam takes steps of its own size where gradients are almost nothing)


def test_equal_loops_are_compiled_once_and_not_side_by_side(monkeypatch):
    with fg.Graph() as graph:
        y = x = fg.placeholder("x", (300, 300))
        for _ in range(6):
            y = fg.tanh(y) @ np.full((300, 300), 0.01, np.float32)
        y = fg.sum(fg.exp(y))
    with standing_in() as cupy:
        made: list[tuple[int, str]] = []
        module = cupy.RawModule

        def noted(code, options):
            made.append((threading.get_ident(), code))
            return module(code=code, options=options)

        monkeypatch.setattr(cupy, "RawModule", noted)
        with fg.Session(graph, device="cuda:0") as session:
            session.run(y, {x: f(300, 300)})
    assert len(made) == 7 and len({code for _, code in made}) == 2
    assert len({thread for thread, code in made if code == made[-1][1]}) == 1
