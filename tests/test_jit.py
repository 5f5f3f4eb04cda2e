"""Compiled loops: their values beside NumPy's, their functions' errors, and what they do with arrays that are not as they need them."""

import importlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from flowgraph.records import replace

pytest.importorskip("llvmlite")

from flowgraph.jit.functions import Scalars
from flowgraph.jit.kernels import compiled, compiler
from flowgraph.jit.llvm import Compiler, Registers, Target, cache_folder
from flowgraph.jit.loops import Loop, Operand, Result, Window
from flowgraph.jit.values import Unfusable

TARGET = Target(object.__basicsize__, Registers(32, 64))
F4, F8, BOOL = np.dtype("f4"), np.dtype("f8"), np.dtype(bool)


pytestmark = pytest.mark.usefixtures("own_kernels")


def flat(make, *dtypes, size):
    """A kernel over ``size`` elements of arrays with these dtypes."""
    s = Scalars()
    value = make(s, *[s.load(i, dtype, is_row=False) for i, dtype in enumerate(dtypes)])
    operands = tuple(Operand(dtype, (True,)) for dtype in dtypes)
    return compiled(Loop((size,), (0, 1), operands, (Result(value, (False,)),))), value.dtype


def ulps(made, exact):
    """The largest error in units in the last place, over what is finite."""
    rounded = exact.astype(made.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(made[~finite], rounded[~finite])
    spacing = np.maximum(np.spacing(np.abs(rounded[finite])), np.finfo(made.dtype).smallest_subnormal)
    return np.abs((made[finite] - exact[finite]) / spacing).max()


@pytest.mark.parametrize("name", ["exp", "exp2", "sinh", "tanh"])
@pytest.mark.parametrize("dtype", [F4, F8])
def test_what_scales_by_powers_of_two_has_the_same_bits_where_no_instruction_does_it(dtype, name):
    end = 120 if dtype == F4 else 760
    x = np.concatenate([np.linspace(-end, end, 100_001), [0.0, -0.0, np.inf, -np.inf, np.nan]]).astype(dtype)
    s = Scalars()
    value = getattr(s, name)(s.load(0, dtype, is_row=False))
    loop = Loop(x.shape, (0, 1), (Operand(dtype, (True,)),), (Result(value, (False,)),))
    ours = compiler().target
    made = [compiled(loop, replace(ours, has_scale=has))(x, np.empty_like(x)) for has in {False, ours.has_scale}]
    for bits in made[1:]:
        np.testing.assert_array_equal(bits.view(f"i{dtype.itemsize}"), made[0].view(f"i{dtype.itemsize}"))
    exact = getattr(np, name)(x.astype("longdouble"))
    with np.errstate(over="ignore"):
        assert ulps(made[-1], exact) < 3


FUNCTIONS = {
    "exp": (-110, 95, 2), "expm1": (-110, 95, 2), "exp2": (-152, 130, 2), "log": (0, 1e3, 1), "log1p": (-1, 3, 1), "log2": (0, 50, 1),
    "log10": (0, 50, 1), "tanh": (-12, 12, 2), "sinh": (-95, 95, 3), "cosh": (-95, 95, 2), "erf": (-6, 6, 2),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_err_by_few_ulps_and_know_the_edges(name, dtype):
    low, high, bound = FUNCTIONS[name]
    if dtype == F8 and name in ("log2", "log10"):
        with pytest.raises(Unfusable):
            flat(lambda s, x: getattr(s, name)(x), dtype, size=1)
        return
    random = np.random.default_rng(0)
    edges = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30, -709.5, -730.0]
    x = np.concatenate([random.uniform(low, high, 30_000), random.uniform(-1, 1, 30_000) * 10.0 ** random.uniform(-30, 0, 30_000), edges])
    x = x.astype(dtype)
    kernel, _ = flat(lambda s, x: getattr(s, name)(x), dtype, size=x.size)
    made = kernel(x, np.empty_like(x))
    with np.errstate(all="ignore"):
        wide = x.astype("f8" if dtype == F4 else np.longdouble)
        exact = special.erf(x.astype("f8")) if name == "erf" else getattr(np, name)(wide)
        assert ulps(made, exact) <= bound + (name == "erf" and dtype == F8) * 1.5  # (whose reference errs, too)
        assert (np.signbit(made) == np.signbit(exact.astype(dtype)))[~np.isnan(made)].all()


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_what_goes_to_one_reaches_it_and_goes_no_further(name, dtype):
    x = np.concatenate([np.linspace(2, 30, 200_001), [1e30, np.inf]]).astype(dtype)
    kernel, _ = flat(lambda s, x: getattr(s, name)(x), dtype, size=x.size)
    made = kernel(x, np.empty_like(x))
    assert made.max() == made[-1] == 1
    np.testing.assert_array_equal(kernel(-x, np.empty_like(x)), -made)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 33, 100])
def test_a_flat_loop_does_all_elements_and_no_more(size):
    x, y = np.arange(size, dtype="f4"), np.linspace(-1, 1, size).astype("f4")
    kernel, _ = flat(lambda s, x, y: s.maximum(x * y, y) - 2.0, F4, F4, size=100)
    room = np.full(size + 8, 7, "f4")
    kernel(x, y, out=room[:size])
    np.testing.assert_array_equal(room[:size], np.maximum(x * y, y) - 2)
    assert (room[size:] == 7).all()


def test_numpys_meaning_of_nan_ties_and_truth():
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 3e38])
    x, y = (a.ravel().astype("f4") for a in np.meshgrid(edges, edges))
    for name in ("maximum", "minimum", "greater", "less_equal", "equal", "not_equal", "logical_and", "logical_xor"):
        kernel, dtype = flat(lambda s, x, y, name=name: getattr(s, name)(x, y), F4, F4, size=x.size)
        np.testing.assert_array_equal(kernel(x, y, np.empty(x.shape, dtype)), getattr(np, name)(x, y), name)
    for name in ("sign", "rint", "floor", "ceil", "trunc", "absolute", "isnan", "isfinite", "isinf", "signbit", "logical_not", "square"):
        kernel, dtype = flat(lambda s, x, name=name: getattr(s, name)(x), F4, size=x.size)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(kernel(x, np.empty(x.shape, dtype)), getattr(np, name)(x), name)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "u4", "?"])
def test_integers_and_casts(dtype):
    x = np.array([0, 1, 2, 3, 100, 127]).astype(dtype)
    kernel, _ = flat(lambda s, x: s.astype(x, F8) * 0.5, x.dtype, size=x.size)
    np.testing.assert_array_equal(kernel(x, np.empty(x.shape)), x * 0.5)
    if dtype != "?":
        kernel, _ = flat(lambda s, x: s.where(s.greater(x, 2), x * x, x + x), x.dtype, size=x.size)
        np.testing.assert_array_equal(kernel(x, np.empty_like(x)), np.where(x > 2, x * x, x + x))


def softmax(s, x):
    e = s.exp(x - s.max(x))
    return e / s.sum(e)


@pytest.mark.parametrize("columns", [1, 3, 10, 16, 33, 100, 1000])
@pytest.mark.parametrize("dtype", [F4, F8])
def test_rows_with_sums_along_them(columns, dtype):
    s = Scalars()
    x, b = s.load(0, dtype, is_row=False), s.load(1, dtype, is_row=False)
    value = softmax(s, x + b)
    loop = Loop((7, columns), (0, 1), (Operand(dtype, (True, True)), Operand(dtype, (False, True))), (Result(value, (False, False)),))
    a, bias = np.random.default_rng(1).normal(size=(7, columns)).astype(dtype), np.arange(columns).astype(dtype)
    e = np.exp((a + bias) - (a + bias).max(1, keepdims=True))
    made = compiled(loop)(a, bias, np.empty_like(a))
    np.testing.assert_allclose(made, e / e.sum(1, keepdims=True), rtol=1e-6 if dtype == F4 else 1e-14)
    np.testing.assert_array_equal(compiled(loop)(a[2:5], bias, np.empty_like(a[2:5])), made[2:5])


@pytest.mark.parametrize("columns", [1, 5, 33, 640])
def test_sums_over_rows_over_all_and_of_rows(columns):
    s = Scalars()
    x = s.load(0, F4, is_row=False)
    y = s.exp(x)
    mean = s.sum(y) / float(columns)
    results = (
        Result(y, (False, False)),
        Result(y, (True, False)),
        Result(y, (True, True)),
        Result(mean, (True, True), 6),
        Result(mean, (False, False)),
    )
    loop = Loop((6, columns), (0, 1), (Operand(F4, (True, True)),), results)
    a = np.random.default_rng(1).normal(size=(6, columns)).astype("f4")
    made = [np.empty_like(a), np.empty(columns, "f4"), np.empty((), "f4"), np.empty((), "f4"), np.empty(6, "f4")]
    compiled(loop)(a, *made)
    e = np.exp(a.astype("f8"))
    for got, exact in zip(made, [e, e.sum(0), e.sum(), e.mean(), e.mean(1)], strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-6)


def test_three_dimensions_with_sums_over_the_first_and_last():
    s = Scalars()
    x, scale = s.load(0, F4, is_row=False), s.load(1, F4, is_row=True)
    loop = Loop(
        (4, 3, 50), (0, 1), (Operand(F4, (True, True, True)), Operand(F4, (False, True, False))),
        (Result(x * scale, (True, False, True)), Result(x * scale, (False, False, False))),
    )  # fmt: skip
    a, b = np.random.default_rng(1).normal(size=(4, 3, 50)).astype("f4"), np.array([1, 2, 3], "f4")
    total, all_ = compiled(loop), np.empty_like(a)
    made = np.empty(3, "f4")
    total(a, b, made, all_)
    np.testing.assert_allclose(made, (a * b[:, None]).sum((0, 2)), rtol=1e-5)
    np.testing.assert_array_equal(all_, a * b[:, None])


def test_maxima_of_rows_keep_nan():
    s = Scalars()
    x = s.load(0, F4, is_row=False)
    loop = Loop((4, 40), (0, 1), (Operand(F4, (True, True)),), (Result(s.max(x), (False, False)), Result(s.min(x), (False, False))))
    a = np.arange(160, dtype="f4").reshape(4, 40)
    a[1, 3], a[2, 39], a[3] = np.nan, np.nan, -np.inf
    made = np.empty(4, "f4"), np.empty(4, "f4")
    compiled(loop)(a, *made)
    np.testing.assert_array_equal(made[0], a.max(1))
    np.testing.assert_array_equal(made[1], a.min(1))


def test_numbers_may_be_arrays_or_numpys_scalars_and_others_are_made_so():
    s = Scalars()
    x, y = s.load(0, F4, is_row=False), s.load(1, F4, is_row=True)
    kernel = compiled(Loop((5,), (0, 1), (Operand(F4, (True,)), Operand(F4, (False,))), (Result(x * y, (False,)),)))
    a = np.arange(5, dtype="f4")
    for number in (np.float32(3), np.array(3, "f4"), 3, np.float64(3)):
        np.testing.assert_array_equal(kernel(a, number, np.empty_like(a)), a * 3)


def test_rows_may_lie_apart_and_other_arrays_are_copied():
    whole = np.arange(80, dtype="f4").reshape(8, 10)
    for strided in (True, False):
        s = Scalars()
        x = s.load(0, F4, is_row=False)
        loop = Loop((8, 4), (0, 1), (Operand(F4, (True, True), strided),), (Result(x + 1.0, (False, False)),))
        kernel = compiled(loop)
        for part in (whole[:, 3:7], whole.T[:8, :4], whole[::-1, :4], np.ascontiguousarray(whole[:, :4])):
            np.testing.assert_array_equal(kernel(part, np.empty((8, 4), "f4")), part + 1)
        out = np.zeros((8, 10), "f4")
        assert kernel(whole[:, :4], out=out[:, 2:6]) is not None
        np.testing.assert_array_equal(out[:, 2:6], whole[:, :4] + 1)


def test_kernels_are_kept_on_disk_and_what_is_damaged_there_is_made_anew(tmp_path):
    def text(number):
        s = Scalars()
        x = s.load(0, F4, is_row=False)
        return Loop((5,), (0, 1), (Operand(F4, (True,)),), (Result(x * float(number), (False,)),)).text(TARGET)

    symbols: dict[str, int] = {}
    first = Compiler(tmp_path / "k", symbols)
    first.address(text(1))
    first.address(text(1))
    assert (first.compiled, first.loaded) == (1, 0)
    (kept,) = (tmp_path / "k").iterdir()
    second = Compiler(tmp_path / "k", symbols)
    second.address(text(1))
    assert (second.compiled, second.loaded) == (0, 1)
    for damage in (kept.read_bytes()[:100], b"", kept.read_bytes()[:-1] + b"x"):
        kept.write_bytes(damage)
        third = Compiler(tmp_path / "k", symbols)
        third.address(text(1))
        assert (third.compiled, third.loaded) == (1, 0)
    kept.chmod(0o666)
    fourth = Compiler(tmp_path / "k", symbols)
    fourth.address(text(1))
    assert fourth.loaded == 0, "a file that others may write is not run"


def test_loops_that_compute_the_same_are_equal_and_have_one_text():
    window = Window((9,), (-1,), (0,), (9,), 0.0)

    def loop(make=lambda s, x: s.exp(x) * 2.0, dtype=F4, window=None):
        s = Scalars()
        value = make(s, s.load(0, dtype, is_row=False))
        return Loop((8,), (1, 1), (Operand(dtype, (True,), window=window),), (Result(value, (False,)),))

    first, twin = loop(window=window), loop(window=replace(window))
    assert first == twin and hash(first) == hash(twin) and first.text(TARGET) is twin.text(TARGET)
    others = [
        loop(window=replace(window, fill=-0.0)),
        loop(window=replace(window, shifts=(0,))),
        loop(),
        loop(dtype=F8),
        loop(lambda s, x: s.exp(x) * -2.0),
        loop(lambda s, x: x * 0.0),
        loop(lambda s, x: x * -0.0),
    ]
    assert len({first, *others}) == len({first.text(TARGET), *[other.text(TARGET) for other in others]}) == 1 + len(others)


def test_of_too_many_kernels_on_disk_those_go_that_were_used_last_the_longest_ago(tmp_path, monkeypatch):
    for number in range(8):
        (tmp_path / f"old{number}").write_bytes(b"x" * 1000)
        os.utime(tmp_path / f"old{number}", (1000 + number, 1000 + number))
    monkeypatch.setattr("flowgraph.jit.llvm.LIMIT_BYTES", 7000)
    s = Scalars()
    x = s.load(0, F4, is_row=False)
    Compiler(tmp_path, {}).address(Loop((5,), (0, 1), (Operand(F4, (True,)),), (Result(x * 3.0, (False,)),)).text(compiler().target))
    assert sorted(path.name for path in tmp_path.iterdir())[-5:] == [f"old{number}" for number in range(3, 8)]


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = Compiler(tmp_path / "file" / "k", {})
    s = Scalars()
    x = s.load(0, F4, is_row=False)
    assert blocked.address(Loop((5,), (0, 1), (Operand(F4, (True,)),), (Result(-x, (False,)),)).text(TARGET))


PROGRAM = """
import sys
import numpy as np
import flowgraph as fg
with fg.Graph() as graph:
    x = fg.placeholder("x", (None,), "float32")
    fetches = [fg.tanh(x * k) + fg.exp(-x * x) for k in range(6)]
with fg.Session(graph, jit=True) as session:
    value = np.linspace(-2, 2, 200_000, dtype="f4")
    for y in fetches:
        assert "fuse" in str(session.plan(y, {x: value}))
        sys.stdout.buffer.write(session.run(y, {x: value}).tobytes())
"""


def test_processes_that_write_the_cache_at_once_all_have_the_values_and_leave_whole_kernels(tmp_path):
    environment = {**os.environ, "FLOWGRAPH_CACHE": str(tmp_path / "k"), "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=environment) for _ in range(3)]
    made = [process.communicate(timeout=100)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(made[0]) == 6 * 200_000 * 4
    assert made[0] == made[1] == made[2]
    again = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=environment, timeout=100, check=True)
    assert again.stdout == made[0]
    assert len(list((tmp_path / "k").iterdir())) == 6


def test_what_cannot_be_read_in_the_cache_is_compiled(tmp_path):
    s = Scalars()
    x = s.load(0, F4, is_row=False)
    text = Loop((5,), (0, 1), (Operand(F4, (True,)),), (Result(x * 5.0, (False,)),)).text(TARGET)
    Compiler(tmp_path, {}).address(text)
    (kept,) = tmp_path.iterdir()
    kept.unlink()
    kept.mkdir()
    blocked = Compiler(tmp_path, {})
    assert blocked.address(text)
    assert (blocked.compiled, blocked.loaded) == (1, 0)


def test_the_folder_of_the_cache(monkeypatch):
    monkeypatch.setenv("FLOWGRAPH_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("FLOWGRAPH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_folder()) == "/somewhere/flowgraph/kernels"


def test_two_threads_and_many_sizes_give_the_same_bits():
    from concurrent.futures import ThreadPoolExecutor

    kernel, _ = flat(lambda s, x: s.tanh(x) * s.exp(x), F4, size=10_000)
    x = np.random.default_rng(0).normal(size=10_000).astype("f4")
    whole = kernel(x, np.empty_like(x))
    parts = np.empty_like(x)
    cuts = [0, 1, 777, 5000, 9999, 10_000]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda cut: kernel(x[cut[0] : cut[1]], out=parts[cut[0] : cut[1]]), itertools.pairwise(cuts)))
    np.testing.assert_array_equal(parts.view("i4"), whole.view("i4"))


def test_flowgraph_does_not_need_the_compiler_to_be_imported():
    assert importlib.import_module("flowgraph.jit.llvm").is_available()


def test_a_program_that_ends_with_kernels_alive_ends_well():
    program = (
        "import numpy as np, sys\n"
        "import flowgraph as fg\n"
        "from flowgraph.jit import kernels\n"
        "x = fg.placeholder('x', (None,), 'float32')\n"
        "s = fg.Session(jit=True)\n"
        "f = s.function([x], fg.exp(x) * 2)\n"
        "f(np.ones(1_000_000, 'f4'))\n"
        "sys.kept = f, kernels._function\n"  # outlives the module's own names
    )
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


NETWORK = """
import sys
import numpy as np
import flowgraph as fg
from flowgraph.jit.llvm import Compiler

def refused(compiler, text):
    raise RuntimeError("LLVM does not like it")

if sys.argv[1:] == ["planted"]:
    Compiler._compile = refused

def losses(jit):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, 400), "float32")
        labels = fg.placeholder("labels", (64,), "int64")
        images = fg.nn.max_pool2d(fg.nn.relu(fg.nn.Conv2d(1, 4, 5)(fg.reshape(x, (64, 1, 20, 20)))), 2)
        hidden = fg.nn.relu(fg.nn.Linear(256, 300)(fg.reshape(images, (64, 256))))
        _, rows = fg.scan(lambda c, row: (fg.tanh(c + row) * c, c), fg.ones((300,), "float32"), hidden)
        loss = fg.mean(fg.nn.softmax_cross_entropy(fg.nn.Linear(300, 10)(rows + hidden), labels))
        train = fg.optim.SGD(0.1).minimize(loss)
    rng = np.random.default_rng(0)
    feeds = rng.standard_normal((64, 400)).astype("f4"), rng.integers(0, 10, 64)
    with fg.Session(graph, threads=2, jit=jit) as session:
        step = session.function([x, labels], [loss, train])
        return [float(step(*feeds)[0]) for _ in range(4)]

np.testing.assert_allclose(losses(None), losses(False), rtol=1e-5)
"""


def warned(environment, *arguments):
    """The first words of the warnings of NETWORK."""
    command = [sys.executable, "-c", NETWORK, *arguments]
    paths = os.pathsep.join([*environment.pop("before", ()), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths, **environment}, check=False)
    assert done.returncode == 0, done.stderr
    return re.findall(r"RuntimeWarning: (.* could not be compiled.*)", done.stderr)


def test_what_cannot_be_compiled_is_served_by_its_twin_and_a_warning_tells_of_each_once():
    assert warned({"FLOWGRAPH_CACHE": ""}) == []
    said = warned({"FLOWGRAPH_CACHE": ""}, "planted")
    assert all(line.endswith(": LLVM does not like it") for line in said)
    assert len(set(said)) == len(said)
    for what in ("a loop", "conv", "what calls kernels from machine code"):
        assert any(line.startswith(f"{what} could not be compiled") for line in said), what


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process that loads half a library")
def test_where_llvmlites_library_was_cut_off_numpys_kernels_serve(tmp_path):
    package = Path(importlib.import_module("llvmlite").__file__ or "").parent
    shutil.copytree(package, tmp_path / "llvmlite", ignore=shutil.ignore_patterns("*.so", "__pycache__", "tests"))
    with open(package / "binding" / "libllvmlite.so", "rb") as whole:
        (tmp_path / "llvmlite" / "binding" / "libllvmlite.so").write_bytes(whole.read(2**20))
    said = warned({"FLOWGRAPH_CACHE": "", "before": [str(tmp_path)]})
    assert said
    assert all(line.endswith("libllvmlite.so has been cut off: install llvmlite anew)") for line in said)


def test_where_llvmlite_is_there_and_cannot_be_loaded_numpys_kernels_serve(tmp_path):
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").touch()
    (tmp_path / "llvmlite" / "binding.py").write_text("raise OSError('GLIBC_9 not found')")
    said = warned({"FLOWGRAPH_CACHE": "", "before": [str(tmp_path)]})
    assert said
    assert all(line.endswith(": llvmlite cannot be loaded (GLIBC_9 not found)") for line in said)
