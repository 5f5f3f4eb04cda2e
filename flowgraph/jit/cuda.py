"""CUDA: a `Loop` (what to compute for each element) as the text of CUDA kernels.

The primitives are IEEE's, as in the loops for the host, and are compiled without contraction: so an element has the very bits that it has
there. Sums are added up in 64 bits, in an order that the shape alone decides: never by atomic additions, never by how many blocks run at
once.

There are three forms. *Elements*: a bundle of elements for each thread; sums over all of them end in a number for each block. *Columns*:
the same where sums keep the last dimension: a thread adds up some of what is kept over some of what is not. *Rows*: some threads for each
row, in phases. What blocks have added up, a second kernel adds up. No CuPy in this module.
"""

from __future__ import annotations

import math

from ..records import Record
from .cuda_bundles import THREADS
from .cuda_rows import Rows
from .cuda_values import HELPERS, type_of
from .loops import Loop

# So many blocks at most add up parts of a sum. (An H200 has 132 multiprocessors, each of which holds 8 blocks of 256 threads.)
BLOCKS = 1024
# Elements of a thread: where each is by itself, if there are few or many of them; and where it adds them up.
EACH, EACH_OF_MANY, EACH_SUMMED, MANY = 4, 8, 16, 2**22
# The kernel that ends the sums has blocks of so many threads by so many.
TILE = 32

OPTIONS = ("--std=c++17", "-fmad=false")


class Launch(Record):
    """One kernel: its name, and the numbers of blocks and threads."""

    name: str
    grid: int
    block: tuple[int, int]


class CudaLoop(Record):
    """The kernels of a loop.

    text      of the module
    launches  in their order; each takes the operands, for each strided one the distance of its rows in elements, the results, and the parts
    parts     numbers of 64 bits that the blocks leave for the last kernel
    """

    text: str
    launches: tuple[Launch, ...]
    parts: int


def cuda_loop(loop: Loop) -> CudaLoop:
    """The kernels of ``loop``."""
    return _Writer(loop).written()


class _Writer(Rows):
    def written(self) -> CudaLoop:
        launch = self._main()
        text = [HELPERS, *self.function(launch.name, math.prod(launch.block))]
        launches = [launch]
        if self.parts:
            launches.append(self._ends())
            text += self.function("ends", TILE * TILE)
        return CudaLoop("\n".join(text) + "\n", tuple(launches), sum(p.entries * p.size for p in self.parts.values()))

    def _main(self) -> Launch:
        results = self.loop.results
        kept = {self.kept(i) for i in self.totals if self.kept(i)}
        if 0 in self.dims:
            return Launch("elements", 1, (THREADS, 1))
        if any(value.kind in ("sum", "max", "min") for value in self.values) or len(kept) > 1:
            return Launch("rows", *self.by_rows())
        if any(r.value.is_row and r.value.kind != "constant" for r in results) or any(self.last not in axes for axes in kept):
            return Launch("rows", *self.by_rows())
        if kept:
            return Launch("columns", *self._by_columns(*kept))
        return Launch("elements", self._by_elements(), (THREADS, 1))

    def _by_elements(self) -> int:
        """Every element by itself; sums over all elements."""
        count, totals, index, n = self.rows * self.inner, self.totals, self.index, self.n
        self.set_steps(EACH_SUMMED if totals else EACH if count < MANY else EACH_OF_MANY, len(self.along))
        tile = THREADS * self.steps * self.wide
        grid = -(-count // tile)
        at = f"start + (s * {THREADS} + threadIdx.x) * {self.wide}"

        def position() -> None:
            self.line(f"const {index} at = {self.no_more(at, count - self.wide) if count % tile else at};")
            self.coordinates("at", range(len(self.dims)))
            self.full = "at"

        self.position = position
        stored = [i for i in range(len(self.loop.results)) if i not in totals]
        self.check_alignment(stored)
        added = [(self.loop.results[i].value, f"sum{i} += (double){{}}") for i in totals]
        for i in totals:
            self.line(f"double sum{i} = -0.0;")
        if totals:
            grid = min(grid, BLOCKS)
            head = f"for ({index} start = blockIdx.x * {n(tile)}; start < {n(count)}; start += {n(grid * tile)})"
        else:
            self.line(f"const {index} start = blockIdx.x * {n(tile)};")
            head = ""
        with self.block(head):
            self.compute(f"{at} < {n(count)}" if count % tile else "", self.load(range(len(self.loop.operands))), stored, added)
        for i in totals:
            start = self.leave(i, grid)
            self.line(f"__shared__ double shared{i}[{THREADS // 32}];")
            self.line(f"sum{i} = fg_across<fg_of_sum, {THREADS}>(sum{i}, shared{i});")
            self.line(f"if (threadIdx.x == 0) parts[{start} + blockIdx.x] = sum{i};")
        return grid

    def _by_columns(self, kept: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
        """Sums that keep some axes, the last among them: what these number is called columns here, and what the others number, rows.

        A block has some of both. Other sums are over all elements.
        """
        index, n, wide = self.index, self.n, self.wide
        summed = [axis for axis in range(len(self.dims)) if axis not in kept]
        columns, rows = (math.prod(self.dims[axis] for axis in axes) for axes in (kept, summed))
        self.set_steps(EACH_SUMMED, len(self.along))
        side = min(32, columns // wide)
        high = THREADS // side
        beside, turn = -(-columns // (side * wide)), high * self.steps
        turns = -(-rows // turn)
        turns = -(-turns // max(1, min(turns, BLOCKS // beside)))  # of each block
        chunks, span = -(-rows // (turn * turns)), turn * turns
        column, row = f"(blockIdx.x % {beside} * {side} + threadIdx.x) * {wide}", f"first + s * {high} + threadIdx.y"

        def position() -> None:
            self.line(f"const {index} row = {self.no_more(row, rows - 1) if rows % turn else row};")
            self.coordinates("row", summed)
            self.full = f"row * {n(columns)} + column" if kept[0] > summed[-1] else self.place(range(len(self.dims)))

        self.position = position
        inside = [f"{column} < {n(columns)}"] * (columns % (side * wide) != 0) + [f"{row} < {n(rows)}"] * (rows % turn != 0)
        stored = [i for i in range(len(self.loop.results)) if i not in self.totals]
        self.check_alignment(stored)
        self.line(f"const {index} column = {self.no_more(column, columns - wide)}, chunk = blockIdx.x / {beside};")
        self.coordinates("column", kept)
        sizes = {i: wide if self.kept(i) else 1 for i in self.totals}
        for i, size in sizes.items():
            self.line(f"double sum{i}[{size}] = {{{', '.join(['-0.0'] * size)}}};")
        added = [(self.loop.results[i].value, f"sum{i}[{'v' if size > 1 else 0}] += (double){{}}") for i, size in sizes.items()]
        self.line(f"const {index} end = min({n(rows)}, (chunk + 1) * {n(span)});")
        with self.block(f"for ({index} first = chunk * {n(span)}; first < end; first += {n(turn)})"):
            self.compute(" && ".join(inside), self.load(range(len(self.loop.operands))), stored, added)
        self.line(f"__shared__ double shared[{side * high * wide}];")
        for i in sizes:
            self.line(f"fg_down<{side}, {high}>(sum{i}, shared);")
            if self.kept(i):
                start, guard = self.leave(i, chunks), f"if (threadIdx.y == 0 && {column} < {n(columns)})"
                self.line(f"{guard} for (int v = 0; v < {wide}; ++v) parts[{start} + chunk * {columns} + column + v] = sum{i}[v];")
            else:
                start = self.leave(i, chunks * beside * side)
                self.line(f"if (threadIdx.y == 0) parts[{start} + blockIdx.x * {side} + threadIdx.x] = sum{i}[0];")
        return chunks * beside, (side, high)

    def _ends(self) -> Launch:
        """The kernel that adds up what blocks have left: of few sums by a block for each, of many by a block for as many as a tile has."""
        self.line(f"__shared__ double shared[{TILE * (TILE + 1)}];")
        self.line("double sum = -0.0;")
        first = 0
        for i, parts in self.parts.items():
            result, size = self.loop.results[i], parts.size
            kind = type_of(result.value.dtype)
            divided = f" / {float(result.divisor)!r}" if result.divisor != 1 else ""
            blocks = size if size < TILE else -(-size // TILE)
            with self.block(f"{'else ' if first else ''}if (blockIdx.x < {first + blocks})"):
                number = f"blockIdx.x - {first}" if size < TILE else f"(blockIdx.x - {first}) * {TILE} + threadIdx.x"
                self.line(f"const {self.index} k = {number};")
                self.coordinates("k", self.kept(i))
                step = f"e = threadIdx.y * {TILE} + threadIdx.x; e < {parts.entries}; e += {TILE * TILE}"
                if size >= TILE:
                    step = f"e = threadIdx.y; k < {size} && e < {parts.entries}; e += {TILE}"
                with self.block(f"for ({self.index} {step})"):
                    at = f"e * {self.n(size)} + k"
                    if parts.by_row:
                        self.coordinates("e", [axis for axis in range(self.last) if axis not in self.kept(i)])
                        at = self.place(range(self.last))
                    self.line(f"sum += parts[{parts.start} + {at}];")
                if size < TILE:
                    self.line("sum = fg_across<fg_of_sum, 32>(sum, shared);")
                    self.line("if (threadIdx.x == 0) shared[threadIdx.y] = sum;")
                    self.line("__syncthreads();")
                    self.line("sum = fg_across<fg_of_sum, 32>(shared[threadIdx.x], shared);")
                    self.line(f"if (threadIdx.x == 0 && threadIdx.y == 0) o{i}[k] = ({kind})(sum{divided});")
                else:
                    self.line(f"shared[threadIdx.x * {TILE + 1} + threadIdx.y] = sum;")
                    self.line("__syncthreads();")
                    self.line(f"sum = fg_across<fg_of_sum, 32>(shared[threadIdx.y * {TILE + 1} + threadIdx.x], shared);")
                    self.line(f"const {self.index} own = k - threadIdx.x + threadIdx.y;")
                    self.line(f"if (threadIdx.x == 0 && own < {size}) o{i}[own] = ({kind})(sum{divided});")
            first += blocks
        return Launch("ends", first, (TILE, TILE))
