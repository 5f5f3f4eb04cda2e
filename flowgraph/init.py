"""First values of variables: a shape, a dtype and a distribution, drawn by the session from its seed."""

from .ops.init import (
    Constant,
    Normal,
    Uniform,
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    normal,
    ones,
    uniform,
    zeros,
)

__all__ = [
    "Constant", "Normal", "Uniform", "constant", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal",
    "normal", "ones", "uniform", "zeros",
]  # fmt: skip
