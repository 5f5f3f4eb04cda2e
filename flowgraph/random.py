"""Random draws as nodes: their values depend only on the session's seed, the node and the number of the run."""

from .ops.candidates import Candidates, log_uniform_candidates
from .ops.random import bernoulli, categorical, exponential, gamma, normal, permutation, randint, truncated_normal, uniform

__all__ = [
    "Candidates", "bernoulli", "categorical", "exponential", "gamma", "log_uniform_candidates", "normal", "permutation", "randint",
    "truncated_normal", "uniform",
]  # fmt: skip
