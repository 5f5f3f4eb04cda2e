"""Inputs on which every operation is tried: hard shapes (empty, scalar, broadcast, non-contiguous) over a domain with its edges.

An op's ``samples`` is an object to iterate over; arrays are drawn only then, from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..graph.spec import as_dtype

LOW = ("float32", "float16", "bfloat16")
COMPLEX = ("complex128", "complex64")
UNARY_SHAPES = [((),), ((1,),), ((0, 3),), ((2, 3),), ((2, 1, 3),)]
BINARY_SHAPES = [
    ((), ()),
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((), (2, 3)),
    ((0, 3), (3,)),
    ((0, 1), (1, 3)),
]
MATRIX_SHAPES = [((2, 3),), ((3, 1),), ((0, 3),), ((2, 3, 4),)]


class Sample(NamedTuple):
    """One call of an op.

    inputs  arrays, float64 where the op is differentiated
    attrs   the op's parameters
    edges   whether the values are meant to reach where finite differences mean nothing (kinks, huge, ties): no gradient check then
    """

    inputs: tuple[np.ndarray[Any, Any], ...]
    attrs: Mapping[str, Any] = MappingProxyType({})
    edges: bool = False

    def __str__(self) -> str:
        shapes = "-".join("x".join(map(str, x.shape)) or "scalar" for x in self.inputs)
        attrs = ",".join(f"{name}={value}" for name, value in self.attrs.items())
        return f"{shapes}[{attrs}]" if attrs else shapes


Domain = tuple[float, float]
Attrs = Sequence[dict[str, Any]] | Callable[..., Sequence[dict[str, Any]]]


class Over:
    """Samples over shapes: values uniform in ``domain`` (one for all inputs, or one each).

    shapes  a list of tuples of shapes, one shape for each input
    attrs   the parameter sets to try, or a function of the shapes that gives them
    edges   extra values put into an array of their own: kinks, huge and tiny numbers, infinities
    apart   smallest distance between any two values and from 0, so that no finite difference crosses a kink or a tie
    also    further dtypes in which one call is tried, for all the inputs that are floats
    """

    def __init__(
        self,
        shapes: Sequence[tuple[tuple[int, ...], ...]],
        domain: Domain | Sequence[Domain] = (-2.0, 2.0),
        *,
        attrs: Attrs = ({},),
        edges: Sequence[float] = (),
        apart: float = 0.0,
        dtypes: Sequence[str] = ("float64",),
        also: Sequence[str] = (),
    ) -> None:
        self.shapes = shapes
        self.domain = domain
        self.attrs = attrs
        self.edges = edges
        self.apart = apart
        self.dtypes = dtypes
        self.also = also

    def __iter__(self) -> Iterator[Sample]:
        rng = np.random.default_rng(20240229)
        for shapes in self.shapes:
            for attrs in self.attrs(*shapes) if callable(self.attrs) else self.attrs:
                yield Sample(tuple(self.draw(rng, i, shape) for i, shape in enumerate(shapes)), attrs)
        for shapes in [s for s in self.shapes if all(len(shape) == 2 and 0 not in shape for shape in s)][:1]:
            attrs = (self.attrs(*shapes) if callable(self.attrs) else self.attrs)[0]
            arrays = [self.draw(rng, i, shape[::-1]).T for i, shape in enumerate(shapes)]
            yield Sample(tuple(arrays), attrs)  # Fortran order
            wide = [self.draw(rng, i, (shape[0], 2 * shape[1]))[:, ::-2] for i, shape in enumerate(shapes)]
            yield Sample(tuple(wide), attrs)  # a negative, non-unit stride
        for other in self.also:
            shapes = next(s for s in reversed(self.shapes) if all(0 not in shape for shape in s))
            attrs = (self.attrs(*shapes) if callable(self.attrs) else self.attrs)[-1]
            yield Sample(tuple(self.draw(rng, i, shape, other) for i, shape in enumerate(shapes)), attrs)
        if self.edges:
            values = np.array(self.edges, self.dtypes[0])
            count = len(self.shapes[0])
            grids = [grid.ravel() for grid in np.meshgrid(*[values] * count, indexing="ij")]
            attrs = (self.attrs(*[grid.shape for grid in grids]) if callable(self.attrs) else self.attrs)[0]
            yield Sample(tuple(grids), attrs, edges=True)

    def __add__(self, other: Iterable[Sample]) -> Samples:
        return Samples((self, other))

    def draw(self, rng: np.random.Generator, position: int, shape: tuple[int, ...], other: str = "") -> np.ndarray[Any, Any]:
        domain: Any = self.domain[position] if isinstance(self.domain[0], tuple) else self.domain
        low, high = domain
        dtype = np.dtype(self.dtypes[min(position, len(self.dtypes) - 1)])
        if other and dtype.kind in "fc":
            dtype = as_dtype(other)
        if dtype.kind == "b":
            return rng.random(shape) < 0.5
        if dtype.kind in "iu":
            return rng.integers(int(low), int(high) + 1, shape).astype(dtype)
        if dtype.kind == "c":
            return (rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape)).astype(dtype)
        if self.apart:
            return _apart(rng, shape, low, high, self.apart, offset=position / 3).astype(dtype)
        return rng.uniform(low, high, shape).astype(dtype)


class Samples:
    """The samples of several, one after the other."""

    def __init__(self, parts: tuple[Iterable[Sample], ...]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[Sample]:
        return chain.from_iterable(self.parts)

    def __add__(self, other: Iterable[Sample]) -> Samples:
        return Samples((*self.parts, other))


def _apart(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float, gap: float, offset: float) -> np.ndarray[Any, Any]:
    """Values of which no two are closer than ``gap``/2 and none is within ``gap``/4 of 0; inputs of one op use other offsets."""
    count = int(np.prod(shape))
    slots = int((high - low) / gap)
    assert slots > count, "the domain is too small for so many distinct values"
    chosen = rng.choice(slots, count, replace=False)
    return (low + gap * (chosen + 0.25 + 0.5 * offset)).reshape(shape)


def unary(domain: Domain = (-2.0, 2.0), **options: Any) -> Over:
    """Samples of an op with one input."""
    return Over(UNARY_SHAPES, domain, **options)


def binary(*domain: Domain, **options: Any) -> Over:
    """Samples of an op with two inputs; one domain for both, or one each."""
    return Over(BINARY_SHAPES, domain if len(domain) > 1 else (domain or [(-2.0, 2.0)])[0], **options)


def every_axis(shape: tuple[int, ...], *_: Any) -> list[dict[str, Any]]:
    """Each axis, from the front and from the back."""
    return [{"axis": axis} for axis in range(-len(shape), len(shape))]


def every_reduction(shape: tuple[int, ...], *_: Any) -> list[dict[str, Any]]:
    """All axes, none, each one and a pair, with and without keepdims; axes as the ops store them (sorted, from the front)."""
    axes: list[tuple[int, ...]] = [tuple(range(len(shape))), (), *((a,) for a in range(len(shape)))]
    if len(shape) > 2:
        axes.append((0, 2))
    return [{"axis": a, "keepdims": keep} for a in dict.fromkeys(axes) for keep in (False, True)]


class Drawn:
    """Samples that a function draws from a generator: for inputs that depend on each other, as an array and positions in it do."""

    def __init__(self, draw: Callable[[np.random.Generator], Sequence[Sample]]) -> None:
        self.draw = draw

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.draw(np.random.default_rng(20240229)))


class Matrices:
    """Samples whose first input holds matrices that are well conditioned by construction; the further inputs are uniform.

    kind    "any": singular values evenly spread over [0.5, 2]; "symmetric": Hermitian, these with alternating signs for eigenvalues;
            "positive": Hermitian with these for eigenvalues; "eigen": square with these for eigenvalues, not symmetric;
            "triangular": safely away from 0 on the diagonal, and full, since one triangle is not to be read
    shapes  as of `Over`
    edges   whether no gradient is to be checked, as where a complex vector's phase is up to the library
    """

    def __init__(
        self,
        kind: str,
        shapes: Sequence[tuple[tuple[int, ...], ...]],
        *,
        attrs: Sequence[dict[str, Any]] = ({},),
        dtype: str = "float64",
        edges: bool = False,
    ) -> None:
        self.kind = kind
        self.shapes = shapes
        self.attrs = attrs
        self.dtype = np.dtype(dtype)
        self.edges = edges

    def __iter__(self) -> Iterator[Sample]:
        rng = np.random.default_rng(20240229)
        for shapes in self.shapes:
            for attrs in self.attrs:
                rest = [self._uniform(rng, shape) for shape in shapes[1:]]
                yield Sample((self.draw(rng, shapes[0]), *rest), attrs, self.edges)
        first, *others = self.shapes[0]
        rest = [self._uniform(rng, shape)[::-1, ::-1] for shape in others]
        yield Sample((np.asfortranarray(self.draw(rng, first)), *rest), self.attrs[0], self.edges)

    def __add__(self, other: Iterable[Sample]) -> Samples:
        return Samples((self, other))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        rows, columns = shape[-2:]
        size = min(rows, columns)
        spread = np.linspace(0.5, 2.0, size)
        if self.kind == "triangular":
            return np.asarray(0.3 * self._uniform(rng, shape) + np.eye(rows) * (spread + 0.5), self.dtype)
        if self.kind == "eigen":
            vectors = np.eye(rows) + 0.2 * self._uniform(rng, shape)
            return np.asarray(vectors * spread @ np.linalg.inv(vectors), self.dtype)
        left = np.linalg.qr(self._uniform(rng, (*shape[:-1], size)))[0]
        if self.kind == "any":
            right = np.linalg.qr(self._uniform(rng, (*shape[:-2], columns, size)))[0]
        else:
            right = left
            spread = spread * (-1.0) ** np.arange(size) if self.kind == "symmetric" else spread
        return np.asarray(left * spread @ np.conj(np.swapaxes(right, -1, -2)), self.dtype)

    def _uniform(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        values: np.ndarray[Any, Any] = rng.uniform(-1.0, 1.0, shape)
        if self.dtype.kind == "c":
            values = values + 1j * rng.uniform(-1.0, 1.0, shape)
        return np.asarray(values, self.dtype)
