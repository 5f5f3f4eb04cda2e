"""Optimisers: updates of variables as nodes of the graph; and learning rates that change with the steps."""

from .optimizer import Optimizer, matrices
from .rules import SGD, Adam
from .schedules import cosine, exponential, one_cycle, step_decay

__all__ = [
    # optimisers
    "SGD", "Adam", "Optimizer", "matrices",
    # learning rates
    "one_cycle", "cosine", "exponential", "step_decay",
]  # fmt: skip
