"""Tapes: many small kernels as one call from Python. Instructions lie one behind the other, and a loop in machine code follows them.

What an instruction calls has the signature of NumPy's inner loops, ``void (char **args, intp *dimensions, intp *strides, void *data)``:
these loops themselves, so that a tape gives the very bits of the ufuncs, matrix products included, and the kernels of `loops`. An
instruction on few numbers takes 10 ns, where the call from Python takes 200.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .kernels import compiler, native
from .values import SUPPORTED

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_INT = ctypes.sizeof(ctypes.c_int)

# A place is one word: the number of an array in the upper bits, and how many bytes behind its first element. Number 0 stands for address 0.
PLACE_BITS = 48
MOST_ARRAYS = 16_000  # (their addresses lie on the stack)
MOST_OPERANDS = 24
# Below this a call keeps Python's lock: letting it go and taking it again costs some 0.1 us, and more where others wait for it.
SECONDS_WITH_LOCK = 3e-6


class Code(NamedTuple):
    """Machine code with the signature of NumPy's inner loops, and the pointer that it is given last."""

    address: int
    data: int = 0


def place(array: int, offset: int = 0) -> int:
    """The word for the memory ``offset`` bytes behind the first element of an array, which are counted from 1."""
    return (array << PLACE_BITS) + offset


class Tape:
    """Instructions, as they are written. `call` makes a function of them."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._starts: list[int] = []  # where in the words each instruction begins
        self._numbers: list[int] = [0]  # dimensions and strides
        self._known: dict[tuple[int, ...], int] = {}  # some of them -> where they are

    def __len__(self) -> int:
        return len(self._starts)

    def add(
        self,
        code: Code,
        places: Sequence[int],
        dims: tuple[int, ...],
        strides: tuple[int, ...],
        times: int = 1,
        steps: tuple[int, ...] = (),
    ) -> None:
        """One instruction.

        times  how often it is called, and ``steps``: by how many bytes each place then moves on
        """
        self._starts.append(len(self._words))
        self._words += (*code, len(places), times, self._kept(dims), self._kept(strides), self._kept(steps), *places)

    def _kept(self, numbers: tuple[int, ...]) -> int:
        """Where in the tape's numbers these are."""
        at = self._known.get(numbers)
        if at is None:
            at = self._known[numbers] = len(self._numbers)
            self._numbers += numbers
        return at

    def call(self, otherwise: Callable[..., Any], *, with_lock: bool, stack: int = 0) -> Callable[..., Any]:
        """A function of the arrays, in the order of their numbers, that follows the tape, and gives the last of them.

        with_lock  whether it keeps Python's lock
        stack      bytes that it has besides, as an array with the next number

        Arrays are C-contiguous and aligned, or scalars of NumPy that are only read; if not, ``otherwise`` is called in its stead.
        """
        numbers = np.array(self._numbers, np.int64)
        words = np.array([int(with_lock), id(otherwise), stack, *self._words, 0], np.int64).view(_Words)
        pointing = np.array(self._starts, np.int64)[:, None] + np.arange(7, 10)
        words[pointing] = numbers.ctypes.data + 8 * words[pointing]
        words.keeps = numbers, otherwise
        return native(_address(), words)


@cache
def _address() -> int:
    """That of the machine code that follows a tape."""
    names = [f"@flowgraph_{dtype.name}" for dtype in sorted(SUPPORTED, key=str)]
    lines = []
    for i, name in enumerate(names):
        lines += [f"  %is_{i} = icmp eq ptr %kind, {name}", f"  %known_{i} = or i1 %is_{i}, {f'%known_{i - 1}' if i else 'false'}"]
    lines.append(f"  br i1 %known_{len(names) - 1}, label %fine, label %otherwise")
    text = _TEXT.replace("HEADER", str(compiler().target.header)).replace("SCALARS", "\n".join(lines))
    return compiler().address(text.replace("TYPES", "\n".join(f"{name} = external global i8" for name in names)))


class _Words(np.ndarray[Any, Any]):
    """The words of a tape; it keeps alive what they point at. Machine code gets it as its self."""

    keeps: Any


@cache
def code_of(function: np.ufunc, dtypes: tuple[np.dtype[Any], ...]) -> Code | None:
    """NumPy's inner loop for operands of just these dtypes; None where there is none, or not where it is looked for."""
    if function.nout != 1 or len(dtypes) != function.nargs:
        return None
    # (As numpy/ufuncobject.h has it: four numbers, the loops, their data, how many there are, the name, the dtypes of each.)
    at = id(function) + object.__basicsize__
    nin, nout, nargs = (ctypes.c_int.from_address(at + i * _INT).value for i in range(3))
    loops, datas = (ctypes.c_void_p.from_address(at + 4 * _INT + i * _POINTER).value for i in range(2))
    count = ctypes.c_int.from_address(at + 4 * _INT + 2 * _POINTER).value
    types = ctypes.c_void_p.from_address(at + 6 * _INT + 3 * _POINTER).value
    if (nin, nout, nargs, count) != (function.nin, function.nout, function.nargs, function.ntypes) or not (loops and types):
        return None
    numbers = ctypes.string_at(types, count * nargs)
    wanted = bytes([dtype.num for dtype in dtypes])
    for i in range(count):
        if numbers[i * nargs : (i + 1) * nargs] == wanted:
            loop = ctypes.c_void_p.from_address(loops + i * _POINTER).value
            data = ctypes.c_void_p.from_address(datas + i * _POINTER).value if datas else 0
            return Code(loop, data or 0) if loop else None
    return None


# %bases: the address of each argument's first element, behind a null.
_TEXT = """\
@flowgraph_ndarray = external global i8
TYPES
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @Py_IncRef(ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)

define internal void @follow(ptr %first, ptr %bases) {
entry:
  %operands = alloca [24 x ptr]
  br label %instruction
instruction:
  %at = phi ptr [ %first, %entry ], [ %behind, %called ]
  %code = load ptr, ptr %at
  %is_end = icmp eq ptr %code, null
  br i1 %is_end, label %end, label %read
read:
  %data_at = getelementptr i64, ptr %at, i64 1
  %data = load ptr, ptr %data_at
  %count_at = getelementptr i64, ptr %at, i64 2
  %count = load i64, ptr %count_at
  %times_at = getelementptr i64, ptr %at, i64 3
  %times = load i64, ptr %times_at
  %dims_at = getelementptr i64, ptr %at, i64 4
  %dims = load ptr, ptr %dims_at
  %strides_at = getelementptr i64, ptr %at, i64 5
  %strides = load ptr, ptr %strides_at
  %steps_at = getelementptr i64, ptr %at, i64 6
  %steps = load ptr, ptr %steps_at
  %places = getelementptr i64, ptr %at, i64 7
  %behind = getelementptr i64, ptr %places, i64 %count
  br label %place
place:
  %i = phi i64 [ 0, %read ], [ %i.next, %place ]
  %word_at = getelementptr i64, ptr %places, i64 %i
  %word = load i64, ptr %word_at
  %number = lshr i64 %word, 48
  %offset = and i64 %word, 281474976710655
  %base_at = getelementptr ptr, ptr %bases, i64 %number
  %base = load ptr, ptr %base_at
  %operand = getelementptr i8, ptr %base, i64 %offset
  %operand_at = getelementptr ptr, ptr %operands, i64 %i
  store ptr %operand, ptr %operand_at
  %i.next = add i64 %i, 1
  %placed = icmp eq i64 %i.next, %count
  br i1 %placed, label %call, label %place
call:
  %left = phi i64 [ %times, %place ], [ %left.next, %moved ]
  call void %code(ptr %operands, ptr %dims, ptr %strides, ptr %data)
  %left.next = sub i64 %left, 1
  %is_last = icmp eq i64 %left.next, 0
  br i1 %is_last, label %called, label %move
move:
  %j = phi i64 [ 0, %call ], [ %j.next, %move ]
  %moving_at = getelementptr ptr, ptr %operands, i64 %j
  %moving = load ptr, ptr %moving_at
  %step_at = getelementptr i64, ptr %steps, i64 %j
  %step = load i64, ptr %step_at
  %there = getelementptr i8, ptr %moving, i64 %step
  store ptr %there, ptr %moving_at
  %j.next = add i64 %j, 1
  %all = icmp eq i64 %j.next, %count
  br i1 %all, label %moved, label %move
moved:
  br label %call
called:
  br label %instruction
end:
  ret void
}

define ptr @kernel(ptr %self, ptr %args, i64 %given, ptr %names) {
entry:
  %words_at = getelementptr i8, ptr %self, i64 HEADER
  %words = load ptr, ptr %words_at
  %size = add i64 %given, 2
  %bases = alloca ptr, i64 %size
  store ptr null, ptr %bases
  %stack_at = getelementptr i64, ptr %words, i64 2
  %stack_size = load i64, ptr %stack_at
  %stack = alloca i8, i64 %stack_size, align 64
  %last_number = add i64 %given, 1
  %last_at = getelementptr ptr, ptr %bases, i64 %last_number
  store ptr %stack, ptr %last_at
  br label %argument
argument:
  %i = phi i64 [ 0, %entry ], [ %i.next, %fine ]
  %all = icmp eq i64 %i, %given
  br i1 %all, label %start, label %look
look:
  %argument_at = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %argument_at
  %fields = getelementptr i8, ptr %object, i64 HEADER
  %kind_at = getelementptr i8, ptr %fields, i64 -8
  %kind = load ptr, ptr %kind_at
  %is_array = icmp eq ptr %kind, @flowgraph_ndarray
  br i1 %is_array, label %array, label %scalar
array:
  %elements = load ptr, ptr %fields
  %flags_at = getelementptr i8, ptr %fields, i64 48
  %flags = load i32, ptr %flags_at
  %contiguous_aligned = and i32 %flags, 257
  %is_fine = icmp eq i32 %contiguous_aligned, 257
  br i1 %is_fine, label %fine, label %otherwise
scalar:
SCALARS
fine:
  %base = phi ptr [ %elements, %array ], [ %fields, %scalar ]
  %i.next = add i64 %i, 1
  %base_at = getelementptr ptr, ptr %bases, i64 %i.next
  store ptr %base, ptr %base_at
  br label %argument
start:
  %with_lock = load i64, ptr %words
  %keeps_lock = icmp ne i64 %with_lock, 0
  %first = getelementptr i64, ptr %words, i64 3
  br i1 %keeps_lock, label %held, label %released
held:
  call void @follow(ptr %first, ptr %bases)
  br label %end
released:
  %saved = call ptr @PyEval_SaveThread()
  call void @follow(ptr %first, ptr %bases)
  call void @PyEval_RestoreThread(ptr %saved)
  br label %end
end:
  %last = getelementptr ptr, ptr %args, i64 %given
  %result_at = getelementptr i8, ptr %last, i64 -8
  %result = load ptr, ptr %result_at
  call void @Py_IncRef(ptr %result)
  ret ptr %result
otherwise:
  %function_at = getelementptr i64, ptr %words, i64 1
  %function = load ptr, ptr %function_at
  %made = call ptr @PyObject_Vectorcall(ptr %function, ptr %args, i64 %given, ptr %names)
  ret ptr %made
}
"""
