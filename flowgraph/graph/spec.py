"""What is known of a tensor before it is computed: its shape and dtype.

A dimension is an int, a string (a symbolic size: equal strings are equal sizes) or None (not known). Nothing here knows nodes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, MissingExtraError, ShapeError

Dim = int | str | None
Shape = tuple[Dim, ...]


class Spec:
    """A shape and a dtype: what ``infer`` takes and gives, and what a kernel may be told instead of an array."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_known(self) -> bool:
        """Whether every size is a number."""
        return is_known(self.shape)

    @property
    def size(self) -> int:
        """Number of elements; only for a spec whose shape is known."""
        return math.prod(self.shape)  # type: ignore[arg-type]

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.shape == other.shape and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"Spec({format_shape(self.shape)} {self.dtype})"


def is_known(shape: Shape) -> bool:
    """Whether every size in ``shape`` is a number."""
    for dim in shape:  # a plain loop: this runs once a node while planning, and a generator costs twice as much
        if dim.__class__ is not int:
            return False
    return True


def format_shape(shape: Shape) -> str:
    """``(batch, ?, 3)``: strings bare, unknown sizes as a question mark."""
    inner = ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def format_spec(shape: Shape, dtype: Any) -> str:
    """``(batch, 3) float32``."""
    return f"{format_shape(shape)} {dtype}"


def as_shape(shape: Any) -> Shape:
    """``shape`` as a tuple of dimensions, checked: ints, names of sizes, None."""
    if not np.iterable(shape) or isinstance(shape, str):
        shape = (shape,)
    dims: list[Dim] = []
    for dim in shape:
        if dim is None:
            dims.append(None)
        elif isinstance(dim, str):
            if not dim or "," in dim or dim.isdigit():
                raise ArgumentError(f"the name of a size is a word, got {dim!r}", help='("batch", 3)')
            dims.append(dim)
        elif isinstance(dim, int | np.integer) and not isinstance(dim, bool):
            if dim < 0:
                raise ArgumentError(f"a size cannot be negative, got {dim}")
            dims.append(int(dim))
        else:
            raise ArgumentError(f"a size is an int, a name or None, got {dim!r}")
    return tuple(dims)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """``dtype`` as NumPy's object, restricted to numbers and booleans. "bfloat16" comes from the library ml_dtypes."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise MissingExtraError.of("ml_dtypes", "bfloat16") from None
        return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return]
    try:
        result: np.dtype[Any] | None = None if dtype is None else np.dtype(dtype)
    except TypeError:
        result = None
    if result is None:
        raise DtypeError(f"{dtype!r} is not a dtype", help='for example "float32" or np.int64')
    if not is_numeric(result):
        raise DtypeError(f"tensors hold numbers or booleans, not {dtype!r:.40}")
    return result


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Whether tensors may be of ``dtype``: booleans, integers, floats, complex numbers, and bfloat16, whose kind NumPy calls V."""
    return dtype.kind in "biufc" or (dtype.kind == "V" and dtype.name == "bfloat16")


def promote_dtypes(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that ``dtypes`` meet in, as in NumPy's arithmetic. raises DtypeError where there is none."""
    try:
        return np.result_type(*dtypes)
    except TypeError:
        # Of bfloat16 and the wider integers or float16, NumPy knows no common dtype, but its ufuncs do.
        try:
            return functools.reduce(lambda a, b: np.add.resolve_dtypes((a, b, None))[-1], dtypes)
        except TypeError as error:
            raise DtypeError(f"{' and '.join(map(str, dtypes))} have no common dtype", help="cast with fg.astype(x, dtype)") from error


def weak_dtype(dtype: np.dtype[Any], number: bool | int | float | complex) -> np.dtype[Any]:
    """The dtype in which an array of ``dtype`` meets a Python number: its own, if it is of that kind, as in NumPy 2."""
    if dtype.kind == "V" and not isinstance(number, complex):  # bfloat16, for which NumPy would say float64
        return dtype
    return np.result_type(dtype, number)


def may_be_equal(shape: Shape, other: Shape) -> bool:
    """Whether nothing that is known of two shapes differs."""
    return len(shape) == len(other) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(shape, other, strict=True)
    )


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that ``shapes`` broadcast to by NumPy's rules; unknown sizes stay unknown.

    raises  ShapeError naming the first axis on which they differ
    """
    ndim = max(len(shape) for shape in shapes)
    result: list[Dim] = []
    for axis in range(-ndim, 0):
        dim: Dim = 1
        for shape in shapes:
            if len(shape) < -axis:
                continue
            other = shape[axis]
            if other == 1 or other == dim:
                continue
            if dim == 1:
                dim = other
            elif isinstance(dim, int) and isinstance(other, int):
                texts = " and ".join(format_shape(s) for s in shapes)
                raise ShapeError(
                    f"shapes {texts} do not broadcast: {dim} and {other} meet on axis {axis}",
                    help="two sizes fit when they are equal or one of them is 1",
                )
            elif isinstance(other, int):
                dim = other  # the unknown one must turn out to be 1 or this size
            elif not isinstance(dim, int):
                dim = None  # two different names, or a name and an unknown size: either could be 1
        result.append(dim)
    return tuple(result)


def normalize_axis(axis: int, ndim: int) -> int:
    """``axis`` counted from the front."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise ArgumentError(f"axis must be an int, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ShapeError(f"axis {axis} is out of range for {ndim} dimension{'s' * (ndim != 1)}")
    return int(axis) % ndim


def normalize_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """``axis`` (None for all) as a sorted tuple counted from the front, without repeats."""
    if axis is None:
        return tuple(range(ndim))
    named: Sequence[Any] = axis if isinstance(axis, tuple | list) else (axis,)
    axes = sorted(normalize_axis(a, ndim) for a in named)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"axis {tuple(named)} names an axis twice")
    return tuple(axes)
