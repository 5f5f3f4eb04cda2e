"""Attention against its formula."""

import numpy as np
import pytest

import flowgraph as fg

attend = fg.nn.scaled_dot_product_attention


def run(build, *arrays):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
        y = build(*inputs)
    with fg.Session(graph, threads=1) as session:
        return session.run(y, dict(zip(inputs, arrays, strict=True)))


def naive(qkv, allowed=True, bias=0.0, scale=None):
    q, k, v = qkv
    scores = np.einsum("...nd,...md->...nm", q, k) * (scale or q.shape[-1] ** -0.5) + bias
    weights = np.exp(scores) * allowed
    return (weights / weights.sum(axis=-1, keepdims=True)) @ v


@pytest.fixture
def qkv():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((2, 3, 6, 2))


def test_attention_is_a_mean_of_values_weighted_by_how_well_keys_match(qkv):
    np.testing.assert_allclose(run(attend, *qkv), naive(qkv), rtol=1e-10)
    np.testing.assert_allclose(run(lambda q, k, v: attend(q, k, v, scale=2.0), *qkv), naive(qkv, scale=2.0), rtol=1e-10)


def test_a_mask_of_booleans_hides_keys_and_one_of_floats_is_added_to_the_scores(qkv):
    rng = np.random.default_rng(1)
    allowed = rng.random((2, 1, 4, 6)) < 0.6
    allowed[..., 0] = True
    np.testing.assert_allclose(run(lambda q, k, v: attend(q, k, v, mask=allowed), *qkv), naive(qkv, allowed), rtol=1e-10)
    bias = rng.standard_normal((4, 6))
    np.testing.assert_allclose(run(lambda q, k, v: attend(q, k, v, mask=bias), *qkv), naive(qkv, bias=bias), rtol=1e-10)


def test_causal_attention_looks_back_only(qkv):
    q, k, v = qkv
    np.testing.assert_allclose(run(lambda q, k, v: attend(q, k, v, causal=True), *qkv), naive(qkv, np.tri(4, 6)), rtol=1e-10)
    later = v.copy()
    later[:, :, 4:] = np.nan
    seen = run(lambda q, k, v: attend(q, k[:, :, :4], v[:, :, :4], causal=True), q, k, later)
    np.testing.assert_allclose(seen, naive(qkv, np.tri(4, 6)), rtol=1e-10)


def test_a_query_that_may_look_nowhere_gets_the_mean_and_a_finite_gradient(qkv):
    q, k, v = qkv
    nowhere = np.zeros((4, 6), bool)
    y, slope = run(lambda q, k, v: [(y := attend(q, k, v, mask=nowhere)), *fg.gradients(fg.sum(y * y), [q])], q, k, v)
    np.testing.assert_allclose(y, np.broadcast_to(v.mean(axis=2, keepdims=True), y.shape), rtol=1e-12)
    assert (slope == 0).all()


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_attention_agree_with_differences(order):
    rng = np.random.default_rng(2)
    q, k, v = rng.standard_normal((3, 2)), rng.standard_normal((4, 2)), rng.standard_normal((4, 2))
    fg.check_gradient(lambda q, k, v: attend(q, k, v, causal=True), q, k, v, order=order)


def test_lengths_need_not_be_known():
    with fg.Graph() as graph:
        q, k, v = (fg.placeholder(name, (None, None, None), "float64") for name in "qkv")
        y = attend(q, k, v, causal=True)
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 1))]
    with fg.Session(graph, threads=1) as session:
        np.testing.assert_allclose(session.run(y, dict(zip((q, k, v), values, strict=True))), naive(values, np.tri(3, 5)), rtol=1e-10)


def test_half_precision_scores_beyond_its_range_are_masked_as_others():
    q = np.full((2, 4), 8, np.float16)
    y = run(lambda q: attend(q, q, np.array([[1.0], [3.0]], np.float16), causal=True), q)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, [[1], [2]])


def test_attention_over_vectors_says_what_is_wrong():
    with fg.Graph(), pytest.raises(fg.ShapeError, match=r"scaled_dot_product_attention: q is \(\.\.\., number, size\), got \(3,\)"):
        attend(np.ones(3), np.ones((3, 3)), np.ones((3, 3)))
