"""Neural networks: activations and losses, convolution and pooling, and layers that own their weights."""

from ..ops import init as init  # `fg.init`; it stands with the ops, as optimisers and graph files need it, too
from ..ops.activations import log_softmax, relu, sigmoid, softmax
from ..ops.conv import conv1d, conv1d_transpose, conv2d, conv2d_transpose, conv3d, conv3d_transpose
from ..ops.gather import one_hot
from ..ops.losses import softmax_cross_entropy
from ..ops.pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    local_response_norm,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from ..ops.random import dropout
from .layers import Conv2d, Dense, Layer, Sequential, flatten

__all__ = [
    # layers
    "Dense", "Conv2d", "Sequential", "Layer",
    # activations
    "relu", "sigmoid", "softmax", "log_softmax",
    # losses
    "softmax_cross_entropy", "one_hot",
    # convolution and pooling
    "conv1d", "conv2d", "conv3d", "conv1d_transpose", "conv2d_transpose", "conv3d_transpose", "max_pool1d", "max_pool2d", "max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool", "adaptive_max_pool",
    # normalisation
    "local_response_norm",
    # shapes and noise
    "flatten", "dropout",
]  # fmt: skip
