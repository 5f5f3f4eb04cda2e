"""Compiled max pooling beside NumPy's: the same bits, but where windows overlap and their gradients are added up."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from flowgraph.jit.kernels import compiled, compiler
from flowgraph.jit.llvm import Registers, Target
from flowgraph.jit.pool import MaxPool, MaxPoolGrad, Pooling
from flowgraph.jit.windows import Windows
from flowgraph.ops import pool_kernels

WIDE, NARROW = [Target(object.__basicsize__, registers) for registers in (Registers(32, 64), Registers(16, 32))]
F4, F8 = np.dtype("f4"), np.dtype("f8")

# image, window, stride, padding
NONE = ((0, 0), (0, 0))
SHAPES = [
    ((24, 24), (2, 2), (2, 2), NONE),
    ((8, 8), (2, 2), (2, 2), NONE),
    ((13, 15), (2, 2), (2, 2), NONE),
    ((14, 50), (3, 3), (3, 3), NONE),
    ((9, 37), (2, 1), (2, 1), NONE),
    ((9, 41), (1, 4), (1, 4), NONE),
    ((7, 9), (2, 2), (2, 2), ((1, 1), (1, 0))),
    ((8, 11), (3, 2), (3, 2), ((2, 1), (1, 1))),
    ((1, 1), (1, 1), (1, 1), NONE),
    ((12, 13), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((6, 40), (3, 2), (1, 1), ((0, 1), (1, 0))),
    ((12, 13), (2, 2), (3, 3), NONE),
    ((3, 301), (2, 2), (2, 2), ((0, 1), (1, 0))),
    ((3, 260), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((2, 150), (1, 3), (1, 1), NONE),
    ((2, 330), (2, 4), (2, 4), NONE),
    ((3, 400), (3, 3), (3, 3), ((0, 0), (1, 0))),
]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A cache of their own for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWGRAPH_CACHE", str(tmp_path_factory.mktemp("kernels")))
        compiler.cache_clear()
        yield
    compiler.cache_clear()


def images(pooling, batch):
    """Few different values, so that many windows have several maxima; some of them NaN, infinite or signed zeros."""
    random = np.random.default_rng(0)
    x = random.integers(-3, 3, (batch, pooling.planes, *pooling.windows.image)).astype(pooling.dtype)
    x[random.random(x.shape) < 0.02] = np.nan
    x[random.random(x.shape) < 0.02] = -np.inf
    return x, random.standard_normal((batch, pooling.planes, *pooling.windows.size)).astype(pooling.dtype)


@pytest.mark.parametrize("target", [WIDE, NARROW])
@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("image, window, stride, padding", SHAPES)
def test_max_pool_and_its_gradient_agree_with_numpy(image, window, stride, padding, dtype, target):
    pooling = Pooling(dtype, 3, Windows(image, window, stride, padding))
    assert pooling.is_supported
    x, g = images(pooling, 2)
    options = {"window": window, "stride": stride, "padding": padding}
    y = pool_kernels.max_pool(np, x, **options)
    room = np.full(y.size + 16, 7, dtype)
    made = compiled(MaxPool(pooling), target)(x, room[: y.size].reshape(y.shape))
    np.testing.assert_array_equal(made, y)
    assert (room[y.size :] == 7).all()
    room = np.full(x.size + 16, 7, dtype)
    made = compiled(MaxPoolGrad(pooling), target)(g, x, y, room[: x.size].reshape(x.shape))
    exact = pool_kernels.max_pool_grad(np, g, x, y, **options)
    if all(a <= b for a, b in zip(window, stride, strict=True)):
        np.testing.assert_array_equal(made.view(f"u{dtype.itemsize}"), exact.view(f"u{dtype.itemsize}"))
    else:  # what several windows send to one pixel is added up in another order
        np.testing.assert_allclose(made, exact, rtol=1e-5, atol=4 * np.finfo(dtype).eps)
    assert (room[x.size :] == 7).all()


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_batch_may_be_of_any_length(batch):
    pooling = Pooling(F4, 2, Windows((6, 6), (2, 2), (2, 2), NONE))
    x, g = images(pooling, batch)
    y = compiled(MaxPool(pooling), WIDE)(x, np.empty_like(g))
    np.testing.assert_array_equal(y, pool_kernels.max_pool(np, x, window=(2, 2), stride=(2, 2), padding=NONE))


def test_what_has_no_text_is_not_supported():
    assert not Pooling(np.dtype("f2"), 1, Windows((4, 4), (2, 2), (2, 2), NONE)).is_supported
    assert not Pooling(F4, 1, Windows((9, 9), (7, 7), (1, 1), NONE)).is_supported
    assert not Pooling(F4, 1, Windows((9, 90), (2, 2), (9, 9), NONE)).is_supported
