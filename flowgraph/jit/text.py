"""Text: a function in LLVM's language, written line by line. What all compiled kernels are written with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..records import Record
from .values import BOOL, Value

_NAMES = {"f": "float", "d": "double", "?": "i1"}

_FLOATS = {
    "add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv",
}  # fmt: skip
_INTEGERS = {"add": "add", "subtract": "sub", "multiply": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl", "lshr": "lshr",
             "ashr": "ashr"}  # fmt: skip
_INTRINSICS = {
    "fma": "fma", "sqrt": "sqrt", "absolute": "fabs", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "roundeven",
    "copysign": "copysign",
}  # fmt: skip


# As NumPy's inner loops have it: pointers to the elements of all operands, sizes, strides in bytes, and a pointer that is not used here.
BARE_SIGNATURE = "void @bare(ptr %operands, ptr %dims, ptr %strides, ptr %data)"


def type_of(dtype: np.dtype[Any], lanes: int = 1) -> str:
    """LLVM's name of a number, or of a vector of them."""
    name = _NAMES.get(dtype.char) or f"i{8 * dtype.itemsize}"
    return name if lanes == 1 else f"<{lanes} x {name}>"


def stored(dtype: np.dtype[Any], lanes: int = 1) -> str:
    """The same as it lies in memory: a truth value is a byte."""
    return type_of(np.dtype("int8") if dtype == BOOL else dtype, lanes)


def vector_of(dtype: np.dtype[Any], lanes: int) -> str:
    """A vector as it lies in memory, which may have one lane."""
    return f"<{lanes} x {stored(dtype)}>"


def literal(number: Any, dtype: np.dtype[Any]) -> str:
    """A number as LLVM writes it."""
    if dtype.kind == "f":
        return f"0x{np.float64(number).view(np.uint64):016X}"
    if dtype == BOOL:
        return "true" if number else "false"
    return str(int(number))


def suffix(dtype: np.dtype[Any]) -> str:
    """How the names of intrinsics for this dtype end."""
    return f"f{8 * dtype.itemsize}" if dtype.kind == "f" else f"i{8 * dtype.itemsize}"


class Carried(Record, frozen=False):
    """What a loop hands on from round to round: in its body the names of the values so far, to be replaced; behind it, of the last ones."""

    counter: str
    values: list[str]


class Text:
    """The lines of a function, the names in it, and what it calls. ``has_scale``: see `llvm.Target`."""

    has_scale = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.count = 0

    def module(self, signature: str) -> str:
        """The whole module: what is declared, and the function."""
        return "\n".join([*self.declared.values(), f"define {signature} {{\nentry:", *self.lines, "}"]) + "\n"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def new(self, text: str) -> str:
        """A line that makes a value; its name."""
        self.count += 1
        self.line(f"%t{self.count} = {text}")
        return f"%t{self.count}"

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def call(self, function: str, result: str, *operands: tuple[str, str]) -> str:
        self.declared[function] = f"declare {result} @{function}({', '.join(kind for kind, _ in operands)})"
        text = f"call {result} @{function}({', '.join(f'{kind} {name}' for kind, name in operands)})"
        if result == "void":
            self.line(text)
            return ""
        return self.new(text)

    # In the form with a number for the alignment, which older versions of LLVM want and newer ones still read.

    def masked_load(self, dtype: np.dtype[Any], lanes: int, at: str, mask: str, fill: str = "zeroinitializer") -> str:
        """A vector from memory; lanes that ``mask`` leaves out are not touched there, and are those of ``fill``."""
        vector, bits = vector_of(dtype, lanes), f"<{lanes} x i1>"
        function = f"llvm.masked.load.v{lanes}{suffix(dtype)}.p0"
        return self.call(function, vector, ("ptr", at), ("i32", str(dtype.itemsize)), (bits, mask), (vector, fill))

    def masked_store(self, dtype: np.dtype[Any], lanes: int, vector: str, at: str, mask: str) -> None:
        function = f"llvm.masked.store.v{lanes}{suffix(dtype)}.p0"
        kind = vector_of(dtype, lanes)
        self.call(function, "void", (kind, vector), ("ptr", at), ("i32", str(dtype.itemsize)), (f"<{lanes} x i1>", mask))

    def spread(self, name: str, lanes: int, kind: str) -> str:
        """One value in all lanes."""
        first = self.new(f"insertelement <{lanes} x {kind}> poison, {kind} {name}, i32 0")
        return self.new(f"shufflevector <{lanes} x {kind}> {first}, <{lanes} x {kind}> poison, <{lanes} x i32> zeroinitializer")

    def shuffled(self, dtype: np.dtype[Any], a: str, b: str, lanes: int, order: Iterable[int]) -> str:
        """The lanes of ``a`` and, counted on, of ``b`` in another order."""
        kind, choice = vector_of(dtype, lanes), [f"i32 {k}" for k in order]
        return self.new(f"shufflevector {kind} {a}, {kind} {b}, <{len(choice)} x i32> <{', '.join(choice)}>")

    @contextmanager
    def only_if(self, condition: str) -> Iterator[None]:
        """What happens where an i1 is true."""
        body, end = self.name("if"), self.name("end")
        self.line(f"br i1 {condition}, label %{body}, label %{end}")
        self.label(body)
        yield
        self.line(f"br label %{end}")
        self.label(end)

    @contextmanager
    def counting(self, limit: str, step: int = 1) -> Iterator[str]:
        """A loop from 0 up to ``limit``; gives the name of its counter."""
        head, body, end = self.name("head"), self.name("body"), self.name("end")
        before, counter, following, go = self.name("before"), f"%{self.name('i')}", f"%{self.name('n')}", f"%{self.name('c')}"
        self.line(f"br label %{before}")
        self.label(before)
        self.line(f"br label %{head}")
        self.label(head)
        self.line(f"{counter} = phi i64 [ 0, %{before} ], [ {following}, %{body}.last ]")
        mark = len(self.lines)
        self.line(f"{go} = icmp slt i64 {counter}, {limit}")
        self.line(f"br i1 {go}, label %{body}, label %{end}")
        self.label(body)
        self.phi_place = mark
        self.entering, self.leaving = before, f"{body}.last"
        yield counter
        self.line(f"br label %{body}.last")
        self.label(f"{body}.last")
        self.line(f"{following} = add nsw i64 {counter}, {step}")
        self.line(f"br label %{head}")
        self.label(end)

    @contextmanager
    def carrying(self, limit: str, kind: str, starts: Sequence[str]) -> Iterator[Carried]:
        """The same with values of one type that each round replaces."""
        names = [f"%{self.name('carried')}" for _ in starts]
        with self.counting(limit) as counter:
            place, entering, leaving = self.phi_place, self.entering, self.leaving
            carried = Carried(counter, list(names))
            yield carried
        self.lines[place:place] = [
            f"  {name} = phi {kind} [ {start}, %{entering} ], [ {end}, %{leaving} ]"
            for name, start, end in zip(names, starts, carried.values, strict=True)
        ]
        carried.values = names

    def primitive(self, value: Value, lanes: int, inputs: Sequence[str]) -> str:
        """The line that makes a value from its ``inputs``."""
        kind, dtype = value.kind, value.dtype
        of = value.inputs[0].dtype
        source, target = type_of(of, lanes), type_of(dtype, lanes)
        if kind == "compare":
            if of.kind == "f":
                predicate = "fcmp " + ("une" if value.data == "ne" else "o" + value.data)
            else:
                sign = "" if value.data in ("eq", "ne") else "s" if of.kind == "i" else "u"
                predicate = "icmp " + sign + value.data
            return self.new(f"{predicate} {source} {inputs[0]}, {inputs[1]}")
        if kind == "select":
            truth = type_of(BOOL, lanes)
            return self.new(f"select {truth} {inputs[0]}, {target} {inputs[1]}, {target} {inputs[2]}")
        if kind == "negative":
            return self.new(f"fneg {target} {inputs[0]}")
        if kind == "bitcast":
            return self.new(f"bitcast {source} {inputs[0]} to {target}")
        if kind == "cast":
            return self.new(f"{_cast(of, dtype)} {source} {inputs[0]} to {target}")
        if kind == "scale":
            return self._scaled(dtype, lanes, inputs[0], inputs[1]) or inputs[2]
        if kind in _INTRINSICS:
            function = f"llvm.{_INTRINSICS[kind]}.{'' if lanes == 1 else f'v{lanes}'}{suffix(dtype)}"
            return self.call(function, target, *[(target, name) for name in inputs])
        table = _FLOATS if dtype.kind == "f" else _INTEGERS
        return self.new(f"{table[kind]} {target} {inputs[0]}, {inputs[1]}")

    def _scaled(self, dtype: np.dtype[Any], lanes: int, x: str, power: str) -> str:
        """``x * 2**power`` in one instruction for each register; "" where there is none."""
        once = 64 // dtype.itemsize
        if not self.has_scale or lanes % once:
            return ""
        kind, whole, mask = type_of(dtype, once), type_of(dtype, lanes), f"i{once}"
        parts = []
        for first in range(0, lanes, once):
            order = ", ".join(f"i32 {first + k}" for k in range(once))
            a, b = [self.new(f"shufflevector {whole} {y}, {whole} poison, <{once} x i32> <{order}>") for y in (x, power)]
            function = f"llvm.x86.avx512.mask.scalef.p{'s' if dtype.char == 'f' else 'd'}.512"
            parts.append(self.call(function, kind, (kind, a), (kind, b), (kind, "zeroinitializer"), (mask, "-1"), ("i32", "4")))
        size = once
        while len(parts) > 1:
            size *= 2
            order = ", ".join(f"i32 {k}" for k in range(size))
            half = type_of(dtype, size // 2)
            pairs = zip(parts[0::2], parts[1::2], strict=True)
            parts = [self.new(f"shufflevector {half} {a}, {half} {b}, <{size} x i32> <{order}>") for a, b in pairs]
        return parts[0]


def _cast(source: np.dtype[Any], target: np.dtype[Any]) -> str:
    if source.kind == "f":
        return "fpext" if target.itemsize > source.itemsize else "fptrunc"
    if target.kind == "f":
        return "sitofp" if source.kind == "i" else "uitofp"
    if target.itemsize > source.itemsize or source == BOOL:
        return "sext" if source.kind == "i" else "zext"
    return "trunc" if target.itemsize < source.itemsize else "bitcast"
