"""Input: MNIST and scikit-learn's data sets, and batches that are shuffled and prefetched in the background.

What is here works on plain NumPy arrays and knows nothing of graphs or sessions.
"""

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
