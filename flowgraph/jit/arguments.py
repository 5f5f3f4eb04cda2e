"""Arguments: how a kernel takes the arrays that Python gives it, and how it hands over to Python what it was not made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .llvm import Target
from .text import Text, suffix, vector_of

# Where NumPy keeps what an array is, in bytes behind the header of an object.
_FIELDS = {"data": 0, "dimensions": 16, "strides": 24, "flags": 48}
ALIGNED, CONTIGUOUS = 0x100, 0x001


class CallableText(Text):
    """The text of a function that Python can call. Argument i is %a{i}.

    target  what it is written for
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.header, self.registers, self.has_fma, self.has_scale = target.header, target.registers, target.has_fma, target.has_scale

    def take_array(self, i: int, wanted: int = ALIGNED | CONTIGUOUS) -> tuple[str, str]:
        """Takes an argument that is an array: where its elements begin, and whether it lies in memory as ``wanted``."""
        self._take(i)
        flags = self.field(i, "flags", "i32")
        return self.field(i, "data"), self.new(f"icmp eq i32 {self.new(f'and i32 {flags}, {wanted}')}, {wanted}")

    def take_number(self, i: int, dtype: np.dtype[Any]) -> tuple[str, str]:
        """Takes an argument that is an array of one number, or one of NumPy's scalars: where that is, and whether it is one of these."""
        self._take(i)
        kind = self.new(f"load ptr, ptr {self.new(f'getelementptr i8, ptr %a{i}, i64 {self.header - 8}')}")
        is_array, is_scalar = [self.new(f"icmp eq ptr {kind}, {self._type(name)}") for name in ("ndarray", dtype.name)]
        inside = self._place(i, "data")  # a scalar has its number there, and none is so short that this would read beyond it
        data = self.new(f"load ptr, ptr {inside}")
        return self.new(f"select i1 {is_array}, ptr {data}, ptr {inside}"), self.new(f"or i1 {is_array}, {is_scalar}")

    def field(self, i: int, name: str, kind: str = "ptr") -> str:
        """What NumPy keeps of an array: "dimensions" and "strides" (where they begin), "flags"."""
        return self.new(f"load {kind}, ptr {self._place(i, name)}")

    def go_on_if(self, checks: Sequence[str]) -> None:
        """Goes on where all of ``checks`` are true, else to `callable_module`'s other way."""
        self.line(f"br i1 {self.all_of(checks)}, label %start, label %otherwise")
        self.label("start")

    def all_of(self, checks: Sequence[str]) -> str:
        """Whether all are true."""
        together = checks[0] if checks else "true"
        for check in checks[1:]:
            together = self.new(f"and i1 {together}, {check}")
        return together

    def multiplied_and_added(self, dtype: np.dtype[Any], a: str, b: str, c: str, lanes: int) -> str:
        """``a * b + c`` of vectors, with one rounding where the processor can do that quickly."""
        kind = vector_of(dtype, lanes)
        if not self.has_fma:
            return self.new(f"fadd {kind} {self.new(f'fmul {kind} {a}, {b}')}, {c}")
        return self.call(f"llvm.fma.v{lanes}{suffix(dtype)}", kind, (kind, a), (kind, b), (kind, c))

    def callable_module(self) -> str:
        """The module of the function; at %otherwise it hands its arguments to the Python function that is ``self``."""
        self.label("otherwise")
        arguments = ("ptr", "%self"), ("ptr", "%args"), ("i64", "%given"), ("ptr", "%names")
        self.line(f"ret ptr {self.call('PyObject_Vectorcall', 'ptr', *arguments)}")
        return self.module("ptr @kernel(ptr %self, ptr %args, i64 %given, ptr %names)")

    def _take(self, i: int) -> None:
        self.line(f"%a{i} = load ptr, ptr {self.new(f'getelementptr ptr, ptr %args, i64 {i}')}")

    def _place(self, i: int, field: str) -> str:
        return self.new(f"getelementptr i8, ptr %a{i}, i64 {self.header + _FIELDS[field]}")

    def _type(self, name: str) -> str:
        """One of NumPy's types."""
        self.declared[f"flowgraph_{name}"] = f"@flowgraph_{name} = external global i8"
        return f"@flowgraph_{name}"
