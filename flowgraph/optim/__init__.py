"""Optimisers: nodes that update variables against their gradients, and schedules of the learning rate."""

from .optimizers import SGD, Adam, Optimizer
from .schedules import cosine, exponential, one_cycle, step_decay

__all__ = ["SGD", "Adam", "Optimizer", "cosine", "exponential", "one_cycle", "step_decay"]
