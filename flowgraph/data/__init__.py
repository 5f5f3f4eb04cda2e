"""Input: MNIST and scikit-learn's data sets, and batches that are shuffled and prefetched in the background.

What is here works on plain NumPy arrays and knows nothing of graphs or sessions.
"""

from typing import TYPE_CHECKING

from ..graph.names import tells_near
from .batches import Batches, batches
from .bundled import DataSet, load
from .images import random_shift, standardize
from .mnist import Mnist, mnist
from .rows import split

__all__ = [
    "mnist", "Mnist", "load", "DataSet",
    "batches", "Batches", "split",
    "standardize", "random_shift",
]  # fmt: skip

if not TYPE_CHECKING:  # else any name would do for whoever checks types
    __getattr__ = tells_near(__name__, __all__)
