"""Ufuncs: NumPy's inner loops, as addresses of machine code, and ufuncs with other loops in their place."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_INT = ctypes.sizeof(ctypes.c_int)
# The place of `PyUFunc_FromFuncAndDataAndSignature` in NumPy's table of functions for C, the same in all versions: see its __ufunc_api.h.
_FROM_LOOPS = 31


class Code(NamedTuple):
    """Machine code with the signature of NumPy's inner loops, the pointer that it is given last, and what has to live for that."""

    address: int
    data: int = 0
    keeps: Any = None


class _Loops(NamedTuple):
    """The loops of a ufunc: where their addresses, their data and the dtypes of their operands lie, and their number."""

    addresses: int
    datas: int
    dtypes: int
    number: int


def _loops(function: np.ufunc) -> _Loops | None:
    """Those of a ufunc; None where they are not where they are looked for."""
    # (As numpy/ufuncobject.h has it: four numbers, the loops, their data, how many there are, the name, the dtypes of each.)
    at = id(function) + object.__basicsize__
    nin, nout, nargs = (ctypes.c_int.from_address(at + i * _INT).value for i in range(3))
    loops, datas = (ctypes.c_void_p.from_address(at + 4 * _INT + i * _POINTER).value for i in range(2))
    count = ctypes.c_int.from_address(at + 4 * _INT + 2 * _POINTER).value
    types = ctypes.c_void_p.from_address(at + 6 * _INT + 3 * _POINTER).value
    if (nin, nout, nargs, count) != (function.nin, function.nout, function.nargs, function.ntypes) or not (loops and types):
        return None
    return _Loops(loops, datas or 0, types, count)


@cache
def code_of(function: np.ufunc, dtypes: tuple[np.dtype[Any], ...]) -> Code | None:
    """NumPy's inner loop for operands of just these dtypes; None where there is none, or not where it is looked for."""
    if function.nout != 1 or len(dtypes) != function.nargs:
        return None
    loops = _loops(function)
    if loops is None:
        return None
    nargs = function.nargs
    numbers = ctypes.string_at(loops.dtypes, loops.number * nargs)
    wanted = bytes([dtype.num for dtype in dtypes])
    for i in range(loops.number):
        if numbers[i * nargs : (i + 1) * nargs] == wanted:
            loop = ctypes.c_void_p.from_address(loops.addresses + i * _POINTER).value
            data = ctypes.c_void_p.from_address(loops.datas + i * _POINTER).value if loops.datas else 0
            return Code(loop, data or 0) if loop else None
    return None


def with_loops(function: np.ufunc, signature: str, others: Mapping[int, int]) -> np.ufunc:
    """A ufunc like ``function`` with other loops: address of a loop -> that of the one in its place, which is given the former as its data.

    raises RuntimeError where the loops of ``function`` are not where they are looked for
    """
    loops = _loops(function)
    table = getattr(sys.modules.get("numpy._core._multiarray_umath"), "_UFUNC_API", None)
    if loops is None or table is None:
        raise RuntimeError(f"the loops of NumPy's {function.__name__} were not found")
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    made_of = ctypes.c_void_p.from_address(pointer(table, None) + _FROM_LOOPS * _POINTER).value or 0
    prototype = ctypes.PYFUNCTYPE(
        ctypes.py_object, *[ctypes.c_void_p] * 3, *[ctypes.c_int] * 4, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p
    )
    pointers = ctypes.c_void_p * loops.number
    before = pointers.from_address(loops.addresses)
    addresses = pointers(*[others.get(loop or 0, loop) for loop in before])
    datas = pointers(*[loop if loop in others else 0 for loop in before])
    dtypes = ctypes.create_string_buffer(ctypes.string_at(loops.dtypes, loops.number * function.nargs))
    kept = addresses, datas, dtypes, function.__name__.encode(), signature.encode()
    for each in kept:  # a ufunc does not copy them, and nobody can know who still holds it
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))
    at = [ctypes.addressof(each) for each in (addresses, datas, dtypes)]
    made: np.ufunc = prototype(made_of)(*at, loops.number, function.nin, function.nout, -1, kept[3], b"", 0, kept[4])
    return made
