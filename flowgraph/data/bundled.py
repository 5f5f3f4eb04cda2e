"""The small data sets that scikit-learn brings along: nothing is downloaded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, MissingExtraError
from ..graph.spec import as_dtype

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


class DataSet(NamedTuple):
    """What ``load`` gives: ``x`` and ``y`` belong together row by row.

    x         (rows, features), floats
    y         (rows,) int32, the number of each row's class; or floats, what is to be predicted: (rows,) or (rows, targets)
    features  names of the columns of x
    classes   names of the classes; none where y is no class
    about     where the data comes from, and what it means
    """

    x: NDArray[Any]
    y: NDArray[Any]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    about: str

    def __repr__(self) -> str:
        return f"DataSet({self.x.shape[0]} rows, {self.x.shape[1]} features, {len(self.classes) or 'no'} classes)"


def load(name: str, dtype: Any = "float32") -> DataSet:
    """A small data set to learn or test with, from scikit-learn.

    name     classes: ``"iris"``, ``"wine"``, ``"breast_cancer"``, ``"digits"`` (8x8 pixels of 0 to 16); numbers: ``"diabetes"``,
             ``"linnerud"``
    dtype    of x, and of y where it is no class
    returns  ``DataSet``, arrays of the caller's own
    raises   ArgumentError for another name; MissingExtraError without scikit-learn

    >>> iris = fg.data.load("iris")
    >>> iris.x.shape, iris.y.shape, iris.classes
    ((150, 4), (150,), ('setosa', 'versicolor', 'virginica'))
    >>> train, test = fg.data.split((iris.x, iris.y), 0.2)
    """
    if not isinstance(name, str) or name not in NAMES:
        raise ArgumentError(f"load: there is no data set {name!r}", help=f"there are {', '.join(NAMES)}; fg.data.mnist() is for itself")
    try:
        from sklearn import datasets
    except ImportError:
        raise MissingExtraError.of("scikit-learn", "sklearn") from None
    found = getattr(datasets, f"load_{name}")()
    is_class = found.target.dtype.kind in "iu"
    return DataSet(
        x=np.array(found.data, as_dtype(dtype)),
        y=np.array(found.target, np.int32 if is_class else as_dtype(dtype)),
        features=tuple(map(str, found.feature_names)),
        classes=tuple(map(str, found.target_names)) if is_class else (),
        about=found.DESCR,
    )
