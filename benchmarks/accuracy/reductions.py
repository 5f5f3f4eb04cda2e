"""References of the reductions, of what runs along an axis, and of the losses that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.ops.samples import Sample

from .draws import normal
from .measure import Draws, Reference

Array = Any
ROWS = [{"axis": (1,), "keepdims": False}, {"axis": (0,), "keepdims": True}, {"axis": (0, 1), "keepdims": False}]
ALONG = [{"axis": 0}, {"axis": 1}]
LONG = (40, 300)
TERMS = "sum of magnitudes"


def reduction(function: Any) -> Any:
    """``function`` with the attributes of a reduction."""
    return lambda x, *, axis, keepdims: function(x, axis=axis, keepdims=keepdims)


def of_magnitudes(function: Any) -> Any:
    """``function`` of the inputs' magnitudes: what a sum whose terms cannot cancel would be."""
    return lambda *inputs, **attrs: function(*(np.abs(x) if x.dtype.kind in "fc" else x for x in inputs), **attrs)


def total(x: Array, **attrs: Any) -> Array:
    return np.sum(x, dtype=x.dtype if x.dtype.kind in "fc" else np.int64, **attrs)


def mean(x: Array, *, axis: tuple[int, ...], **attrs: Any) -> Array:
    return np.sum(x, axis=axis, **attrs) / np.prod([x.shape[a] for a in axis]).astype(int)


def norm(x: Array, **attrs: Any) -> Array:
    return np.sqrt(np.sum(x.real * x.real + x.imag * x.imag, **attrs))


def logsumexp(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    result = top + np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True))
    return result if keepdims else np.squeeze(result, axis)


def logsumexp_scale(x: Array, **attrs: Any) -> Array:
    """The largest element or the logarithm added to it, which may cancel it."""
    value, top = logsumexp(x, **attrs), np.max(x, initial=-np.inf, **attrs)
    return np.maximum(np.abs(value), np.where(np.isfinite(top), np.abs(top), 0))


def linear_scan(a: Array, b: Array, *, axis: int) -> Array:
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    y = np.array(b)
    for t in range(1, len(y)):
        y[t] = a[t] * y[t - 1] + b[t]
    return np.moveaxis(y, 0, axis)


def distances(x: Array, axis: int) -> Array:
    """How far each element is below the largest."""
    return np.max(x, axis=axis, keepdims=True) - x


def softmax(x: Array, *, axis: int) -> Array:
    powers = np.exp(-distances(x, axis))
    return powers / np.sum(powers, axis=axis, keepdims=True)


def softmax_scale(x: Array, *, axis: int) -> Array:
    """The value, times the exponent that it comes of: it is rounded before its exponential is taken."""
    return softmax(x, axis=axis) * (1 + distances(x, axis))


def log_softmax(x: Array, *, axis: int) -> Array:
    return -distances(x, axis) - np.log(np.sum(np.exp(-distances(x, axis)), axis=axis, keepdims=True))


def log_softmax_scale(x: Array, *, axis: int) -> Array:
    """The value, or the 1 in the sum of exponentials, beside which what is small is lost."""
    return np.maximum(np.abs(log_softmax(x, axis=axis)), 1)


def cross_entropy(logits: Array, labels: Array) -> Array:
    return -np.sum(labels * log_softmax(logits, axis=-1), axis=-1)


def cross_entropy_scale(logits: Array, labels: Array) -> Array:
    return np.sum(labels * log_softmax_scale(logits, axis=-1), axis=-1)


def one_hot(labels: Array, logits: Array) -> Array:
    return (labels[..., None] == np.arange(logits.shape[-1])).astype(logits.dtype)


def sigmoid_cross_entropy(x: Array, labels: Array) -> Array:
    return np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x)))


def sigmoid_cross_entropy_scale(x: Array, labels: Array) -> Array:
    return np.maximum(x, 0) + np.abs(x * labels) + np.log1p(np.exp(-np.abs(x)))


def logits(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 5 * rng.standard_normal(shape)


def labelled(sparse: bool) -> Draws:
    def draw(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> list[Sample]:
        labels = rng.integers(0, LONG[1], LONG[:1]) if sparse else rng.dirichlet(np.ones(LONG[1]), LONG[0])
        return [Sample((logits(rng, LONG), labels))]

    return draw


REFERENCES = {
    "all": Reference(reduction(lambda x, **attrs: np.logical_and.reduce(x != 0, **attrs)), exact=True),
    "any": Reference(reduction(lambda x, **attrs: np.logical_or.reduce(x != 0, **attrs)), exact=True),
    "max": Reference(reduction(np.maximum.reduce), exact=True, draws=normal(LONG, attrs=ROWS)),
    "min": Reference(reduction(np.minimum.reduce), exact=True, draws=normal(LONG, attrs=ROWS)),
    "size": Reference(lambda x, *, axis: np.ones(x.shape, int).sum(axis=axis).flat[0], exact=True),
    "sum": Reference(reduction(total), 4.0, draws=normal(LONG, attrs=ROWS), scale=of_magnitudes(reduction(np.sum)), measure=TERMS),
    "mean": Reference(reduction(mean), 4.0, draws=normal(LONG, attrs=ROWS), scale=of_magnitudes(reduction(mean)), measure=TERMS),
    "prod": Reference(
        reduction(np.prod), 64.0, draws=normal(LONG, attrs=ROWS[:2], transform=lambda x: np.exp(0.1 * x))
    ),
    "euclidean_norm": Reference(
        reduction(norm), 8.0, draws=normal(LONG, attrs=ROWS)
    ),
    "logsumexp": Reference(
        logsumexp, 8.0, draws=normal(LONG, attrs=ROWS, transform=lambda x: 5 * x), scale=logsumexp_scale, measure="largest term",
    ),
    "cumulative_sum": Reference(
        lambda x, *, axis: np.add.accumulate(x, axis, dtype=np.int64 if x.dtype.kind in "iu" else None), 64.0,
        draws=normal(LONG, attrs=ALONG), scale=of_magnitudes(np.cumsum), measure=TERMS,
    ),
    "cumulative_prod": Reference(
        lambda x, *, axis: np.multiply.accumulate(x, axis, dtype=np.int64 if x.dtype.kind in "iu" else None), 128.0,
        draws=normal(LONG, attrs=ALONG, transform=lambda x: np.exp(0.1 * x)),
    ),
    "linear_scan": Reference(
        linear_scan, 16.0, draws=normal(LONG, LONG, attrs=ALONG, transform=lambda x: x / 2), scale=of_magnitudes(linear_scan), measure=TERMS
    ),
    "softmax": Reference(
        softmax, 8.0, draws=normal(LONG, attrs=ALONG, transform=lambda x: 5 * x), scale=softmax_scale,
        measure="value times (1 + distance from the largest logit)",
    ),
    "log_softmax": Reference(
        log_softmax, 8.0, draws=normal(LONG, attrs=ALONG, transform=lambda x: 5 * x), scale=log_softmax_scale, measure="value, at least 1",
    ),
    "sparse_cross_entropy": Reference(
        lambda x, labels: cross_entropy(x, one_hot(labels, x)), 8.0, draws=labelled(sparse=True),
        scale=lambda x, labels: cross_entropy_scale(x, one_hot(labels, x)), measure="value, at least 1",
    ),
    "cross_entropy": Reference(
        cross_entropy, 8.0, draws=labelled(sparse=False), scale=cross_entropy_scale, measure=TERMS
    ),
    "sigmoid_cross_entropy": Reference(
        sigmoid_cross_entropy, 8.0, draws=normal(LONG, LONG, transform=lambda x: 5 * x), scale=sigmoid_cross_entropy_scale, measure=TERMS
    ),
}  # fmt: skip
