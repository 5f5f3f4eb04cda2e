"""Tensors made of a shape or of a few numbers; and arrays brought to one shape."""

from __future__ import annotations

import builtins
from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, DtypeError
from ..graph import Op, Shape, Spec, Tensor, no_gradient, op
from ..graph.arguments import as_choice, as_count, as_flag, as_int
from ..graph.op import as_array, by_loop, cast_exactly, public
from ..graph.spec import as_dtype, as_shape, broadcast_shapes, format_shape, is_known
from .elementwise import add, astype, broadcast_like
from .samples import Drawn, Sample
from .shape import broadcast_to, reshape
from .shape import ones_like as _ones_like
from .shape import zeros_like as _zeros_like


class Arange(Op):
    """start, start + step, ... below stop, for numbers known only in a run, which decide how many there are."""

    vjp = no_gradient("whole numbers have no derivative")
    vmap = by_loop("each entry has as many numbers as its bounds say")

    def infer(self, start: Any, stop: Any, step: Any) -> Spec:
        for value in (start, stop, step):
            if value.shape != () or value.dtype.kind not in "iu":
                raise DtypeError(f"bounds that are tensors are integers, got {format_shape(value.shape)} {value.dtype}")
        return Spec((None,), np.result_type(start.dtype, stop.dtype, step.dtype))

    def kernel(self, xp: Any, start: Any, stop: Any, step: Any) -> Any:
        return xp.arange(int(start), int(stop), int(step), dtype=np.result_type(start.dtype, stop.dtype, step.dtype))

    samples = Drawn(lambda rng: [Sample(tuple(np.array(v) for v in bounds)) for bounds in ((2, 9, 3), (5, 0, -2), (0, 0, 1))])


_arange = op(Arange)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """A tensor of ``shape`` that holds ``fill_value`` everywhere; it takes no memory of its own.

    fill_value  number, array or tensor that broadcasts to ``shape``
    dtype       None keeps that of the value, as in NumPy
    raises      ArgumentError for a size that is not a number

    >>> session.run(fg.full((2, 2), 7))
    array([[7, 7],
           [7, 7]])
    """
    if dtype is not None and not isinstance(fill_value, Tensor):
        fill_value = cast_exactly(as_array(fill_value, "full"), dtype, "full")
    (value,) = add.lift((fill_value,))
    return broadcast_to(value if dtype is None else astype(value, dtype), _sizes(shape))


def _sizes(shape: Any) -> Shape:
    sizes = as_shape(shape)
    if not is_known(sizes):
        raise ArgumentError(
            f"a new tensor needs sizes that are numbers, got {format_shape(sizes)}", help="fg.zeros_like(x), fg.full_like(x, 1)"
        )
    return sizes


def zeros(shape: Any, dtype: Any = "float32") -> Tensor:
    """Zeros of ``shape``. raises ArgumentError for a size that is not a number."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = "float32") -> Tensor:
    """Ones of ``shape``. raises ArgumentError for a size that is not a number."""
    return full(shape, 1, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """``fill_value`` everywhere in the shape of ``x``, which may be known only in a run; and in its dtype, unless ``dtype`` is given.

    >>> session.run(fg.full_like([1, 2], 5))
    array([5, 5])
    """
    x, value = add.lift((x, fill_value))
    return broadcast_like(astype(value, x.dtype if dtype is None else dtype), x)


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros in the shape of ``x``, which may be known only in a run; and in its dtype, unless ``dtype`` is given."""
    return _zeros_like(x) if dtype is None else full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones in the shape of ``x``, which may be known only in a run; and in its dtype, unless ``dtype`` is given."""
    return _ones_like(x) if dtype is None else full_like(x, 1, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """``start``, ``start + step``, ... below ``stop``; with one argument, from 0 below it.

    start   numbers; or integer tensors, which make the size known only in a run
    dtype   None gives NumPy's: int64, or float64 when one of them is a float
    raises  DtypeError for a tensor that is no integer

    >>> session.run(fg.arange(2, 8, 2))
    array([2, 4, 6])
    """
    if stop is None:
        start, stop = 0, start
    if any(isinstance(value, Tensor) for value in (start, stop, step)):
        counted = _arange(start, stop, step)
        return counted if dtype is None else astype(counted, dtype)
    bounds = add.lift((start, stop, step))
    is_number = all(bound.shape == () and bound.dtype.kind in "iuf" for bound in bounds)
    if not is_number or step == 0 or not np.isfinite((stop - start) / step):
        raise ArgumentError(f"arange: start, stop and a step other than 0 are numbers, got {start!r:.40}, {stop!r:.40}, {step!r:.40}")
    numbers = np.arange(start, stop, step)
    return add.lift((numbers if dtype is None else numbers.astype(as_dtype(dtype)),))[0]


def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None) -> Tensor:
    """``num`` numbers from ``start`` to ``stop``, evenly apart, along a new first axis.

    start     numbers, or arrays and tensors that broadcast
    endpoint  whether ``stop`` is the last of them
    dtype     None gives NumPy's float64 for numbers, and the dtype of tensors

    >>> session.run(fg.linspace(0, 1, 5))
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    num, endpoint = as_count(num, "num"), as_flag(endpoint, "endpoint")
    if not isinstance(start, Tensor) and not isinstance(stop, Tensor):
        numbers = np.linspace(start, stop, num, endpoint, dtype=None if dtype is None else as_dtype(dtype))
        return add.lift((numbers,))[0]
    start, stop = add.lift((start, stop))
    kind = np.result_type(start.dtype, stop.dtype)
    kind = kind if kind.kind in "fcV" else np.dtype("float64")
    start, stop = astype(start, kind), astype(stop, kind)
    parts = np.linspace(0, 1, num, endpoint).reshape((num,) + (1,) * builtins.max(start.ndim, stop.ndim)).astype(kind)
    between = start * (1 - parts) + stop * parts
    return between if dtype is None else astype(between, dtype)


def eye(n: int, m: int | None = None, k: int = 0, dtype: Any = "float32") -> Tensor:
    """An ``n`` by ``m`` matrix (None: square) with ones on diagonal ``k`` and zeros elsewhere.

    >>> session.run(fg.eye(2))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    rows = as_count(n, "n")
    columns = rows if m is None else as_count(m, "m")
    return add.lift((np.eye(rows, columns, as_int(k, "k"), as_dtype(dtype)),))[0]


def broadcast_arrays(*tensors: Any) -> list[Tensor]:
    """``tensors`` repeated to the one shape that they broadcast to, as views. raises ShapeError when they do not."""
    lifted = [add.lift((x,))[0] if not isinstance(x, Tensor) else x for x in tensors]
    shape = broadcast_shapes(*(x.shape for x in lifted)) if lifted else ()
    if is_known(shape):
        return [broadcast_to(x, shape) for x in lifted]
    result = []
    for x in lifted:
        for other in lifted:
            x = x if other is x else broadcast_like(x, other)
        result.append(x)
    return result


def meshgrid(*tensors: Any, indexing: Literal["xy", "ij"] = "xy") -> list[Tensor]:
    """The coordinates of the grid that the vectors ``tensors`` span: for each a tensor with one axis for each of them, as a view.

    indexing  "ij": axes in the order of the vectors; "xy": the first two exchanged, as pictures are stored
    raises    ArgumentError for another ``indexing``

    >>> session.run(fg.meshgrid([1, 2], [5, 6, 7], indexing="ij"))[0]
    array([[1, 1, 1],
           [2, 2, 2]])
    """
    as_choice(indexing, "meshgrid: indexing", ("xy", "ij"))
    swapped = indexing == "xy" and len(tensors) > 1
    places = [1, 0, *range(2, len(tensors))] if swapped else list(range(len(tensors)))
    vectors = [reshape(x, -1) for x in tensors]
    return broadcast_arrays(
        *(x[(*(None,) * place, slice(None), *(None,) * (len(vectors) - 1 - place))] for x, place in zip(vectors, places, strict=True))
    )


for _function in (zeros_like, ones_like, full_like, broadcast_arrays, meshgrid, linspace):
    public(_function)
