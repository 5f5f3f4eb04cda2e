"""How far every op's numbers may be from the true ones: each op of the registry has a reference, and keeps its bound.

The references and the larger measurement that docs/accuracy.md shows are in `benchmarks.accuracy`.
"""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from benchmarks.accuracy import decimals, table
from benchmarks.accuracy.measure import HAS_LONG_DOUBLE, NARROW, WIDER, Reference, cases, dtypes_of, errors, listed, measured, ulp
from benchmarks.accuracy.references import FAMILIES, REFERENCES, UNMEASURED
from flowgraph.graph import OPS, Spec

FEW = 200  # numbers drawn for each function of one number
CASES = [
    pytest.param(name, dtype, id=f"{name}-{dtype}")
    for name in REFERENCES
    if name in OPS
    for dtype in dtypes_of(OPS[name], REFERENCES[name])
]


def test_every_operation_has_a_reference_or_a_reason_for_having_none():
    assert sorted(set(OPS) - set(REFERENCES) - set(UNMEASURED)) == [], "give it a reference in benchmarks/accuracy"
    assert sorted({*REFERENCES, *UNMEASURED} - set(OPS)) == [], "references of no operation"
    assert sorted(set(REFERENCES) & set(UNMEASURED)) == []
    assert sum(map(len, FAMILIES.values())) == len(REFERENCES), "an operation has references in two families"


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_error_is_within_its_bound(name, dtype):
    worst = measured(OPS[name], REFERENCES[name], dtype, FEW)
    assert worst.count, "neither samples nor draws"
    assert worst.ulps <= table.bound_of(name, dtype), f"{worst.ulps:.4g} ulps at {worst.where}"


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_result_has_the_dtype_that_inference_says(name, dtype):
    op = OPS[name]
    for sample in cases(op, replace(REFERENCES[name], samples=True), dtype, 3):
        specs = op.infer(*[Spec(x.shape, x.dtype) for x in sample.inputs], **sample.attrs)
        with np.errstate(all="ignore"):
            results = listed(op.kernel(np, *sample.inputs, **sample.attrs))
        assert [y.dtype for y in results] == [spec.dtype for spec in (specs if isinstance(specs, list) else [specs])], str(sample)


@pytest.mark.parametrize(("name", "dtype"), [case for case in CASES if case.values[1] not in ("integers", *NARROW)])
def test_a_kernel_that_is_off_by_a_thousandth_is_caught(name, dtype):
    op, reference = OPS[name], REFERENCES[name]
    changed = False

    def wrong(*inputs, **attrs):
        nonlocal changed
        result = op.kernel(np, *inputs, **attrs)
        made = []
        for y in map(np.asarray, result if isinstance(result, tuple | list) else (result,)):
            spoiled = (y * y.real.dtype.type(1.001)).astype(y.dtype) if y.dtype.kind in "fc" else y
            changed = changed or not np.array_equal(spoiled, y, equal_nan=y.dtype.kind in "fc")
            made.append(spoiled)
        return tuple(made) if isinstance(result, tuple | list) else made[0]

    worst = measured(op, reference, dtype, FEW, wrong)
    if not changed:
        pytest.skip("its result is whole numbers, truth values or zeros")
    assert worst.ulps > reference.bound_in(dtype)


def test_an_ulp_is_the_distance_to_the_next_number():
    for dtype in ("float32", "float64"):
        x = np.array([1.0, 1.5, 2.0, 3e-20, 5e4, np.finfo(dtype).tiny, np.finfo(dtype).tiny / 8], dtype)
        np.testing.assert_array_equal(ulp(x.astype(WIDER[dtype]), dtype), np.nextafter(x, np.array(np.inf, dtype)) - x)
    assert ulp(np.float64(0), "float32") == 2.0**-149  # the smallest number above 0


def test_errors_are_counted_in_ulps_of_the_true_value():
    one = np.float32(1)
    assert errors(np.array([one, np.nextafter(one, np.float32(2))]), np.array([1.0, 1.0])).tolist() == [0.0, 1.0]
    assert errors(np.array([one]), np.array([1 + 2.0**-24])).tolist() == [0.5]
    assert errors(np.array([one]), np.array([1 + 2.0**-23]), np.array([8.0])).tolist() == [0.125]
    assert errors(np.array([3 + 4j], "complex64"), np.array([3 + 4j + 2.0**-21])).tolist() == [1.0]


@pytest.mark.parametrize(
    ("have", "want", "ulps"),
    [
        (np.nan, np.nan, 0.0), (np.nan, 1.0, np.inf), (1.0, np.nan, np.inf), (np.inf, np.inf, 0.0), (-np.inf, np.inf, np.inf),
        (3e38, np.inf, np.inf), (np.inf, 1e39, 0.0), (np.inf, 1.0, 2.0**151), (np.inf, float(np.finfo("f4").max), 1.0), (0.0, 1e-50, 0.0),
    ],
)  # fmt: skip
def test_what_is_no_number_or_too_large_has_to_be_so_in_both(have, want, ulps):
    assert errors(np.array([have], "f4"), np.array([want]))[0] == pytest.approx(ulps, rel=1e-6, abs=1e-4)


def test_a_result_of_another_shape_or_another_truth_is_an_error():
    assert np.all(errors(np.zeros(3, "f4"), np.zeros(2)) == np.inf)
    assert errors(np.array([True, False]), np.array([True, True])).tolist() == [0.0, np.inf]


@pytest.mark.skipif(not HAS_LONG_DOUBLE, reason="no wider numbers than doubles here")
def test_a_relative_difference_in_the_fifteenth_digit_is_seen():
    shifted = Reference(lambda x: np.sin(x) * (1 + 2.0**-51), 1.0, draws=REFERENCES["sin"].draws)
    assert 2 <= measured(OPS["sin"], shifted, "float64", FEW).ulps <= 6


@pytest.mark.parametrize(
    ("function", "inputs", "digits"),
    [
        ("erf", "1", "0.8427007929497148693412206350826"),
        ("erfc", "5", "1.537459794428034850188343485383e-12"),
        ("normal_cdf", "-2", "0.02275013194817920720028263716653"),
        ("gammaln", "0.5", "0.5723649429247000870717136756765"),
        ("digamma", "1", "-0.5772156649015328606065120900824"),
        ("gammainc", "1 1", "0.6321205588285576784044762298385"),
        ("gammaincc", "1 2", "0.1353352832366126918939994949725"),
        ("betaln", "2 3", "-2.484906649788000310229709479839"),
    ],
)
def test_the_decimal_functions_give_the_digits_of_the_tables(function, inputs, digits):
    with decimals.digits(decimals.DIGITS):
        got = getattr(decimals, function)(*map(Decimal, inputs.split()))
        assert abs(got / Decimal(digits) - 1) < Decimal("1e-30")


def test_the_decimal_polygamma_and_inverse_error_function_give_known_values():
    with decimals.digits(decimals.DIGITS):
        assert abs(decimals.polygamma(Decimal(1), n=1) - Decimal("1.644934066848226436472415166646")) < Decimal("1e-29")
        half = decimals.erfinv(Decimal("0.5"), Decimal("0.47693627620447"))
        assert abs(decimals.erf(half) - Decimal("0.5")) < Decimal("1e-30")


def test_the_page_lists_every_operation_that_is_measured_with_its_bound():
    page = table.read()
    assert sorted({*page.exact, *page.rows} ^ set(REFERENCES)) == [], "python -m benchmarks.accuracy writes the page anew"
    for name, (found, bound) in [*page.rows.items(), *page.compiled.items()]:
        assert bound == table.bounds(REFERENCES[name], found), name
        assert [dtype for dtype, error in found.items() if error > table.bound_of(name, dtype)] == [], name
    for name, (found, _) in page.rows.items():
        assert {"integers", *found} >= set(dtypes_of(OPS[name], REFERENCES[name])), name
    assert all(REFERENCES[name].bound == 0 for name in page.exact)
