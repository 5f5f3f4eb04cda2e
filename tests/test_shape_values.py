"""Functions that move, repeat, make and order elements agree with NumPy's, whether sizes are known or not, and with finite differences."""

import itertools
from functools import partial

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.vmap import vmap
from flowgraph.errors import ArgumentError, DtypeError, ExecutionError, GraphError, ShapeError
from flowgraph.ops.pad import rim_of

RNG = np.random.default_rng(0)
M = RNG.standard_normal((3, 4))
CUBE = RNG.standard_normal((2, 3, 4))
V = RNG.permutation(12) / 4
TIES = RNG.integers(0, 4, (3, 10)) / 2
WHOLE = RNG.integers(0, 5, (3, 10))


@pytest.fixture
def session(graph):
    with fg.Session(graph, threads=2) as session:
        yield session


RIMS = ("edge", "reflect", "symmetric", "wrap")


def padded(width, mode):
    return lambda xp, x: xp.pad(x, width, mode)


# Each is called with NumPy and with flowgraph.
SAME = {
    "split by count": (M, lambda xp, x: xp.split(x, 2, axis=1)),
    "split at positions": (CUBE, lambda xp, x: xp.split(x, [1, 2], axis=-1)),
    "split beyond the end": (M, lambda xp, x: xp.split(x, [2, 7])),
    "tile": (M, lambda xp, x: xp.tile(x, (2, 3))),
    "tile fewer": (CUBE, lambda xp, x: xp.tile(x, 2)),
    "tile more": (V, lambda xp, x: xp.tile(x, (2, 1, 3))),
    "tile nothing": (M, lambda xp, x: xp.tile(x, (0, 2))),
    "repeat": (M, lambda xp, x: xp.repeat(x, 3, axis=1)),
    "repeat flat": (M, lambda xp, x: xp.repeat(x, 2)),
    "repeat each": (M, lambda xp, x: xp.repeat(x, [2, 0, 3], axis=0)),
    "roll": (M, lambda xp, x: xp.roll(x, 2, axis=1)),
    "roll flat": (M, lambda xp, x: xp.roll(x, -3)),
    "roll two": (CUBE, lambda xp, x: xp.roll(x, (1, -1), axis=(0, 2))),
    "roll one by one": (CUBE, lambda xp, x: xp.roll(x, 1, axis=(0, 2))),
    "pad": (M, lambda xp, x: xp.pad(x, ((1, 0), (2, 3)), constant_values=7)),
    "pad all": (CUBE, lambda xp, x: xp.pad(x, 1)),
    **{f"pad {mode}": (M, padded(((1, 2), (3, 0)), mode)) for mode in RIMS},
    **{f"pad far {mode}": (V[:3], padded((7, 8), mode)) for mode in RIMS},
    "moveaxis": (CUBE, lambda xp, x: xp.moveaxis(x, 0, -1)),
    "moveaxis two": (CUBE, lambda xp, x: xp.moveaxis(x, (0, 1), (-1, 0))),
    "swapaxes": (CUBE, lambda xp, x: xp.swapaxes(x, 0, -1)),
    "squeeze": (M[:, None, :, None], lambda xp, x: xp.squeeze(x, (1, 3))),
    "stack": (M, lambda xp, x: xp.stack([x, x + 1], axis=-1)),
    "meshgrid": (V, lambda xp, x: xp.meshgrid(x[:2], x[2:5], x[:4])),
    "meshgrid ij": (V, lambda xp, x: xp.meshgrid(x[:2], x[2:5], indexing="ij")),
    "broadcast_arrays": (M, lambda xp, x: xp.broadcast_arrays(x, x[0], x[:, :1])),
    "sort": (CUBE, lambda xp, x: xp.sort(x)),
    "sort axis 0": (TIES, lambda xp, x: xp.sort(x, axis=0)),
    "sort flat": (TIES, lambda xp, x: xp.sort(x, axis=None)),
    "argsort": (CUBE, lambda xp, x: xp.argsort(x, axis=1)),
    "take_along_axis": (TIES, lambda xp, x: xp.take_along_axis(x, xp.argsort(x, axis=0), axis=0)),
    "take_along_axis broadcast": (M, lambda xp, x: xp.take_along_axis(x, np.array([[3, -1]]), axis=1)),
    "take_along_axis of one row": (M[:1], lambda xp, x: xp.take_along_axis(x, np.array([[3], [1]]), axis=1)),
    "take and wrap": (M, lambda xp, x: xp.take(x, [5, -7, 0], axis=0, mode="wrap")),
    "take and clip": (M, lambda xp, x: xp.take(x, [[5, -7], [0, 1]], axis=1, mode="clip")),
    "take_along_axis flat": (M, lambda xp, x: xp.take_along_axis(x, np.array([11, 0, -1]), axis=None)),
    "searchsorted": (V, lambda xp, x: xp.searchsorted(xp.sort(x), x - 0.1, side="right")),
    "unique": (TIES, lambda xp, x: xp.unique(x)),
    "unique all": (WHOLE, lambda xp, x: list(xp.unique(x, return_index=True, return_inverse=True, return_counts=True))),
    "isin": (WHOLE, lambda xp, x: xp.isin(x, [1, 3])),
    "bincount": (WHOLE[0], lambda xp, x: xp.bincount(x, minlength=9)),
    "bincount of weights": (WHOLE[0], lambda xp, x: xp.bincount(x, x / 2)),
    "tril": (CUBE, lambda xp, x: xp.tril(x, 1)),
    "triu": (M, lambda xp, x: xp.triu(x, -1)),
    "diag of a vector": (V, lambda xp, x: xp.diag(x)),
    "diag above": (V, lambda xp, x: xp.diag(x, 2)),
    "diag below": (V, lambda xp, x: xp.diag(x, -1)),
    "diag of a matrix": (M, lambda xp, x: xp.diag(x, 1)),
    "diagonal": (CUBE, lambda xp, x: x.diagonal(1, 2, 0)),
    "trace": (CUBE, lambda xp, x: x.trace(-1, 1, 2)),
    "flatten": (CUBE, lambda xp, x: x.flatten()),
    "ravel": (M, lambda xp, x: x.ravel()),
    "methods": (M[:, None], lambda xp, x: x.squeeze(1).swapaxes(0, 1).repeat(2, axis=0).take([1, 0, 5], axis=0).clip(-1, 1).round(1)),
    "methods that order": (V, lambda xp, x: [x.argsort(), x.nonzero()[0], x.searchsorted([0.3]), x.argmin(), x.dot(x)]),
    "linspace": (M, lambda xp, x: xp.linspace(x, x[0], 5, endpoint=False)),
    "full_like": (M, lambda xp, x: xp.full_like(x, 2)),
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("array", "function"), SAME.values(), ids=SAME)
def test_values_agree_with_numpy(array, function, known):
    wanted = function(np, array)
    with fg.Graph() as graph:
        x = fg.placeholder("x", array.shape if known else (None,) * array.ndim, array.dtype)
        y = function(fg, x)
    ys, wanted = (list(v) if isinstance(v, tuple | list) else [v] for v in (y, wanted))
    for have, tensor, want in zip(fg.Session(graph).run(ys, {x: array}), ys, wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-15)
        assert have.dtype == want.dtype
        assert len(tensor.shape) == want.ndim
        assert all(size in (true, None) for size, true in zip(tensor.shape, want.shape, strict=True))


@pytest.mark.parametrize("mode", RIMS)
def test_a_rim_is_made_of_few_runs_however_wide_it_is(mode):
    for size, before, after in itertools.product(range(1, 6), range(12), range(12)):
        positions, runs = np.pad(np.arange(size), (before, after), mode), rim_of(size, before, after, mode)
        found = np.concatenate([np.arange(before, before + size), *(np.arange(size + before + after)[rim] for rim, _, _ in runs)])
        assert sorted(found) == list(range(size + before + after))
        for rim, source, repeats in runs:
            there = np.arange(size)[source]
            np.testing.assert_array_equal(positions[rim], np.broadcast_to(there, positions[rim].shape))
            assert repeats == (len(positions[rim]) > len(there))
        if max(before, after) < size - 1:
            assert len(runs) == (before > 0) + (after > 0)


def test_an_axis_that_turns_out_empty_has_nothing_to_pad_with(graph, session):
    x = fg.placeholder("x", (None,))
    with pytest.raises(ShapeError, match="size 0 has nothing to pad with"):
        session.run(fg.pad(x, 1, "edge"), {x: np.zeros(0, np.float32)})


NUMPY_ONLY = {
    "shape": (CUBE, lambda x: np.ones(np.shape(x)) * np.ndim(x)),
    "copy": (M, np.copy),
    "ravel": (CUBE, np.ravel),
    "argwhere": (WHOLE, np.argwhere),
    "flatnonzero": (WHOLE, np.flatnonzero),
    "atleast": (V, lambda x: [*np.atleast_1d(x, 2.0), np.atleast_2d(x), np.atleast_3d(x), np.atleast_3d(x[:, None]), np.atleast_1d(x[0])]),
    "vstack": (V, lambda x: np.vstack([x, x + 1])),
    "hstack": (M, lambda x: [np.hstack([x, x]), np.hstack([x[0], x[1]])]),
    "dstack": (M, lambda x: [np.dstack([x, x]), np.dstack([x[0], x[1]])]),
    "column_stack": (M, lambda x: np.column_stack([x, x[:, 0]])),
    "append": (M, lambda x: [np.append(x, 3.0), np.append(x, x, axis=0)]),
    "concatenate": (M, lambda x: np.concatenate([x, x[0]], axis=None)),
    "array_split": (M, lambda x: [*np.array_split(x, 3, axis=1), *np.array_split(x, [1, 2])]),
    "flips": (CUBE, lambda x: [np.flipud(x), np.fliplr(x)]),
    "rot90": (CUBE, lambda x: [np.rot90(x, k, axes) for k in range(-1, 5) for axes in ((0, 1), (2, 0))]),
    "likes": (WHOLE, lambda x: [np.zeros_like(x), np.ones_like(x, "float32"), np.full_like(x, 3), np.zeros_like(x, bool)]),
    "mT": (CUBE, lambda x: x.mT),
}


@pytest.mark.parametrize(("array", "function"), NUMPY_ONLY.values(), ids=NUMPY_ONLY)
def test_what_is_a_line_of_other_functions_traces_too(array, function):
    with fg.Graph() as graph:
        y = function(fg.constant(array))
    ys, wanted = (list(v) if isinstance(v, tuple | list) else [v] for v in (y, function(array)))
    for have, want in zip(fg.Session(graph).run(ys) if isinstance(ys[0], fg.Tensor) else ys, wanted, strict=True):
        np.testing.assert_array_equal(have, want)
        assert np.asarray(have).dtype == np.asarray(want).dtype


@pytest.mark.parametrize(("array", "function"), SAME.values(), ids=SAME)
def test_numpy_functions_on_tensors_give_the_same_nodes(array, function):
    if function in (SAME["full_like"][1], SAME["linspace"][1]):
        pytest.skip("its arguments need not be tensors")
    with fg.Graph() as graph:
        y = function(np, fg.constant(array))
    ys = list(y) if isinstance(y, tuple | list) else [y]
    wanted = function(np, array)
    for have, want in zip(fg.Session(graph).run(ys), wanted if isinstance(wanted, tuple | list) else [wanted], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-15)


SMOOTH = {
    "split": (M, lambda x: fg.split(x, [1, 3], axis=1)[1]),
    "unstack": (M, lambda x: fg.unstack(x, axis=1)[2] * fg.unstack(x)[0][0]),
    "repeat each": (M, lambda x: fg.repeat(x, [2, 1, 3], axis=0)[:6] * 2),
    **{f"pad {mode}": (M, partial(padded(((1, 2), (3, 0)), mode), fg)) for mode in RIMS},
    "sort": (CUBE, lambda x: fg.sort(x, descending=True)),
    "top_k": (CUBE, lambda x: fg.top_k(x, 2, axis=1)[0]),
    "take_along_axis": (M, lambda x: fg.take_along_axis(x, np.array([[3, 3, 0]]), axis=1)),
    "segment_sum": (CUBE, lambda x: fg.segment_sum(x, [1, 1], 3)),
    "meshgrid": (M[0], lambda x: fg.meshgrid(x, x[:2])[0] * fg.meshgrid(x, x[:2])[1]),
    "linspace": (M, lambda x: fg.linspace(x[0], x[1], 4)),
    "full": (M[0], lambda x: fg.full((3, 4), x)),
    "diagonals": (M[:, :3], lambda x: fg.diag(fg.diag(x), 1) + fg.tril(fg.pad(x, ((0, 1), (1, 0)))) + fg.triu(x)[0, 1]),
    "updates": (M, lambda x: (x * x).at[:, [0, 0, 2]].set(x[:, :3]).at[0].add(fg.exp(x[1]))),
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("array", "function"), SMOOTH.values(), ids=SMOOTH)
def test_gradients_agree_with_finite_differences(array, function, order):
    fg.check_gradient(lambda x: fg.sin(function(x)), array, order=order, tolerance=2e-5)


def test_new_tensors_are_numpys(graph, session):
    for have, want in [
        (fg.zeros((2, 3)), np.zeros((2, 3), "float32")),
        (fg.ones(3, "int64"), np.ones(3, "int64")),
        (fg.full((), True), np.full((), True)),
        (fg.full((2, 2), [1, 2], "float32"), np.full((2, 2), [1, 2], "float32")),
        (fg.arange(5), np.arange(5)),
        (fg.arange(5, 1, -2, dtype="float32"), np.arange(5, 1, -2, dtype="float32")),
        (fg.arange(0.5, 2.0), np.arange(0.5, 2.0)),
        (fg.linspace(0, 1, 3, endpoint=False), np.linspace(0, 1, 3, endpoint=False)),
        (fg.eye(2, 3, 1), np.eye(2, 3, 1, dtype="float32")),
    ]:
        value = session.run(have)
        np.testing.assert_array_equal(value, want)
        assert (value.dtype, value.shape, have.shape) == (want.dtype, want.shape, want.shape)


def test_a_range_counts_up_to_what_a_run_says(graph, session):
    x = fg.placeholder("x", (None,), "float64")
    y = fg.arange(fg.size(x)) * 2
    assert session.run(y, {x: np.zeros(4)}).tolist() == [0, 2, 4, 6]
    assert session.run(fg.arange(1, fg.size(x), dtype="float32"), {x: np.zeros(3)}).tolist() == [1, 2]
    with pytest.raises(DtypeError, match="bounds that are tensors are integers"):
        fg.arange(fg.sum(x))


@pytest.mark.parametrize("k", [0, 1, 2, 7, 10])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_largest_few_come_in_order_and_equals_as_they_stand(k, axis, graph, session):
    values = RNG.integers(0, 5, (40, 50)) / 2
    values[3, 7] = np.inf
    have, positions = session.run(fg.top_k(values, k, axis=axis))
    order = np.argsort(-values, axis=axis, kind="stable")
    wanted = np.take(order, np.arange(k), axis=axis)
    np.testing.assert_array_equal(positions, wanted)
    np.testing.assert_array_equal(have, np.take_along_axis(values, wanted, axis=axis))


def test_descending_order_keeps_equals_as_they_stand(graph, session):
    wanted = np.argsort(-TIES, axis=1, kind="stable")
    x = fg.placeholder("x", (3, None), "float64")
    np.testing.assert_array_equal(session.run(fg.argsort(TIES, descending=True)), wanted)
    np.testing.assert_array_equal(session.run(fg.argsort(x, descending=True), {x: TIES}), wanted)
    np.testing.assert_array_equal(session.run(fg.sort(x, descending=True), {x: TIES}), np.take_along_axis(TIES, wanted, 1))


@pytest.mark.parametrize("shape", [(6, 3), (None, None)])
def test_segments_add_up_in_any_order(shape, graph, session):
    rows, numbers = RNG.standard_normal((6, 3)), np.array([4, 0, 4, 1, -1, 0])
    wanted = np.zeros((5, 3))
    np.add.at(wanted, numbers, rows)
    x = fg.placeholder("x", shape, "float64")
    np.testing.assert_allclose(session.run(fg.segment_sum(x, numbers, 5), {x: rows}), wanted)
    with pytest.raises(ExecutionError, match="index 4 is out of bounds for axis 0 with size 3"):
        session.run(fg.segment_sum(x, numbers, 3), {x: rows})


def test_repeats_that_a_run_says(graph, session):
    x, counts = fg.placeholder("x", (None, 2), "float64"), fg.placeholder("counts", (None,), "int64")
    y = fg.repeat(x, counts, axis=0)
    (dx,) = fg.gradients(fg.sum(fg.square(y)), x)
    feeds = {x: M[:, :2], counts: [3, 0, 1]}
    np.testing.assert_array_equal(session.run(y, feeds), np.repeat(M[:, :2], [3, 0, 1], axis=0))
    np.testing.assert_allclose(session.run(dx, feeds), 2 * M[:, :2] * [[3], [0], [1]])


def test_searching_and_membership_in_a_row_for_each_entry(graph, session):
    rows, values = np.sort(WHOLE, axis=1), WHOLE[:, :4]
    for side in ("left", "right"):
        y = vmap(lambda r, v, side=side: fg.searchsorted(r, v, side))(fg.constant(rows), fg.constant(values))
        np.testing.assert_array_equal(session.run(y), [np.searchsorted(r, v, side) for r, v in zip(rows, values, strict=True)])
    y = vmap(fg.isin)(fg.constant(values), fg.constant(rows[:, :3]))
    np.testing.assert_array_equal(session.run(y), [np.isin(v, r[:3]) for r, v in zip(rows, values, strict=True)])


def test_a_name_of_a_size_in_a_new_shape_is_that_of_the_tensor_at_each_run():
    with fg.Graph() as graph:
        rows = fg.placeholder("rows", ("batch", "time", 6))
        parts = fg.reshape(rows, ("batch", "time", 2, -1))
        flat = fg.vmap(lambda row: fg.reshape(row, ("time", 3, 2)))(rows)
        (slope,) = fg.gradients(fg.sum(parts**2), rows)
    assert parts.shape == ("batch", "time", 2, 3)
    with fg.Session(graph) as session:
        for shape in ((4, 5, 6), (0, 2, 6)):
            value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            got = session.run([parts, flat, slope], {rows: value})
            np.testing.assert_array_equal(got[0], value.reshape(*shape[:2], 2, 3))
            np.testing.assert_array_equal(got[1], value.reshape(*shape[:2], 3, 2))
            np.testing.assert_array_equal(got[2], 2 * value)


def test_a_name_that_the_tensor_has_not_and_too_few_elements_are_refused_while_building(graph):
    rows = fg.placeholder("rows", ("batch", 3))
    with pytest.raises(ShapeError, match=r"\(time, 3\) has a size 'time' that \(batch, 3\) has not"):
        fg.reshape(rows, ("time", 3))
    with pytest.raises(ShapeError, match=r"\(batch, 3\) has batch \* 3 elements, which do not fit \(batch, 4\)"):
        fg.reshape(rows, ("batch", 4))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: fg.split(x, 3, axis=1), ShapeError, "axis 1 of size 4 does not split into 3 equal parts"),
        (lambda x: fg.split(x, [3, 1]), ArgumentError, "a number of parts, or positions in order"),
        (lambda x: fg.unstack(fg.placeholder("y", (None, 2))), ShapeError, "the size of axis 0 .* is not known before a run"),
        (lambda x: fg.tile(x, -1), ArgumentError, "a number of repetitions is a whole number, at least 0, got -1"),
        (lambda x: fg.repeat(x, [1, 2], axis=0), ShapeError, "2 repeats for axis 0 of size 3"),
        (lambda x: fg.roll(x, (1, 2), axis=(0, 1, 1)), ArgumentError, "an int for each of the axes"),
        (lambda x: fg.pad(x, -1), ArgumentError, "widths of 0 or more for 2 axes are expected, got -1"),
        (lambda x: fg.pad(x, ((1, 2, 3),)), ArgumentError, "widths of 0 or more for 2 axes"),
        (lambda x: fg.pad(x, 1, "mirror"), ArgumentError, "got 'mirror'"),  # type: ignore[arg-type]
        (lambda x: fg.moveaxis(x, (0, 0), (0, 1)), ShapeError, "names an axis twice"),
        (lambda x: fg.moveaxis(x, 0, (0, 1)), ArgumentError, "1 axes for 2 places"),
        (lambda x: fg.broadcast_to(x, ("batch", 3, 4)), ArgumentError, r"the sizes are numbers, got \(batch, 3, 4\)"),
        (lambda x: fg.zeros(("batch", 2)), ArgumentError, r"sizes that are numbers, got \(batch, 2\)"),
        (lambda x: fg.linspace(0, 1, -1), ArgumentError, "num is a whole number, at least 0"),
        (lambda x: fg.meshgrid(x, indexing="yx"), ArgumentError, "got 'yx'"),  # type: ignore[arg-type]
        (lambda x: fg.top_k(x, 5), ShapeError, "there are 4 elements along the axis, fewer than 5"),
        (lambda x: fg.top_k(x, -1), ArgumentError, "k is a whole number, at least 0"),
        (lambda x: fg.searchsorted(x, 1), ShapeError, "the sorted tensor has one axis"),
        (lambda x: fg.searchsorted(x[0], 1, "middle"), ArgumentError, "got 'middle'"),  # type: ignore[arg-type]
        (lambda x: fg.take_along_axis(x, [0], 1), ShapeError, "1 axis of indices for 2 of the tensor"),
        (lambda x: fg.bincount(x[0]), DtypeError, "a row of integers is expected"),
        (lambda x: fg.segment_sum(x, [0, 1, 0], -1), ArgumentError, "num_segments is a whole number, at least 0"),
        (lambda x: fg.diag(x[None]), ShapeError, r"a vector or a matrix is expected, got shape \(1, 3, 4\)"),
        (lambda x: fg.tril(x[0]), ShapeError, r"a matrix is expected, got shape \(4,\)"),
        (lambda x: x.diagonal(0, 1, -1), ShapeError, "axis1 and axis2 are both axis 1"),
        (lambda x: fg.take(x, 0, mode="warp"), ArgumentError, "got 'warp'"),  # type: ignore[arg-type]
        (lambda x: fg.sort(x, axis=2), ShapeError, "axis 2 is out of range for 2 dimensions"),
    ],
)
def test_a_mistake_is_named(call, error, text, graph):
    with pytest.raises(error, match=text):
        call(fg.constant(M))


def test_an_option_of_numpy_that_there_is_not_is_refused(graph):
    with pytest.raises((ArgumentError, GraphError), match=r"np\.sort on a tensor: .*kind"):
        np.sort(fg.constant(M), kind="heapsort")
