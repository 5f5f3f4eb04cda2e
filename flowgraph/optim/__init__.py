"""Optimisers: updates of variables as nodes of the graph; and learning rates that change with the steps."""

from typing import TYPE_CHECKING

from ..graph.names import tells_near
from .average import Average
from .lbfgs import LBFGS, LBFGSReport
from .optimizer import Optimizer, global_norm, matrices
from .rules import SGD, Adadelta, Adagrad, Adam, AdamW, Lion, RMSProp
from .schedules import cosine, exponential, linear, one_cycle, piecewise, step_decay

__all__ = [
    # optimisers
    "SGD", "Adam", "AdamW", "Lion", "RMSProp", "Adagrad", "Adadelta", "Optimizer",
    # of a whole data set at once
    "LBFGS", "LBFGSReport",
    # what goes with them
    "Average", "global_norm", "matrices",
    # learning rates
    "one_cycle", "cosine", "exponential", "step_decay", "linear", "piecewise",
]  # fmt: skip

if not TYPE_CHECKING:  # else any name would do for whoever checks types
    __getattr__ = tells_near(__name__, __all__)
