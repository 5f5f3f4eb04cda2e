"""Picking elements by position along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Tensor
from ..graph.op import public
from ..graph.spec import normalize_axis
from .elementwise import astype, equal
from .indexing import FULL, gather, pick


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements of ``x`` at integer ``indices`` along ``axis`` (None: of the flattened tensor); repeated indices are allowed.

    indices  integer tensor of any shape, which takes the place of the axis; negative ones count from the end
    raises   DtypeError when they are no integers; a run raises ExecutionError for one out of range

    >>> session.run(fg.take([10, 20, 30], [2, 0, 0]))
    array([30, 10, 10])
    """
    x, indices = gather.lift((x, indices))
    if axis is None:
        x, axis = x.reshape(-1), 0
    return pick(x, (indices,), (*(FULL,) * normalize_axis(axis, x.ndim), "i"))


def one_hot(x: Any, num_classes: int, dtype: Any = "float32") -> Tensor:
    """1 at the position that ``x`` names along a new last axis of size ``num_classes``, else 0; classes out of range give zeros.

    >>> session.run(fg.nn.one_hot([2, 0], 3))
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    (x,) = gather.lift((x,))
    return astype(equal(x[(..., None)], np.arange(num_classes, dtype=x.dtype)), dtype)


public(take)
