"""Attention: each query takes the mean of the values, weighted by how well their keys match it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph import Op, Spec, Tensor, no_gradient, op
from ..graph.arguments import as_flag
from ..graph.op import Batch
from ..graph.spec import format_shape
from .activations import softmax
from .elementwise import add, astype, largest_finite, where
from .matmul import matmul, transposed
from .reduce import size
from .samples import Over
from .shape import repeat_like


class CausalMask(Op):
    """Whether query i may look at key j, which is j <= i: (queries, keys) of two tensors (..., queries, d) and (..., keys, d).

    Only their shapes are used.
    """

    shape_inputs = (0, 1)
    vjp = no_gradient("a mask does not depend on the values")

    def infer(self, q: Any, k: Any) -> Spec:
        return Spec((q.shape[-2], k.shape[-2]), np.dtype(bool))

    def kernel(self, xp: Any, q: Any, k: Any) -> Any:
        return xp.tri(q.shape[-2], k.shape[-2], dtype=bool)

    def vmap(self, batch: Batch, q: Tensor, k: Tensor) -> Tensor:
        return repeat_like(causal_mask(q, k), batch.like)

    samples = Over([((3, 2), (4, 2)), ((2, 5, 1), (2, 2, 1)), ((0, 2), (3, 2))])


causal_mask = op(CausalMask)


def scaled_dot_product_attention(q: Any, k: Any, v: Any, *, mask: Any = None, causal: bool = False, scale: float | None = None) -> Tensor:
    """``softmax(q @ k.T * scale) @ v`` over the last two axes: the attention of transformers (Vaswani et al. 2017).

    q        queries (..., n, d)
    k        keys (..., m, d); axes in front broadcast
    v        values (..., m, e)
    mask     what broadcasts to (..., n, m): booleans, true where a query may look, or floats that are added to the scores. A query that may
             look nowhere gets the mean of all values
    causal   whether query i may look at keys 0 ... i only
    scale    of the scores; None for ``1 / sqrt(d)``
    returns  (..., n, e)
    raises   ShapeError when sizes do not fit

    >>> q, k, v = np.zeros((2, 4)), np.zeros((2, 4)), np.array([[2.0], [4.0]])
    >>> session.run(fg.nn.scaled_dot_product_attention(q, k, v, causal=True))
    array([[2.],
           [3.]])
    """
    q, k, v = matmul.lift((q, k, v))
    for label, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim < 2:
            raise ShapeError(f"scaled_dot_product_attention: {label} is (..., number, size), got {format_shape(x.shape)}")
    factor: Any = scale
    if factor is None:
        depth = q.shape[-1]
        factor = 1 / math.sqrt(depth) if isinstance(depth, int) and depth else astype(size(q, axis=-1), q.dtype) ** -0.5
    scores = matmul(q * factor, transposed(k))
    least = -largest_finite(scores.dtype)  # and not -inf: a row of nothing else would have no softmax
    if mask is not None:
        (mask,) = add.lift((mask,))
        scores = where(mask, scores, least) if mask.dtype == bool else scores + mask
    if as_flag(causal, "causal"):
        scores = where(causal_mask(q, k), scores, least)
    return matmul(softmax(scores), v)
