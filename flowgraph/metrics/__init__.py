"""How good predictions are: functions in the graph, and totals that grow from batch to batch.

A metric is a function of tensors, like a loss. What is to be known of a whole data set is added up over its batches: a ``Mean`` of
accuracies, or a ``Total`` of confusion matrices, from which precision and recall follow.
"""

from typing import TYPE_CHECKING

from ..graph.names import tells_near
from .classification import accuracy, auc, confusion_matrix, f1, perplexity, precision, recall
from .regression import r2
from .totals import Mean, Total

__all__ = [
    # classes
    "accuracy", "confusion_matrix", "precision", "recall", "f1", "auc", "perplexity",
    # numbers
    "r2",
    # over many batches
    "Mean", "Total",
]  # fmt: skip

if not TYPE_CHECKING:  # else any name would do for whoever checks types
    __getattr__ = tells_near(__name__, __all__)
