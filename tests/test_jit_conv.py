"""Compiled convolutions beside NumPy's, over odd shapes, and what must not depend on how a batch is cut."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flowgraph as fg
from flowgraph.graph import Spec
from flowgraph.graph.op import OPS
from flowgraph.jit.arrays import tiles
from flowgraph.jit.conv import Conv, ConvInputGrad, Convolution, ConvPool, ConvWeightGrad, Epilogue
from flowgraph.jit.functions import Scalars
from flowgraph.jit.kernels import compiled
from flowgraph.jit.llvm import Registers, Target
from flowgraph.jit.pool import AvgPool, MaxPool, Pooling
from flowgraph.jit.windows import Windows
from flowgraph.ops import conv_kernels

WIDE, NARROW, SHORT = [Target(object.__basicsize__, registers) for registers in (Registers(32, 64), Registers(16, 32), Registers(32, 16))]
F4, F8 = np.dtype("f4"), np.dtype("f8")

# image, filters, and what is not the default
SHAPES = [
    ((1, 28, 28), (20, 5, 5), {}),
    ((20, 12, 12), (50, 5, 5), {}),
    ((3, 9, 7), (7, 3, 3), {"padding": ((1, 1), (1, 1))}),
    ((5, 8, 11), (4, 3, 2), {"padding": ((2, 0), (0, 3)), "stride": (2, 1)}),
    ((2, 13, 17), (6, 3, 3), {"padding": ((1, 2), (0, 1)), "stride": (2, 2)}),
    ((3, 16, 15), (5, 2, 3), {"stride": (3, 4), "padding": ((0, 1), (2, 2))}),
    ((4, 11, 12), (3, 3, 3), {"dilation": (2, 3), "padding": ((2, 2), (3, 3))}),
    ((2, 12, 12), (3, 3, 2), {"dilation": (3, 2), "stride": (2, 3)}),
    ((7, 6, 6), (33, 1, 1), {}),
    ((6, 7, 7), (5, 1, 1), {"stride": (2, 2)}),
    ((3, 4, 4), (40, 4, 4), {}),
    ((1, 1, 1), (1, 1, 1), {}),
    ((1, 5, 3), (2, 3, 3), {}),
    ((2, 3, 40), (3, 1, 8), {"padding": ((0, 0), (4, 3))}),
    ((2, 40, 3), (3, 7, 1), {"padding": ((3, 3), (0, 0))}),
    ((1, 3, 3), (2, 3, 3), {"padding": ((5, 5), (5, 5))}),
    ((2, 2, 200), (3, 2, 3), {"padding": ((1, 0), (1, 2)), "dilation": (1, 2)}),
    ((2, 3, 207), (3, 2, 5), {"padding": ((0, 1), (2, 3)), "stride": (1, 2)}),
    ((1, 2, 330), (2, 1, 3), {"stride": (1, 4), "padding": ((0, 0), (1, 0))}),
    ((6, 9, 7), (8, 3, 3), {"padding": ((1, 1), (1, 1)), "groups": 2}),
    ((5, 20, 21), (5, 3, 3), {"padding": ((1, 1), (1, 1)), "stride": (2, 2), "groups": 5}),
    ((4, 8, 8), (12, 3, 2), {"groups": 4}),
    # Whole vectors in each row:
    ((6, 7, 16), (17, 3, 3), {"padding": ((1, 1), (1, 1))}),
    ((9, 64, 52), (18, 3, 3), {"stride": (2, 1), "padding": ((2, 0), (1, 2)), "dilation": (1, 3)}),
    ((2, 6, 48), (4, 5, 3), {"padding": ((2, 2), (0, 2)), "groups": 2}),
    # Many outputs:
    ((8, 12, 11), (32, 3, 3), {"padding": ((1, 1), (1, 1))}),
    ((5, 6, 5), (47, 5, 3), {"padding": ((0, 2), (2, 1)), "dilation": (1, 2)}),
    ((18, 21, 23), (62, 3, 3), {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "groups": 2}),
    ((66, 2, 2), (64, 1, 1), {}),
    ((9, 9, 150), (80, 2, 8), {"padding": ((0, 0), (4, 4))}),
]


pytestmark = pytest.mark.usefixtures("own_kernels")


def arrays(batch, conv, dtype, seed=0):
    random = np.random.default_rng(seed)
    o, kh, kw = conv.filters
    return [
        random.standard_normal(shape).astype(dtype)
        for shape in ((batch, *conv.image), (o, conv.image[0] // conv.groups, kh, kw), (batch, o, *conv.size), (o,))
    ]


def within(made, exact, scale, terms):
    """Whether each entry errs by no more than rounding the sum of its terms, whose absolute values add up to ``scale``, can explain."""
    ulp = np.finfo(made.dtype).eps
    assert (np.abs(made - exact) <= (3 + 2 * np.sqrt(terms)) * ulp * scale + np.finfo(made.dtype).tiny).all()


@pytest.mark.parametrize("target", [WIDE, NARROW])
@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("image, filters, options", SHAPES)
def test_convolution_and_its_gradients_agree_with_numpy(image, filters, options, dtype, target):
    conv = Convolution(dtype, image, filters, **options)
    assert conv.is_supported
    x, w, g, _ = arrays(3, conv, dtype)
    wide = [a.astype("f8") for a in (x, w, g)]
    sizes = [np.abs(a) for a in wide]
    cases: list[Any] = [
        (Conv, (0, 1), conv_kernels.conv2d, {}, w[0].size),
        (ConvInputGrad, (2, 1), conv_kernels.conv2d_input_grad, {"shape": x.shape}, filters[0] * filters[1] * filters[2]),
        (ConvWeightGrad, (2, 0), conv_kernels.conv2d_weight_grad, {"shape": w.shape}, 3 * conv.size[0] * conv.size[1]),
    ]
    for kind, (a, b), kernel, shape, terms in cases:
        exact = kernel(np, wide[a], wide[b], **options, **shape)
        scale = kernel(np, sizes[a], sizes[b], **options, **shape)
        room = np.full(exact.size + 32, 7, dtype)
        out = room[: exact.size].reshape(exact.shape)
        given = [(x, w, g)[k] for k in (a, b)]
        assert compiled(kind(conv), target)(*given, out) is out
        within(out, exact, scale, terms)
        assert (room[exact.size :] == 7).all()


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("image, filters, options", SHAPES)
def test_kernels_touch_nothing_outside_their_arrays(image, filters, options, at_end, guarded):
    conv = Convolution(F4, image, filters, **options)
    x, w, g, _ = arrays(2, conv, F4)
    for kind, a, b, like in ((Conv, x, w, g), (ConvInputGrad, g, w, x), (ConvWeightGrad, g, x, w)):
        kernel = compiled(kind(conv), WIDE)
        made = kernel(*[guarded(array, at_end) for array in (a, b, np.zeros_like(like))])
        np.testing.assert_array_equal(made, kernel(a, b, np.zeros_like(like)))


@pytest.mark.parametrize("at_end, touched", [(True, "x.ctypes.data + x.nbytes"), (False, "x.ctypes.data - 1")])
def test_touching_what_lies_beside_a_guarded_array_ends_the_process(at_end, touched, guarded):
    code = f"import ctypes, numpy as np; from conftest import guarded_copy; x = guarded_copy(np.ones(10), {at_end}); print(x.sum())"
    for more, ends in (("", False), (f"; ctypes.string_at({touched}, 1)", True)):
        run = subprocess.run([sys.executable, "-c", code + more], cwd=Path(__file__).parent, capture_output=True)
        assert (run.returncode < 0) == ends, run.stderr


@pytest.mark.parametrize("batch", [0, 1, 3, 16, 17, 128])
def test_the_bits_of_an_image_do_not_depend_on_the_batch(batch):
    conv = Convolution(F4, (3, 9, 10), (7, 3, 3), padding=((1, 0), (2, 1)))
    x, w, g, _ = arrays(batch, conv, F4)
    y, dx = np.empty_like(g), np.empty_like(x)
    forward, backward = compiled(Conv(conv), WIDE), compiled(ConvInputGrad(conv), WIDE)
    forward(x, w, y)
    backward(g, w, dx)
    for part in (slice(0, 1), slice(1, 3), slice(5, batch)):
        np.testing.assert_array_equal(forward(x[part], w, np.empty_like(g[part])), y[part])
        np.testing.assert_array_equal(backward(g[part], w, np.empty_like(x[part])), dx[part])
    exact = conv_kernels.conv2d_weight_grad(np, g.astype("f8"), x.astype("f8"), shape=w.shape, padding=((1, 0), (2, 1)))
    np.testing.assert_allclose(compiled(ConvWeightGrad(conv), WIDE)(g, x, np.empty_like(w)), exact, atol=1e-4)


@pytest.mark.parametrize("image, filters, options", SHAPES[:8] + SHAPES[-5:])
def test_the_bits_do_not_depend_on_the_processors_registers(image, filters, options):
    conv = Convolution(F4, image, filters, **options)
    x, w, g, _ = arrays(2, conv, F4)
    for kind, a, b, like in ((Conv, x, w, g), (ConvInputGrad, g, w, x), (ConvWeightGrad, g, x, w)):
        made = [compiled(kind(conv), target)(a, b, np.empty_like(like)) for target in (WIDE, NARROW, SHORT)]
        np.testing.assert_array_equal(made[0], made[1])
        np.testing.assert_array_equal(made[0], made[2])


@pytest.mark.parametrize("image, filters, options", [SHAPES[2], SHAPES[4], SHAPES[-3]])
@pytest.mark.parametrize("dtype", [F4, F8])
def test_an_epilogue_gives_the_bits_that_the_same_gives_behind_the_kernel(dtype, image, filters, options):
    conv = Convolution(dtype, image, filters, **options)
    x, w, g, b = arrays(4, conv, dtype)
    x[0, 0, 3, 3], x[1, 0, 3, 3] = np.nan, np.inf
    s = Scalars()
    image_, total, channel = (s.load(k, dtype, is_row=k == 2) for k in range(3))
    value = s.maximum(total + channel, 0.0) * 0.5 - image_
    made = compiled(Conv(conv, Epilogue(value, ("image", "sum", "channel"))))(x, w, g, b, np.empty_like(g))
    y = compiled(Conv(conv))(x, w, np.empty_like(g))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(made, np.maximum(y + b[:, None, None], 0) * dtype.type(0.5) - g)


@pytest.mark.parametrize("image, filters, options", [SHAPES[0], SHAPES[4], SHAPES[-8], SHAPES[-3]])
@pytest.mark.parametrize("target", [WIDE, NARROW])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (1, 1))])
def test_a_convolution_that_pools_gives_the_bits_of_one_behind_the_other(padding, target, image, filters, options):
    conv = Convolution(F4, image, filters, **options)
    x, w, _, b = arrays(3, conv, F4)
    s = Scalars()
    total, channel = (s.load(k, F4, is_row=k == 1) for k in range(2))
    epilogue = Conv(conv, Epilogue(s.maximum(total + channel, 0.0), ("sum", "channel")))
    shapes = Pooling(F4, filters[0], Windows(conv.size, (2, 2), (2, 1), padding))
    for pool in (MaxPool(shapes), AvgPool(shapes, counts_border=False)):
        y = compiled(epilogue, target)(x, w, b, np.empty((3, filters[0], *conv.size), "f4"))
        expected = compiled(pool, target)(y, np.empty((3, filters[0], *shapes.windows.size), "f4"))
        made = compiled(ConvPool(epilogue, pool), target)(x, w, b, np.empty_like(expected))
        np.testing.assert_array_equal(made, expected)


def test_a_processor_without_fused_multiply_add_rounds_twice():
    conv = Convolution(F4, (3, 7, 9), (5, 3, 3))
    x, w, g, _ = arrays(4, conv, F4)
    plain = Target(object.__basicsize__, Registers(16, 16), has_fma=False)
    assert "fma" not in Conv(conv).text(plain)
    made = compiled(Conv(conv), plain)(x, w, np.empty_like(g))
    np.testing.assert_allclose(made, conv_kernels.conv2d(np, x, w), rtol=1e-5, atol=1e-5)


def test_what_lies_outside_a_window_does_not_touch_its_sum():
    conv = Convolution(F4, (1, 5, 5), (1, 2, 2), padding=((1, 1), (0, 0)))
    x, w, g, _ = arrays(2, conv, F4)
    y, dw = np.empty_like(g), np.empty_like(w)
    x[0, 0, 0, 0] = np.inf
    compiled(Conv(conv), WIDE)(x, w, y)
    assert np.isfinite(y[1]).all() and np.isfinite(y[0, 0, 2:]).all() and np.isfinite(y[0, 0, :2, 1:]).all()
    x[0, 0, 0, 0], w[0, 0, 0, 0] = 1, np.inf
    dx = compiled(ConvInputGrad(conv), WIDE)(g, w, np.empty_like(x))
    assert np.isfinite(dx[..., 4]).all()
    x[:, :, :, 0] = np.nan  # met by the first column of the filters alone
    compiled(ConvWeightGrad(conv), WIDE)(g, x, dw)
    assert np.isnan(dw[..., 0]).all() and np.isfinite(dw[..., 1]).all()


def test_arrays_that_lie_otherwise_in_memory_are_copied():
    conv = Convolution(F4, (2, 6, 6), (3, 3, 3))
    x, w, g, _ = arrays(4, conv, F4)
    kernel = compiled(Conv(conv), WIDE)
    y = kernel(x, w, np.empty_like(g))
    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    out = np.empty((4, 3, 4, 8), "f4")[..., ::2]
    kernel(turned, w[::-1][::-1], out)
    np.testing.assert_array_equal(out, y)


def test_big_images_are_worked_off_band_by_band(monkeypatch):
    module = importlib.import_module("flowgraph.jit.conv")
    conv = Convolution(F4, (3, 33, 20), (4, 3, 3), padding=((1, 2), (1, 1)), stride=(2, 1))
    x, w, g, _ = arrays(2, conv, F4)
    text = Conv(conv).text(WIDE)
    cases = [(Conv, x, w, g), (ConvWeightGrad, g, x, w), (ConvInputGrad, g, w, x)]
    whole = [compiled(kind(conv), WIDE)(a, b, np.empty_like(like)) for kind, a, b, like in cases]
    monkeypatch.setattr(module, "LAID_OUT_BYTES", 6000)
    monkeypatch.setattr(module, "TILE_BYTES", 4000)
    monkeypatch.setattr(module, "PANEL_BYTES", 100)
    assert Conv(conv).text(WIDE) != text
    np.testing.assert_array_equal(compiled(Conv(conv), WIDE)(x, w, np.empty_like(g)), whole[0])
    np.testing.assert_allclose(compiled(ConvWeightGrad(conv), WIDE)(g, x, np.empty_like(w)), whole[1], rtol=1e-4, atol=1e-4)
    made = [compiled(ConvInputGrad(conv), target)(g, w, np.empty_like(x)) for target in (WIDE, NARROW, SHORT)]
    np.testing.assert_allclose(made[0], whole[2], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_what_has_no_text_is_not_supported():
    assert not Convolution(np.dtype("f2"), (1, 5, 5), (1, 2, 2)).is_supported
    assert not Convolution(F8, (1, 5, 20), (1, 2, 12)).is_supported
    assert not Convolution(F4, (1, 5, 50), (1, 2, 2), stride=(1, 9)).is_supported
    assert not Convolution(F4, (1, 5, 1000), (1, 2, 2), stride=(1, 3)).is_supported
    assert len(Conv(Convolution(F4, (1, 1, 10_000), (1, 1, 3))).text(WIDE)) < 50_000
    assert not Convolution(F4, (0, 5, 5), (1, 2, 2)).is_supported


def test_tiles_are_of_nearly_equal_size_and_leave_nothing_out():
    for total in range(1, 60):
        for most in range(1, 9):
            parts = tiles(total, most)
            assert sum(count * size for count, size in parts) == total
            assert max(size for _, size in parts) <= most
            assert max(size for _, size in parts) - min(size for _, size in parts) <= 1


def network(jit, threads=1):
    """A session, and what it gives for a small network: its output and the gradients of that by images and filters."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n", 3, 20, 20))
        w = fg.variable(np.random.default_rng(1).standard_normal((8, 3, 3, 3)).astype("f4"), name="w")
        y = fg.nn.max_pool2d(fg.nn.relu(fg.nn.conv2d(x, w, padding="same")), 2)
        fetches = [y, *fg.gradients(fg.sum(y * y), [x, w])]
    with fg.Session(graph, threads=threads, jit=jit) as session:
        return session.run(fetches, {x: np.random.default_rng(0).standard_normal((32, 3, 20, 20)).astype("f4")})


def test_a_session_compiles_convolutions_and_pooling(monkeypatch):
    kinds = set()

    def noting(described):
        kinds.add(type(described).__name__)
        return compiled(described)

    monkeypatch.setattr(sys.modules["flowgraph.session.session"], "compiled", noting)
    for made, plain in zip(network(True), network(False), strict=True):
        np.testing.assert_allclose(made, plain, rtol=2e-5, atol=1e-3)
    assert kinds >= {"Conv", "ConvInputGrad", "ConvWeightGrad", "MaxPool", "MaxPoolGrad"}


def test_with_compiled_kernels_too_the_bits_do_not_depend_on_the_threads():
    for one, many in zip(network(True, 1), network(True, 3), strict=True):
        np.testing.assert_array_equal(one, many)


def test_numpys_kernel_serves_where_one_cannot_be_compiled_and_a_warning_says_so(monkeypatch):
    def failing(described):
        if isinstance(described, ConvWeightGrad):
            raise RuntimeError("no such instruction")
        return compiled(described)

    monkeypatch.setattr(sys.modules["flowgraph.session.session"], "compiled", failing)
    with pytest.warns(
        RuntimeWarning, match="conv_weight_grad could not be compiled, and NumPy's kernel serves instead: no such instruction"
    ):
        made = network(True)
    for a, b in zip(made, network(False), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-3)


def test_the_ops_describe_what_they_want_compiled():
    conv = OPS["conv"]
    options = {"stride": (1,), "padding": ((1, 0),), "dilation": (2,), "groups": 1}
    x, w = Spec((5, 3, 20), F4), Spec((4, 3, 2), F4)
    assert conv.compiled(x, w, **options) == Conv(Convolution(F4, (3, 1, 20), (4, 1, 2), (1, 1), ((0, 0), (1, 0)), (1, 2)))
    assert conv.compiled(Spec((5, 6, 20), F4), w, **{**options, "groups": 2}).conv.groups == 2
    assert conv.compiled(x, Spec((4, 3, 2), F8), **options) is None
    assert conv.compiled(Spec((5, 3, 20), np.dtype("i4")), Spec((4, 3, 2), np.dtype("i4")), **options) is None
    assert conv.compiled(Spec((2, 5, 3, 20), F4), w, **options) is None
    few = Spec((5, 3, 6), F4), Spec((5, 4, 5), F4)  # images and positions
    assert conv.compiled(few[0], w, **options) is None
    assert OPS["conv_input_grad"].compiled(few[1], w, few[0], **options) is None
    assert OPS["conv_weight_grad"].compiled(few[1], few[0], w, **options).conv.image == (3, 1, 6)


def kernels_of(fetch, feeds, threads=1):
    """What the units of a plan call, in order, and what they give with compiled kernels and without."""
    made = []
    for jit in (True, False):
        with fg.Session(fetch.graph, threads=threads, jit=jit) as session:
            made.append(session.run(fetch, feeds))
            if jit:
                names = [unit.node.name for unit in session.plan(fetch, feeds).units]
    return names, made


def test_a_plan_says_for_which_ops_kernels_are_made():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n", 3, 20, 20))
        y = fg.nn.max_pool2d(fg.nn.conv2d(x, np.ones((4, 3, 3, 3), "f4")))
    with fg.Session(graph, jit=True) as session:
        assert "compile: conv, max_pool by compiled kernels" in session.plan(y, {x: np.ones((32, 3, 20, 20), "f4")}).notes
    with fg.Session(graph, jit=False) as session:
        assert session.plan(y, {x: np.ones((32, 3, 20, 20), "f4")}).notes == []


@pytest.mark.parametrize("batch", [1, 40])
def test_what_stands_behind_a_convolution_becomes_part_of_its_kernel(batch):
    random = np.random.default_rng(0)
    w, b = random.standard_normal((6, 3, 3, 3)).astype("f4"), random.standard_normal((6, 1, 1)).astype("f4")
    with fg.Graph():
        x, skip = fg.placeholder("x", ("n", 3, 20, 20)), fg.placeholder("skip", ("n", 6, 20, 20))
        y = fg.nn.relu(fg.nn.conv2d(x, w, padding="same") + b + skip)
    feeds = {x: random.standard_normal((batch, 3, 20, 20)).astype("f4"), skip: random.standard_normal((batch, 6, 20, 20)).astype("f4")}
    names, (made, plain) = kernels_of(y, feeds)
    assert set(names) == {"relu"}
    np.testing.assert_allclose(made, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [8, 40])
@pytest.mark.parametrize("pool", [fg.nn.max_pool2d, fg.nn.avg_pool2d])
def test_what_alone_pools_the_output_of_a_convolution_becomes_part_of_its_kernel(pool, batch):
    random = np.random.default_rng(0)
    w, b = random.standard_normal((6, 3, 3, 3)).astype("f4"), random.standard_normal((6, 1, 1)).astype("f4")
    with fg.Graph():
        x = fg.placeholder("x", ("n", 3, 20, 20))
        h = fg.nn.relu(fg.nn.conv2d(x, w, padding="same") + b)
        y = pool(h, 2)
        both = fg.sum(y) + fg.sum(h)
    feeds = {x: random.standard_normal((batch, 3, 20, 20)).astype("f4")}
    names, (made, plain) = kernels_of(y, feeds)
    assert set(names) == {y.node.name}
    np.testing.assert_allclose(made, plain, rtol=1e-5, atol=1e-5)
    names, (made, plain) = kernels_of(both, feeds)
    assert {h.node.name, y.node.name} <= set(names)
    np.testing.assert_allclose(made, plain, rtol=1e-4)


def test_a_convolution_that_others_read_too_keeps_its_kernel():
    random = np.random.default_rng(0)
    w = random.standard_normal((6, 3, 3, 3)).astype("f4")
    with fg.Graph():
        x = fg.placeholder("x", ("n", 3, 20, 20))
        y = fg.nn.conv2d(x, w)
        both = fg.sum(fg.nn.relu(y + 1.0)) + fg.sum(fg.nn.max_pool2d(y))
    names, (made, plain) = kernels_of(both, {x: random.standard_normal((40, 3, 20, 20)).astype("f4")})
    assert "conv2d" in names
    np.testing.assert_allclose(made, plain, rtol=1e-4)
