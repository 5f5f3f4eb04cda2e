"""Loops that read neighbours: rims and slices are not made where a loop reads what is behind them, and the bits are those of NumPy."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flowgraph as fg
from flowgraph.compile import fuse, windows

SHAPES = [(100,), (1,), (7, 45), (40, 64), (33, 1), (3, 5, 33), (4, 1, 2, 16)]


@pytest.fixture
def always(monkeypatch):
    """Makes every stretch a loop, however little it saves."""
    monkeypatch.setattr(fuse, "WORTH_SECONDS", -1.0)


def both(fetches, feeds):
    """The values with compiled loops and without, and what the plan with them computes."""
    with fg.Session(feeds_graph(feeds), jit=True, threads=1) as session:
        names = [unit.node.op.name for unit in session.plan(fetches, feeds).units]
        compiled = session.run(fetches, feeds)
    with fg.Session(feeds_graph(feeds), jit=False, threads=1) as session:
        return compiled, session.run(fetches, feeds), names


def feeds_graph(feeds):
    return next(iter(feeds)).node.graph


def same_bits(compiled, plain):
    for a, b in zip(compiled, plain, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a.view(f"i{a.itemsize}"), b.view(f"i{b.itemsize}"))


def shifted(u: Any, rng: np.random.Generator, depth: int) -> Any:
    """``u`` moved by rims and slices, one after the other, that leave its shape as it was."""
    for _ in range(depth):
        widths = [tuple(map(int, rng.integers(0, 4, 2))) for _ in u.shape]
        starts = [int(rng.integers(0, before + behind + 1)) for before, behind in widths]
        rim, cut = rng.choice([0.0, -0.0, 1.5, -2.0]), tuple(slice(a, a + d) for a, d in zip(starts, u.shape, strict=True))
        if rng.integers(2):
            u = fg.pad(u, widths, constant_values=float(rim))[cut]
        else:  # the other way round: what is cut off comes back as a rim
            d = [int(rng.integers(0, size)) for size in u.shape]
            low = [int(rng.integers(0, gone + 1)) for gone in d]
            part = u[tuple(slice(a, a + size - gone) for a, size, gone in zip(low, u.shape, d, strict=True))]
            u = fg.pad(
                part,
                [(gone - a, a) if rng.integers(2) else (a, gone - a) for a, gone in zip(low, d, strict=True)],
                constant_values=float(rim),
            )
    return u


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbours_behind_rims_and_slices_have_the_bits_of_numpys(shape, dtype, always):
    rng = np.random.default_rng(len(shape))
    for trial in range(8):
        with fg.Graph():
            x = fg.placeholder("x", shape, dtype)
            total = x * 0.5
            for factor in (2.0, -1.0, 0.25):
                total = total + factor * shifted(x, rng, 1 + trial % 3)
            (slope,) = fg.gradients(fg.sum(total * total), [x])
        value = rng.standard_normal(shape).astype(dtype)
        value[rng.random(shape) < 0.1] = -0.0
        compiled, plain, names = both([total, slope], {x: value})
        if trial % 3 == 0:
            assert "pad" not in names
        same_bits(compiled[:1], plain[:1])
        np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rim", [0.1, -np.inf, np.nan, 1e-45, 1e39, -3])
def test_a_rim_of_any_number_is_read_as_numpy_would_write_it(rim, dtype, always):
    with fg.Graph():
        x = fg.placeholder("x", (5, 9), dtype)
        p = fg.pad(x, 1, constant_values=rim)
        y = p[2:, 1:-1] * p[1:-1, :-2]
    with np.errstate(over="ignore"):
        compiled, plain, names = both([y], {x: np.random.default_rng(0).standard_normal((5, 9)).astype(dtype)})
    assert names == ["multiply"]
    np.testing.assert_array_equal(compiled[0], plain[0])


@pytest.mark.parametrize("shape", [(60,), (9, 37), (3, 6, 20)], ids=str)
def test_what_is_put_and_added_to_slices_has_the_bits_of_numpys(shape, always):
    part = tuple(slice(d // 3, d - 1) for d in shape)
    first = tuple(slice(0, s.stop - s.start) for s in part)
    with fg.Graph():
        x, y = fg.placeholder("x", shape, "float32"), fg.placeholder("y", shape, "float32")
        (slope,) = fg.gradients(fg.sum(x[part] * y[first]) + fg.sum(x[first] * y[part] * 2.0), [x])
        added = x.at[part].add(y[first]) * 2.0
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *shape)).astype("f4")
    a[..., :4] = -0.0
    compiled, plain, names = both([slope, added], {x: a, y: b})
    assert "scatter" not in names and "add_at" not in names
    same_bits(compiled, plain)


def test_what_is_read_elsewhere_is_made_first_and_never_written_over(always):
    with fg.Graph():
        x = fg.placeholder("x", (20, 40), "float32")
        h = fg.exp(x)
        p = fg.pad(h, 1)
        y = h * (p[2:, 1:-1] + p[:-2, 1:-1])
        q = fg.pad(y, 1)
        z = fg.tanh(q[1:-1, 2:]) - fg.tanh(q[1:-1, :-2]) + h
    value = np.random.default_rng(0).standard_normal((20, 40)).astype("f4")
    compiled, plain, names = both([z, y], {x: value})
    assert len(names) == 3, "what neighbours are read of is known only behind its loop"
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_large_arrays_keep_their_rims_so_that_they_can_be_cut(always, monkeypatch):
    def names_of(size):
        with fg.Graph():
            x = fg.placeholder("x", (size, 64), "float32")
            p = fg.pad(x, ((0, 0), (1, 1)))
            y = p[:, 2:] + p[:, :-2] - x
        value = np.ones((size, 64), "f4")
        compiled, plain, names = both([y], {x: value})
        same_bits(compiled, plain)
        return names

    monkeypatch.setattr(windows, "LARGEST", 2**19)
    assert "pad" not in names_of(64)
    assert "pad" in names_of(2**19 // 64 + 1)


def test_an_array_that_is_empty_or_whose_slices_step_is_left_to_numpy(always):
    with fg.Graph():
        x = fg.placeholder("x", (0, 5), "float32")
        y = fg.placeholder("y", (6, 8), "float32")
        fetches = [fg.pad(x, 2) * 2 + 1, fg.pad(y[::2], 1) * y[::-1][:5, :1], fg.pad(fg.permute_dims(y), 1) + 1]
    value = np.random.default_rng(0).standard_normal((6, 8)).astype("f4")
    compiled, plain, _ = both(fetches, {x: np.zeros((0, 5), "f4"), y: value})
    same_bits(compiled, plain)


def test_a_heat_equation_in_a_scan_computes_one_loop_a_turn():
    def turn(u, _):
        p = fg.pad(u, 1)
        return u + 0.2 * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u), None

    with fg.Graph():
        first = fg.placeholder("first", (100, 120), "float32")
        u, _ = fg.scan(turn, first, length=20)
        (slope,) = fg.gradients(fg.sum(u * u), [first])
    value = np.random.default_rng(0).random((100, 120), "f4")
    with fg.Session(feeds_graph({first: value}), jit=True) as session:
        (loop,) = [unit for unit in session.plan(u, {first: value}).units if unit.bodies]
        assert [unit.node.op.name for unit in loop.bodies[0].units] == ["add_multiply_subtract"]
        loop = [unit for unit in session.plan(slope, {first: value}).units if unit.bodies][-1]
        assert [unit.node.op.name for unit in loop.bodies[0].units] == ["multiply_negative_getitem_add"], (
            "nor do its pieces for the gradient"
        )
    compiled, plain, _ = both([u, slope], {first: value})
    same_bits(compiled[:1], plain[:1])
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-5)


def stencil(x: Any, factors: Any) -> Any:
    """Neighbours of ``x`` behind a rim of zeros, each times a number."""
    p, total = fg.pad(x, 1), 0.5 * x
    for axis, (low, high) in enumerate(factors):
        inner = [slice(1, -1)] * len(x.shape)
        below, above = list(inner), list(inner)
        below[axis], above[axis] = slice(None, -2), slice(2, None)
        total = total + low * p[tuple(below)] + high * p[tuple(above)]
    return total


@pytest.mark.parametrize("factors", [(0.25, 3.0), (-1.0, 2.0), (0.0, 1.0), (float("inf"), 1.0)], ids=str)
@pytest.mark.parametrize("shape", [(70,), (1,), (9, 37), (40, 64), (3, 6, 20)], ids=str)
def test_the_gradient_of_a_stencil_has_the_bits_of_numpys(shape, factors, always):
    rng = np.random.default_rng(0)
    with fg.Graph():
        x, g = fg.placeholder("x", shape, "float32"), fg.placeholder("g", shape, "float32")
        (slope,) = fg.gradients(fg.sum(stencil(x, [factors] * len(shape)) * g), [x])
    a, b = rng.standard_normal((2, *shape)).astype("f4")
    b[..., ::3] = -0.0
    with np.errstate(invalid="ignore"):
        compiled, plain, names = both([slope], {x: a, g: b})
    np.testing.assert_array_equal(np.isnan(compiled[0]), np.isnan(plain[0]))
    same_bits([np.nan_to_num(compiled[0])], [np.nan_to_num(plain[0])])
    assert "scatter" not in names and "add_at" not in names and "getitem" not in names
    if factors == (0.25, 3.0):
        assert len(names) == 1


def test_pieces_that_are_fetched_or_take_long_are_made_before_they_are_put_together(always):
    with fg.Graph():
        x, g = fg.placeholder("x", (9, 37), "float32"), fg.placeholder("g", (9, 37), "float32")
        base = fg.zeros((11, 39), "float32")
        piece, far = g * 0.5, fg.exp(g)
        whole = base.at[1:-1, 2:].add(piece).at[:-2, 1:-1].add(far).at[2:, :-2].add(x)
        y = whole[1:-1, 1:-1] * x + piece
    a, b = np.random.default_rng(0).standard_normal((2, 9, 37)).astype("f4")
    for fetches in ([y], [y, whole], [y, piece, far]):
        compiled, plain, _ = both(fetches, {x: a, g: b})
        for ours, numpys in zip(compiled, plain, strict=True):
            np.testing.assert_allclose(ours, numpys, rtol=1e-6, atol=1e-6)
