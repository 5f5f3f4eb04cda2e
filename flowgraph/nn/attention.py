"""Layers of transformers: attention with several heads, and the block that repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..ops import init
from ..ops.activations import gelu
from ..ops.attention import scaled_dot_product_attention
from ..ops.elementwise import add
from ..ops.shape import expand_dims, reshape_behind, swapaxes
from .layer import Initial, Layer
from .linear import Linear
from .noise import Dropout
from .norm import LayerNorm


class MultiHeadAttention(Layer):
    """Each position of ``x`` takes what it looks for at all positions of ``memory``, by several heads side by side.

    size         of the vectors of x and of the result
    heads        how many; they share the size evenly
    memory_size  of the vectors of the memory; None: as ``size``
    weights      of the four matrices: a function of the shape, such as ``fg.init.glorot_uniform``
    bias         of the four, likewise; None for no biases
    dtype        of the variables; None: as the initialisers say, float32 by default
    raises       ArgumentError when the heads do not divide the size

    The layers ``query``, ``key``, ``value`` and ``out`` are ``Linear``.

    Vaswani et al., Attention Is All You Need (2017, arXiv:1706.03762), section 3.2.2.

    >>> attention = fg.nn.MultiHeadAttention(64, 8)
    >>> x = fg.placeholder("x", ("batch", "time", 64))
    >>> attention(x, causal=True)
    <Tensor attention/out/add: (batch, time, 64) float32>
    """

    def __init__(
        self,
        size: int,
        heads: int,
        *,
        memory_size: int | None = None,
        weights: Callable[..., Any] = init.glorot_uniform,
        bias: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "attention",
    ) -> None:
        size, self.heads = as_count(size, "size", 1), as_count(heads, "heads", 1)
        if size % self.heads:
            raise ArgumentError(f"{self.heads} heads do not divide the size {size}")
        super().__init__(name, dtype)
        memory = size if memory_size is None else as_count(memory_size, "memory_size", 1)
        options: dict[str, Any] = {"weights": weights, "bias": bias, "dtype": dtype}
        with self.scope():
            self.query = Linear(size, size, name="query", **options)
            self.key = Linear(memory, size, name="key", **options)
            self.value = Linear(memory, size, name="value", **options)
            self.out = Linear(size, size, name="out", **options)

    def apply(self, x: Any, memory: Any = None, *, mask: Any = None, causal: bool = False) -> Tensor:
        """What each position takes from the memory.

        x       (..., n, size)
        memory  (..., m, memory_size), where is looked; None: x itself
        mask    what broadcasts to (..., n, m), for all heads: booleans, true where a position may look, or floats added to the scores.
                One axis more, (..., heads, n, m), is another mask for each head
        causal  whether position i may look at positions 0 ... i only
        """
        source = x if memory is None else memory
        q, k, v = self._apart(self.query(x)), self._apart(self.key(source)), self._apart(self.value(source))
        if mask is not None:
            (mask,) = add.lift((mask,))
            mask = expand_dims(mask, -3) if 2 < mask.ndim < max(q.ndim, k.ndim) else mask
        y = swapaxes(scaled_dot_product_attention(q, k, v, mask=mask, causal=causal), -2, -3)
        size = self.out.w.shape[0]
        return self.out(reshape_behind(y, shape=(size,), keep=y.ndim - 2))

    def _apart(self, x: Tensor) -> Tensor:
        """(..., n, size) as (..., heads, n, size / heads)."""
        return swapaxes(reshape_behind(x, shape=(self.heads, -1), keep=x.ndim - 1), -2, -3)


class TransformerBlock(Layer):
    """Attention among the positions of ``x``, then a small network for each of them; each added to what it was given.

    size        of the vectors of x and of the result
    heads       of the attention
    hidden      size between the two layers of the network; None for ``4 * size``
    dropout     rate of what is added
    activation  between the two layers
    norm        makes the two normalisations of the size: ``fg.nn.LayerNorm``, ``fg.nn.RMSNorm``
    norm_first  normalise what goes into each part, which trains more easily; False: the sum behind each part, as in the paper
    dtype       of the variables; None: as the initialisers say, float32 by default

    Vaswani et al., Attention Is All You Need (2017, arXiv:1706.03762), figure 1, left; norm_first: Xiong et al., On Layer
    Normalization in the Transformer Architecture (2020, arXiv:2002.04745).

    >>> blocks = [fg.nn.TransformerBlock(64, 4) for _ in range(2)]
    >>> net = fg.nn.Sequential(fg.nn.Embedding(100, 64), *blocks, fg.nn.Linear(64, 100))
    >>> net(fg.placeholder("words", ("batch", "time"), "int32"), training=False)
    <Tensor linear/add: (batch, time, 100) float32>
    """

    def __init__(
        self,
        size: int,
        heads: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = gelu,
        norm: Callable[..., Layer] = LayerNorm,
        norm_first: bool = True,
        dtype: Any = None,
        name: str = "block",
    ) -> None:
        super().__init__(name, dtype)
        hidden = 4 * as_count(size, "size", 1) if hidden is None else as_count(hidden, "hidden", 1)
        self.activation, self.norm_first = activation, bool(norm_first)
        with self.scope():
            self.attention = MultiHeadAttention(size, heads, dtype=dtype)
            self.attention_norm = norm(size, dtype=dtype, name="attention_norm")
            self.widen = Linear(size, hidden, weights=init.glorot_uniform, dtype=dtype, name="widen")
            self.narrow = Linear(hidden, size, weights=init.glorot_uniform, dtype=dtype, name="narrow")
            self.network_norm = norm(size, dtype=dtype, name="network_norm")
            self.dropout = Dropout(dropout)

    def apply(self, x: Any, *, mask: Any = None, causal: bool = False, training: bool | Tensor | None = None) -> Tensor:
        """``x`` (..., n, size) after both parts; ``mask`` and ``causal`` as for ``MultiHeadAttention``."""

        def attend(x: Tensor) -> Tensor:
            return self.attention(x, mask=mask, causal=causal)

        def network(x: Tensor) -> Tensor:
            return self.narrow(self.activation(self.widen(x)))

        for part, norm in ((attend, self.attention_norm), (network, self.network_norm)):
            added = self.dropout(part(norm(x) if self.norm_first else x), training=training)
            x = add(x, added) if self.norm_first else norm(add(x, added))
        return x  # type: ignore[no-any-return]
