"""Attributes of nodes as JSON: the kinds of values that there are, and how each is written.

    None, bool, int, str   as in JSON; finite floats, too
    tuple                  a list
    other floats           {"float": "inf"}, or "-inf", "nan"
    complex                {"complex": [real, imaginary]}
    slice, ...             {"slice": [start, stop, step]}, {"ellipsis": true}
    dtype                  {"dtype": "float32"}
    array                  {"array": its name among the arrays, "dtype": "float32", "shape": [3, 4]}
    initializer            {"initializer": "normal", "shape": [3, 4], and its other fields}

Nothing else is written, and nothing else is read: no names of functions or classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import FlowgraphError
from ..graph.spec import as_dtype, as_shape
from ..ops.init import Constant, Identity, Normal, Orthogonal, TruncatedNormal, Uniform

Arrays = dict[str, np.ndarray[Any, Any]]

INITIALIZERS: dict[str, Any] = {
    "constant": Constant,
    "identity": Identity,
    "normal": Normal,
    "orthogonal": Orthogonal,
    "truncated_normal": TruncatedNormal,
    "uniform": Uniform,
}

# What a safetensors file holds and NumPy reads by itself; other arrays are kept as their bytes.
STORED = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64".split())


class BadAttribute(Exception):
    """Something that stands for no attribute."""


def write_attribute(value: Any, name: str, arrays: Arrays) -> Any:
    """``value`` as JSON; arrays in it go to ``arrays`` under ``name``. Raises TypeError for what has no form here."""
    if value is None or isinstance(value, bool) or type(value) in (int, str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, complex):
        return {"complex": [write_attribute(part, name, arrays) for part in (value.real, value.imag)]}
    if isinstance(value, tuple):
        return [write_attribute(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    if isinstance(value, slice):
        return {"slice": [write_attribute(part, name, arrays) for part in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, np.dtype):
        return {"dtype": dtype_name(value)}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value, order="C")
        is_stored = array.dtype.isnative and array.dtype.name in STORED
        arrays[name] = array if is_stored else np.frombuffer(bytearray(array.tobytes()), np.uint8)
        return {"array": name, "dtype": dtype_name(array.dtype), "shape": list(array.shape)}
    for kind, made in INITIALIZERS.items():
        if type(value) is made:
            return {"initializer": kind, **{key: write_attribute(v, name, arrays) for key, v in vars(value).items()}}
    raise TypeError(f"a {type(value).__name__}")


def read_attribute(value: Any, arrays: Arrays) -> Any:
    """What ``value``, from JSON, stands for. Raises BadAttribute where it stands for nothing."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return tuple([read_attribute(item, arrays) for item in value])
    for kind, read in _READERS.items():
        if kind in value:
            try:
                return read(value, arrays)
            except (ValueError, TypeError, KeyError, OverflowError, FlowgraphError) as error:
                raise BadAttribute(f"{value!s:.80} is no {kind}") from error
    raise BadAttribute(f"{value!s:.80}")


def dtype_name(dtype: np.dtype[Any]) -> str:
    """A name that tells dtypes apart: ``float32``, or ``>f4`` where the bytes are in another machine's order."""
    return dtype.name if dtype.isnative else dtype.str


def as_dtype_named(name: Any) -> np.dtype[Any]:
    """The dtype that ``dtype_name`` calls ``name``. Raises TypeError for what is no dtype of numbers known here."""
    if not isinstance(name, str):
        raise TypeError(f"a dtype is a text, not {name!r:.80}")
    dtype = as_dtype(name)
    if dtype_name(dtype) != name:  # NumPy reads a language of its own, with structures and shapes in it
        raise TypeError(f"{name!r:.80} is no dtype of numbers")
    return dtype


def _float(value: Any, arrays: Arrays) -> float:
    return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[value["float"]]


def _complex(value: Any, arrays: Arrays) -> complex:
    real, imaginary = (read_attribute(part, arrays) for part in value["complex"])
    return complex(real, imaginary)


def _slice(value: Any, arrays: Arrays) -> slice:
    start, stop, step = value["slice"]
    if not all(part is None or type(part) is int for part in (start, stop, step)):
        raise TypeError("the parts of a slice are ints")
    return slice(start, stop, step)


def _array(value: Any, arrays: Arrays) -> np.ndarray[Any, Any]:
    array, dtype, shape = arrays[value["array"]], as_dtype_named(value["dtype"]), as_shape(value["shape"])
    if array.dtype != dtype:
        if array.dtype != np.uint8 or (dtype.name in STORED and dtype.isnative):
            raise TypeError(f"the array is {array.dtype}")
        array = np.frombuffer(bytearray(array.tobytes()), dtype)
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def _initializer(value: Any, arrays: Arrays) -> Any:
    fields = {key: read_attribute(item, arrays) for key, item in value.items() if key != "initializer"}
    return INITIALIZERS[value["initializer"]](**fields)


# "array" and "initializer" come before "dtype", which they have, too.
_READERS: dict[str, Callable[[Any, Arrays], Any]] = {
    "array": _array,
    "initializer": _initializer,
    "dtype": lambda value, arrays: as_dtype_named(value["dtype"]),
    "slice": _slice,
    "ellipsis": lambda value, arrays: Ellipsis,
    "float": _float,
    "complex": _complex,
}
