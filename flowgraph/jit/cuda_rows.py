"""Rows: the form of a CUDA kernel in which some threads share a row, as values may rest on sums over it.

They go over it once for each phase. Where its elements fit into their registers, what they read is read once. Their sums meet by shuffles,
and in shared memory where a row has several warps.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from .cuda_bundles import REGISTERS, THREADS, WRITTEN, Bundles, weight_of
from .cuda_values import literal, missing, type_of
from .values import Value

# So many threads keep a GPU busy: where rows are fewer than that, more threads share one.
MANY = 2**17
# Blocks that add up sums of columns, and those that add up other sums over rows; at most.
COLUMN_BLOCKS, SUM_BLOCKS = 512, 4096
# Elements of a thread, at most, and where it adds up sums of columns.
MOST, MOST_COLUMNS = 16, 8
# A value of an earlier phase is kept for the later ones from this weight on; below, it is computed again.
KEPT_WEIGHT = 6


class Rows(Bundles):
    """Writes the form *rows*.

    side, high  threads of a row, and rows of a block
    is_held     whether a thread keeps its elements of a row from phase to phase; and the values in ``held``, since their phase
    columns     sums of columns that a thread keeps for its places in the row; ``scattered``: those in memory
    ones        sums over all elements
    """

    def by_rows(self) -> tuple[int, tuple[int, int]]:
        """Writes it; the numbers of blocks and threads."""
        results, index, n = self.loop.results, self.index, self.n
        self.sums = [value for value in self.values if value.kind in ("sum", "max", "min")]
        self.of_rows = {value for value in self.values if value.is_row}
        phases = max([0, *[v.phase for v in self.sums], *[1 + r.value.phase for r in results if not r.value.is_row]])
        self.roots = [self._roots(phase) for phase in range(phases)]
        self.ones = [i for i in self.totals if not self.kept(i)]
        self._lay_out([i for i in self.totals if not results[i].summed[-1]])
        self.position, side, high = self._position, self.side, self.high
        groups = -(-self.rows // high)
        most = COLUMN_BLOCKS if self.columns or self.scattered else SUM_BLOCKS if self.ones else groups
        each = -(-groups // min(groups, most))
        grid = -(-groups // each)
        self.starts = {i: self.leave(i, grid) for i in (*self.ones, *self.columns, *self.scattered)}
        self.starts |= {i: self.leave(i) for i in self.totals if i not in self.starts}
        self.check_alignment([i for i, result in enumerate(results) if not result.is_total and not result.value.is_row])
        self._begin_sums()
        if each == 1:
            self.line(f"const {index} group = blockIdx.x;")
        turns = f"for ({index} group = blockIdx.x * {n(each)}; group < (blockIdx.x + 1) * {n(each)}; ++group)"
        with nullcontext() if each == 1 else self.block(turns):
            row, self.is_row = f"group * {high} + threadIdx.y", self.rows % (high * each) != 0
            self.line(f"const {index} row = {self.no_more(row, self.rows - 1) if self.is_row else row};")
            if self.is_row:
                self.line(f"const bool is_row = {row} < {n(self.rows)};")
            self.coordinates("row", range(self.last))
            self._walk()
            if each > 1 and side > 32:
                self.line("__syncthreads();")
        self._leave_sums()
        return grid, (side, high)

    def _roots(self, phase: int) -> list[Value]:
        """What is computed of each element in a phase: for sums, and results."""
        sums = [value.inputs[0] for value in self.sums if value.phase == phase + 1]
        return sums + [r.value for r in self.loop.results if not r.value.is_row and r.value.phase == phase]

    def _lay_out(self, across: list[int]) -> None:
        """Decides how many threads share a row."""
        lanes = self.inner // self.wide
        self.held = self._worth_keeping()
        streams, most = len(self.along) + len(self.held) + 2 * len(across), MOST_COLUMNS if across else MOST
        sides = [side for side in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if side >= min(32, lanes)]
        for self.side in sides:
            self.steps = -(-lanes // self.side)
            count = self.steps * self.wide
            registers = REGISTERS if self.side < 1024 else 40  # (of which such a block has fewer)
            self.is_held = count <= max(most, self.wide) and count * streams <= registers and count * self.weight <= WRITTEN
            if self.is_held and (self.side * self.rows >= MANY or self.side >= lanes):
                break
        if not self.is_held:
            self.held, self.side = {}, 1024 if self.rows * THREADS < MANY else THREADS
            self.set_steps(8, streams)
        are_alike = self.is_held and all(all(self.loop.results[i].summed[:-1]) for i in across)
        self.columns, self.scattered = (across, []) if are_alike else ([], across)
        self.high = 1 if self.scattered else max(1, THREADS // self.side)
        while self.high > 1 and self.side * self.high > 32 and -(-self.rows // self.high) * THREADS < MANY:
            self.high //= 2
        span, own = self.side * self.steps * self.wide, f"(s * {self.side} + threadIdx.x) * {self.wide}"
        self.own = own if self.is_held else f"first + {own}"
        self.is_inside = self.inner % span != 0

    def _worth_keeping(self) -> dict[Value, int]:
        """Values of an earlier phase that a later one needs, and the first phase that has them."""
        needed = [{value for root in roots for value in missing(root, self.of_rows)} for roots in self.roots]
        held: dict[Value, int] = {}
        for phase in range(1, len(self.roots)):
            stack = list(self.roots[phase])
            while stack:
                value = stack.pop()
                if value in self.of_rows or value in held:
                    continue
                early = next((p for p in range(phase) if value in needed[p]), None)
                if early is None or weight_of(missing(value, self.of_rows | held.keys())) < KEPT_WEIGHT:
                    stack += value.inputs
                else:
                    held[value] = early
        return held

    # --- a row

    def _position(self) -> None:
        self.line(f"const {self.index} j = {self.no_more(self.own, self.inner - self.wide) if self.is_inside else self.own};")
        self.full = f"row * {self.n(self.inner)} + j"

    def _inside(self) -> str:
        return " && ".join(["is_row"] * self.is_row + [f"{self.own} < {self.n(self.inner)}"] * self.is_inside)

    def _walk(self) -> None:
        """The phases of a row, and what is the same all along it."""
        self.names: dict[Value, str] = {}  # of what is known of the row, and of elements that are held
        for value in self.held:
            self.line(f"{type_of(value.dtype)} h{value.number}[{self.steps * self.wide}];")
        if self.is_held:
            self.names |= self.load(i for i in self.along if any(self.loop.operands[i].varies[:-1]) or self.loop.operands[i].window)
        for phase in range(len(self.roots)):
            self._phase(phase)
        for i, result in enumerate(self.loop.results):
            if result.value.is_row:
                name = self.value(result.value, self.names, "r")
                if not result.is_total:
                    self.line(f"if ({'is_row && ' * self.is_row}threadIdx.x == 0) o{i}[row] = {name};")
                else:
                    self._add_row(i, f"(double){name}")

    def _add_row(self, i: int, name: str) -> None:
        """Adds a number of the row to a sum over rows."""
        target = f"all{i}[0] +=" if i in self.ones else f"parts[{self.starts[i]} + row] ="
        self.line(f"if ({'is_row && ' * self.is_row}threadIdx.x == 0) {target} {name};")

    def _phase(self, phase: int) -> None:
        """One walk over the row: what is summed up in it, and what is stored."""
        results = [(i, r) for i, r in enumerate(self.loop.results) if not r.value.is_row and r.value.phase == phase]
        sums = [value for value in self.sums if value.phase == phase + 1]
        needed = sorted({v for root in self.roots[phase] for v in missing(root, self.names)}, key=lambda value: value.number)
        for value in needed:
            if value in self.of_rows:
                self.value(value, self.names, "r")
        added = []
        for value in sums:
            kind = "double" if value.kind == "sum" else type_of(value.dtype)
            start = "-0.0" if value.kind == "sum" else literal(-np.inf if value.kind == "max" else np.inf, value.dtype)
            self.line(f"{kind} sum{value.number} = {start};")
            name = f"sum{value.number}"
            added.append((value.inputs[0], f"{name} += (double){{}}" if value.kind == "sum" else f"{name} = fg_{value.kind}({name}, {{}})"))
        along = [i for i, r in results if r.is_total and r.summed[-1] and i not in self.ones]
        for i in along:
            self.line(f"double along{i} = -0.0;")
        for i, result in results:
            if i in self.ones or i in along:
                added.append((result.value, f"{'along' if i in along else 'all'}{i}{'' if i in along else '[0]'} += (double){{}}"))
            elif i in self.columns:
                added.append((result.value, f"columns{i}[e] += (double){{}}"))
            elif i in self.scattered:
                at = f"{self.starts[i]} + blockIdx.x * {self.n(self.parts[i].size)} + {self.place(self.kept(i))} + v"
                added.append((result.value, f"parts[{at}] += (double){{}}"))
        span = self.side * self.steps * self.wide
        head = f"for ({self.index} first = 0; first < {self.n(self.inner)}; first += {span})"
        with self.block("" if self.is_held else head):
            known = self.names | self.load({v.data: None for v in needed if v.kind == "load" and v not in self.of_rows})
            kept = [value for value, early in self.held.items() if early == phase]
            self.compute(self._inside(), known, [i for i, r in results if not r.is_total], added, kept)
        self.names |= {value: f"h{value.number}[e]" for value in kept}
        for value in sums:
            kind = "double" if value.kind == "sum" else type_of(value.dtype)
            total = self._across(value.kind, f"sum{value.number}", kind)
            self.line(f"const {type_of(value.dtype)} row{value.number} = ({type_of(value.dtype)}){total};")
            self.names[value] = f"row{value.number}"
        for i in along:
            self._add_row(i, self._across("sum", f"along{i}", "double"))

    # --- sums

    def _across(self, how: str, name: str, kind: str) -> str:
        """What the threads of a row have of it, as one."""
        place = f"({kind}*)0"
        if self.side > 32:
            place = "of_" + name.partition("[")[0]
            self.line(f"__shared__ {kind} {place}[{self.side // 32 * self.high}];")
        self.line(f"{name} = fg_across<fg_of_{how}, {self.side}>({name}, {place});")
        return name

    def _begin_sums(self) -> None:
        for i in self.ones:
            self.line(f"double all{i}[1] = {{-0.0}};")
        for i in self.columns:
            self.line(f"double columns{i}[{self.steps * self.wide}];")
            with self.each("e", self.steps * self.wide):
                self.line(f"columns{i}[e] = -0.0;")
        for i in self.scattered:
            with self.block(f"for ({self.index} k = threadIdx.x; k < {self.parts[i].size}; k += {self.side})"):
                self.line(f"parts[{self.starts[i]} + blockIdx.x * {self.n(self.parts[i].size)} + k] = -0.0;")
        if self.scattered:
            self.line("__syncthreads();")

    def _leave_sums(self) -> None:
        """Adds up what the rows of a block have, and leaves it."""
        if self.ones or (self.columns and self.high > 1):
            self.line(f"__shared__ double shared[{self.side * self.high * (self.steps * self.wide if self.columns else 1)}];")
        for i in self.ones:
            self._across("sum", f"all{i}[0]", "double")
            self.line(f"fg_down<{self.side}, {self.high}>(all{i}, shared);")
            self.line(f"if (threadIdx.x == 0 && threadIdx.y == 0) parts[{self.starts[i]} + blockIdx.x] = all{i}[0];")
        for i in self.columns:
            if self.high > 1:
                self.line(f"fg_down<{self.side}, {self.high}>(columns{i}, shared);")
            with self.block("if (threadIdx.y == 0)"), self.each("s", self.steps):
                self.position()
                guard = f"if ({self.own} < {self.n(self.inner)}) " if self.is_inside else ""
                target = f"parts[{self.starts[i]} + blockIdx.x * {self.n(self.inner)} + j + v]"
                self.line(f"{guard}for (int v = 0; v < {self.wide}; ++v) {target} = columns{i}[s * {self.wide} + v];")
