"""Neural networks: activations and losses, convolution and pooling, and layers that own their weights."""

from ..ops import init as init  # `fg.init`; it stands with the ops, as optimisers and graph files need it, too
from ..ops.conv import conv2d
from ..ops.gather import one_hot
from ..ops.neural import log_softmax, relu, sigmoid, softmax, softmax_cross_entropy
from ..ops.pool import avg_pool2d, max_pool2d
from ..ops.random import dropout
from .layers import Conv2d, Dense, Layer, Sequential, flatten

__all__ = [
    # layers
    "Dense", "Conv2d", "Sequential", "Layer",
    # activations and losses
    "relu", "sigmoid", "softmax", "log_softmax", "softmax_cross_entropy", "one_hot",
    # images, shapes, noise
    "conv2d", "max_pool2d", "avg_pool2d", "flatten", "dropout",
]  # fmt: skip
