"""Neural networks: activations, losses, convolution and pooling, and layers that own their variables."""

from ..ops.conv import conv2d
from ..ops.gather import one_hot
from ..ops.neural import log_softmax, relu, sigmoid, softmax, softmax_cross_entropy
from ..ops.pool import avg_pool2d, max_pool2d
from ..ops.random import dropout
from .layers import Conv2d, Dense, flatten

__all__ = [
    "Conv2d",
    "Dense",
    "avg_pool2d",
    "conv2d",
    "dropout",
    "flatten",
    "log_softmax",
    "max_pool2d",
    "one_hot",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
]
