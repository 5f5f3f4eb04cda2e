"""Compiled pooling beside NumPy's: the same bits, but where windows overlap and their gradients are added up."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from flowgraph.graph import Spec
from flowgraph.graph.op import OPS
from flowgraph.jit.kernels import compiled
from flowgraph.jit.llvm import Registers, Target
from flowgraph.jit.pool import AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad, Pooling
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


pytestmark = pytest.mark.usefixtures("own_kernels")


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


@pytest.mark.parametrize("target", [WIDE, NARROW])
@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("image, window, stride, padding", [*SHAPES, ((2, 3), (1, 1), (1, 1), ((2, 2), (1, 1)))])
def test_avg_pool_and_its_gradient_agree_with_numpy(image, window, stride, padding, counted, dtype, target):
    pooling = Pooling(dtype, 3, Windows(image, window, stride, padding))
    random = np.random.default_rng(0)
    x, g = [random.standard_normal((2, 3, *sizes)).astype(dtype) for sizes in (image, pooling.windows.size)]
    options = {"window": window, "stride": stride, "padding": padding, "count_include_pad": counted}
    np.testing.assert_array_equal(
        compiled(AvgPool(pooling, counted), target)(x, np.full_like(g, 7)), pool_kernels.avg_pool(np, x, **options)
    )
    made = compiled(AvgPoolGrad(pooling, counted), target)(g, np.full_like(x, 7))
    np.testing.assert_allclose(made, pool_kernels.avg_pool_grad(np, g, sizes=image, **options), rtol=1e-5, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("image, window, stride, padding", SHAPES)
def test_kernels_touch_nothing_outside_their_arrays(image, window, stride, padding, at_end, guarded):
    pooling = Pooling(F4, 3, Windows(image, window, stride, padding))
    x, g = images(pooling, 2)
    y = pool_kernels.max_pool(np, x, window=window, stride=stride, padding=padding)
    kinds: list[Any] = [(MaxPool(pooling), (x,), y), (MaxPoolGrad(pooling), (g, x, y), x), (AvgPool(pooling, False), (x,), y)]
    for kind, given, like in [*kinds, (AvgPoolGrad(pooling, False), (g,), x)]:
        kernel = compiled(kind, WIDE)
        made = kernel(*[guarded(array, at_end) for array in (*given, np.zeros_like(like))])
        np.testing.assert_array_equal(made, kernel(*given, np.zeros_like(like)))


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


def test_the_ops_describe_what_they_want_compiled():
    options = {"window": (3,), "stride": (2,), "padding": ((1, 0),)}
    x, g, low = Spec((5, 3, 20), F4), Spec((5, 3, 9), F4), Spec((5, 3, 20), np.dtype("f2"))
    shapes = Pooling(F4, 3, Windows((1, 20), (1, 3), (1, 2), ((0, 0), (1, 0))))
    assert OPS["max_pool"].compiled(x, **options) == MaxPool(shapes)
    assert OPS["max_pool_grad"].compiled(g, x, g, **options) == MaxPoolGrad(shapes)
    assert OPS["avg_pool"].compiled(x, **options, count_include_pad=True) == AvgPool(shapes, True)
    assert OPS["avg_pool_grad"].compiled(g, x, **options, count_include_pad=False) == AvgPoolGrad(shapes, False)
    assert OPS["max_pool"].compiled(low, **options) is None
    assert OPS["max_pool"].compiled(Spec((20,), F4), **options) is None
