"""Dropout as a layer: noise in training, nothing else."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..graph import Tensor
from ..ops.elementwise import add, astype, multiply
from ..ops.random import dropout
from .layer import Layer, is_training


class Dropout(Layer):
    """In training, zero for each element with probability ``rate``, and ``1 / (1 - rate)`` times it otherwise; else ``x`` itself.

    rate    a number in [0, 1)
    raises  ArgumentError when a call does not say whether it is part of training, and the rate is not 0

    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, Dropout (JMLR 2014).

    >>> drop = fg.nn.Dropout(0.5)
    >>> session.run(drop(np.ones(4), training=False))
    array([1., 1., 1., 1.])
    >>> set(session.run(drop(np.ones(100), training=True)).tolist()) == {0.0, 2.0}
    True
    """

    def __init__(self, rate: float, *, name: str = "dropout") -> None:
        super().__init__(name)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ArgumentError(f"{self.name}: the rate must be in [0, 1), got {rate!r:.80}")
        self.rate = float(rate)

    def apply(self, x: Any, *, training: bool | Tensor | None) -> Tensor:
        (x,) = add.lift((x,))
        if not self.rate:
            return x  # type: ignore[no-any-return]
        now = is_training(training, self)
        if now is False:
            return x  # type: ignore[no-any-return]
        return dropout(x, self.rate if now is True else multiply(astype(now, "float32"), self.rate))
