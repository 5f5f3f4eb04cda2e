"""Loops: a `Loop` (what to compute for each element) as the text of an LLVM module.

The text is written for one shape, except that the first dimension may be shorter: the slices of a big loop share their code. Elements of
the last dimension are worked off in vectors of a width that the loop decides, not the processor; LLVM cuts them into registers. So sums
are added up in the same order everywhere.

A row is one run of the last dimension. Where values rest on sums over the row there are several inner loops, one for each phase.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from ..records import Record
from .arguments import ALIGNED, CONTIGUOUS
from .llvm import Target
from .row_products import VECTOR_BYTES, RowProducts
from .text import BARE_SIGNATURE, literal, stored, suffix, type_of
from .values import BOOL, FLOAT64, Unfusable, Value

# A value of an earlier phase is kept for the later ones from this number of primitives on; below, it is computed again.
KEPT_COST = 4
# Doubles of scratch memory on the stack, at most.
SCRATCH = 16384
# Below this many elements a thread keeps Python's lock: letting it go and taking it again costs as much as the loop.
ELEMENTS_WITH_LOCK = 8192


class Window(Record):
    """Where an element of the loop reads an array with as many dimensions: so far behind its own place, or a number where there is none.

    sizes      of the array
    shifts     for each dimension how far behind; may be negative
    low, high  for each dimension the first place in the array that counts, and the first one behind those
    fill       what is read elsewhere
    """

    sizes: tuple[int, ...]
    shifts: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    fill: float

    def covers(self, axis: int, size: int) -> bool:
        """Whether a dimension of ``size`` reads nothing outside."""
        return self.low[axis] <= self.shifts[axis] and size + self.shifts[axis] <= self.high[axis]


class Operand(Record):
    """An array that is read.

    varies   for each dimension of the loop, whether the array has it; where it has not, its one entry serves all
    strided  whether rows may lie apart in memory (a part of the columns of a larger array); only for two dimensions
    window   where another element is read than the loop's own; then the array has all dimensions, in sizes of its own
    across   where it is a matrix of which an element of the loop has a row, or the vector that meets the rows: the numbers of a row
    """

    dtype: np.dtype[Any]
    varies: tuple[bool, ...]
    strided: bool = False
    window: Window | None = None
    across: int = 0


class Result(Record, eq=False):
    """An array that is written.

    value    what goes there
    summed   for each dimension of the loop, whether it is summed over. None of them: an entry for each element, or, for a value that is
             the same all along a row, for each row. Otherwise the first dimension is among them, and for a value of the row the last, too
    divisor  what the sum is divided by
    weighs   the operand, a matrix, whose rows are summed, each times its value; only for one dimension
    """

    value: Value
    summed: tuple[bool, ...]
    divisor: int = 1
    weighs: int | None = None

    @property
    def is_total(self) -> bool:
        return any(self.summed)


class Loop(Record, eq=False):
    """What a kernel does. Loops that compute the same are equal.

    dims      sizes; the first may be less in a call
    counted   (operand or result by number, results behind the operands; sizes of the loop's first dimension in one entry of that array's
              first axis): from it a call knows how long the first dimension is
    operands  what is read
    results   what is written
    """

    dims: tuple[int, ...]
    counted: tuple[int, int]
    operands: tuple[Operand, ...]
    results: tuple[Result, ...]

    @cached_property
    def _pattern(self) -> tuple[Any, ...]:
        """All that its text depends on."""
        operands = [(each.dtype, each.varies, each.strided, each.window and repr(each.window), each.across) for each in self.operands]
        results = [(each.value.number, each.summed, each.divisor, each.weighs) for each in self.results]
        return self.dims, self.counted, *operands, *results, self.results[0].value.arithmetic.pattern()  # (of a window 0.0 equals -0.0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loop) and self._pattern == other._pattern

    def __hash__(self) -> int:
        return hash(self._pattern)

    @property
    def works_in_place(self) -> bool:
        """Whether a result of the full shape may take the memory of an operand of that shape.

        So it is where all that is read of an element is read before any of it is written.
        """
        if any(operand.window is not None for operand in self.operands):
            return False
        phases = {result.value.phase for result in self.results if not result.is_total and not result.value.is_row}
        return len(phases) <= 1 and all(p == max((r.value.phase for r in self.results), default=0) for p in phases)

    def text(self, target: Target) -> str:
        """The module, whose function ``kernel`` Python can call."""
        return _text(self, target)


@cache
def _text(loop: Loop, target: Target) -> str:
    """Written once for equal loops, as of the blocks of a network: it takes 3 ms."""
    return _Writer(loop, target).text()


class _Writer(RowProducts):
    def __init__(self, loop: Loop, target: Target) -> None:
        super().__init__(target)
        self.loop = loop
        self.dims, self.inner = loop.dims, loop.dims[-1]
        self.flat = len(loop.dims) == 1
        values = self._all([result.value for result in loop.results])
        self.lanes = self._width(values, target)
        self.sums = sorted({value for value in values if value.kind in ("sum", "max", "min")}, key=lambda value: value.number)
        self.phases = 1 + max(
            [value.phase - 1 for value in self.sums] + [r.value.phase for r in loop.results if not r.value.is_row], default=0
        )
        self.names: dict[Value, str] = {}  # values of the row
        self.splats: dict[Value, str] = {}
        self.kept: dict[Value, str] = {}  # values kept from phase to phase -> their scratch memory
        self.kept_in: dict[Value, int] = {}  # the phase that computes them

    def _width(self, values: Sequence[Value], target: Target) -> int:
        """Elements that are worked off at once: the same everywhere where there are sums, as it decides the order of their additions."""
        size = max(value.dtype.itemsize for value in values)
        if any(value.kind in ("sum", "max", "min") for value in values) or any(result.is_total for result in self.loop.results):
            lanes = 16 if size == 8 or len(values) > 150 else 32
        else:
            # Four vectors of each value keep the arithmetic busy (gelu: 0.30 ns an element for 0.44 with one), and that with 16 registers,
            # too (a Zen 3's: exp 0.33 ns for 0.41 with two, erf 0.63 for 0.76).
            vectors = 4 if len(values) <= 150 else 2
            lanes = max(16, vectors * target.registers.bytes // max(size, 4))
            while self.flat and lanes > 16 and lanes >= 2 * self.inner:
                lanes //= 2
        while not self.flat and lanes > 4 and lanes >= 2 * self.inner:
            lanes //= 2
        while not self.flat and lanes > 16 and self.inner % lanes and self.inner < 4 * lanes:
            lanes //= 2  # the last vector of each row should not be mostly empty
        return lanes

    # --- the module

    def text(self) -> str:
        loop, number = self.loop, len(self.loop.operands) + len(self.loop.results)
        self._load_arguments(number)
        releases = math.prod(self.dims) * self.phases > ELEMENTS_WITH_LOCK
        saved = self.call("PyEval_SaveThread", "ptr") if releases else ""
        self.line("call void @bare(ptr %operands, ptr %dims, ptr %strides, ptr null)")
        if releases:
            self.call("PyEval_RestoreThread", "void", ("ptr", saved))
        self.call("Py_IncRef", "void", ("ptr", f"%a{number - 1}"))
        self.line(f"ret ptr %a{number - 1}")
        return self.callable_module() + self._bare(loop)

    def _bare(self, loop: Loop) -> str:
        """The loop over bare memory, with the signature of NumPy's inner loops (see `tape`)."""
        self.lines = []
        for i in range(len(loop.operands)):
            self.line(f"%p{i} = load ptr, ptr {self.new(f'getelementptr ptr, ptr %operands, i64 {i}')}")
            if loop.operands[i].strided:
                self.line(f"%stride{i} = load i64, ptr {self.new(f'getelementptr i64, ptr %strides, i64 {i}')}")
        for i in range(len(loop.results)):
            self.line(f"%o{i} = load ptr, ptr {self.new(f'getelementptr ptr, ptr %operands, i64 {len(loop.operands) + i}')}")
        self.line("%n0 = load i64, ptr %dims")
        declared, self.declared = self.declared, {}
        self._allocate()
        if self.flat:
            self._row([], "%n0")
        else:
            self._nest([], 0)
        self._store_totals()
        self.line("ret void")
        self.declared = {name: text for name, text in self.declared.items() if name not in declared}
        return self.module(BARE_SIGNATURE)

    def _load_arguments(self, number: int) -> None:
        """Pointers to the elements of all arrays, and the other arguments of `BARE_SIGNATURE`."""
        loop = self.loop
        for name, kind, count in (("operands", "ptr", number), ("strides", "i64", number), ("dims", "i64", 1)):
            self.line(f"%{name} = alloca [{count} x {kind}]")
        checks = []
        for i, operand in enumerate([*loop.operands, *(None for _ in loop.results)]):
            if operand is not None and not any(operand.varies) and not operand.across:
                data, check = self.take_number(i, operand.dtype)
            else:
                data, check = self.take_array(i, ALIGNED if operand is not None and operand.strided else ALIGNED | CONTIGUOUS)
            checks.append(check)
            self.line(f"store ptr {data}, ptr {self.new(f'getelementptr ptr, ptr %operands, i64 {i}')}")
            if operand is not None and operand.strided:
                strides = self.field(i, "strides")
                first = self.new(f"load i64, ptr {strides}")
                self.line(f"store i64 {first}, ptr {self.new(f'getelementptr i64, ptr %strides, i64 {i}')}")
                step = self.new(f"load i64, ptr {self.new(f'getelementptr i64, ptr {strides}, i64 1')}")
                checks.append(self.new(f"icmp eq i64 {step}, {operand.dtype.itemsize}"))
        array, factor = loop.counted
        rows = self.new(f"load i64, ptr {self.field(array, 'dimensions')}") if factor else "1"
        self.line(f"store i64 {self.new(f'mul i64 {rows}, {max(factor, 1)}')}, ptr %dims")
        self.go_on_if(checks)

    def _allocate(self) -> None:
        """Scratch memory: sums over the first dimension, and values kept from phase to phase."""
        used = 0
        self.totals: dict[int, str] = {}
        for i, result in enumerate(self.loop.results):
            if result.is_total:
                lanes = max(self.lanes, VECTOR_BYTES // 4)
                size = -(-self._kept_size(result) // lanes) * lanes
                used += size
                self.totals[i] = self.new(f"alloca [{size} x double], align 64")
                self.call("llvm.memset.p0.i64", "void", ("ptr", self.totals[i]), ("i8", "0"), ("i64", str(8 * size)), ("i1", "false"))
        if used > SCRATCH:
            raise Unfusable("the sums need too much memory")
        if any(operand.across for operand in self.loop.operands):
            self.of_rows = self.new(f"alloca [{self.lanes} x double], align 64")  # a number for each row that is worked off at once
        padded = -(-self.inner // self.lanes) * self.lanes
        needed = [set(self._needed(phase)) for phase in range(self.phases)]
        for phase in range(1, 1 if self.flat else self.phases):

            def keep(value: Value, phase: int = phase) -> bool:
                nonlocal used
                if value in self.kept:
                    return True
                early = next((p for p in range(phase) if value in needed[p]), None)
                if early is None or self._cost(value) < KEPT_COST or used + padded > SCRATCH:
                    return value.is_row
                used += padded
                self.kept[value] = self.new(f"alloca [{padded} x {stored(value.dtype)}], align 64")
                self.kept_in[value] = early
                return True

            self._all(self._roots(phase), stop=keep, skip_rows=True)

    def _kept_size(self, result: Result) -> int:
        if result.weighs is not None:
            return self.loop.operands[result.weighs].across
        return math.prod(d for d, summed in zip(self.dims, result.summed, strict=True) if not summed)

    def _nest(self, counters: list[str], depth: int) -> None:
        """The loops over all dimensions but the last."""
        with self.counting("%n0" if depth == 0 else str(self.dims[depth])) as counter:
            if depth + 2 == len(self.dims):
                self._row([*counters, counter], str(self.inner))
            else:
                self._nest([*counters, counter], depth + 1)

    # --- a row

    def _row(self, counters: list[str], length: str) -> None:
        loop = self.loop
        self.counters = counters
        self.names.clear()
        self.splats.clear()
        self.bases = [self._address(f"%p{i}", o, counters, f"%stride{i}") for i, o in enumerate(loop.operands)]
        everywhere = tuple([True] * len(self.dims))
        self.targets = [
            self._address(f"%o{i}", Operand(r.value.dtype, everywhere if not r.value.is_row else (*everywhere[:-1], False)), counters, "")
            for i, r in enumerate(loop.results)
        ]
        for phase in range(self.phases):
            self._phase(phase, length)
        for i, result in enumerate(loop.results):
            if result.value.is_row:
                name, dtype = self._of_row(result.value), result.value.dtype
                if result.is_total:
                    self._add_to_total(i, name if dtype == FLOAT64 else self.new(f"fpext {type_of(dtype)} {name} to double"))
                else:
                    self._store(name, dtype, self.targets[i], 1)

    def _address(self, pointer: str, operand: Operand, counters: Sequence[str], stride: str) -> str:
        """Where the row of an array begins."""
        at, size = pointer, operand.dtype.itemsize
        if operand.window is not None:
            return self._window_address(pointer, operand.window, counters, size)
        step = size * (self.inner if operand.varies[-1] else 1)
        for depth in range(len(counters) - 1, -1, -1):
            if operand.varies[depth]:
                by = stride if operand.strided else str(step)
                offset = self.new(f"mul nsw i64 {counters[depth]}, {by}")
                at = self.new(f"getelementptr i8, ptr {at}, i64 {offset}")
                step *= self.dims[depth]
        return at

    def _window_address(self, pointer: str, window: Window, counters: Sequence[str], size: int) -> str:
        """Where the row begins that is read; outside the array where `_inside_row` is false."""
        at = self.new(f"getelementptr i8, ptr {pointer}, i64 {size * window.shifts[-1]}")
        step = size * window.sizes[-1]
        for depth in range(len(counters) - 1, -1, -1):
            place = self.new(f"add nsw i64 {counters[depth]}, {window.shifts[depth]}")
            at = self.new(f"getelementptr i8, ptr {at}, i64 {self.new(f'mul nsw i64 {place}, {step}')}")
            step *= window.sizes[depth]
        return at

    def _inside_row(self, window: Window) -> str:
        """Whether there is such a row."""
        checks = []
        for depth, counter in enumerate(self.counters):
            if not window.covers(depth, self.dims[depth]):
                place = self.new(f"add nsw i64 {counter}, {window.shifts[depth]}")
                checks += [self.new(f"icmp sge i64 {place}, {window.low[depth]}"), self.new(f"icmp slt i64 {place}, {window.high[depth]}")]
        return self.all_of(checks)

    def _phase(self, phase: int, length: str) -> None:
        """One loop over the row: what is summed up in it, and what is stored."""
        results = [(i, r) for i, r in enumerate(self.loop.results) if not r.value.is_row and r.value.phase == phase]
        sums = [value for value in self.sums if value.phase == phase + 1]
        if not results and not sums:
            return
        needed = self._needed(phase)
        for value in needed:
            for source in value.inputs:
                if source.is_row:
                    self._splat(source)
        for value in (*(s.inputs[0] for s in sums), *(r.value for _, r in results)):
            if value.is_row:
                self._splat(value)
        totals = [(i, r) for i, r in results if r.is_total and r.summed[-1] and r.weighs is None]
        added: dict[Any, tuple[str, str, Value, str]] = {}  # what is added up: its name at the start, at the end, the value, the kind
        lanes = self.lanes
        with self.counting(length, lanes) as j:
            place, entering, leaving = self.phi_place, self.entering, self.leaving
            mask = self._load_all([v for v in needed if v.kind == "load" or (self._is_kept(v, phase))], j, length)
            for value in needed:
                if value not in self.element:
                    if value.kind == "position":
                        self.element[value] = self._position(j)
                    elif value.kind == "row product":
                        self.element[value] = self._row_product(value, j, length)
                    else:
                        self.element[value] = self.primitive(value, lanes, [self._operand(x, lanes) for x in value.inputs])
                    if self.kept_in.get(value) == phase:
                        at = self.new(f"getelementptr {stored(value.dtype)}, ptr {self.kept[value]}, i64 {j}")
                        self._store(self.element[value], value.dtype, at, lanes)
            for key, value, kind in [*((s, s.inputs[0], s.kind) for s in sums), *((i, r.value, "sum") for i, r in totals)]:
                start = f"%{self.name('sum')}"
                added[key] = (start, self._accumulate(kind, start, value, mask), value, kind)
            for i, result in results:
                if not result.is_total:
                    self._store_elements(result.value, self.targets[i], j, mask, length)
                elif result.weighs is not None:
                    self._add_rows(i, result, result.weighs, j, length)
                elif not result.summed[-1]:
                    self._add_to_columns(i, result, j, mask)
        for start, end, value, kind in added.values():
            dtype = FLOAT64 if kind == "sum" else value.dtype
            first = {"sum": "-0.0", "max": "-inf", "min": "inf"}[kind]
            text = f"splat ({type_of(dtype)} {literal(float(first), dtype)})"
            self.lines.insert(place, f"  {start} = phi {type_of(dtype, lanes)} [ {text}, %{entering} ], [ {end}, %{leaving} ]")
            place += 1
        for key, (start, _, value, kind) in added.items():
            total = self._across(kind, start, FLOAT64 if kind == "sum" else value.dtype)
            if isinstance(key, Value):
                self.names[key] = self._rounded(total, key.dtype) if kind == "sum" else total
            else:
                self._add_to_total(key, total)

    def _needed(self, phase: int) -> list[Value]:
        """The values of elements that a phase computes, each behind what it rests on."""
        return self._all(self._roots(phase), stop=lambda value: self._is_kept(value, phase), skip_rows=True)

    def _roots(self, phase: int) -> list[Value]:
        roots = [value.inputs[0] for value in self.sums if value.phase == phase + 1]
        return roots + [r.value for r in self.loop.results if not r.value.is_row and r.value.phase == phase]

    def _is_kept(self, value: Value, phase: int) -> bool:
        """Whether a phase finds the value in scratch memory."""
        return self.kept_in.get(value, phase) < phase

    def _all(self, roots: Iterable[Value], stop: Any = lambda value: False, skip_rows: bool = False) -> list[Value]:
        seen: set[Value] = set()
        stack = list(roots)
        while stack:
            value = stack.pop()
            if value not in seen and not (skip_rows and value.is_row):
                seen.add(value)
                if not stop(value):
                    stack += value.inputs
        return sorted(seen, key=lambda value: value.number)

    def _cost(self, value: Value) -> int:
        """Primitives behind a value of an element."""
        cheap = ("load", "constant")
        return sum((8 if v.kind in ("divide", "sqrt") else 1) for v in self._all([value], skip_rows=True) if v.kind not in cheap)

    # --- loads and stores of elements

    def _load_all(self, values: Sequence[Value], j: str, length: str) -> str | None:
        """Loads a vector of each value, the last one of a row by a mask; fills `element`. Gives the name of the mask, if there is one."""
        self.element: dict[Value, str] = {}
        lanes = self.lanes
        beside = [value for value in values if self._reads_outside(value)]
        if beside:
            self._load_windows(beside, j)
            values = [value for value in values if value not in self.element]
        static = None if length.startswith("%") else int(length)
        if static is not None and static % lanes == 0:
            for value in values:
                self.element[value] = self._load(value, j, None)
            return None
        left = self.new(f"sub nsw i64 {length}, {j}")
        if static is not None and static < lanes:
            mask = self._mask(left)
            for value in values:
                self.element[value] = self._load(value, j, mask)
            return mask
        full, part, go = self.name("full"), self.name("part"), self.name("go")
        is_full = self.new(f"icmp sge i64 {left}, {lanes}")
        self.line(f"br i1 {is_full}, label %{full}, label %{part}")
        self.label(full)
        whole = [self._load(value, j, None) for value in values]
        self.line(f"br label %{go}")
        self.label(part)
        some = self._mask(left)
        masked = [self._load(value, j, some) for value in values]
        self.line(f"br label %{go}")
        self.label(go)
        mask = self.new(f"phi <{lanes} x i1> [ splat (i1 true), %{full} ], [ {some}, %{part} ]")
        for value, a, b in zip(values, whole, masked, strict=True):
            self.element[value] = self.new(f"phi {type_of(value.dtype, lanes)} [ {a}, %{full} ], [ {b}, %{part} ]")
        self.is_full = is_full
        return mask

    def _position(self, j: str) -> str:
        lanes = self.lanes
        first = self.spread(self.new(f"trunc i64 {j} to i32"), self.lanes, "i32")
        return self.new(f"add <{lanes} x i32> {first}, <{', '.join(f'i32 {k}' for k in range(lanes))}>")

    def _row_product(self, value: Value, j: str, length: str) -> str:
        matrix, vector = value.data
        width = self.loop.operands[matrix].across
        rows = self.new(f"getelementptr i8, ptr %p{matrix}, i64 {self.new(f'mul nsw i64 {j}, {width * value.dtype.itemsize}')}")
        self.multiply_rows(rows, f"%p{vector}", value.dtype, width, self.lanes, self._rows_left(j, length), self.of_rows)
        return self.new(f"load {type_of(value.dtype, self.lanes)}, ptr {self.of_rows}, align 64")

    def _add_rows(self, i: int, result: Result, matrix: int, j: str, length: str) -> None:
        dtype, width = result.value.dtype, self.loop.operands[matrix].across
        self.line(f"store {type_of(dtype, self.lanes)} {self._operand(result.value, self.lanes)}, ptr {self.of_rows}, align 64")
        rows = self.new(f"getelementptr i8, ptr %p{matrix}, i64 {self.new(f'mul nsw i64 {j}, {width * dtype.itemsize}')}")
        self.add_rows(rows, self.of_rows, dtype, width, self._rows_left(j, length), self.totals[i])

    def _rows_left(self, j: str, length: str) -> str:
        """How many of the rows from ``j`` on are worked off at once."""
        left = self.new(f"sub nsw i64 {length}, {j}")
        return self.call("llvm.smin.i64", "i64", ("i64", left), ("i64", str(self.lanes)))

    def _reads_outside(self, value: Value) -> bool:
        """Whether a load reads places where its array has nothing."""
        window = self.loop.operands[value.data].window if value.kind == "load" else None
        return window is not None and not all(window.covers(axis, size) for axis, size in enumerate(self.dims))

    def _load_windows(self, values: Sequence[Value], j: str) -> None:
        """Loads a vector of each of ``values`` where all of all of them is there; else by masks. Fills `element`."""
        lanes, windows = self.lanes, {value: self._window(value) for value in values}
        rows = {value: self._inside_row(window) for value, window in windows.items()}
        first = -(-self.inner // lanes) * lanes  # where the counter ends
        low = max(window.low[-1] - window.shifts[-1] for window in windows.values())
        high = min(window.high[-1] - window.shifts[-1] for window in windows.values()) - lanes
        checks = [row for row in dict.fromkeys(rows.values()) if row != "true"]
        checks += [self.new(f"icmp sge i64 {j}, {low}")] if low > 0 else []
        checks += [self.new(f"icmp sle i64 {j}, {high}")] if high < first else []
        inside, beside, go = self.name("inside"), self.name("beside"), self.name("go")
        self.line(f"br i1 {self.all_of(checks)}, label %{inside}, label %{beside}")
        self.label(inside)
        plain = [self._load(value, j, None) for value in values]
        self.line(f"br label %{go}")
        self.label(beside)
        masked = [self._load(value, j, self._window_mask(window, rows[value], j), window.fill) for value, window in windows.items()]
        self.line(f"br label %{go}")
        self.label(go)
        for value, a, b in zip(values, plain, masked, strict=True):
            self.element[value] = self.new(f"phi {type_of(value.dtype, lanes)} [ {a}, %{inside} ], [ {b}, %{beside} ]")

    def _window(self, value: Value) -> Window:
        window: Window | None = self.loop.operands[value.data].window
        assert window is not None
        return window

    def _window_mask(self, window: Window, row: str, j: str) -> str:
        """The lanes that have an element."""
        bits = f"<{self.lanes} x i1>"
        start = self.new(f"sub nsw i64 {window.low[-1] - window.shifts[-1]}, {j}")
        before = self.new(f"xor {bits} {self._mask(start)}, splat (i1 true)")
        end = self.new(f"sub nsw i64 {window.high[-1] - window.shifts[-1]}, {j}")
        mask = self.new(f"and {bits} {before}, {self._mask(end)}")
        return mask if row == "true" else self.new(f"select i1 {row}, {bits} {mask}, {bits} zeroinitializer")

    def _mask(self, left: str) -> str:
        lanes = self.lanes
        short = self.new(f"trunc i64 {left} to i32")
        limit = self.spread(short, self.lanes, "i32")
        order = ", ".join(f"i32 {k}" for k in range(lanes))
        return self.new(f"icmp slt <{lanes} x i32> <{order}>, {limit}")

    def _load(self, value: Value, j: str, mask: str | None, fill: float = 0.0) -> str:
        lanes, kind = self.lanes, stored(value.dtype, self.lanes)
        if value.kind == "load":
            base, align = self.bases[value.data], value.dtype.itemsize
        else:
            base, align, mask = self.kept[value], 64, None
        at = self.new(f"getelementptr {stored(value.dtype)}, ptr {base}, i64 {j}")
        if mask is None:
            loaded = self.new(f"load {kind}, ptr {at}, align {align}")
        else:
            splat = (
                "zeroinitializer"
                if repr(fill) == "0.0"
                else f"splat ({type_of(value.dtype)} {literal(value.dtype.type(fill), value.dtype)})"
            )
            loaded = self.masked_load(value.dtype, lanes, at, mask, splat)
        return self.new(f"icmp ne {kind} {loaded}, zeroinitializer") if value.dtype == BOOL else loaded

    def _store_elements(self, value: Value, target: str, j: str, mask: str | None, length: str) -> None:
        lanes, dtype = self.lanes, value.dtype
        name = self._operand(value, lanes)
        at = self.new(f"getelementptr {stored(dtype)}, ptr {target}, i64 {j}")
        if mask is None:
            self._store(name, dtype, at, lanes)
            return
        static = None if length.startswith("%") else int(length)
        if static is not None and static < lanes:
            self._masked_store(name, dtype, at, mask)
            return
        full, part, go = self.name("full"), self.name("part"), self.name("go")
        self.line(f"br i1 {self.is_full}, label %{full}, label %{part}")
        self.label(full)
        self._store(name, dtype, at, lanes)
        self.line(f"br label %{go}")
        self.label(part)
        self._masked_store(name, dtype, at, mask)
        self.line(f"br label %{go}")
        self.label(go)

    def _store(self, name: str, dtype: np.dtype[Any], at: str, lanes: int) -> None:
        if dtype == BOOL:
            name = self.new(f"zext {type_of(dtype, lanes)} {name} to {stored(dtype, lanes)}")
        self.line(f"store {stored(dtype, lanes)} {name}, ptr {at}, align {dtype.itemsize}")

    def _masked_store(self, name: str, dtype: np.dtype[Any], at: str, mask: str) -> None:
        lanes, kind = self.lanes, stored(dtype, self.lanes)
        if dtype == BOOL:
            name = self.new(f"zext {type_of(dtype, lanes)} {name} to {kind}")
        self.masked_store(dtype, lanes, name, at, mask)

    # --- sums

    def _accumulate(self, kind: str, start: str, value: Value, mask: str | None) -> str:
        """``start`` with a vector of ``value`` added; lanes beyond the row do not count."""
        lanes = self.lanes
        name, dtype = self._operand(value, lanes), value.dtype
        if kind == "sum":
            if dtype != FLOAT64:
                name, dtype = self.new(f"fpext {type_of(dtype, lanes)} {name} to {type_of(FLOAT64, lanes)}"), FLOAT64
            vector = type_of(dtype, lanes)
            if mask is not None:
                name = self.new(f"select <{lanes} x i1> {mask}, {vector} {name}, {vector} splat (double -0.0)")
            return self.new(f"fadd {vector} {start}, {name}")
        vector = type_of(dtype, lanes)
        better = self.new(f"fcmp {'ugt' if kind == 'max' else 'ult'} {vector} {name}, {start}")
        # (Also true for NaN: it is taken, and, once there, kept.)
        stays = self.new(f"fcmp uno {vector} {start}, {start}")
        keep = self.new(f"xor <{lanes} x i1> {stays}, splat (i1 true)")
        better = self.new(f"and <{lanes} x i1> {better}, {keep}")
        if mask is not None:
            better = self.new(f"and <{lanes} x i1> {better}, {mask}")
        return self.new(f"select <{lanes} x i1> {better}, {vector} {name}, {vector} {start}")

    def _across(self, kind: str, vector: str, dtype: np.dtype[Any]) -> str:
        """The lanes of a vector as one number, halves upon halves."""
        lanes = self.lanes
        while lanes > 1:
            half = lanes // 2
            low, high = ", ".join(f"i32 {k}" for k in range(half)), ", ".join(f"i32 {k + half}" for k in range(half))
            whole = type_of(dtype, lanes)
            parts = [self.new(f"shufflevector {whole} {vector}, {whole} poison, <{half} x i32> <{order}>") for order in (low, high)]
            kind_of = f"<{half} x {type_of(dtype)}>"
            if kind == "sum":
                vector = self.new(f"fadd {kind_of} {parts[0]}, {parts[1]}")
            else:
                function = f"llvm.{'maximum' if kind == 'max' else 'minimum'}.v{half}{suffix(dtype)}"
                vector = self.call(function, kind_of, (kind_of, parts[0]), (kind_of, parts[1]))
            lanes = half
        return self.new(f"extractelement <1 x {type_of(dtype)}> {vector}, i32 0")

    def _add_to_columns(self, i: int, result: Result, j: str, mask: str | None) -> None:
        lanes, dtype = self.lanes, result.value.dtype
        name = self._operand(result.value, lanes)
        vector = type_of(FLOAT64, lanes)
        if dtype != FLOAT64:
            name = self.new(f"fpext {type_of(dtype, lanes)} {name} to {vector}")
        at = self.new(f"getelementptr double, ptr {self._total_place(i)}, i64 {j}")
        old = self.new(f"load {vector}, ptr {at}, align 8")
        # (Lanes beyond the row fall into the padding, or are added to the next row's sums as the zeros that a masked load gives.)
        if mask is not None:
            name = self.new(f"select <{lanes} x i1> {mask}, {vector} {name}, {vector} zeroinitializer")
        self.line(f"store {vector} {self.new(f'fadd {vector} {old}, {name}')}, ptr {at}, align 8")

    def _add_to_total(self, i: int, name: str) -> None:
        at = self._total_place(i)
        old = self.new(f"load double, ptr {at}")
        self.line(f"store double {self.new(f'fadd double {old}, {name}')}, ptr {at}")

    def _total_place(self, i: int) -> str:
        """Where the sums of this row are added up."""
        summed = self.loop.results[i].summed
        at, step = self.totals[i], 1 if summed[-1] else self.inner
        for depth in range(len(self.counters) - 1, -1, -1):
            if not summed[depth]:
                offset = self.new(f"mul nsw i64 {self.counters[depth]}, {step}")
                at = self.new(f"getelementptr double, ptr {at}, i64 {offset}")
                step *= self.dims[depth]
        return at

    def _store_totals(self) -> None:
        for i, result in enumerate(self.loop.results):
            if not result.is_total:
                continue
            dtype = result.value.dtype
            with self.counting(str(self._kept_size(result))) as k:
                total = self.new(f"load double, ptr {self.new(f'getelementptr double, ptr {self.totals[i]}, i64 {k}')}")
                if result.divisor != 1:
                    total = self.new(f"fdiv double {total}, {literal(result.divisor, FLOAT64)}")
                at = self.new(f"getelementptr {stored(dtype)}, ptr %o{i}, i64 {k}")
                self._store(self._rounded(total, dtype), dtype, at, 1)

    def _rounded(self, name: str, dtype: np.dtype[Any]) -> str:
        return name if dtype == FLOAT64 else self.new(f"fptrunc double {name} to {type_of(dtype)}")

    # --- primitives

    def _of_row(self, value: Value) -> str:
        """The name of a value that is the same all along the row."""
        if value not in self.names:
            if value.kind == "load":
                loaded = self.new(f"load {stored(value.dtype)}, ptr {self.bases[value.data]}, align {value.dtype.itemsize}")
                if value.dtype == BOOL:
                    loaded = self.new(f"icmp ne i8 {loaded}, 0")
                self.names[value] = loaded
            elif value.kind == "constant":
                return literal(np.frombuffer(value.data, value.dtype)[0], value.dtype)
            else:
                for source in self._all([value]):  # (recursion could be deep)
                    if source is not value and source.kind not in ("constant", "sum", "max", "min") and self._is_ready(source):
                        self._of_row(source)
                self.names[value] = self.primitive(value, 1, [self._of_row(x) for x in value.inputs])
        return self.names[value]

    def _is_ready(self, value: Value) -> bool:
        return value.is_row and all(source in self.names or source.kind in ("constant", "load") for source in value.inputs)

    def _splat(self, value: Value) -> str:
        if value not in self.splats:
            kind = type_of(value.dtype)
            if value.kind == "constant":
                self.splats[value] = f"splat ({kind} {self._of_row(value)})"
            else:
                self.splats[value] = self.spread(self._of_row(value), self.lanes, kind)
        return self.splats[value]

    def _operand(self, value: Value, lanes: int) -> str:
        return self._splat(value) if value.is_row else self.element[value]
