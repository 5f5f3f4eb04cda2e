"""Learning among very many classes from a few: candidates drawn at random stand for all the classes that an example does not have.

`log_uniform_candidates` draws them, `sampled_softmax_cross_entropy` and `noise_contrastive_loss` learn from them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Spec, Tensor
from ..graph.context import current
from ..graph.op import Batch, op
from ..graph.spec import format_shape
from .elementwise import add, astype, equal, expm1, largest_finite, log, log1p, where
from .gather import take
from .join import concat
from .losses import sigmoid_cross_entropy, softmax_cross_entropy
from .matmul import matmul, transposed
from .random_bits import Draw, generator_of, run_key_of, stream_of
from .reduce import sum
from .shape import ones_like, repeat_like, zeros_like


class LogUniformCandidates(Draw):
    """``count`` classes below ``classes``, class k with probability ``log((k + 2) / (k + 1)) / log(classes + 1)``; and how many were drawn.

    Where they are ``unique``, a class that was drawn already is drawn again, and those draws count as well.
    """

    def infer(self, key: Any, *target: Any, shape: Any, **parameters: Any) -> Any:
        return [Spec(shape, np.dtype("int64")), Spec(shape[:-1], np.dtype("int64"))]

    def kernel(self, xp: Any, key: Any, *target: Any, shape: Any, stream: int, **parameters: Any) -> Any:
        generator = generator_of(key, stream)
        chosen, draws = np.empty(shape, "int64"), np.empty(shape[:-1], "int64")
        for entry in np.ndindex(*shape[:-1]):
            chosen[entry], draws[entry] = _drawn(generator, shape[-1], parameters["classes"], parameters["unique"])
        return xp.asarray(chosen), xp.asarray(draws)

    def vmap(self, batch: Batch, key: Tensor, *target: Tensor, shape: Any, **attrs: Any) -> Any:
        if not isinstance(batch.size, int):  # each batch of unknown size shares one set, as the entries of a known one could
            return tuple(repeat_like(made, batch.like) for made in self.node((key,), {"shape": shape, **attrs}, None).outputs)
        return tuple(self.node((key,), {"shape": (batch.size, *shape), **attrs}, None).outputs)


def _drawn(generator: np.random.Generator, count: int, classes: int, unique: bool) -> tuple[np.ndarray[Any, Any], int]:
    """``count`` classes, and the number of draws that it took."""
    width = math.log(classes + 1)

    def some(number: int) -> np.ndarray[Any, Any]:
        drawn = np.exp(generator.random(number) * width).astype("int64") - 1
        return np.asarray(np.minimum(drawn, classes - 1))

    if not unique:
        return some(count), count
    # In rounds, and of each round the first draw of each class, in the order of the draws: as one by one, but faster.
    drawn = np.empty(0, "int64")
    while True:
        drawn = np.concatenate([drawn, some(max(count, len(drawn)))])
        firsts = np.sort(np.unique(drawn, return_index=True)[1])
        if len(firsts) >= count:
            return drawn[firsts[:count]], int(firsts[count - 1]) + 1


log_uniform = op(LogUniformCandidates)


class Candidates:
    """Classes drawn at random in each run.

    ids      int64 tensor (count,)
    classes  number of classes that there are
    """

    def __init__(self, ids: Tensor, draws: Tensor, classes: int, unique: bool) -> None:
        self.ids, self.classes = ids, classes
        self._draws, self._unique = draws, unique

    def expected(self, ids: Any, dtype: Any = "float32") -> Tensor:
        """How often each of ``ids`` can be expected among the candidates."""
        (k,) = add.lift((ids,))
        k = astype(k, dtype)
        probability = log1p(1 / (k + 1)) / math.log(self.classes + 1)
        draws = astype(self._draws, dtype)
        # Of a class that counts once however often it is drawn: the probability that it is drawn at all.
        return -expm1(draws * log1p(-probability)) if self._unique else probability * draws

    def __repr__(self) -> str:
        return f"<Candidates {self.ids!r} of {self.classes}>"


def log_uniform_candidates(count: int, classes: int, unique: bool = True) -> Candidates:
    """New candidates in every run, classes of small numbers more often than those of large ones, as Zipf's law has it for words.

    count    how many
    classes  number of classes, which are numbered from the most to the least frequent
    unique   whether each is another class
    returns  their ``ids``, a tensor (count,), and ``expected(ids)``, how often each of any ids can be expected among them
    raises   ArgumentError for more unique candidates than there are classes

    >>> words = fg.random.log_uniform_candidates(3, classes=3)
    >>> np.sort(session.run(words.ids))
    array([0, 1, 2])
    """
    for label, value in (("count", count), ("classes", classes)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ArgumentError(f"log_uniform_candidates: {label} must be a positive int, got {value!r:.80}")
    if unique and count > classes:
        raise ArgumentError(f"log_uniform_candidates: {count} unique candidates of {classes} classes")
    graph = current().graph
    attrs = {
        "shape": (int(count),),
        "dtype": np.dtype("int64"),
        "stream": stream_of(graph),
        "classes": int(classes),
        "unique": bool(unique),
    }
    ids, draws = log_uniform.node((run_key_of(graph),), attrs, None).outputs
    return Candidates(ids, draws, int(classes), bool(unique))


def sampled_softmax_cross_entropy(weights: Any, biases: Any, x: Any, labels: Any, candidates: Candidates) -> Tensor:
    """Estimate of the softmax's cross-entropy over all classes, from each example's own class and the candidates.

    weights     (classes, size): what each class is multiplied by
    biases      (classes,), or None
    x           float tensor (batch, size)
    labels      integers (batch,): the class of each example. A candidate that is it does not count
    candidates  see ``fg.random.log_uniform_candidates``
    returns     one loss for each example. To evaluate, take ``softmax_cross_entropy(x @ transposed weights + biases, labels)``
    raises      ShapeError where the shapes do not fit

    >>> words = fg.random.log_uniform_candidates(2, classes=4)
    >>> session.run(fg.nn.sampled_softmax_cross_entropy(np.ones((4, 3)), None, np.ones((5, 3)), np.zeros(5, int), words)).shape
    (5,)
    """
    true, others, labels = _scores("sampled_softmax_cross_entropy", weights, biases, x, labels, candidates)
    others = where(equal(labels[:, None], candidates.ids), -largest_finite(others.dtype), others)
    both = concat([true, others], axis=1)
    return softmax_cross_entropy(both, zeros_like(labels))


def noise_contrastive_loss(weights: Any, biases: Any, x: Any, labels: Any, candidates: Candidates) -> Tensor:
    """How badly each example's own class is told from candidates drawn at random (Gutmann and Hyvarinen 2010; word2vec's loss).

    Arguments as for ``sampled_softmax_cross_entropy``.

    >>> words = fg.random.log_uniform_candidates(2, classes=4)
    >>> session.run(fg.nn.noise_contrastive_loss(np.ones((4, 3)), None, np.ones((5, 3)), np.zeros(5, int), words)).shape
    (5,)
    """
    true, others, _ = _scores("noise_contrastive_loss", weights, biases, x, labels, candidates)
    found = sigmoid_cross_entropy(true, ones_like(true))
    return sum(found, axis=1) + sum(sigmoid_cross_entropy(others, zeros_like(others)), axis=1)


def _scores(name: str, weights: Any, biases: Any, x: Any, labels: Any, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of each example's own class (batch, 1) and of the candidates (batch, count), less the logarithm of their expected counts."""
    weights, x, labels = matmul.lift((weights, x, labels))
    if not isinstance(candidates, Candidates):
        help = "fg.random.log_uniform_candidates(count, classes)"
        raise ArgumentError(f"{name}: candidates are drawn first, got {candidates!r:.60}", help=help)
    if weights.ndim != 2 or x.ndim != 2 or labels.ndim != 1:
        raise ShapeError(
            f"{name}: weights are (classes, size), x (batch, size) and labels (batch,), got {format_shape(weights.shape)}, "
            f"{format_shape(x.shape)} and {format_shape(labels.shape)}"
        )
    if isinstance(weights.shape[0], int) and weights.shape[0] != candidates.classes:
        raise ShapeError(f"{name}: weights of {weights.shape[0]} classes, but candidates of {candidates.classes}")
    true = sum(x * take(weights, labels, axis=0), axis=1)
    others = matmul(x, transposed(take(weights, candidates.ids, axis=0)))
    if biases is not None:
        true, others = true + take(biases, labels), others + take(biases, candidates.ids)
    true = true - log(candidates.expected(labels, true.dtype))
    return true[:, None], others - log(candidates.expected(candidates.ids, others.dtype)), labels
