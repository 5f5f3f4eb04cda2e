"""Arrays that share their first size: one array, a tuple or list of them, or a dict. And examples that are read one by one.

Row ``i`` of such arrays is one example: image ``i`` with label ``i``. What is taken from them keeps their structure. No
threads in this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, ShapeError
from ..graph import Tensor


class Examples(Protocol):
    """Examples by number: what `torch.utils.data.Dataset` is, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


Rows: TypeAlias = NDArray[Any] | Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]] | Examples
R = TypeVar("R", bound=Rows)


def split(arrays: R, held_out: int | float, *, seed: int = 0) -> tuple[R, R]:
    """Two parts of ``arrays``, drawn at random without overlap: what stays, and what is held out.

    arrays    an array, a tuple, list or dict of arrays, all with the same first size; or examples, as for ``batches``
    held_out  how many rows the second part gets: an int, or a fraction of all as a float between 0 and 1
    seed      int >= 0; the same seed holds out the same rows
    returns   (rest, held out), each with the structure of ``arrays``, as copies, rows in their old order; of examples, parts
              that read them when they are asked for
    raises    ArgumentError if a part would be empty, ShapeError if the first sizes differ

    >>> images, labels = np.arange(40.0).reshape(20, 2), np.arange(20)
    >>> train, validation = fg.data.split((images, labels), 5)
    >>> train[0].shape, validation[0].shape
    ((15, 2), (5, 2))
    """
    rows = count_rows(arrays)
    if isinstance(held_out, (float, np.floating)):
        if not 0 < held_out < 1:
            raise ArgumentError(
                f"split: held_out is {held_out}, but a fraction lies between 0 and 1",
                help="for a number of rows, write an int",
            )
        count = round(rows * float(held_out))
    else:
        count = whole(held_out, "split: held_out", at_least=1)
    if not 0 < count < rows:
        raise ArgumentError(f"split: holding out {count} of {rows} rows leaves a part empty")
    order = generator(seed, "split").permutation(rows)
    # Sorted, so that the copies read memory forwards and a part is still in the order of its files.
    return take_rows(arrays, np.sort(order[count:])), take_rows(arrays, np.sort(order[:count]))


def count_rows(arrays: Rows) -> int:
    """How many rows ``arrays`` have; an error that lists all sizes where they differ, and one for no rows at all."""
    if is_examples(arrays):
        if len(arrays) == 0:
            raise ShapeError("there are no examples")
        return len(arrays)
    parts = _parts(arrays)
    if not parts:
        raise ArgumentError("there is no array in the arrays given")
    for label, array in parts:
        if isinstance(array, Tensor):
            raise ArgumentError(f"{label} is no array but {array!r}", help="session.run(tensor, feeds) gives its value")
        if not hasattr(array, "shape") or not hasattr(array, "__getitem__"):
            raise ArgumentError(f"{label} is no array but {array!r:.60}", help="np.asarray makes an array of numbers in lists")
        if len(array.shape) == 0:
            raise ShapeError(f"{label} is a single number, with no rows to take")
    sizes = {int(array.shape[0]) for _, array in parts}
    if len(sizes) > 1:
        listed = ", ".join(f"{array.shape[0]} in {label}" for label, array in parts)
        raise ShapeError(
            f"the arrays differ in their first size: {listed}",
            help="row i of each array belongs to example i, so all need the same number of rows",
        )
    (rows,) = sizes
    if rows == 0:
        raise ShapeError("the arrays have no rows")
    return rows


def take_rows(arrays: R, index: NDArray[np.intp] | slice) -> R:
    """Copies of the rows at ``index``, with the structure of ``arrays``; of examples, a part that reads them."""
    if is_examples(arrays) and not isinstance(index, slice):
        return cast(R, _Part(arrays, index))
    return _each(arrays, lambda array: _take(array, index))


def is_examples(arrays: Any) -> TypeGuard[Examples]:
    """Whether ``arrays`` are no arrays, but give examples one by one."""
    if isinstance(arrays, Mapping | tuple | list | str | bytes) or hasattr(arrays, "shape"):
        return False
    return hasattr(arrays, "__len__") and hasattr(arrays, "__getitem__")


def stack_examples(examples: Sequence[Any]) -> Any:
    """One array of many: along a new first axis, in the structure that each of them has. raises ShapeError where they differ."""
    first = examples[0]
    if isinstance(first, Mapping):
        return {key: stack_examples([example[key] for example in examples]) for key in first}
    if isinstance(first, tuple | list):
        if any(len(example) != len(first) for example in examples):
            raise ShapeError(f"some examples have {len(first)} parts and others {next(len(e) for e in examples if len(e) != len(first))}")
        parts = (stack_examples([example[part] for example in examples]) for part in range(len(first)))
        return type(first)._make(parts) if hasattr(first, "_make") else type(first)(parts)
    arrays = [np.asarray(example) for example in examples]
    for array in arrays:
        if array.shape != arrays[0].shape:
            raise ShapeError(f"the examples differ in shape, {arrays[0].shape} and {array.shape}", help="bring them to one size first")
    return np.stack(arrays)


class _Part:
    """Some of the examples."""

    def __init__(self, examples: Examples, index: NDArray[np.intp]) -> None:
        self._examples, self._index = examples, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int, /) -> Any:
        return self._examples[int(self._index[number])]


def generator(seed: int, who: str, *path: int) -> np.random.Generator:
    """A random generator that depends on ``seed`` and ``path`` only; other paths give independent streams."""
    whole(seed, f"{who}: seed", at_least=0)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


def whole(value: Any, what: str, *, at_least: int) -> int:
    """``value`` as an int; an error that says ``what`` it is for where it is none, or is too small."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{what} is {value!r} and not an int")
    number = int(value)
    if number < at_least:
        raise ArgumentError(f"{what} is {number}, but at least {at_least} is needed")
    return number


def _parts(arrays: Rows) -> list[tuple[str, Any]]:
    if isinstance(arrays, Mapping):
        return [(f"array {key!r}", array) for key, array in arrays.items()]
    if isinstance(arrays, (tuple, list)):
        return [(f"array {number}", array) for number, array in enumerate(arrays)]
    return [("the array", arrays)]


def _each(arrays: R, function: Callable[[Any], Any]) -> R:
    given: Any = arrays
    return cast(R, _mapped(given, function))


def _mapped(arrays: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(arrays, Mapping):
        return {key: function(array) for key, array in arrays.items()}
    if isinstance(arrays, tuple) and hasattr(arrays, "_make"):
        return arrays._make(function(array) for array in arrays)
    if isinstance(arrays, (tuple, list)):
        return type(arrays)(function(array) for array in arrays)
    return function(arrays)


def _take(array: Any, index: NDArray[np.intp] | slice) -> Any:
    if type(array) is np.ndarray and not isinstance(index, slice):
        return array.take(index, axis=0)  # 21 us where array[index] takes 25, for 128 rows of 784 float32
    part = array[index]  # a class of its own (memory-mapped, on a device, lazy) indexes in its own way
    # A slice is a view: a transform that works in place would write into the caller's arrays.
    return part.copy() if isinstance(index, slice) and hasattr(part, "copy") else part
