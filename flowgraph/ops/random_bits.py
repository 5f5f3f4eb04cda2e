"""Random bits, and the keys that they follow from: all draws are made of these. They depend on the session's seed, the node, the run's
number and the turn of a loop, and on an element's own place: never on threads, order or device.

The state is an ordinary tensor: ``run_key``, one for a graph, is fed by the session with (seed, run number) at the start of each run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Op, Spec, Tensor, Work, no_gradient, op
from ..graph.context import entered
from ..graph.op import Batch, Slicing, by_loop
from ..jit import lazy
from . import random_device
from .batching import full
from .shape import broadcast_to, repeat_like

BLOCK_BYTES = 32  # Philox makes four words of 64 bits at once
# An odd multiplier (the golden ratio's) keeps the turns of nested loops apart.
GOLDEN = 0x9E3779B97F4A7C15


class RunKey(Op):
    """The seed of the session, the number of the run, and 0, as three uint64. Its value comes from the session."""

    is_stateful = True
    vjp = no_gradient("a seed is not differentiable")

    def infer(self) -> Spec:
        return Spec((3,), np.dtype("uint64"))


class FoldKey(Op):
    """The run key of one turn of a loop: ``key`` with the turn's number mixed into its last entry."""

    vjp = no_gradient("a seed is not differentiable")
    vmap = by_loop("a key is no number to compute with")

    def infer(self, key: Any, turn: Any) -> Spec:
        return Spec((3,), np.dtype("uint64"))

    def kernel(self, xp: Any, key: Any, turn: Any) -> Any:
        made = key.copy()
        made[2:] *= np.uint64(GOLDEN)  # which wraps around
        made[2:] += (turn + 1).astype("uint64")
        return made


class Draw(Op):
    """Base: ``stream`` tells the draws of one graph apart; ``target`` gives the shape where it is not known when building."""

    is_stateful = True
    shape_inputs: tuple[int, ...] = (1,)
    vjp = no_gradient("a random draw does not depend on its seed smoothly")

    def infer(self, key: Any, *target: Any, shape: Any, dtype: Any, stream: int, **parameters: Any) -> Any:
        return Spec(target[0].shape if target else shape, dtype)

    def vmap(self, batch: Batch, key: Tensor, *target: Tensor, shape: Any, **attrs: Any) -> Tensor:
        # Each entry gets values of its own: one larger draw.
        if target:
            return self(key, full(batch, target[0], 1), shape=None, **attrs)
        if isinstance(batch.size, int):
            return self(key, shape=(batch.size, *shape), **attrs)
        return self(key, repeat_like(broadcast_to(np.zeros((), bool), shape), batch.like), shape=None, **attrs)


class RandomBits(Draw):
    """Random bits, as int32 or int64: those of Philox4x64-10 (Salmon et al. 2011), four words of 64 bits for a block."""

    calls = 40  # to make NumPy's generator takes 20 us, where the compiled kernel takes 1

    def kernel(self, xp: Any, key: Any, *target: Any, shape: Any, dtype: Any, stream: int, out: Any = None, first: int = 0) -> Any:
        """``first`` is the place of the first element, for a kernel that makes a part of them, into ``out``."""
        if out is not None:
            shape = out.shape
        elif target:
            shape = tuple(target[0].shape)
        if xp is not np:
            made = random_device.bits(xp, key, stream, shape, np.dtype(dtype))
        else:
            made = _words(key, stream, first, math.prod(shape), np.dtype(dtype)).reshape(shape)
        if out is None:
            return made
        out[...] = made
        return out

    def compiled(self, key: Any, *target: Any, shape: Any, dtype: Any, stream: int) -> Any:
        # 0.9 ns for 32 bits, where NumPy's generator, which hands out one word after the other, takes 1.1.
        return lazy.draws.Bits(dtype, stream)

    def work(self, key: Any, *target: Any, **attrs: Any) -> Work:
        drawn = self.infer(key, *target, **attrs)
        nbytes = drawn.dtype.itemsize * math.prod(drawn.shape)
        return Work(flops=25.0 * nbytes, bytes=nbytes)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return Slicing((False,) * len(inputs), out.shape[0], is_placed=True) if out.shape else None


def _words(key: Any, stream: int, first: int, count: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    each = BLOCK_BYTES // dtype.itemsize
    block, skipped = divmod(first, each)
    words = philox(key, stream, block).random_raw(-(-(skipped + count) * dtype.itemsize // 8))
    return words.view(dtype)[skipped : skipped + count]


def philox(key: Any, stream: int, block: int = 0) -> np.random.Philox:
    """NumPy's generator of one draw in one run, and in one turn of a loop, in front of a block."""
    seed, run, fold = [int(part) for part in (key if isinstance(key, np.ndarray) else key.get())]
    return np.random.Philox(key=np.array([seed, run], np.uint64), counter=np.array([block, 0, fold, stream], np.uint64))


def generator_of(key: Any, stream: int) -> np.random.Generator:
    """The same for draws that only the host makes."""
    return np.random.Generator(philox(key, stream))


_run_key = op(RunKey)
fold_key = op(FoldKey)
random_bits = op(RandomBits)


def run_key_of(graph: Any) -> Tensor:
    """The key of the draws in ``graph``: one for a graph; in a loop's body, one for each turn."""
    with graph._lock:
        if "run_key" not in graph.memo:
            with entered(graph.root):
                if not graph.is_sub:
                    graph.memo["run_key"] = _run_key()
                else:
                    key, turn = graph.capture(run_key_of(graph.parent)), graph.memo.get("turn")
                    graph.memo["run_key"] = key if turn is None else fold_key(key, turn)
        return graph.memo["run_key"]  # type: ignore[no-any-return]


def stream_of(graph: Any) -> int:
    """A number that no other draw of the graph has, nor one of a sub-graph."""
    if not graph.is_sub:
        return len(graph)
    base = graph.base
    with base._lock:
        base.memo["inner_draws"] = base.memo.get("inner_draws", 0) + 1
        return 2**32 + base.memo["inner_draws"]  # type: ignore[no-any-return]
