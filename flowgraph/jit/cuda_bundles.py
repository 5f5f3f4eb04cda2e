"""Bundles: how a thread of a CUDA kernel reads, computes and writes several elements of a loop at once.

A bundle has ``steps`` times ``wide`` elements: as many side by side as one access to memory takes and the length of a row is a multiple of
(where arrays begin at a bound of 16 bytes, else they are taken one by one), and the steps so far apart that neighbours read neighbours. All
that a bundle reads is asked for before any of it is used, so that memory is kept busy. Places beyond the last are taken for the last: they
are read, but never stored or summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from ..records import Record
from .bounds import bounds
from .cuda_values import literal, missing, primitive, type_of
from .loops import Loop, Operand, Window
from .values import FLOAT32, Value, in_order

# Threads of a block.
THREADS = 256
# Numbers of 32 bits that a thread keeps in registers for a bundle, and primitives that are written out for it; at most.
REGISTERS, WRITTEN = 96, 2048
# Below this many elements places are reckoned with in 32 bits. (Some of them are beyond the last.)
SMALL = 2**31 - 2**23
# Primitives that are none, or several instructions.
_WEIGHTS = {"constant": 0, "load": 0, "position": 0, "divide": 6, "sqrt": 6}


def weight_of(values: Iterable[Value]) -> int:
    """About how many instructions make these values."""
    return sum(_WEIGHTS.get(value.kind, 1) for value in values)


class Quotient(Record):
    """How a quotient of floats of 32 bits is found by multiplications, and what has to be seen to then.

    With the divisor between 2**-40 and 2**40, and the quotient between 2**-60 and 2**60, what is lost of a product with the divisor's
    reciprocal has all its bits; and with that the quotient is rounded once. (With the rounded reciprocal of each divisor that was tried on
    all quotients that come within 20 / 2**24 of the midpoint of two floats; farther away errors are too small to matter.)

    divisor, small, large  whether the divisor may be out of bounds; the quotient too small, too large
    """

    divisor: bool
    small: bool
    large: bool


SURE = Quotient(False, False, False)


class Parts(Record):
    """Numbers of 64 bits that blocks leave behind ``start``: for each of ``size`` sums ``entries``. ``by_row``: one for each row."""

    start: int
    entries: int
    size: int
    by_row: bool


class Bundles:
    """The lines of kernels for a loop.

    position  writes where step ``s`` of the bundle is: c0, c1... and j, the places along the dimensions, and sets ``full``
    full      the place of an element in arrays of the loop's own shape
    """

    position: Callable[[], None]

    def __init__(self, loop: Loop) -> None:
        self.loop, self.dims, self.inner, self.last = loop, loop.dims, loop.dims[-1], len(loop.dims) - 1
        self.rows = math.prod(loop.dims[:-1])
        self.lines: list[str] = []
        self.depth = 1
        windows = [o.window for o in loop.operands if o.window is not None]
        largest = max(math.prod(sizes) for sizes in [loop.dims, *[window.sizes for window in windows]])
        self.index, self.suffix = ("unsigned", "u") if largest < SMALL else ("unsigned long long", "ull")
        self.wide = 1 if windows else next(n for n in (4, 2, 1) if self.inner % n == 0)
        self.steps, self.full = 1, ""
        self.values = in_order([result.value for result in loop.results])
        self.weight = weight_of(self.values)
        self.totals = [i for i, result in enumerate(loop.results) if result.is_total]
        self.along = [i for i in range(len(loop.operands)) if self.runs_along(i)]
        self.parts: dict[int, Parts] = {}
        self.bounds = bounds(self.values)
        self.quotients = self._quotients()

    # --- lines

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, text: str) -> Iterator[None]:
        self.line(f"{text} {{" if text else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    @contextmanager
    def each(self, counter: str, count: int) -> Iterator[None]:
        """Lines for each of a few: the compiler writes them out."""
        self.line("#pragma unroll")
        with self.block(f"for (int {counter} = 0; {counter} < {count}; ++{counter})"):
            yield

    def n(self, number: int) -> str:
        """A number that places are reckoned with."""
        return f"{number}{self.suffix}"

    def no_more(self, place: str, last: int) -> str:
        return f"min(({self.index})({place}), {self.n(last)})"

    def function(self, name: str, threads: int) -> list[str]:
        """What has been written, as a kernel."""
        lines, self.lines = self.lines, []
        loop = self.loop
        given = [f"const {type_of(o.dtype)}* __restrict__ p{i}" for i, o in enumerate(loop.operands)]
        given += [f"const long long stride{i}" for i, o in enumerate(loop.operands) if o.strided]
        given += [f"{type_of(r.value.dtype)}* o{i}" for i, r in enumerate(loop.results)]
        parameters = ", ".join([*given, "double* parts"])
        return [f'extern "C" __global__ void __launch_bounds__({threads}) {name}({parameters}) {{', *lines, "}"]

    # --- sums

    def kept(self, i: int) -> tuple[int, ...]:
        """The axes that a sum has left."""
        return tuple([axis for axis, summed in enumerate(self.loop.results[i].summed) if not summed])

    def leave(self, i: int, entries: int = 0) -> int:
        """Makes room for the parts of a sum, or for a part of each row; where it begins."""
        start, size = sum(p.entries * p.size for p in self.parts.values()), math.prod(self.dims[axis] for axis in self.kept(i))
        self.parts[i] = Parts(start, entries or self.rows // size, size, not entries)
        return start

    # --- places

    def coordinates(self, number: str, axes: Sequence[int]) -> None:
        """The place along each of ``axes``, from the number of an element of them."""
        rest = number
        for axis in reversed(axes):
            name = "j" if axis == self.last else f"c{axis}"
            if axis == axes[0]:
                self.line(f"const {self.index} {name} = {rest};")
            else:
                size = self.n(self.dims[axis])
                self.line(f"const {self.index} {name} = {rest} % {size}, left{axis} = {rest} / {size};")
                rest = f"left{axis}"

    def place(self, axes: Iterable[int]) -> str:
        """The number of the element among those of ``axes``."""
        terms, step = [], 1
        for axis in sorted(axes, reverse=True):
            counter = "j" if axis == self.last else f"c{axis}"
            terms.append(counter if step == 1 else f"{counter} * {self.n(step)}")
            step *= self.dims[axis]
        return " + ".join(reversed(terms)) or "0"

    def runs_along(self, number: int) -> bool:
        """Whether an operand has other elements along the row."""
        operand = self.loop.operands[number]
        return operand.varies[-1] or operand.window is not None

    def _place_of(self, number: int) -> str:
        operand = self.loop.operands[number]
        if operand.strided:
            return f"c0 * (unsigned long long)stride{number} + j"
        if all(operand.varies):
            return self.full
        return self.place(axis for axis, varies in enumerate(operand.varies) if varies)

    def element(self, number: int, behind: str = "") -> str:
        """One element of an operand."""
        operand = self.loop.operands[number]
        if operand.window is not None:
            return self._in_window(number, operand, operand.window)
        return f"p{number}[{self._place_of(number)}{behind}]"

    def _in_window(self, number: int, operand: Operand, window: Window) -> str:
        terms, checks, step = [], [], 1
        for axis in range(self.last, -1, -1):
            counter, shift = "j" if axis == self.last else f"c{axis}", window.shifts[axis]
            place = f"({counter} + {shift})" if shift else counter  # (what is below zero is beyond all that there is)
            terms.append(f"{place} * {self.n(step)}")
            step *= window.sizes[axis]
            if not window.covers(axis, self.dims[axis]):
                checks.append(f"{place} >= {self.n(window.low[axis])} && {place} < {self.n(window.high[axis])}")
        loaded = f"p{number}[{' + '.join(reversed(terms))}]"
        return f"{' && '.join(checks)} ? {loaded} : {literal(window.fill, operand.dtype)}" if checks else loaded

    # --- bundles

    def set_steps(self, count: int, streams: int) -> None:
        """A bundle of at most ``count`` elements, so that its ``streams`` fit into registers and its text is not too long."""
        while count > self.wide and (count * streams > REGISTERS or count * self.weight > WRITTEN):
            count //= 2
        self.steps = max(1, count // self.wide)

    def check_alignment(self, results: Iterable[int]) -> None:
        """Sees whether the elements that are side by side may be read and written at once."""
        terms = [f"(unsigned long long)p{i}" for i in self.along] + [f"(unsigned long long)o{i}" for i in results]
        terms += [f"stride{i} * {o.dtype.itemsize}ull" for i, o in enumerate(self.loop.operands) if o.strided]
        if self.wide > 1:
            self.line(f"const bool wide = (({' | '.join(terms)}) & 15) == 0;")

    def load(self, numbers: Iterable[int]) -> dict[Value, str]:
        """Reads a bundle's elements of operands; how they are named in what `compute` writes."""
        numbers = list(numbers)
        packed = [i for i in numbers if self.wide > 1 and self.runs_along(i)]
        single = [i for i in numbers if i not in packed]
        kinds = {i: type_of(self.loop.operands[i].dtype) for i in numbers}
        for i in numbers:
            self.line(f"alignas(16) {kinds[i]} a{i}[{self.steps * (self.wide if i in packed else 1)}];")
        if packed:
            with self.block("if (wide)"), self.each("s", self.steps):
                self.position()
                for i in packed:
                    pack = f"fg_pack<{kinds[i]}, {self.wide}>"
                    self.line(f"*({pack}*)(a{i} + s * {self.wide}) = *(const {pack}*)(p{i} + ({self._place_of(i)}));")
            with self.block("else"), self.each("s", self.steps):
                self.position()
                with self.each("v", self.wide):
                    for i in packed:
                        self.line(f"a{i}[s * {self.wide} + v] = {self.element(i, ' + v')};")
        if single:
            with self.each("s", self.steps):
                self.position()
                for i in single:
                    self.line(f"a{i}[s] = {self.element(i)};")
        names = {i: f"a{i}[{'e' if i in packed else 's'}]" for i in numbers}
        return {value: names[value.data] for value in self.values if value.kind == "load" and value.data in names}

    def compute(
        self,
        inside: str,
        known: Mapping[Value, str],
        stored: Sequence[int] = (),
        added: Sequence[tuple[Value, str]] = (),
        kept: Sequence[Value] = (),
    ) -> None:
        """What happens with each element of a bundle.

        inside  says whether there is such an element; "" where there always is
        stored  results that are written
        added   values, and the line that adds each to a sum
        kept    values that go to registers, h and their number, for a later bundle of the same elements
        """
        guard = "if (inside) " if inside else ""
        roots = [*kept, *[value for value, _ in added], *[self.loop.results[i].value for i in stored]]
        with self.each("s", self.steps):
            self.position()
            known = self._divide({value for root in roots for value in missing(root, known)}, known)
            if inside:
                self.line(f"const bool inside = {inside};")
            for i in stored:
                self.line(f"alignas(16) {type_of(self.loop.results[i].value.dtype)} to{i}[{self.wide}];")
            with self.each("v", self.wide):
                self.line(f"const int e = s * {self.wide} + v;")
                names = dict(known)
                for value in kept:
                    self.line(f"h{value.number}[e] = {self.value(value, names)};")
                for value, text in added:
                    name = self.value(value, names)
                    self.line(f"{guard}{text.format(name)};")
                for i in stored:
                    self.line(f"to{i}[v] = {self.value(self.loop.results[i].value, names)};")
            for i in stored:
                self._store(i, f"o{i} + ({self.full})", guard)

    def _changes_nothing(self, value: Value) -> bool:
        """Whether it holds a number within bounds which that does not leave, anyway."""
        if value.kind != "select" or value.inputs[0].kind != "compare" or value.inputs[0].data not in ("lt", "gt"):
            return False
        (one, other), bound, x = value.inputs[0].inputs, *value.inputs[1:]
        if bound.kind != "constant" or {one, other} != {bound, x}:
            return False
        (low, high), (number, _) = self.bounds[x], self.bounds[bound]
        some = abs(number) / 1000  # (bounds are without what is lost by rounding)
        return low >= number + some if (value.inputs[0].data == "lt") == (one is x) else high <= number - some

    def _quotients(self) -> dict[Value, Quotient]:
        """Those quotients of elements that multiplications find."""
        known, found = self.bounds, {}
        for value in self.values:
            if value.kind == "divide" and value.dtype == FLOAT32 and not value.is_row:
                (low, high), (least, most) = [known[each] for each in value.inputs]
                far, near = max(abs(low), abs(high)), min(abs(low), abs(high)) if low * high > 0 else 0.0
                quotient = Quotient(not 2.0**-40 <= least <= most <= 2.0**40, near < 2.0**-20, far > 2.0**20)
                if value.inputs[1].is_row or not quotient.divisor:
                    found[value] = quotient
        return found

    def _divide(self, needed: set[Value], known: Mapping[Value, str]) -> dict[Value, str]:
        """Finds the quotients among ``needed`` that have to be seen to: all those of a step first, and anew if one is out of bounds."""
        names = dict(known)
        waiting = [value for value, quotient in self.quotients.items() if value in needed and quotient != SURE]
        while waiting:
            now = [value for value in waiting if not any(other is not value and other in waiting for other in missing(value, names))]
            waiting = [value for value in waiting if value not in now]
            fit = f"fit{now[0].number}"
            self.line(f"bool {fit} = true;")
            for value in now:
                self.line(f"float q{value.number}[{self.wide}];")
                if value.inputs[1].is_row:
                    divisor = self.value(value.inputs[1], names, "d")
                    self.line(f"const float reciprocal{value.number} = 1.0f / {divisor};")
                    if self.quotients[value].divisor:
                        self.line(f"{fit} &= fabsf({divisor}) >= 0x1p-40f & fabsf({divisor}) <= 0x1p40f;")
            self._quotients_of(now, names, fit)
            with self.block(f"if (!{fit})"):
                self._quotients_of(now, names, "")
            names |= {value: f"q{value.number}[v]" for value in now}
        return names

    def _quotients_of(self, values: Iterable[Value], known: Mapping[Value, str], fit: str) -> None:
        """Lines for each quotient of a step: by multiplications, with what tells whether they ``fit``; or by division."""
        with self.each("v", self.wide):
            names = dict(known)
            self.line(f"const int e = s * {self.wide} + v;")
            for value in values:
                name, (a, b) = f"q{value.number}[v]", [self.value(each, names) for each in value.inputs]
                if not fit:
                    self.line(f"{name} = {a} / {b};")
                    continue
                reciprocal = f"reciprocal{value.number}" if value.inputs[1].is_row else f"fg_reciprocal({b})"
                self.line(f"{name} = fg_over({a}, {b}, {reciprocal});")
                if self.quotients[value].small:
                    self.line(f"{fit} &= fabsf({name}) >= 0x1p-60f;")
                if self.quotients[value].large:
                    self.line(f"{fit} &= fabsf({name}) <= 0x1p60f;")

    def _store(self, i: int, at: str, guard: str) -> None:
        if self.wide == 1:
            self.line(f"{guard}*({at}) = to{i}[0];")
            return
        pack = f"fg_pack<{type_of(self.loop.results[i].value.dtype)}, {self.wide}>"
        self.line(f"{guard}{{ if (wide) *({pack}*)({at}) = *(const {pack}*)to{i};")
        self.line(f"else for (int v = 0; v < {self.wide}; ++v) ({at})[v] = to{i}[v]; }}")

    def value(self, value: Value, names: dict[Value, str], stem: str = "v") -> str:
        """The name of a value, with the lines that make it of what has ``names``; these are added to."""
        for source in missing(value, names):
            if source.kind == "constant":
                names[source] = literal(np.frombuffer(source.data, source.dtype)[0], source.dtype)
                continue
            if source.kind == "load":
                text = self.element(source.data)
            elif self._changes_nothing(source):
                names[source] = names[source.inputs[2]]
                continue
            elif source.kind == "position":
                text = "(int)(j + v)"
            elif self.quotients.get(source) == SURE:
                a, b = [names[each] for each in source.inputs]
                text = f"fg_over({a}, {b}, fg_reciprocal({b}))"
            else:
                text = primitive(source, [names[each] for each in source.inputs])
            names[source] = f"{stem}{source.number}"
            self.line(f"const {type_of(source.dtype)} {names[source]} = {text};")
        return names[value]
