"""What draws make of random bits: the same bits however they are computed, right to the last digits, and random as far as can be told.

Seeds are fixed, so each of these numbers is the same in every run.
"""

import math
import re
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.jit import lazy, llvm
from flowgraph.jit.kernels import compiled
from flowgraph.ops import random_values
from flowgraph.ops.random_bits import random_bits
from flowgraph.ops.random_values import random_exponential, random_integers, random_normal, random_permutation, random_uniform

KEY = np.array([3, 2**64 - 5, 7], np.uint64)
MANY = 2**20
DTYPES = ["float32", "float64"]
needs_llvm = pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed")


def bits(count, dtype="float32", stream=1, key=KEY):
    return random_bits.kernel(np, key, shape=(count,), dtype=np.dtype("int32" if dtype == "float32" else "int64"), stream=stream)


# --- however they are computed

DRAWS = {
    "uniform": lambda shape, dtype: fg.random.uniform(shape, dtype=dtype),
    "normal": lambda shape, dtype: fg.random.normal(shape, 1.0, 3.0, dtype=dtype),
    "truncated_normal": lambda shape, dtype: fg.random.truncated_normal(shape, limit=1.5, dtype=dtype),
    "exponential": lambda shape, dtype: fg.random.exponential(shape, dtype=dtype),
    "randint": lambda shape, dtype: fg.random.randint(shape, -3, 400, "int16" if dtype == "float32" else "int64"),
    "large randint": lambda shape, dtype: fg.random.randint(shape, 3, 2**64 - 9 if dtype == "float64" else 2**32, "uint64"),
    "bernoulli": lambda shape, dtype: fg.random.bernoulli(shape, 0.25),
    "permutation": lambda shape, dtype: fg.random.permutation(shape[0]),
}


@needs_llvm
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DRAWS)
def test_draws_have_the_same_bits_compiled_or_not_on_any_number_of_threads(name, dtype):
    with fg.Graph() as graph:
        draws = [DRAWS[name](shape, dtype) for shape in ((1_200_007,), (30_001, 41), (3,))]
        draws.append(fg.scan(lambda total, _: (total + DRAWS[name]((20_003,), dtype), None), DRAWS[name]((20_003,), dtype), length=2)[0])
    results = []
    for options in ({"jit": False}, {"threads": 2, "jit": False}, {}, {"threads": 2}, {"passes": ("algebra", "common")}):
        chosen: dict[str, Any] = {"threads": 1, **options}
        with fg.Session(graph, seed=2**64 - 1, **chosen) as session:
            results.append([array.tobytes() for _ in range(2) for array in session.run(draws)])
            units = [unit for unit in session.plan(draws, {}).units if unit.node.op is random_bits and unit.node.inputs]
            assert name == "permutation" or sum(unit.mode == "part" for unit in units) >= 4  # (slices of both large ones)
    assert all(result == results[0] for result in results)


@needs_llvm
@pytest.mark.parametrize("rows", [3, 20_000])
def test_draws_are_a_part_of_calls_of_machine_code(rows):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (rows, 100))
        y = fg.sum(fg.nn.dropout(x, 0.5) @ np.ones((100, 20), np.float32) + fg.random.normal((rows, 20)))
    results = []
    for jit in (True, False):
        with fg.Session(graph, threads=2, jit=jit) as session:
            function = session.function([x], y)
            results.append([function(np.ones((rows, 100), np.float32)) for _ in range(3)])
            title = re.search(r"# \d+ kernels as one call of machine code.*((?:\n *#.*)*)", function.source())
            assert (title is not None and "random_bits(" in title[1]) == jit
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-5)


@needs_llvm
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_part_of_random_bits_may_begin_and_end_anywhere(dtype):
    attrs = {"shape": (70,), "dtype": np.dtype(dtype), "stream": 2**32 + 1}
    whole = random_bits.kernel(np, KEY, **attrs)
    by_generator = np.random.Philox(key=KEY[:2], counter=np.array([0, 0, KEY[2], 2**32 + 1], np.uint64)).random_raw(70)
    assert (by_generator.view(dtype)[:70] == whole).all()
    described = random_bits.compiled(KEY, **attrs)
    assert isinstance(described, lazy.draws.Bits)
    kernel = compiled(described)
    for first in range(20):
        for count in range(40):
            out, other = np.full(count + 2, 77, dtype), np.full(count + 2, 77, dtype)
            random_bits.kernel(np, KEY, **attrs, first=first, out=out[1:-1])
            kernel(KEY, described.place(first, count), other[1:-1])
            expected = np.concatenate([np.full(1, 77, dtype), whole[first : first + count], np.full(1, 77, dtype)])
            assert (out == expected).all() and (other == expected).all()


@needs_llvm
def test_uniform_draws_are_those_of_numpys_generator():
    generator = np.random.Generator(np.random.Philox(key=KEY[:2], counter=np.array([0, 0, KEY[2], 1], np.uint64)))
    state = generator.bit_generator.state
    for dtype in DTYPES:
        generator.bit_generator.state = state
        assert (random_uniform.kernel(np, bits(1001, dtype)) == generator.random(1001, np.dtype(dtype))).all()


# --- right to the last digits

# The word; the normal draw, the one with limit 2 and the exponential one that it makes, by mpmath with 40 digits.
REFERENCES = {
    "float32": [
        (0, 2.9180993729166227e-10, 2.7853250813731183e-10, 2.3283064368097468e-10),
        (-2, 6.3379577545537893, 1.9999999979419077, 22.18070977791825),
        (733537703, -0.21571495344656967, -0.20575673681070788, 0.18728190564856582),
        (1309977581, -0.39208274465442122, -0.37336770769246821, 0.36384763969434832),
        (-2050188812, 0.71057638605492394, 0.67271654477433442, 0.73951204913590681),
        (-133780033, -2.1551756555023283, -1.7790527831998689, 3.4690023135901009),
        (65822782, 0.019208923407741081, 0.018334812044469477, 0.015444211157081031),
        (-67108864, 2.4175590216594728, 1.8777576801431379, 4.1588830982608332),
        (-4194304, 3.2971934126515666, 1.9914413023922297, 6.9314720440180606),
        (-65536, 4.3249224045940036, 1.9998651411074316, 11.090370147864604),
        (-256, 5.420682836314054, 1.9999994751867318, 16.639446232759824),
    ],
    "float64": [
        (0, 1.3914582123358835e-16, 1.3281464964738456e-16, 1.1102230246251566e-16),
        (-2, 8.2923610758135955, 1.999999999999999, 36.736800569677101),
        (5626310876064179623, -0.3920827451809278, -0.37336770819143183, 0.36384764025407896),
        (282706702330408383, -0.019208923544581871, -0.018334812175081831, 0.015444211267943066),
        (-3951267122455837579, -1.2421028425833816, -1.1504640566656395, 1.5408515639777682),
        (-8228526172304961300, 0.76198442887627996, 0.72040886930122905, 0.80728096320576422),
        (-2151464407179853170, 1.56907218883127, 1.4158322105351403, 2.1487391520422623),
        (-288230376151711744, 2.4175590162365076, 1.8777576785193429, 4.158883083359679),
        (-18014398509481984, 3.2971933456919953, 1.9914413003689936, 6.9314718055995668),
        (-281474976710656, 4.3249190408276502, 1.9998651390498953, 11.090354888966401),
        (-1099511627776, 5.4199831752498607, 1.9999994731286426, 16.635532335301333),
    ],
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_right_to_a_few_units_in_the_last_place(dtype):
    words, *expected = [np.array(column) for column in zip(*REFERENCES[dtype], strict=True)]
    words = words.astype("int32" if dtype == "float32" else "int64")
    made = [random_normal.kernel(np, words), random_normal.kernel(np, words, limit=2.0), random_exponential.kernel(np, words)]
    for draws, reference, bound in zip(made, expected, (6, 6, 3), strict=True):
        assert draws.dtype == dtype
        assert (np.abs(draws.astype(float) - reference) <= bound * np.spacing(np.abs(reference).astype(dtype))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_draws_are_symmetric_and_their_tails_end_where_the_bits_do(dtype):
    words = np.concatenate([bits(5000, dtype), np.array([0, 2, -1, -2, -4], bits(0, dtype).dtype)])
    for attrs in ({}, {"limit": 2.0}):
        assert (random_normal.kernel(np, words, **attrs) == -random_normal.kernel(np, words ^ 1, **attrs)).all()
    draws = random_normal.kernel(np, words)
    most = 6.3379577545537893 if dtype == "float32" else 8.2923610758135955
    assert draws.max() == pytest.approx(most, rel=4 * float(np.finfo(dtype).eps))
    assert (draws != 0).all()
    waits = random_exponential.kernel(np, words)
    assert waits.min() > 0 and waits.max() < 40


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [0.1, 0.7, 2.0, 5.0, 100.0])
def test_truncated_draws_are_nearer_than_their_limit(limit, dtype):
    words = np.concatenate([bits(100_000, dtype), np.array([-1, -2, -3, -4, 0, 1], bits(0, dtype).dtype)])
    draws = random_normal.kernel(np, words, limit=limit)
    assert np.abs(draws).max() < limit
    assert np.abs(draws).max() > min(0.999 * limit, 6)
    within = math.erf(limit / math.sqrt(2))
    assert distance(draws[:100_000], lambda x: 0.5 + math.erf(x / math.sqrt(2)) / within / 2) < 1.95


def test_whole_numbers_are_the_parts_of_a_random_fraction():
    word, more = bits(3000, "float64"), bits(3000, "float64", stream=2)
    for low, high, dtype in ((-3, 4, "int8"), (0, 2**32, "uint32"), (-7, 2**32, "int64"), (-(2**63), 2**63, "int64"), (5, 2**64, "uint64")):
        draws = random_integers.kernel(np, word, more, low=low, high=high, dtype=np.dtype(dtype))
        fractions = [((a % 2**64) << 64) + b % 2**64 for a, b in zip(word.tolist(), more.tolist(), strict=True)]
        if high - low <= 2**32:
            fractions = [fraction >> 64 << 64 for fraction in fractions]
        assert draws.dtype == dtype
        assert draws.tolist() == [low + (fraction * (high - low) >> 128) for fraction in fractions]


def test_a_permutation_is_the_order_of_its_random_words(monkeypatch):
    words = random_bits.kernel(np, KEY, shape=(3, 1000), dtype=np.dtype("int64"), stream=4)
    orders = random_permutation.kernel(np, words)
    assert (orders == np.argsort(words.view("uint64"), axis=-1, kind="stable")).all()
    monkeypatch.setattr(random_values, "MOST_PACKED", 10)
    assert (random_permutation.kernel(np, words) == orders).all()


# --- random as far as can be told


def distance(draws, distribution):
    """Kolmogorov's statistic, above 1.95 once in a thousand."""
    draws = np.sort(draws.astype(float))
    expected = np.array([distribution(x) for x in draws])
    place = np.arange(len(draws) + 1) / len(draws)
    return math.sqrt(len(draws)) * max(np.abs(expected - place[:-1]).max(), np.abs(expected - place[1:]).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_draws_have_their_moments_tails_and_distribution(dtype):
    draws = random_normal.kernel(np, bits(MANY, dtype)).astype(float)
    assert np.isfinite(draws).all()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        deviation = math.sqrt((math.prod(range(2 * power - 1, 0, -2)) - moment**2) / MANY)
        assert abs((draws**power).mean() - moment) < 3.3 * deviation
    for sigmas in (1, 2, 3, 4):
        for side in (draws, -draws):
            expected = MANY * math.erfc(sigmas / math.sqrt(2)) / 2
            assert abs((side > sigmas).sum() - expected) < 3.5 * math.sqrt(expected)
    far = sum((np.abs(random_normal.kernel(np, bits(MANY, dtype, stream))) > 5).sum() for stream in range(8))
    assert 0 < far < 14  # 4.8 are expected
    assert distance(draws[:200_000], lambda x: math.erfc(-x / math.sqrt(2)) / 2) < 1.95


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_of_other_distributions_have_their_moments_and_distribution(dtype):
    waits, fractions = [op.kernel(np, bits(MANY, dtype)).astype(float) for op in (random_exponential, random_uniform)]
    for power in (1, 2, 3):
        assert abs((waits**power).mean() - math.factorial(power)) < 3.3 * math.sqrt(math.factorial(2 * power) / MANY)
        assert abs((fractions**power).mean() - 1 / (power + 1)) < 3.3 * math.sqrt(1 / (2 * power + 1) / MANY)
    for time in (3, 6, 9, 12):
        expected = MANY * math.exp(-time)
        assert abs((waits > time).sum() - expected) < 3.5 * math.sqrt(expected)
    assert distance(waits[:200_000], lambda x: -math.expm1(-x)) < 1.95
    assert distance(fractions[:200_000], lambda x: x) < 1.95


def test_neighbours_streams_runs_and_turns_have_nothing_to_do_with_each_other():
    draws = random_normal.kernel(np, bits(MANY)).astype(float)
    others = [draws[lag:] for lag in (1, 2, 3, 4, 7, 8, 16, 1024)]
    others += [random_normal.kernel(np, bits(MANY, stream=2)).astype(float)]
    others += [random_normal.kernel(np, bits(MANY, key=KEY + np.array(step, np.uint64))).astype(float) for step in np.eye(3, dtype=int)]
    for other in others:
        for power in (1, 2):
            a, b = draws[: len(other)] ** power, other**power
            assert abs(np.corrcoef(a, b)[0, 1]) < 3.5 / math.sqrt(len(other))


def unevenness(counts, expected):
    """The chi-square statistic, as deviations from its mean."""
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def test_whole_numbers_and_orders_are_drawn_alike():
    for count in (2, 7, 100, 1000):
        draws = random_integers.kernel(np, bits(MANY // 4, "float64"), low=0, high=count, dtype=np.dtype("int64"))
        assert abs(unevenness(np.bincount(draws, minlength=count), MANY / 4 / count)) < 3.5
    words = bits(2**19, "float64").reshape(-1, 4)
    orders = random_permutation.kernel(np, words)
    assert abs(unevenness(np.bincount(orders @ [64, 16, 4, 1])[np.unique(orders @ [64, 16, 4, 1])], len(words) / 24)) < 3.5
    long = random_permutation.kernel(np, bits(2**16, "float64"))
    assert abs((np.diff(long) > 0).sum() - 2**15) < 3.5 * math.sqrt(2**16 / 12)  # rises
    assert abs((long == np.arange(2**16)).sum() - 1) < 5  # what stays in place
