"""Indexing of tensors means what it means in NumPy, with tensors in the index, masks, gradients and batches."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.vmap import vmap
from flowgraph.errors import ArgumentError, DtypeError, ExecutionError, ShapeError
from flowgraph.ops.scatter_kernels import add_rows

X = np.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5)
ROWS, COLUMNS = np.array([1, 0, -1]), np.array([[2], [0]])
MASK = np.array([True, False, True])

INDICES = {
    "integer": 1,
    "negative": (-1, -2),
    "slice": (slice(None, None, -1), slice(1, None)),
    "none": (None, 0, None),
    "ellipsis": (..., 2),
    "middle ellipsis": (0, ..., 1, None),
    "empty tuple": (),
    "array": ROWS % 2,
    "list": [0, 1, 1],
    "empty list": [],
    "scalar array": np.array(1),
    "array on axis 1": (slice(None), ROWS),
    "array on the last axis": (..., ROWS),
    "two side by side": (slice(None), ROWS, ROWS),
    "two broadcast": (slice(None), ROWS, COLUMNS),
    "two parted by a slice": (0 * ROWS, slice(None), ROWS),
    "two parted by none": (0 * ROWS, None, ROWS),
    "integer and array side by side": (0, ROWS),
    "integer and array parted": (0, slice(None), ROWS),
    "array and integer parted": (slice(None), ROWS, slice(None), 2),
    "array of uint8": (slice(None), ROWS.astype("uint8") % 3),
    "mask": (slice(None), MASK),
    "mask of two axes": (X[:, :, 0, 0] % 3 == 0),
    "mask in the middle": (0, X[0, :, :, 0] % 2 == 0),
    "mask and array": (slice(None), MASK, np.array([1, 2])),
    "mask and slice parted": (slice(None), MASK, slice(None), np.array([3, 4])),
    "mask of nothing": (slice(None), np.zeros(3, bool)),
    "slice, array and none": (slice(0, 1), ROWS, None, slice(None, None, 2)),
}


@pytest.fixture
def session(graph):
    with fg.Session(graph, threads=2) as session:
        yield session


def as_tensors(index):
    """``index`` with tensors for its arrays."""
    items = index if isinstance(index, tuple) else (index,)
    return tuple(fg.constant(item) if isinstance(item, np.ndarray) else item for item in items)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_an_index_of_arrays_means_what_it_means_in_numpy(index):
    with fg.Graph() as graph:
        y = fg.constant(X)[index]
    assert y.shape == X[index].shape
    np.testing.assert_array_equal(fg.Session(graph).run(y), X[index])


@pytest.mark.parametrize("shape", [X.shape, (None,) * 4], ids=["known", "unknown"])
@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_an_index_of_tensors_means_what_it_means_in_numpy(index, shape):
    with fg.Graph() as graph:
        x = fg.placeholder("x", shape, "float64")
        y = x[as_tensors(index)]
    assert all(have in (want, None) for have, want in zip(y.shape, X[index].shape, strict=True))
    np.testing.assert_array_equal(fg.Session(graph).run(y, {x: X}), X[index])


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_the_gradient_of_indexing_adds_up_what_was_taken(index):
    weights = np.random.default_rng(0).standard_normal(X[index].shape)
    wanted = np.zeros_like(X)
    np.add.at(wanted, index, weights)
    for convert in (as_tensors, lambda i: i):
        with fg.Graph() as graph:
            x = fg.placeholder("x", (None, 3, "a", "b"), "float64")
            (dx,) = fg.gradients(fg.sum(x[convert(index)] * weights), x)
        np.testing.assert_allclose(fg.Session(graph).run(dx, {x: X}), wanted, rtol=1e-12)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_setting_and_adding_at_an_index_do_what_numpy_does(index):
    values = np.random.default_rng(0).standard_normal(X[index].shape)
    was_set, was_added = X.copy(), X.copy()
    was_set[index] = values
    np.add.at(was_added, index, values)
    for convert in (as_tensors, lambda i: i):
        with fg.Graph() as graph:
            x = fg.placeholder("x", (None,) * 4, "float64")
            ys = [x.at[convert(index)].set(values), x.at[convert(index)].add(values)]
        have_set, have_added = fg.Session(graph).run(ys, {x: X})
        np.testing.assert_array_equal(have_set, was_set)
        np.testing.assert_allclose(have_added, was_added, rtol=1e-12)


def test_values_that_are_set_or_added_broadcast_and_keep_the_dtype(graph, session):
    x = fg.constant(np.zeros((2, 3), "float32"))
    assert session.run(x.at[:, [0, 0]].add(1)).tolist() == [[2, 0, 0], [2, 0, 0]]
    assert session.run(x.at[1].set([1.0, 2.0, 3.0])).dtype == np.float32
    assert session.run(x.at[x < 1].set(5)).tolist() == [[5] * 3] * 2
    assert session.run(x.at[x > 1].add(5)).tolist() == [[0] * 3] * 2


def test_a_value_that_was_overwritten_has_no_gradient(graph, session):
    x, v = fg.constant([1.0, 2.0, 3.0]), fg.constant([10.0, 20.0, 30.0])
    y = x.at[[1, 1, 0]].set(v) * np.array([1.0, 2.0, 3.0])
    dx, dv = session.run(fg.gradients(fg.sum(y), [x, v]))
    assert dx.tolist() == [0, 0, 3]
    assert dv.tolist() == [0, 2, 1]


def test_a_number_in_a_tensor_picks_and_its_value_may_change_from_run_to_run(graph, session):
    x = fg.placeholder("x", ("n", 2), "float64")
    i = fg.placeholder("i", (), "int64")
    y = x[i]
    (dx,) = fg.gradients(fg.sum(y * [1.0, 2.0]), x)
    assert y.shape == (2,)
    feed = np.arange(6.0).reshape(3, 2)
    assert session.run(y, {x: feed, i: 2}).tolist() == [4, 5]
    assert session.run(dx, {x: feed, i: -2}).tolist() == [[0, 0], [1, 2], [0, 0]]
    with pytest.raises(ExecutionError, match="index 3 is out of bounds for axis 0 with size 3"):
        session.run(y, {x: feed, i: 3})


def test_the_bounds_of_a_slice_may_be_tensors(graph, session):
    x = fg.placeholder("x", (5, 2), "float64")
    start, stop = fg.placeholder("start", (), "int64"), fg.placeholder("stop", (), "int32")
    y = x[start:stop, 0]
    (dx,) = fg.gradients(fg.sum(fg.exp(y)), x)
    feed = np.arange(10.0).reshape(5, 2)
    assert y.shape == (None,)
    for low, high in ((1, 3), (0, 5), (4, 2), (-2, 9)):
        feeds = {x: feed, start: low, stop: high}
        assert session.run(y, feeds).tolist() == feed[low:high, 0].tolist()
        wanted = np.zeros((5, 2))
        wanted[low:high, 0] = np.exp(feed[low:high, 0])
        np.testing.assert_allclose(session.run(dx, feeds), wanted)
    assert session.run(x[start::2][:, 1], {x: feed, start: 1}).tolist() == [3, 7]


def test_sizes_that_only_values_decide_flow_through_a_program(graph, session):
    x = fg.placeholder("x", ("n",), "float64")
    kept = x[x > 0]
    joined = fg.concat([kept, kept * 2])
    mean = fg.sum(joined) / fg.astype(fg.size(joined), "float64")
    (dx,) = fg.gradients(mean, x)
    for feed in (np.array([1.0, -2.0, 3.0]), np.linspace(-1, 3, 50_000)):
        chosen = feed[feed > 0]
        have = session.run([joined, mean, dx], {x: feed})
        np.testing.assert_array_equal(have[0], np.concatenate([chosen, 2 * chosen]))
        np.testing.assert_allclose(have[1], 1.5 * chosen.mean())
        np.testing.assert_allclose(have[2], np.where(feed > 0, 1.5 / chosen.size, 0))


def test_large_kernels_on_both_sides_of_an_unknown_size_give_the_bits_of_one_thread():
    feed = np.random.default_rng(0).standard_normal((3000, 300))
    results = []
    for threads in (1, 4):
        with fg.Graph() as graph:
            x = fg.placeholder("x", (None, 300), "float64")
            chosen = fg.exp(x * 2)[x[:, 0] > 0]
            y = fg.tanh(chosen + 1) @ np.ones((300, 20))
            (dx,) = fg.gradients(fg.sum(y), x)
        with fg.Session(graph, threads=threads) as session:
            results.append(session.run([y, dx, fg.sum(chosen, axis=0)], {x: feed}))
    one, four = results
    np.testing.assert_allclose(one[0], np.tanh(np.exp(2 * feed[feed[:, 0] > 0]) + 1) @ np.ones((300, 20)))
    for a, b in zip(one, four, strict=True):
        np.testing.assert_array_equal(a, b)


def test_vmap_of_an_index_that_the_entries_share_or_have_each_for_itself(graph, session):
    x, i = np.arange(24.0).reshape(2, 3, 4), np.array([[2, 0, 0], [1, 1, 2]])
    both = vmap(lambda a, k: a[k])(fg.constant(x), fg.constant(i))
    np.testing.assert_array_equal(session.run(both), np.stack([x[0][i[0]], x[1][i[1]]]))
    number = vmap(lambda a, k: a[:, k])(fg.constant(x), fg.constant([3, 1]))
    np.testing.assert_array_equal(session.run(number), np.stack([x[0][:, 3], x[1][:, 1]]))
    shared = vmap(lambda k: fg.constant(x)[0][k])(fg.constant(i))
    np.testing.assert_array_equal(session.run(shared), x[0][i])


def test_a_position_out_of_range_names_its_axis_and_size(graph, session):
    x = fg.placeholder("x", (2, 3), "float64")
    with pytest.raises(ShapeError, match="index 2 is out of range for axis 0 of size 2"):
        x[2]
    with pytest.raises(ShapeError, match="index -4 is out of range for axis 1 of size 3"):
        x[0, -4]
    with pytest.raises(ShapeError, match="index 5 is out of range for axis 1 of size 3"):
        x[:, [0, 5]]
    with pytest.raises(ShapeError, match="3 indices for 2 dimensions"):
        x[0, 0, 0]
    with pytest.raises(ShapeError, match="the mask has size 4 where axis 1 of the tensor has size 3"):
        x[:, np.zeros(4, bool)]
    with pytest.raises(ShapeError, match="the mask has size 3 where axis 0 of the tensor has size 2"):
        x[fg.constant([True, False, True])]


def test_a_refused_index_names_the_tensor_and_the_line(graph):
    x = fg.placeholder("x", (2, 3), "float64")
    with pytest.raises(ShapeError) as caught:
        x[:, [0, 5]]
    text = str(caught.value)
    assert text.startswith("getitem: index 5 is out of range for axis 1 of size 3\n")
    assert "x[:, [0, 5]]" in text
    assert "(2, 3) float64   placeholder x" in text


def test_a_run_checks_what_was_not_known_before(graph, session):
    x, i = fg.placeholder("x", (None,), "float64"), fg.placeholder("i", (None,), "int64")
    with pytest.raises(ExecutionError, match="index 7 is out of bounds for axis 0 with size 3"):
        session.run(x[i], {x: np.ones(3), i: [0, 7]})
    with pytest.raises(ExecutionError, match="index -4 is out of bounds for axis 0 with size 3"):
        session.run(x.at[i].add(1.0), {x: np.ones(3), i: [0, -4]})
    with pytest.raises(ShapeError, match="the mask has size 2 where axis 0 of the tensor has size 3"):
        session.run(x[np.array([True, False])], {x: np.ones(3)})


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        ("a", ArgumentError, "an index holds integers, slices, None, ..., integer arrays and masks; got str"),
        (1.5, ArgumentError, "got float"),
        ([0.5], DtypeError, "an index holds integers or booleans, got float64"),
        (True, ArgumentError, "a single truth value is no index"),
        ((..., ...), ArgumentError, r"an index may hold only one \.\.\."),
        (slice(0.5, None), ArgumentError, "the bound of a slice is an integer, got 0.5"),
    ],
)
def test_what_is_no_index_is_refused(graph, index, error, text):
    with pytest.raises(error, match=text):
        fg.constant([1, 2, 3])[index]


def test_values_that_do_not_fit_are_refused(graph):
    x = fg.constant(np.zeros((2, 3), "float32"))
    with pytest.raises(ShapeError, match=r"values of shape \(2,\) do not fit where the index gives \(3,\)|do not broadcast"):
        x.at[0].set([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"do not fit|do not broadcast"):
        x.at[0].add([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"values of shape \(2, 3\) do not fit where the index gives \(3,\)"):
        x.at[0].add(x)
    with pytest.raises(DtypeError, match="a int64 tensor cannot hold float64"):
        fg.constant([1, 2]).at[0].set(0.5)
    with pytest.raises(DtypeError, match="a int64 tensor cannot hold float64"):
        fg.constant([1, 2]).at[0].add(0.5)


def test_nonzero_gives_positions_row_by_row(graph, session):
    x = np.array([[0, 2, 0], [1, 0, 3]])
    for have, want in zip(session.run(fg.nonzero(x)), np.nonzero(x), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "int32"])
@pytest.mark.parametrize(("positions", "count", "width"), [(7, 500, 1), (7, 500, 3), (40, 300, 20), (70_000, 900, 20), (3, 0, 4)])
def test_rows_that_land_in_one_place_add_up(positions, count, width, dtype):
    rng = np.random.default_rng(0)
    at = np.minimum(rng.zipf(1.5, count), positions) - 1
    rows = rng.integers(-8, 9, (count, width)).astype(dtype)  # (whole numbers: sums are exact)
    wanted = np.zeros((positions, width), dtype)
    np.add.at(wanted, at, rows)
    out = np.zeros((positions, width), dtype)
    add_rows(out, at, rows)
    np.testing.assert_array_equal(out, wanted)


def test_narrow_floats_add_up_in_a_wider_type(graph, session):
    x = fg.constant(np.zeros(3, "float16"))
    y = x.at[np.zeros(5000, int)].add(np.ones(5000, "float16"))
    assert session.run(y).tolist() == [5000, 0, 0]


def test_a_value_that_turns_out_too_long_for_its_variable_is_refused_and_nothing_is_written(graph, session):
    x = fg.placeholder("x", (None,), "float64")
    one, other = fg.variable(np.zeros(3), name="one"), fg.variable(np.zeros(3), name="other")
    update = fg.group([fg.assign(one, x[x > 0]), fg.assign(other, other + 1)])
    session.run(update, {x: [1.0, -1.0, 2.0, 3.0]})
    with pytest.raises(ShapeError, match=r"variable one of shape \(3,\) cannot hold the \(2,\) that a run made"):
        session.run(update, {x: [1.0, -1.0, 2.0]})
    assert [v.tolist() for v in session.run([one, other])] == [[1, 2, 3], [1, 1, 1]]


def test_a_function_takes_arrays_whose_values_decide_sizes(graph, session):
    x = fg.placeholder("x", (None,), "float64")
    values, counts = fg.unique(x, return_counts=True)
    kept = session.function([x], [values[counts > 1]])
    assert kept(np.array([1.0, 2.0, 1.0]))[0].tolist() == [1]
    assert kept(np.array([3.0, 2.0, 2.0, 3.0]))[0].tolist() == [2, 3]
    assert kept(np.array([3.0]))[0].tolist() == []


def test_a_plan_says_which_sizes_it_cannot_count(graph, session):
    x = fg.placeholder("x", (9,), "float64")
    assert "2 results have a size that only a run knows" in str(session.plan(fg.sum(x[x > 0]), {x: np.ones(9)}))
    assert "only a run knows" not in str(session.plan(fg.sum(x[1:]), {x: np.ones(9)}))


def test_an_index_survives_a_file(graph, tmp_path):
    x = fg.placeholder("x", (2, 3, 4, 5), "float64")
    i = fg.placeholder("i", (), "int64")
    y = x[i, None, 1:i, [0, 2], ::-1].at[i:, [0]].set(3.0)
    feeds = {"x": X, "i": 1}
    wanted = fg.Session(graph).run(y, {x: X, i: 1})
    fg.io.save_graph(graph, tmp_path / "graph")
    loaded = fg.io.load_graph(tmp_path / "graph")
    have = fg.Session(loaded).run(loaded[y.name], {loaded[name]: value for name, value in feeds.items()})
    np.testing.assert_array_equal(have, wanted)


@pytest.mark.parametrize("width", [2, 3000])
def test_the_gradient_of_taking_an_entry_after_another_passes_over_the_whole_once(width):
    steps = 6
    with fg.Graph() as graph:
        x = fg.placeholder("x", (steps, width), "float64")
        state = x[0]
        for i in range(1, steps):
            state = fg.tanh(state) * x[i]
        (dx,) = fg.gradients(fg.sum(state), x)
    array = np.random.default_rng(0).standard_normal((steps, width))
    with fg.Session(graph, threads=1) as session:
        ops = [unit.node.op.name for unit in session.plan(dx, {x: array}).units]
        units = session.plan(dx, {x: array}).units
        have = session.run(dx, {x: array})
    assert ops.count("scatter") == 1
    assert ops.count("add_at") == steps - 1
    if width == 3000:  # (smaller ones are copied: that is cheaper than a buffer of the pool)
        assert [unit.mode for unit in units if unit.node.op.name == "add_at"] == ["reuse"] * (steps - 1)
    states = [array[0]]
    for row in array[1:]:
        states.append(np.tanh(states[-1]) * row)
    wanted, g = np.zeros_like(array), np.ones(width)
    for i in range(steps - 1, 0, -1):
        wanted[i] = g * np.tanh(states[i - 1])
        g = g * array[i] * (1 - np.tanh(states[i - 1]) ** 2)
    wanted[0] = g
    np.testing.assert_allclose(have, wanted, rtol=1e-10)


def test_a_tensor_is_iterated_by_one_operation(graph, session):
    x = fg.constant(np.arange(6.0).reshape(3, 2))
    rows = list(x)
    assert {row.node.inputs[0].node for row in rows} == {rows[0].node.inputs[0].node}
    (dx,) = fg.gradients(fg.sum(rows[0] * rows[2]), x)
    assert session.run(dx).tolist() == [[4, 5], [0, 0], [0, 1]]
