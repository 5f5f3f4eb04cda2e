"""Special functions, under the names that they have in `scipy.special`; on the CPU they need SciPy (the extra `special`).

Only `expit` and `ndtr` do without.
"""

from .ops.activations import sigmoid as expit
from .ops.normal import normal_cdf as ndtr
from .ops.special import (
    betaln,
    digamma,
    erf,
    erfc,
    erfinv,
    gammainc,
    gammaincc,
    gammaln,
    logit,
    polygamma,
    xlogy,
)

__all__ = [
    "betaln", "digamma", "erf", "erfc", "erfinv", "expit", "gammainc", "gammaincc", "gammaln", "logit", "ndtr", "polygamma", "xlogy",
]  # fmt: skip
