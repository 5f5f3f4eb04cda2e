"""Scikit-learn's data sets, as arrays that networks take."""

import sys

import numpy as np
import pytest

from flowgraph.data import load
from flowgraph.errors import ArgumentError, MissingExtraError


@pytest.mark.parametrize(
    ("name", "shape", "classes", "y_shape"),
    [
        ("iris", (150, 4), 3, (150,)),
        ("wine", (178, 13), 3, (178,)),
        ("breast_cancer", (569, 30), 2, (569,)),
        ("digits", (1797, 64), 10, (1797,)),
        ("diabetes", (442, 10), 0, (442,)),
        ("linnerud", (20, 3), 0, (20, 3)),
    ],
)
def test_a_data_set_of_scikit_learn_has_its_rows_classes_and_names(name, shape, classes, y_shape):
    pytest.importorskip("sklearn")
    found = load(name)
    assert (found.x.shape, found.y.shape) == (shape, y_shape)
    assert found.x.dtype == np.float32
    assert len(found.features) == shape[1]
    assert len(found.classes) == classes
    assert found.y.dtype == (np.int32 if classes else np.float32)
    if classes:
        assert sorted(set(found.y.tolist())) == list(range(classes))
    assert load(name, "float64").x.dtype == np.float64
    assert name.split("_")[0] in found.about.lower()
    found.x[:] = 0
    assert load(name).x.any()
    assert repr(found) == f"DataSet({shape[0]} rows, {shape[1]} features, {classes or 'no'} classes)"


def test_an_unknown_data_set_and_a_missing_scikit_learn_are_told(monkeypatch, text_of):
    with pytest.raises(ArgumentError) as caught:
        load("boston")
    assert text_of(caught.value) == (
        "load: there is no data set 'boston'\n"
        '  at     test_bundled.py:LINE    load("boston")\n'
        "  help   there are breast_cancer, diabetes, digits, iris, linnerud, wine; fg.data.mnist() is for itself"
    )
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r'is not installed\n.*\n  help   pip install "flowgraph\[sklearn\]"'):
        load("iris")
