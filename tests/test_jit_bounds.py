"""Between which numbers the values of loops are known to be, and what kernels for GPUs make of that."""

import numpy as np
import pytest

from flowgraph.jit.bounds import ANYWHERE, bounds
from flowgraph.jit.functions import Scalars
from flowgraph.jit.values import FLOAT32, FLOAT64, in_order
from flowgraph.ops.normal import NormalCdf


def bounds_of(build, dtype=FLOAT32):
    s = Scalars()
    made = build(s, s.load(0, dtype, is_row=False))
    return bounds(in_order([made]))[made]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda s, x: x, ANYWHERE),
        (lambda s, x: abs(x), (0.0, np.inf)),
        (lambda s, x: x * x, (0.0, np.inf)),
        (lambda s, x: s.minimum(abs(x), 40), (0.0, 40.0)),
        (lambda s, x: s.maximum(x, 2.0), (2.0, np.inf)),
        (lambda s, x: 3.0 - s.minimum(s.maximum(x, -5), 2) * 2.0, (-1.0, 13.0)),
        (lambda s, x: s.fma(s.minimum(abs(x), 4), -2.0, 1.0), (-7.0, 1.0)),
        (lambda s, x: s.where(x > 0, 1.0, s.constant(-1.0, FLOAT32)), (-1.0, 1.0)),
        (lambda s, x: s.sum(s.exp(x)), (0.0, np.inf)),
        (lambda s, x: x - s.max(x), ANYWHERE),
        (lambda s, x: s.sqrt(s.minimum(x, 16)), (0.0, 4.0)),
    ],
)
def test_bounds_follow_from_how_a_value_is_made(build, expected):
    assert bounds_of(build) == expected


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("name", ["exp", "sigmoid", "cdf", "log"])
def test_divisors_within_elementary_functions_are_known_to_be_about_one(name, dtype):
    s = Scalars()
    x = s.load(0, dtype, is_row=False)
    made = {
        "exp": lambda: 1.0 / (1.0 + s.exp(-abs(x))),
        "sigmoid": lambda: s.log1p_exp(-abs(x)),
        "cdf": lambda: NormalCdf().scalar(s, x),
        "log": lambda: s.log(x),
    }[name]()
    known = bounds(in_order([made]))
    divisors = [known[value.inputs[1]] for value in known if value.kind == "divide"]
    assert divisors
    for low, high in divisors:
        assert 1.0 <= low <= high <= 40.0
