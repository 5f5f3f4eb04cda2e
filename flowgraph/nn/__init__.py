"""Neural networks: activations and losses, convolution and pooling, and layers that own their weights."""

from typing import TYPE_CHECKING

from ..graph.names import tells_near
from ..ops import init as init  # `fg.init`; it stands with the ops, as optimisers and graph files need it, too
from ..ops.activations import (
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
)
from ..ops.attention import scaled_dot_product_attention
from ..ops.candidates import noise_contrastive_loss, sampled_softmax_cross_entropy
from ..ops.conv import conv1d, conv1d_transpose, conv2d, conv2d_transpose, conv3d, conv3d_transpose
from ..ops.gather import one_hot
from ..ops.losses import (
    absolute_error,
    cosine_similarity,
    hinge,
    huber,
    kl_divergence,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
)
from ..ops.normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
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
from ..ops.resize import resize
from .attention import MultiHeadAttention, TransformerBlock
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .layer import Layer
from .linear import Embedding, Linear
from .noise import Dropout
from .norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from .recurrent import GRU, LSTM, RNN
from .sequential import Sequential, flatten

__all__ = [
    # layers
    "Linear", "Embedding", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
    "BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm", "Dropout",
    "RNN", "LSTM", "GRU", "MultiHeadAttention", "TransformerBlock", "Sequential", "Layer",
    # activations
    "relu", "relu6", "leaky_relu", "elu", "selu", "silu", "gelu", "mish", "softplus", "softsign", "sigmoid", "log_sigmoid",
    "hard_sigmoid", "hard_swish", "hard_tanh", "glu", "softmax", "log_softmax",
    # losses
    "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "absolute_error", "huber", "hinge", "kl_divergence",
    "cosine_similarity", "sampled_softmax_cross_entropy", "noise_contrastive_loss", "one_hot",
    # convolution, pooling, sizes of images
    "conv1d", "conv2d", "conv3d", "conv1d_transpose", "conv2d_transpose", "conv3d_transpose", "max_pool1d", "max_pool2d", "max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool", "adaptive_max_pool", "resize",
    # attention
    "scaled_dot_product_attention",
    # normalisation
    "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm",
    # shapes and noise
    "flatten", "dropout",
]  # fmt: skip

if not TYPE_CHECKING:  # else any name would do for whoever checks types
    __getattr__ = tells_near(__name__, __all__)
