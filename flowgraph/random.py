"""Random draws as nodes: their values depend only on the session's seed, the node and the number of the run."""

from .ops.random import bernoulli, normal, uniform

__all__ = ["bernoulli", "normal", "uniform"]
