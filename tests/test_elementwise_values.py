"""Values and gradients of elementwise operations where they are more than one call of NumPy, and NumPy's own functions on tensors."""

import itertools

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import ArgumentError, DtypeError, ExecutionError, GradientError, GraphError
from flowgraph.graph import OPS, Spec
from flowgraph.graph.spec import as_dtype
from flowgraph.ops.elementwise import Binary, Unary


def gradient(function, *values):
    """The gradients of the sum of the function by each of ``values``."""
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", np.shape(v), np.asarray(v, "float64").dtype) for i, v in enumerate(values)]
        slopes = fg.gradients(fg.sum(function(*inputs)), inputs)
    with fg.Session(graph, threads=1) as session:
        return session.run(slopes, dict(zip(inputs, values, strict=True)))


@pytest.mark.parametrize("value", [0.0, np.inf, -np.inf, np.nan, 1.5])
def test_round_isclose_and_nan_to_num_agree_with_numpy(session, value):
    array = np.array([value, -2.5, 0.5, 1234.5678, 1e300])
    x = fg.constant(array)
    for decimals in (0, 2, -2):
        np.testing.assert_array_equal(session.run(fg.round(x, decimals)), np.round(array, decimals))
    np.testing.assert_array_equal(session.run(np.nan_to_num(x)), np.nan_to_num(array))
    other = array * (1 + 1e-6)
    for equal_nan in (False, True):
        np.testing.assert_array_equal(session.run(fg.isclose(x, other, equal_nan=equal_nan)), np.isclose(array, other, equal_nan=equal_nan))


def test_round_keeps_integers_and_rounds_them_to_tens(session):
    x = fg.constant([15, 25, -7])
    assert fg.round(x) is x
    np.testing.assert_array_equal(session.run(fg.round(x, -1)), np.round([15, 25, -7], -1))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (None, 1.0), (0.0, None), (1.0, 0.0)])
def test_clip_agrees_with_numpy(session, bounds):
    array = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, np.nan, np.inf])
    np.testing.assert_array_equal(session.run(np.clip(fg.constant(array), *bounds)), np.clip(array, *bounds))


def test_clip_without_bounds_is_its_input(graph):
    x = fg.placeholder("x", (2,), "float32")
    assert fg.clip(x) is x


def test_on_a_bound_the_gradient_goes_to_the_clipped_tensor_and_outside_to_the_bound():
    x, low, high = gradient(fg.clip, np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), 0.0, 1.0)
    np.testing.assert_array_equal(x, [0, 1, 1, 1, 0])
    assert (low, high) == (1, 1)


def test_each_cotangent_of_clip_goes_to_one_input_even_if_the_bounds_cross():
    parts = gradient(fg.clip, *np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij"))
    np.testing.assert_array_equal(np.sum(parts, axis=0), np.ones((3, 3, 3)))


def test_power_has_finite_gradients_at_zero():
    base, exponent = gradient(fg.pow, np.array([0.0, 0.0, 0.0, -2.0]), np.array([0.0, 1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(base, [0, 1, 0, 12])
    np.testing.assert_array_equal(exponent[:3], [0, 0, 0])


def test_whole_powers_of_negative_numbers_have_gradients_of_any_order():
    fg.check_gradient(lambda x: x**3, np.array([-2.0, 0.0, 1.5]), order=3)
    fg.check_gradient(lambda x: fg.pow(x, np.array([2, 0, 3], "int8")), np.array([-2.0, 0.5, 1.5]), order=2)


@pytest.mark.parametrize("function", [fg.hypot, fg.atan2])
def test_lengths_and_angles_have_gradient_zero_at_the_origin(function):
    assert [float(d) for d in gradient(function, 0.0, 0.0)] == [0.0, 0.0]


def test_the_gradient_of_an_angle_neither_overflows_nor_vanishes():
    for scale in (1e200, 1e-200):
        by_y, by_x = gradient(fg.atan2, 3 * scale, 4 * scale)
        np.testing.assert_allclose([by_y * scale, by_x * scale], [4 / 25, -3 / 25])


def test_logaddexp_is_differentiable_at_infinities():
    x, y = gradient(fg.logaddexp, np.array([-np.inf, -np.inf, 800.0]), np.array([-np.inf, 0.0, -800.0]))
    np.testing.assert_array_equal(x, [1, 0, 1])
    np.testing.assert_array_equal(y, [1, 1, 0])


def test_operators_on_bits_agree_with_pythons(session):
    a, b = np.array([6, 5, 1]), np.array([3, 1, 2])
    x = fg.constant(a)
    cases = {
        x & b: a & b, b & x: b & a, x | b: a | b, x ^ b: a ^ b, 7 ^ x: 7 ^ a, ~x: ~a,
        x << 2: a << 2, x >> 1: a >> 1, 1 << x: 1 << a, 64 >> x: 64 >> a,
    }  # fmt: skip
    for tensor, want in cases.items():
        np.testing.assert_array_equal(session.run(tensor), want)


def test_operators_on_truth_values_are_the_logical_ones(session):
    a, b = np.array([True, True, False]), np.array([True, False, False])
    x = fg.constant(a)
    for tensor, want in [(x & b, a & b), (x | b, a | b), (x ^ b, a ^ b), (~x, ~a)]:
        np.testing.assert_array_equal(session.run(tensor), want)


def test_divmod_and_round_work_on_tensors(session):
    x = fg.constant([7.5, -7.5])
    assert [list(r) for r in session.run(divmod(x, 2.0))] == [[3.0, -4.0], [1.5, 0.5]]
    assert [list(r) for r in session.run(np.divmod(9.0, x))] == [[1.0, -2.0], [1.5, -6.0]]
    assert list(session.run(round(x))) == [8.0, -8.0]


def test_floats_have_no_bits(graph):
    with pytest.raises(DtypeError, match="not defined for float64 and float64"):
        fg.bitwise_and(fg.constant(1.0), 2.0)


NAMES = """
    absolute arccos arccosh arcsin arcsinh arctan arctanh bitwise_not cbrt ceil conjugate cos cosh deg2rad degrees exp exp2 expm1
    fabs floor invert isfinite isinf isnan log log10 log1p log2 logical_not negative positive rad2deg radians reciprocal rint sign
    signbit sin sinh sqrt square tan tanh trunc fix angle real imag round
""".split()  # fmt: skip


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("fabs", "bitwise_not", "invert")])
def test_numpys_function_of_one_argument_on_a_tensor_gives_what_it_gives_on_an_array(session, name):
    function = getattr(np, name)
    array = np.array([1.0, 0.25]) if name != "arccosh" else np.array([1.0, 2.5])
    with np.errstate(all="ignore"):
        want = function(array)
        tensor = function(fg.constant(array))
        assert (tensor.shape, tensor.dtype) == (want.shape, want.dtype)
        np.testing.assert_array_equal(session.run(tensor), want)


@pytest.mark.parametrize(
    "name",
    """add arctan2 copysign divide equal floor_divide fmod greater greater_equal hypot less less_equal logaddexp logical_and logical_or
    logical_xor maximum minimum mod multiply nextafter not_equal power remainder subtract true_divide isclose""".split(),
)
def test_numpys_function_of_two_arguments_on_a_tensor_gives_what_it_gives_on_arrays(session, name):
    function = getattr(np, name)
    x, y = np.array([[1.0], [-2.5]]), np.array([0.5, 2.0, -3.0])
    with np.errstate(all="ignore"):
        want = function(x, y)
        for tensor in (function(fg.constant(x), y), function(x, fg.constant(y))):
            assert (tensor.shape, tensor.dtype) == (want.shape, want.dtype)
            np.testing.assert_array_equal(session.run(tensor), want)


def test_the_outer_form_of_a_ufunc_is_a_broadcast(session):
    x, y = np.array([1.0, 2.0]), np.array([[3.0, 4.0]])
    np.testing.assert_array_equal(session.run(np.multiply.outer(fg.constant(x), y)), np.multiply.outer(x, y))
    np.testing.assert_array_equal(session.run(np.subtract.outer(x, fg.constant(y))), np.subtract.outer(x, y))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: np.add(x, 1.0, dtype="float32"), r"np.add with dtype= has no node(.|\n)*cast with fg.astype"),
        (lambda x: np.add(x, 1.0, where=[True, False]), r"np.add with where= has no node(.|\n)*fg.where\(condition"),
        (lambda x: np.add(x, 1.0, out=np.zeros(2)), r"np.add with out= has no node(.|\n)*leave `out` away"),
        (lambda x: np.spacing(x), "np.spacing has no node"),
        (lambda x: np.hypot.reduce(x), "np.hypot.reduce has no node"),
        (lambda x: np.add.reduceat(x, [0, 1]), "np.add.reduceat has no node"),
    ],
)
def test_what_a_ufunc_cannot_do_on_a_tensor_is_said_with_the_line_to_write_instead(graph, call, text):
    with pytest.raises(GraphError, match=text):
        call(fg.constant([1.0, 2.0]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_python_numbers_leave_a_tensor_its_dtype(graph, dtype):
    x = fg.placeholder("x", (3,), dtype)
    for y in (x + 1, 1.5 * x, x**2, 2 / x, fg.maximum(x, 0), fg.where(x > 0, x, 0.0), fg.clip(x, 0.0, 1), fg.atan2(x, 1.0), fg.round(x, 2)):
        assert y.dtype == x.dtype, y
    slopes = fg.gradients(fg.sum(fg.clip(x, -1.0, 1.0) * fg.log(x) / (x**2 + 1)), x)
    assert slopes[0].dtype == x.dtype


def test_bfloat16_meets_other_dtypes_as_in_numpys_arithmetic(session):
    x = fg.constant(np.array([1.5, 2.5], fg.placeholder("p", (), "bfloat16").dtype))
    for other, want in [
        ("float16", "float32"),
        ("float32", "float32"),
        ("int8", x.dtype),
        ("int32", "float64"),
        ("complex64", "complex64"),
    ]:
        y = np.array([1, 2], other)
        for tensor in (x * y, fg.where([True, False], x, y)):
            assert tensor.dtype == want
            assert session.run(tensor).dtype == want


def test_powers_by_the_numbers_with_a_function_of_their_own_build_it(graph):
    x = fg.placeholder("x", (3,), "float32")
    assert [(x**n).node.op.name for n in (2, 0.5, -1, 3, 2.5)] == ["square", "sqrt", "reciprocal", "pow", "pow"]
    assert (fg.placeholder("n", (), "int32") ** 2).node.op.name == "pow"


@pytest.mark.parametrize("n", [-2, -1, 0, 0.5, 1, 2, 3, 2.5])
def test_powers_by_numbers_have_right_gradients_of_any_order(n):
    fg.check_gradient(lambda x: x**n, np.array([0.7, 1.9]), order=3, tolerance=1e-5)


def test_a_number_outside_the_range_of_a_dtype_may_be_compared_with_it(session):
    x = fg.constant(np.array([0, 255], "uint8"))
    assert [list(v) for v in session.run([x < 300, x >= -1, x == 256, x > -1])] == [
        [True, True],
        [True, True],
        [False, False],
        [True, True],
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_sinc_has_exact_derivatives_at_zero_and_near_it(session, order):
    x = fg.placeholder("x", (), "float64")
    y = fg.sinc(x)
    for _ in range(order):
        (y,) = fg.gradients(y, x)
    # sinc(x) = 1 - (pi x)^2 / 3! + (pi x)^4 / 5! - ...
    want = {1: 0, 2: -(np.pi**2) / 3, 3: 0, 4: np.pi**4 / 5}[order]
    for at in (0.0, 1e-9, -1e-9):
        np.testing.assert_allclose(session.run(y, {x: at}), want, atol=1e-6)
    fg.check_gradient(fg.sinc, np.array([0.0, 0.3, 1.0, -2.2, 7.1]), order=order, tolerance=1e-5)


def test_sinc_agrees_with_numpy(session):
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(session.run(np.sinc(fg.constant(x))), np.sinc(x), atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sinc_keeps_its_digits_next_to_whole_numbers(session, dtype):
    # There sin(pi x) is pi times the distance to the whole number, with its sign; numpy.sinc has the rounding of pi x in its place.
    whole = np.array([2.0, 3.0, 16.0, 17.0], dtype)
    x = np.nextafter(whole, np.array(np.inf, dtype))
    want = np.array([1, -1, 1, -1]) * (x - whole) / x
    np.testing.assert_allclose(session.run(fg.sinc(x)), want, rtol=4 * np.finfo(dtype).eps)


def test_an_in_place_operator_makes_a_new_tensor(session):
    x = start = fg.constant([1.0, 2.0])
    x += 1
    x *= 2
    x **= 2
    assert session.run(x).tolist() == [16.0, 36.0] and session.run(start).tolist() == [1.0, 2.0]


def test_bfloat16_tensors_are_fed_and_variables_set_from_python_numbers(graph, session):
    x = fg.placeholder("x", (2,), "bfloat16")
    w = fg.variable(np.zeros(2, x.dtype), name="w")
    assert session.run(x * 2 + w, {x: [1.5, 2]}).astype(float).tolist() == [3.0, 4.0]
    session.variables["w"] = [0.5, 1]
    assert session.run(w).astype(float).tolist() == [0.5, 1.0]


def test_negative_powers_of_integers_are_an_error_of_the_run(session):
    with pytest.raises(ExecutionError, match="pow: Integers to negative integer powers are not allowed"):
        session.run(fg.constant([1, 2]) ** -1)


def test_records_and_four_bit_integers_are_no_numbers(graph):
    for dtype in ([("a", "float32")], "V4", type(np.void(b"x"))):
        with pytest.raises(DtypeError, match="tensors hold numbers or booleans"):
            fg.placeholder("x", (), dtype)
    with pytest.raises(DtypeError, match="cannot compute with"):
        fg.sin(np.zeros(2, [("a", "float32")]))


def test_the_gradient_through_a_sign_stops_there_with_its_reason(graph):
    x = fg.placeholder("x", (), "float64")
    with pytest.raises(GradientError, match=r"stops at sign(.|\n)*sign is constant between its jumps"):
        fg.gradients(fg.sign(x), x, unconnected="error")


KINDS = [np.dtype(d) for d in "? b B h H i I q Q e f d F D".split()]
UFUNCS = sorted({op.ufunc for op in OPS.values() if isinstance(op, Unary | Binary)})


@pytest.mark.parametrize("name", UFUNCS)
def test_dtypes_are_numpys_for_every_pair_of_dtypes_also_where_there_is_none(graph, name):
    ufunc = getattr(np, name)
    mine = [op for op in OPS.values() if isinstance(op, Unary | Binary) and op.ufunc == name]
    for dtypes in itertools.product(KINDS, repeat=ufunc.nin):
        try:
            with np.errstate(all="ignore"):
                want = ufunc(*[np.ones(1, d) for d in dtypes]).dtype
        except TypeError:
            want = None
        for op in mine:
            try:
                have = op.infer(*[Spec((1,), d) for d in dtypes]).dtype
            except DtypeError:
                have = None
            if have is None and op.ordered and "c" in [d.kind for d in dtypes]:
                continue  # NumPy orders complex numbers by their real parts, flowgraph does not
            assert have == want, dtypes


@pytest.mark.parametrize("function", [np.add, np.multiply, np.maximum, np.equal, np.true_divide, np.power, np.hypot, np.clip, np.where])
def test_numbers_of_python_take_the_dtype_that_numpy_gives_them(graph, function):
    for dtype, number in itertools.product(KINDS, [True, 0, 1, 1.5, 2j]):
        array = np.ones(1, dtype)
        arguments = {np.clip: (number, number), np.where: (array, number)}.get(function, (number,))
        try:
            with np.errstate(all="ignore"):
                want = function(array == 1 if function is np.where else array, *arguments).dtype
        except TypeError:
            want = None
        if function in (np.maximum, np.clip) and np.result_type(dtype, number).kind == "c":
            want = None  # complex numbers have no order
        tensor = fg.constant(array)
        try:
            have = function(*((fg.equal(tensor, 1), tensor, number) if function is np.where else (tensor, *arguments))).dtype
        except DtypeError:
            have = None
        assert have == want, (dtype, number)


def test_round_takes_a_whole_number_of_digits(graph):
    with pytest.raises(ArgumentError, match=r"round: decimals is a whole number, got 1.5"):
        fg.round(fg.constant(1.0), 1.5)  # type: ignore[arg-type]


LAYOUTS = {
    "whole": lambda c, x, y: (c, x, y),
    "a row of conditions": lambda c, x, y: (c[:1], x, y),
    "a column of conditions": lambda c, x, y: (c[:, :1], x, y),
    "one condition": lambda c, x, y: (c[0, 0], x, y),
    "else zero": lambda c, x, y: (c, x, x.dtype.type(0)),
    "zero or else": lambda c, x, y: (c, x.dtype.type(0), y),
    "minus zero or else": lambda c, x, y: (c, -x.dtype.type(0), y),
    "one number": lambda c, x, y: (c, x.dtype.type(1.5), y),
    "other axes": lambda c, x, y: (c, np.asfortranarray(x), y[:, ::-1]),
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_chooses_the_very_bits_that_numpy_does_also_over_its_inputs(layout, dtype):
    dtype = as_dtype(dtype)
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal((300, 301)).astype(dtype) for _ in range(2))
    x[::7], y[::5], y[::11] = np.nan, -0.0, np.inf
    condition, x, y = LAYOUTS[layout](rng.random((300, 301)) < 0.5, x, y)
    want = np.ascontiguousarray(np.where(condition, x, y))
    kernel = OPS["where"].kernel
    assert kernel(np, condition, x, y).tobytes() == want.tobytes()
    for position, given in enumerate((x, y)):
        if given.shape == want.shape:
            inputs = [x, y]
            inputs[position] = given.copy()
            out = inputs[position][:]  # another view of that memory
            assert kernel(np, condition, *inputs, out=out) is out
            assert out.tobytes() == want.tobytes()
