"""Values and gradients of reductions and running sums against NumPy and SciPy, in every dtype that they take."""

import numpy as np
import pytest
import scipy.special

import flowgraph as fg
from flowgraph.errors import ArgumentError, DtypeError, ShapeError
from flowgraph.ops.cumulative import _linear_scan
from flowgraph.ops.reduce import euclidean_norm

AXES = [None, 0, -1, (0, 2), ()]


def gradient(function, value):
    with fg.Graph() as graph:
        x = fg.placeholder("x", np.shape(value), "float64")
        (slope,) = fg.gradients(fg.sum(function(x)), x)
    with fg.Session(graph, threads=1) as session:
        return session.run(slope, {x: value})


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "bool", "complex128", "uint8"])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "any", "all", "count_nonzero", "max", "min"])
def test_reductions_agree_with_numpy(session, name, axis, dtype):
    if dtype == "complex128" and name in ("max", "min"):
        return
    rng = np.random.default_rng(3)
    array = np.asarray(rng.uniform(-2, 2, (2, 3, 4)) + (1j * rng.uniform(-2, 2, (2, 3, 4)) if dtype == "complex128" else 0)).astype(dtype)
    function = getattr(np, name)
    for keepdims in (False, True):
        want = function(array, axis=axis, keepdims=keepdims)
        tensor = function(fg.constant(array), axis=axis, keepdims=keepdims)
        assert (tensor.shape, tensor.dtype) == (np.shape(want), np.asarray(want).dtype)
        np.testing.assert_allclose(session.run(tensor), want, rtol=1e-6 if dtype == "float32" else 1e-13, atol=1e-14)


@pytest.mark.parametrize("correction", [0, 1, 1.5])
def test_variance_takes_its_correction_off_the_count(session, correction):
    array = np.random.default_rng(0).standard_normal((3, 4))
    x = fg.placeholder("x", (None, 4), "float64")
    for function in (np.var, np.std):
        for axis in (None, 0):
            result = session.run(function(x, axis=axis, correction=correction), {x: array})
            np.testing.assert_allclose(result, function(array, axis=axis, correction=correction), rtol=1e-13)


def test_variance_has_right_gradients_and_the_deviation_of_equal_numbers_gradient_zero():
    x = np.array([[1.0, 4.0, 2.0], [0.5, 0.0, 3.0]])
    fg.check_gradient(lambda x: fg.var(x, axis=1, correction=1), x, order=2)
    fg.check_gradient(lambda x: fg.std(x, axis=0), x, order=2, tolerance=1e-5)
    np.testing.assert_array_equal(gradient(fg.std, np.ones(3)), np.zeros(3))


def test_the_norm_of_zero_has_gradient_zero():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(gradient(lambda x: euclidean_norm(x, axis=(1,), keepdims=False), x), np.array([[0, 0], [0.6, 0.8]]))


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_products_have_right_gradients_whatever_the_number_of_zeros(zeros):
    x = np.array([1.5, -2.0, 0.5])
    x[:zeros] = 0
    np.testing.assert_allclose(gradient(fg.prod, x), np.array([x[1] * x[2], x[0] * x[2], x[0] * x[1]]))
    for order in (1, 2, 3):
        fg.check_gradient(fg.prod, x, order=order, tolerance=1e-5)
        fg.check_gradient(fg.cumulative_prod, x, order=order, tolerance=1e-5)


def test_a_product_over_several_axes_has_a_gradient():
    fg.check_gradient(lambda x: fg.prod(x, axis=(0, 2)), np.random.default_rng(1).uniform(0.5, 2, (2, 3, 2)), order=2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_add_up_in_single_precision(session, dtype):
    # One by one, 4096 (2048 for float16, 256 for bfloat16) is where adding 1 changes nothing any more.
    x = fg.astype(fg.constant(np.ones((5000, 2), "float32")), dtype)
    cases: list[tuple[fg.Tensor, float]] = [
        (fg.sum(x, axis=0), 5000), (fg.mean(x, axis=0), 1), (fg.sum(x), 10000), (fg.cumulative_sum(x, axis=0)[-1], 5000),
        (fg.logsumexp(x, axis=0), 1 + float(np.log(5000))), (fg.var(x * 300, axis=0), 0),
    ]  # fmt: skip
    for y, want in cases:
        assert y.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(session.run(y), "float64"), want, rtol=5e-3)


def test_the_gradient_of_a_broadcast_in_half_precision_adds_up_in_single_precision(graph, session):
    bias = fg.placeholder("bias", (2,), "float16")
    (slope,) = fg.gradients(fg.sum(bias + np.ones((5000, 2), "float16")), bias)
    assert list(session.run(slope, {bias: np.zeros(2, "float16")})) == [5000, 5000]


def test_the_variance_of_half_precision_does_not_overflow_on_the_way(session):
    x = np.array([-6e4, 6e4, 5e4], "float16")
    np.testing.assert_allclose(float(session.run(fg.std(fg.constant(x)))), np.std(x.astype("float64")), rtol=1e-3)


@pytest.mark.parametrize("axis", AXES)
def test_logsumexp_agrees_with_scipy_also_at_infinities(session, axis):
    x = np.random.default_rng(2).uniform(-900, 900, (2, 3, 2))
    x[0, 0] = -np.inf
    x[1, 1, 0] = np.inf
    with np.errstate(divide="ignore"):
        want = scipy.special.logsumexp(x, axis=axis) if axis != () else x
        np.testing.assert_allclose(session.run(fg.logsumexp(x, axis=axis)), want)


def test_logsumexp_over_nothing_is_minus_infinity(session):
    with np.errstate(divide="ignore"):
        assert session.run(fg.logsumexp(np.zeros((0, 2)), axis=0)).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cumulative_sum", "cumulative_prod"])
@pytest.mark.parametrize("dtype", ["float64", "int8", "bool", "complex64"])
@pytest.mark.parametrize("axis", [0, -1, None])
def test_running_sums_and_products_agree_with_numpy(session, name, dtype, axis):
    array = np.random.default_rng(4).uniform(-3, 3, (2, 3)).astype(dtype)
    if axis is None and name.startswith("cumulative"):
        return
    want = getattr(np, name)(array, axis=axis)
    tensor = getattr(np, name)(fg.constant(array), axis=axis)
    assert (tensor.shape, tensor.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(session.run(tensor), want, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 0), (0, 2)])
def test_a_running_sum_may_begin_with_its_initial_value(session, shape):
    array = np.ones(shape)
    for name in ("cumulative_sum", "cumulative_prod"):
        want = getattr(np, name)(array, axis=0, include_initial=True)
        np.testing.assert_array_equal(session.run(getattr(fg, name)(array, axis=0, include_initial=True)), want)


def test_a_running_sum_over_several_axes_needs_one_named(graph):
    with pytest.raises(ArgumentError, match=r"cumulative_sum: name the axis, as constant \(2, 3\) has 2 of them"):
        fg.cumulative_sum(fg.constant(np.ones((2, 3))))
    with pytest.raises(ShapeError, match="cumulative_prod: axis 2 is out of range for 2 dimensions"):
        fg.cumulative_prod(fg.constant(np.ones((2, 3))), axis=2)


@pytest.mark.parametrize("n", [1, 2, 64, 65, 100, 1000])
def test_a_long_recurrence_agrees_with_a_loop(session, n):
    rng = np.random.default_rng(n)
    a, b = rng.uniform(-1.1, 1.1, (2, n)), rng.uniform(-1, 1, (2, n))
    want = b.copy()
    for t in range(1, n):
        want[:, t] += a[:, t] * want[:, t - 1]
    np.testing.assert_allclose(session.run(_linear_scan(a, b, axis=1)), want, rtol=1e-9, atol=1e-9)


def test_ufuncs_reduce_and_accumulate_tensors(session):
    array = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, 0.0]])
    x = fg.constant(array)
    pairs = []
    for ufunc in (np.add, np.multiply, np.maximum, np.minimum, np.logical_and, np.logical_or, np.logaddexp):
        pairs += [(ufunc.reduce(x, axis=axis), ufunc.reduce(array, axis=axis)) for axis in (0, 1, -1)]
        pairs.append((ufunc.reduce(x), ufunc.reduce(array)))
    for ufunc in (np.add, np.multiply):
        pairs += [(ufunc.accumulate(x, axis=axis), ufunc.accumulate(array, axis=axis)) for axis in (0, 1)]
        pairs.append((ufunc.reduce(x, axis=(0, 1), keepdims=True), ufunc.reduce(array, axis=(0, 1), keepdims=True)))
    for have, (_, want) in zip(session.run([tensor for tensor, _ in pairs]), pairs, strict=True):
        np.testing.assert_allclose(have, want)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_agree_with_numpy_and_are_the_first_of_equals(session, name):
    array = np.array([[1, 3, 3], [2, 0, 0]])
    for axis in (None, 0, 1, -1):
        for keepdims in (False, True):
            want = getattr(np, name)(array, axis=axis, keepdims=keepdims)
            np.testing.assert_array_equal(session.run(getattr(np, name)(fg.constant(array), axis=axis, keepdims=keepdims)), want)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: fg.max(x, axis=0), ShapeError, r"axis \(0,\) of \(0, 2\) is empty, so it has no max"),
        (lambda x: fg.argmin(x, axis=0), ShapeError, r"axis 0 of \(0, 2\) is empty"),
        (lambda x: fg.logsumexp(fg.astype(x, "int64")), DtypeError, "needs real floats, got int64"),
        (lambda x: fg.prod(x, axis=5), ShapeError, "prod: axis 5 is out of range for 2 dimensions"),
        (lambda x: fg.sum(x, axis=(1, -1)), ShapeError, "names an axis twice"),
        (lambda x: fg.sum(x, axis=1.5), ArgumentError, "sum: axis must be an int, got 1.5"),  # type: ignore[arg-type]
        (lambda x: fg.sum(x, axis=True), ArgumentError, "sum: axis must be an int, got True"),
        (lambda x: fg.diff(x, axis=2), ShapeError, "diff: axis 2 is out of range for 2 dimensions"),
        (lambda x: fg.diff(x, n=-1), ArgumentError, "diff: n is a whole number, at least 0, got -1"),
    ],
)
def test_an_impossible_reduction_is_refused_with_its_reason(graph, call, error, text):
    with pytest.raises(error, match=text):
        call(fg.constant(np.zeros((0, 2))))


@pytest.mark.parametrize(
    "name", ["sum", "prod", "mean", "var", "std", "any", "all", "max", "min", "argmax", "argmin", "cumsum", "cumprod", "round"]
)
def test_tensors_have_the_methods_of_arrays(session, name):
    array = np.array([[1.25, -2.5], [3.0, 0.0]])
    np.testing.assert_allclose(session.run(getattr(fg.constant(array), name)()), getattr(array, name)())
    np.testing.assert_allclose(session.run(fg.constant(array).clip(0, 1)), array.clip(0, 1))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 1.0, [0.1, 0.25, 0.9]])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_quantiles_agree_with_numpy(session, q, axis, dtype):
    array = (np.random.default_rng(5).standard_normal((3, 4)) * 10).astype(dtype)
    for keepdims in (False, True):
        want = np.quantile(array, q, axis=axis, keepdims=keepdims)
        tensors = [
            fg.quantile(fg.constant(array), q, axis=axis, keepdims=keepdims),
            fg.quantile(fg.placeholder("x", (None, None), dtype), q, axis=axis, keepdims=keepdims),
        ]
        for tensor in tensors:
            assert tensor.dtype == ("float64" if dtype == "int64" else dtype)
            feeds = {node.outputs[0]: array for node in session.graph.nodes if node.op.name == "placeholder"}
            np.testing.assert_allclose(session.run(tensor, feeds), want, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_medians_agree_with_numpy_at_nan_and_infinities(session):
    array = np.array([[1.0, np.nan, 3.0], [np.inf, np.inf, 3.0], [-np.inf, 0.0, np.inf]])
    for axis in (0, 1):
        np.testing.assert_array_equal(session.run(np.median(fg.constant(array), axis=axis)), np.median(array, axis=axis))


def test_the_gradient_of_a_quantile_goes_to_its_two_neighbours():
    np.testing.assert_allclose(gradient(lambda x: fg.quantile(x, 0.3), np.array([4.0, 1.0, 3.0, 2.0])), [0, 0.1, 0, 0.9])
    np.testing.assert_allclose(gradient(fg.median, np.array([4.0, 1.0, 3.0])), [0, 0, 1])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: fg.quantile(x, 1.5), ArgumentError, "q is a number or a list of numbers in"),
        (lambda x: fg.median(x, axis=0), ShapeError, r"median: axis 0 of \(0, 2\) is empty"),
        (lambda x: fg.quantile(x * 1j, 0.5), DtypeError, "quantile: complex128 has no order"),
    ],
)
def test_an_impossible_quantile_is_refused_with_its_reason(graph, call, error, text):
    with pytest.raises(error, match=text):
        call(fg.constant(np.zeros((0, 2))))


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "cumsum", "cumulative_sum", "cumulative_prod"])
def test_a_dtype_to_add_up_in_is_cast_to_first(session, name):
    array = np.array([100, 100, 2], "int8")
    for dtype in ("float32", "int16"):
        want = getattr(np, name)(array, dtype=dtype)
        if name != "mean" or dtype == "float32":
            tensor = getattr(np, name)(fg.constant(array), dtype=dtype)
            if dtype == "float32":
                assert tensor.dtype == want.dtype
            np.testing.assert_array_equal(session.run(tensor), want)
    np.testing.assert_array_equal(session.run(np.add.reduce(fg.constant(array), dtype="float32")), 202)


def test_numpys_older_name_of_the_correction_is_understood(session):
    x = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(
        session.run([np.var(fg.constant(x), ddof=1), np.std(fg.constant(x), ddof=1)]), [x.var(ddof=1), x.std(ddof=1)]
    )


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 4])
def test_the_gradient_of_a_p_norm_at_zero_is_zero(p):
    slopes = gradient(lambda x: fg.linalg.vector_norm(x, axis=-1, ord=p), np.array([[0.0, 0.0], [3.0, 4.0]]))
    size = (3**p + 4**p) ** (1 / p)
    np.testing.assert_allclose(slopes, np.array([[0, 0], [(3 / size) ** (p - 1), (4 / size) ** (p - 1)]]))


def test_more_elements_than_half_precision_counts_have_right_gradients():
    x = np.zeros(100_000, "float16")
    with fg.Graph() as graph:
        t = fg.placeholder("x", (None,), "float16")
        u = fg.placeholder("u", (100_000,), "float16")
        slopes = [fg.gradients(4096 * y, z)[0] for y, z in [(fg.mean(t), t), (fg.mean(u), u), (fg.max(u), u)]]
    with fg.Session(graph, threads=1) as session:
        for slope in session.run(slopes, {t: x, u: x}):
            assert slope.dtype == "float16"
            np.testing.assert_allclose(slope.astype(float), 0.04096, rtol=1e-2)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_differences_agree_with_numpy(session, n, axis, dtype):
    array = np.random.default_rng(6).uniform(-2, 2, (3, 4)).astype(dtype)
    np.testing.assert_array_equal(session.run(np.diff(fg.constant(array), n=n, axis=axis)), np.diff(array, n=n, axis=axis))
