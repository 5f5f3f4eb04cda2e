"""Draws: what they depend on, and how they are distributed. Seeds are fixed, so each of these numbers is the same in every run."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.vmap import vmap

stats = pytest.importorskip("scipy.stats")
COUNT = 20_000


def drawn(build, runs=1, seed=7):
    with fg.Graph() as graph:
        y = build()
    with fg.Session(graph, threads=1, seed=seed) as session:
        values = [session.run(y) for _ in range(runs)]
    return values if runs > 1 else values[0]


DRAWS = {
    "uniform": (lambda shape: fg.random.uniform(shape, -1, 3), stats.uniform(-1, 4)),
    "normal": (lambda shape: fg.random.normal(shape, 1, 2), stats.norm(1, 2)),
    "truncated_normal": (lambda shape: fg.random.truncated_normal(shape, 1, 2, limit=1.5), stats.truncnorm(-1.5, 1.5, 1, 2)),
    "exponential": (lambda shape: fg.random.exponential(shape, 3), stats.expon(0, 3)),
    "gamma": (lambda shape: fg.random.gamma(shape, 2.5, 3), stats.gamma(2.5, 0, 3)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_have_their_distribution(name):
    build, distribution = DRAWS[name]
    values = drawn(lambda: build((COUNT,)))
    assert values.dtype == np.float32
    assert stats.kstest(values.astype(float), distribution.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_depends_on_seed_node_and_run_alone(name):
    build, _ = DRAWS[name]

    def two():
        return [build((5,)), build((5,))]

    (first, other), (second, _) = drawn(two, runs=2)
    again = drawn(two, runs=2)[0][0]
    np.testing.assert_array_equal(first, again)
    for different in (other, second, drawn(two, seed=8)[0]):
        assert (first != different).all()


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("batch", [3, None])
def test_each_entry_of_a_batch_gets_draws_of_its_own(name, batch):
    build, distribution = DRAWS[name]
    with fg.Graph() as graph:
        x = fg.placeholder("x", (batch, 4000), "float32")
        given = vmap(lambda row: row * 0 + build((4000,)))(x)
        taken = vmap(lambda row: build(row))(x)
    with fg.Session(graph, threads=1, seed=1) as session:
        for values in session.run([given, taken], {x: np.zeros((3, 4000), np.float32)}):
            assert values.shape == (3, 4000)
            assert (values[0] != values[1]).mean() > 0.99
            for row in values:
                assert stats.kstest(row.astype(float), distribution.cdf).pvalue > 0.005


@pytest.mark.parametrize("build", [
    lambda outer: fg.random.gamma((50,), outer),
    lambda outer: fg.random.categorical(fg.zeros_like(outer) + np.zeros((50, 9))),
    lambda outer: fg.random.permutation(50),
    lambda outer: fg.random.randint((50,), 0, 99),
    lambda outer: fg.random.truncated_normal((50,), outer),
    lambda outer: fg.random.log_uniform_candidates(50, 1000).ids,
], ids=["gamma", "categorical", "permutation", "randint", "truncated_normal", "candidates"])  # fmt: skip
def test_each_turn_of_a_loop_draws_anew(build):
    def loop():
        outer = fg.constant(3.0)
        return fg.map(lambda _: build(outer), np.zeros(3))

    turns = drawn(loop)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (turns[one] != turns[other]).any()
    np.testing.assert_array_equal(turns, drawn(loop))


def test_draws_take_the_shape_of_a_tensor_that_only_a_run_knows():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 2))
        made = [build(x) for build, _ in DRAWS.values()] + [fg.random.randint(x, 0, 9), fg.random.bernoulli(x)]
    with fg.Session(graph, threads=1) as session:
        assert {value.shape for value in session.run(made, {x: np.zeros((3, 2), np.float32)})} == {(3, 2)}


def test_parameters_of_a_distribution_may_be_tensors():
    mean = np.array([0.0, 100.0], np.float32)
    values = drawn(lambda: fg.random.normal((COUNT, 2), fg.constant(mean), fg.constant(mean / 10 + 1)))
    np.testing.assert_allclose(values.mean(axis=0), mean, atol=0.2)
    np.testing.assert_allclose(values.std(axis=0), [1, 11], rtol=0.02)
    values = drawn(lambda: fg.random.gamma((COUNT, 2), np.array([0.5, 9.0])))
    np.testing.assert_allclose(values.mean(axis=0), [0.5, 9], rtol=0.02)
    np.testing.assert_allclose(values.var(axis=0), [0.5, 9], rtol=0.05)


def test_whole_numbers_are_drawn_alike_and_within_their_bounds():
    values = drawn(lambda: fg.random.randint((COUNT,), -3, 4, "int8"))
    assert values.dtype == np.int8
    numbers, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(numbers, np.arange(-3, 4))
    assert stats.chisquare(counts).pvalue > 0.01


def test_classes_are_drawn_with_the_probabilities_of_the_softmax():
    p = np.array([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.1, 0.7]])
    with np.errstate(divide="ignore"):
        logits = np.broadcast_to(np.log(p)[:, None], (2, COUNT, 4)) + 50.0
    values = drawn(lambda: fg.random.categorical(logits))
    assert values.shape == (2, COUNT)
    assert values.dtype == np.int64
    assert stats.chisquare(np.bincount(values[0]), COUNT * p[0, :3]).pvalue > 0.01
    assert stats.chisquare(np.bincount(values[1]), COUNT * p[1]).pvalue > 0.01
    assert drawn(lambda: fg.random.categorical(np.zeros((3, 5)), axis=0)).shape == (5,)


def test_each_order_of_a_permutation_is_as_likely():
    orders = drawn(lambda: vmap(lambda x: fg.random.permutation(3))(np.zeros(6000)))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01


def test_a_permutation_moves_whole_slices_along_its_axis():
    x = np.arange(12).reshape(3, 4)
    moved = drawn(lambda: fg.random.permutation(x, axis=1))
    assert (moved != x).any()
    np.testing.assert_array_equal(moved[:, np.argsort(moved[0])], x)
    with fg.Graph() as graph:
        rows = fg.placeholder("rows", (None, 2))
        shuffled = fg.random.permutation(rows)
    value = np.arange(20, dtype=np.float32).reshape(10, 2)
    with fg.Session(graph, threads=1) as session:
        result = session.run(shuffled, {rows: value})
    assert (result != value).any()
    np.testing.assert_array_equal(result[np.argsort(result[:, 0])], value)


def test_dropout_can_drop_whole_channels():
    x = np.ones((50, 40, 2, 3), np.float32)
    y = drawn(lambda: fg.nn.dropout(x, 0.25, shared=(2, 3)))
    assert (y == y[:, :, :1, :1]).all()
    np.testing.assert_array_equal(np.unique(y), np.array([0, 1 / 0.75], np.float32))
    assert abs((y[:, :, 0, 0] == 0).mean() - 0.25) < 0.03


# Candidates


def test_candidates_are_drawn_log_uniformly():
    ids = drawn(lambda: fg.random.log_uniform_candidates(COUNT, 20, unique=False).ids)
    k = np.arange(20)
    assert stats.chisquare(np.bincount(ids, minlength=20), COUNT * np.log((k + 2) / (k + 1)) / np.log(21)).pvalue > 0.01


def test_the_expected_count_of_a_class_is_the_mean_over_runs():
    for unique in (True, False):
        with fg.Graph() as graph:
            candidates = fg.random.log_uniform_candidates(5, 12, unique=unique)
            expected = candidates.expected(np.arange(12))
        with fg.Session(graph, threads=1, seed=3) as session:
            runs = [session.run((candidates.ids, expected)) for _ in range(3000)]
        if unique:
            assert all(len(set(ids)) == 5 for ids, _ in runs)
        counts = np.mean([np.bincount(ids, minlength=12) for ids, _ in runs], axis=0)
        np.testing.assert_allclose(np.mean([e for _, e in runs], axis=0), counts, atol=0.06)


def test_with_all_classes_as_candidates_the_sampled_softmax_is_the_softmax():
    rng = np.random.default_rng(0)
    weights, biases, x, labels = rng.standard_normal((6, 3)), rng.standard_normal(6), rng.standard_normal((4, 3)), np.array([0, 5, 2, 2])
    with fg.Graph() as graph:
        w, b = fg.constant(weights), fg.constant(biases)
        candidates = fg.random.log_uniform_candidates(6, 6)
        loss = fg.nn.sampled_softmax_cross_entropy(w, b, x, labels, candidates)
        # Which holds up to the corrections for how often each class is drawn; taken back here.
        shift = fg.log(candidates.expected(np.arange(6), "float64"))
        full = fg.nn.softmax_cross_entropy(fg.matmul(x, weights.T) + biases - shift, labels)
        slopes = fg.gradients(fg.sum(loss), [w, b])
    with fg.Session(graph, threads=1, seed=0) as session:
        loss, full, slopes = session.run((loss, full, slopes))
    np.testing.assert_allclose(loss, full, rtol=1e-6)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_noise_contrast_tells_the_class_of_an_example_from_candidates():
    rng = np.random.default_rng(0)
    weights, x, labels = rng.standard_normal((6, 3)), rng.standard_normal((4, 3)), np.array([0, 5, 2, 2])
    with fg.Graph() as graph:
        candidates = fg.random.log_uniform_candidates(3, 6, unique=False)
        loss = fg.nn.noise_contrastive_loss(weights, None, x, labels, candidates)
    with fg.Session(graph, threads=1, seed=0) as session:
        loss, ids = session.run((loss, candidates.ids))
    scores = x @ weights.T - np.log(3 * np.log1p(1 / (np.arange(6) + 1)) / np.log(7))
    want = np.log1p(np.exp(-scores[np.arange(4), labels])) + np.log1p(np.exp(scores[:, ids])).sum(axis=1)
    np.testing.assert_allclose(loss, want, rtol=1e-6)


# What a user reads after a mistake

MISTAKES = [
    (lambda: fg.random.uniform((2, None)), fg.ArgumentError, "the shape must be known, got (2, ?)"),
    (lambda: fg.random.normal(3, dtype="float16"), fg.ArgumentError, "normal: draws are float32 or float64, not float16"),
    (lambda: fg.random.truncated_normal(3, limit=0.0), fg.ArgumentError, "limit is 0.1 standard deviations or more"),
    (lambda: fg.random.randint(3, 5, 5), fg.ArgumentError, "randint: low and high must be ints, low below high, got 5 and 5"),
    (lambda: fg.random.randint(3, 0, 300, "uint8"), fg.ArgumentError, "randint: uint8 does not hold all from 0 to 299"),
    (lambda: fg.random.permutation(-1), fg.ArgumentError, "permutation: a number of at least 0 is expected, got -1"),
    (lambda: fg.nn.dropout(np.ones(3), 1.0), fg.ArgumentError, "dropout: the rate must be in [0, 1), got 1.0"),
    (lambda: fg.random.log_uniform_candidates(5, 4), fg.ArgumentError, "log_uniform_candidates: 5 unique candidates of 4 classes"),
    (
        lambda: fg.nn.noise_contrastive_loss(np.ones((3, 2)), None, np.ones((1, 2)), [0], fg.random.log_uniform_candidates(2, 4)),
        fg.ShapeError,
        "noise_contrastive_loss: weights of 3 classes, but candidates of 4",
    ),
]


@pytest.mark.parametrize(("build", "error", "text"), MISTAKES, ids=[text for *_, text in MISTAKES])
def test_what_cannot_be_drawn_says_why(build, error, text):
    with fg.Graph(), pytest.raises(error) as caught:
        build()
    assert text in str(caught.value)


def test_a_concentration_that_is_not_positive_is_named_in_a_run():
    with pytest.raises(fg.ExecutionError, match="a concentration is not positive"):
        drawn(lambda: fg.random.gamma((2,), 0.0))


def test_a_plan_says_that_random_bits_are_compiled():
    pytest.importorskip("llvmlite")
    with fg.Graph() as graph:
        draws = fg.random.normal((100_000,))
    for jit in (True, False):
        with fg.Session(graph, jit=jit) as session:
            notes = session.plan(draws, {}).notes
        assert any("random_bits by compiled kernels" in note for note in notes) == jit
