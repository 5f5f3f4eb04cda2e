"""First values of variables: a shape, a dtype and a distribution, drawn by the session from its seed."""

from .ops.init import (
    Constant,
    Identity,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    identity,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    uniform,
    zeros,
)

__all__ = [
    # values
    "zeros", "ones", "constant", "identity",
    # draws
    "normal", "truncated_normal", "uniform", "orthogonal",
    # draws as wide as the weights' shape asks for
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform",
    # what these give
    "Constant", "Identity", "Normal", "TruncatedNormal", "Uniform", "Orthogonal",
]  # fmt: skip
