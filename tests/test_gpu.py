"""On a GPU that is there: operations and gradients with bounds for each dtype, trainings, loops, graphs, memory, examples."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flowgraph as fg
from benchmarks.gpu import overlap
from flowgraph.devices import open_device
from flowgraph.devices.lacking import WAITING
from flowgraph.graph.op import NoGradient
from flowgraph.jit import llvm
from flowgraph.jit.gpu import GpuKernel
from flowgraph.runtime import lanes
from tests.test_cuda import SAMPLES, lenet, mlp, recurrent, rows, samples, train
from tests.test_cuda_kernels import all_draws
from tests.test_cuda_loops import CASES, fused
from tests.test_operations import as_list, run_kernel

pytestmark = pytest.mark.gpu

DEVICE = "cuda:0"
# Largest differences from the host, relative to the largest number and, where numbers are small, in themselves. cuBLAS adds up in another
# order, and elementary functions of CUDA are right to a few units in the last place.
BOUNDS = {"float16": 2e-2, "bfloat16": 4e-2, "float32": 2e-5, "complex64": 2e-5, "float64": 1e-12, "complex128": 1e-12}
SIGNLESS = ("eig", "eigh", "svd", "qr")  # their vectors may have other signs on the GPU


@pytest.fixture(scope="module")
def device():
    return open_device(DEVICE)


def agree(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    bound = BOUNDS.get(ours.dtype.name)
    if bound is None:
        np.testing.assert_array_equal(ours, theirs)
        return
    wide = np.dtype("complex128" if ours.dtype.kind == "c" else "float64")
    ours, theirs = ours.astype(wide), theirs.astype(wide)
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(np.isfinite(ours), finite)
    scale = max(1.0, float(np.abs(theirs[finite]).max(initial=0.0)))
    assert np.abs(ours[finite] - theirs[finite]).max(initial=0.0) <= bound * scale


@pytest.mark.parametrize("op", SAMPLES, ids=str)
def test_every_operation_agrees_with_the_host(op, device):
    for sample, kernel, inputs in samples(op, device):
        with device.active():
            results = [device.to_host(result) for result in as_list(kernel(*inputs))]
        if op.name in SIGNLESS:
            results, expected = results[:1], as_list(run_kernel(op, sample))[:1]
            results, expected = ([np.sort(np.abs(x)) for x in each] for each in (results, expected))
        else:
            expected = as_list(run_kernel(op, sample))
        for ours, theirs in zip(results, expected, strict=True):
            agree(ours, np.asarray(theirs))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("op", [op for op in SAMPLES if not isinstance(op.vjp, NoGradient)], ids=str)
def test_gradients_agree_with_the_host(op, dtype, device):
    smooth = [sample for sample in SAMPLES[op] if not sample.edges and all(x.dtype == np.float64 for x in sample.inputs)]
    for sample in smooth[:4]:
        try:
            with fg.Graph() as graph:
                values = [x.astype(dtype) for x in sample.inputs]
                inputs = [fg.placeholder(f"x{i}", x.shape, x.dtype) for i, x in enumerate(values)]
                made = [y for y in op.node(inputs, dict(sample.attrs)).outputs if y.dtype.kind == "f"]
                cotangents = [fg.constant(np.asarray(np.cos(np.arange(y.size)), dtype).reshape(y.shape)) for y in made if y.is_known]
                terms = [y * y if op.name in SIGNLESS else y for y in made]
                loss = fg.sum(fg.stack([fg.sum(y * c) for y, c in zip(terms, cotangents, strict=True)]))
                found = [g for g in fg.gradients(loss, inputs) if g is not None]
        except (fg.DtypeError, fg.GradientError, TypeError, ValueError):
            continue  # not of this dtype, or not by these inputs
        feeds = dict(zip(inputs, values, strict=True))
        with fg.Session(graph, device=DEVICE) as ours, fg.Session(graph, device="cpu:0", jit=False) as theirs:
            for a, b in zip(ours.run(found, feeds), theirs.run(found, feeds), strict=True):
                agree(a, b)


@pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed")
@pytest.mark.parametrize("case", CASES)
def test_loops_have_the_bits_of_the_host(case, device):
    build, feeds, _ = CASES[case]
    for op in fused(build, feeds):
        rng = np.random.default_rng(1)
        given = [np.asarray(rng.standard_normal(source.spec.shape) * 3).astype(source.spec.dtype) for source in op.sources]
        host = [np.empty(made.spec.shape, made.spec.dtype) for made in op.results]
        op._kernel(*given, *host)
        with device.active():
            ours = [device.xp.empty(made.spec.shape, made.spec.dtype) for made in op.results]
            GpuKernel(op.loop, device.xp)(*[device.copied(x) for x in given], *ours)
            ours = [device.to_host(x) for x in ours]
        for a, b in zip(ours, host, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("jit", [False, None])
@pytest.mark.parametrize("network", [mlp, lenet, recurrent])
def test_a_training_agrees_with_that_of_the_host(network, jit):
    ours = train(network, [DEVICE], steps=8, jit=jit)
    for a, b in zip(ours, train(network, ["cpu:0"], steps=8, jit=jit), strict=True):
        np.testing.assert_allclose(a, b, 1e-3, 1e-4)
    for a, b in zip(train(network, [DEVICE], steps=8, jit=jit), ours, strict=True):
        assert a.tobytes() == b.tobytes()  # the same bits in every run
    for a, b in zip(train(network, [DEVICE], steps=8, jit=jit, capture=False), ours, strict=True):
        assert a.tobytes() == b.tobytes()  # and without captured graphs


@pytest.mark.parametrize("op", [op for op in SAMPLES if op.name not in WAITING], ids=str)
def test_what_is_captured_gives_what_is_asked_for_one_by_one(op, device):
    for _, kernel, inputs in samples(op, device, 3):
        with device.active():
            expected = [device.to_host(x) for x in as_list(kernel(*inputs))]
            pool = device.cupy.cuda.MemoryPool()
            with device.cupy.cuda.using_allocator(pool.malloc):
                device.compute.begin_capture()
                try:
                    made = as_list(kernel(*inputs))
                finally:
                    graph = device.compute.end_capture()
            graph.launch(device.compute)
            for a, b in zip([device.to_host(x) for x in made], expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_plan_is_replayed_as_a_graph():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, 64))
        y = fg.tanh(fg.exp(fg.sin(x) @ x))
    with fg.Session(graph, device=DEVICE, jit=False) as session:
        results = [session.run(y, {x: rows(64, 64)}).tobytes() for _ in range(5)]
        assert len(set(results)) == 1
        assert "capture: cuda:0 replays 4 kernels as one graph" in session.plan(y, {x: (64, 64)}).notes


@pytest.mark.parametrize("jit", [False, None])
def test_draws_have_the_bits_of_the_host_in_each_replay(jit):
    with fg.Graph() as graph:
        x, draws = all_draws()
    with fg.Session(graph, device=DEVICE, jit=jit, seed=5) as session, fg.Session(graph, jit=False, seed=5) as host:
        for _ in range(4):
            for ours, theirs in zip(session.run(draws, {x: rows(30, 40)}), host.run(draws, {x: rows(30, 40)}), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert any("replays" in note for note in session.plan(draws, {x: (30, 40)}).notes)


def test_a_wide_graph_is_replayed_in_branches_with_the_bits_of_kernels_one_by_one():
    def chains():
        x = fg.placeholder("x", (512, 512))
        ends = []
        for i in range(16):
            y = x
            for _ in range(4):
                y = fg.tanh(y @ fg.variable(rows(512, 512, seed=i) / 22, name=f"w{i}"))
            ends.append(y)
        return x, sum(ends[1:], ends[0])

    value = rows(512, 512)
    bits: set[bytes] = set()
    said: dict[object, list[str]] = {}
    for capture in (True, "serial", False):
        with fg.Graph() as graph:
            x, y = chains()
        with fg.Session(graph, device=DEVICE, capture=capture) as session:
            bits |= {session.run(y, {x: value}).tobytes() for _ in range(20)}
            notes = [note for note in session.plan(y, {x: (512, 512)}).notes if note.startswith("capture")]
            said[capture] = [note.partition("as one graph")[2] for note in notes]
    assert said == {True: [", of 8 branches"], "serial": [""], False: []}
    assert len(bits) == 1


@pytest.mark.parametrize("network", [mlp, lenet, recurrent])
def test_trainings_in_branches_have_the_bits_of_chains(network, monkeypatch):
    for name, value in {"HOP_SECONDS": 0.0, "WORTH": -1.0, "WORTH_SECONDS": -1.0}.items():
        monkeypatch.setattr(lanes, name, value)  # each kernel goes where it can start first
    ours = train(network, [DEVICE], steps=30)
    for capture in ("serial", False):
        for a, b in zip(train(network, [DEVICE], steps=30, capture=capture), ours, strict=True):
            assert a.tobytes() == b.tobytes()


def test_feeds_and_results_stay_on_the_device():
    import cupy

    with fg.Graph() as graph:
        x = fg.placeholder("x", (256, 256))
        y = fg.tanh(x) * 2.0
    with fg.Session(graph, device=DEVICE) as session, cupy.cuda.Stream(non_blocking=True):
        value = cupy.asarray(rows(256, 256))
        result = session.run(y, {x: value}, device_arrays=True)
        assert isinstance(result, cupy.ndarray)
        np.testing.assert_allclose((result + 1.0).get(), np.tanh(rows(256, 256)) * 2 + 1, 1e-5, 1e-6)
        np.testing.assert_allclose(session.run(y, {x: cupy.from_dlpack(value)}), np.tanh(rows(256, 256)) * 2, 1e-5)


def test_what_does_not_fit_lists_what_is_alive_and_leaves_the_session_usable():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4,))
        huge = fg.sum(fg.exp(fg.broadcast_to(x, (2**40, 4))) * 2.0)
        small = fg.sum(fg.exp(x))
    with fg.Session(graph, device=DEVICE, jit=False) as session:
        with pytest.raises(fg.ExecutionError, match="cuda:0 has no memory left"):
            session.run(huge, {x: np.zeros(4, np.float32)})
        assert session.run(small, {x: np.zeros(4, np.float32)}) == 4


def test_a_singular_matrix_is_an_error_as_on_the_host():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3, 3))
        y = fg.linalg.inv(x)
    with fg.Session(graph, device=DEVICE) as session, pytest.raises(fg.LinAlgError):
        session.run(y, {x: np.zeros((3, 3), np.float32)})


def test_a_trace_has_the_times_of_the_device_in_the_order_of_its_streams():
    trace = overlap.large(small=True, steps=4)
    for run in trace.runs:
        assert list(run.rows) == ["cuda:0 compute", "cuda:0 copies"]
        for spans in run.rows.values():
            times = [time for index in sorted(spans) for time in spans[index]]
            assert times == sorted(times)
        for index, (begin, end) in run.spans.items():
            assert run.asked[index][0] <= begin + 1e-3 <= end + 1e-3  # (to what the two clocks may be apart)
        names = [kernel.name for kernel in run.plan.kernels]
        product, first = names.index("product_0"), names.index("a to cuda:0")
        assert run.spans[first][1] <= run.spans[product][1]
    assert trace.summary(ceilings=False).streams["cuda:0"].copies > 0


def test_what_is_not_finite_is_traced_back_to_its_node():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n", 4))
        y = fg.mean(fg.exp(x) * fg.log(fg.nn.relu(x)))
    with fg.Session(graph, device=DEVICE, check_numerics=True) as session:
        with pytest.raises(fg.NumericsError, match="log: made -inf of finite values") as caught:
            session.run(y, {x: np.arange(-2, 2, dtype=np.float32).reshape(1, 4)})
        assert dict(caught.value.rows)["x"] == "(1, 4) float32   relu: 0 … 1, mean 0.25; 3 zeros of 4"


def test_a_recorded_run_has_the_same_bits_when_it_is_replayed(tmp_path):
    with fg.Graph() as graph:
        fetches, feeds = mlp()
    with fg.Session(graph, device=DEVICE) as session:
        for _ in range(3):
            session.run(fetches, feeds)
        with session.record(tmp_path / "run.fgr"):
            loss = session.run(fetches, feeds)[0]
    with fg.replay.Replay(tmp_path / "run.fgr") as replay:
        assert replay.verify().is_same, replay.verify()
        replay.run()
        assert replay.results()[0] == loss


EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FEW: dict[str, list[str]] = {
    "lenet_mnist": ["--epochs", "1", "--limit", "6400"],
    "mlp_mnist": ["--epochs", "1", "--limit", "6400"],
    "logistic_regression": ["--epochs", "1", "--limit", "6400"],
    "autoencoder": ["--epochs", "1", "--limit", "6400", "--units", "100"],
    "lstm_rows": ["--epochs", "1", "--limit", "6400"],
    "gan": ["--steps", "50"],
    "word2vec": ["--epochs", "1"],
    "transformer_text": ["--steps", "50", "--size", "32", "--blocks", "1"],
    "newton": ["--descent-steps", "50"],
}


@pytest.mark.parametrize("example", [path.stem for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "command_line"])
def test_every_example_runs_on_the_gpu(example, tmp_path):
    command = [sys.executable, str(EXAMPLES / f"{example}.py"), *FEW.get(example, []), "--device", DEVICE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
