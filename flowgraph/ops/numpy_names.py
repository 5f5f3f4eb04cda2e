"""NumPy's functions that are a line of others: NumPy's dispatch finds them, so that ordinary code traces.

They have no names in flowgraph, and NumPy's documentation is theirs.
"""
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ShapeError
from ..graph import Shape, Tensor
from ..graph.op import public
from ..graph.spec import normalize_axis
from .elementwise import add
from .indexing import nonzero
from .join import concat, split, stack
from .shape import flip, reshape, swapaxes


def shape(a: Tensor) -> Shape:
    return a.shape


def ndim(a: Tensor) -> int:
    return a.ndim


def copy(a: Tensor) -> Tensor:
    return a  # no tensor ever changes


def ravel(a: Tensor) -> Tensor:
    return reshape(a, -1)


def argwhere(a: Tensor) -> Tensor:
    return stack(nonzero(a), axis=-1)


def flatnonzero(a: Tensor) -> Tensor:
    return nonzero(ravel(a))[0]


def atleast_1d(*arys: Any) -> Any:
    return _each(arys, lambda x: x if x.ndim else x[None])


def atleast_2d(*arys: Any) -> Any:
    return _each(arys, lambda x: x if x.ndim > 1 else x[(None,) * (2 - x.ndim)])


def atleast_3d(*arys: Any) -> Any:
    def widened(x: Tensor) -> Tensor:
        return x if x.ndim > 2 else x[..., None] if x.ndim == 2 else x[(None,) * (2 - x.ndim)][..., None]

    return _each(arys, widened)


def _each(arys: Sequence[Any], function: Any) -> Any:
    results = tuple(function(add.lift((x,))[0]) for x in arys)
    return results if len(results) != 1 else results[0]


def vstack(tup: Sequence[Any]) -> Tensor:
    return concat([atleast_2d(x) for x in tup], axis=0)


def hstack(tup: Sequence[Any]) -> Tensor:
    parts = [atleast_1d(x) for x in tup]
    return concat(parts, axis=0 if parts and parts[0].ndim == 1 else 1)


def dstack(tup: Sequence[Any]) -> Tensor:
    return concat([atleast_3d(x) for x in tup], axis=2)


def column_stack(tup: Sequence[Any]) -> Tensor:
    return concat([x if x.ndim > 1 else reshape(x, (-1, 1)) for x in map(atleast_1d, tup)], axis=1)


def append(arr: Any, values: Any, axis: int | None = None) -> Tensor:
    return concat([arr, values], axis)


def array_split(ary: Tensor, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    place = normalize_axis(axis, ary.ndim)
    size = ary.shape[place]
    if not isinstance(indices_or_sections, int):
        return split(ary, indices_or_sections, place)
    if not isinstance(size, int):
        raise ShapeError(f"array_split: the size of axis {place} is not known before a run", help="name the positions")
    # The first parts are longer by one where it does not come out even.
    count = indices_or_sections
    return split(ary, [part * (size // count) + min(part, size % count) for part in range(1, count)], place)


def flipud(m: Tensor) -> Tensor:
    return flip(m, 0)


def fliplr(m: Tensor) -> Tensor:
    return flip(m, 1)


def rot90(m: Tensor, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    first, second = axes
    turns = k % 4
    if turns == 0:
        return m
    if turns == 2:
        return flip(m, (first, second))
    return swapaxes(flip(m, second), first, second) if turns == 1 else flip(swapaxes(m, first, second), second)


for _function in (
    shape, ndim, copy, ravel, argwhere, flatnonzero, atleast_1d, atleast_2d, atleast_3d, vstack, hstack, dstack, column_stack, append,
    array_split, flipud, fliplr, rot90,
):  # fmt: skip
    public(_function)
