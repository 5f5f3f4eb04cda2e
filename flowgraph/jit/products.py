"""Matrix products of 32- and 64-bit floats, as one LLVM module for all shapes: what NumPy's own loop for them would leave to its BLAS.

The text follows "Anatomy of High-Performance Matrix Multiplication" (Goto and van de Geijn, 2008). The right matrix is copied a block at a
time, as panels that are two vectors wide; the left one a strip of rows at a time. A tile of the product, a strip high and a panel wide,
stays in registers while it is summed up. So sums go from the first product to the last, in blocks of `INNER`: the bits of a row do not
depend on how many rows there are.

The function has the signature of NumPy's inner loops for ``(m,k),(k,n)->(m,n)``, and its last pointer is NumPy's own loop: that gets what
this one does not do well, by shapes and strides alone (see `_Product.body`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ..records import Record
from .arrays import ArrayKernel, power_of_two
from .kernels import compiler
from .llvm import Target
from .text import BARE_SIGNATURE
from .ufuncs import code_of, with_loops

# So many products are summed up at a time: a strip of the left matrix and some panels of the right one stay in a level-1 cache.
INNER = 256
# Columns of a block of the right matrix: half a megabyte of 32-bit floats with `INNER`, which stays in a level-2 cache.
COLUMNS = 512
# So many summands are added in a round of the innermost loop.
UNROLLED = 4
# Of fewer rows or columns NumPy's loop makes products with vectors, or what is as quick.
FEWEST = 4

_TILE = "(i64 %inner, ptr %a, ptr %b, ptr %c, i64 %row, i1 %adds, i64 %rows, i64 %left)"
_VECTORS = 2


class Products(Record):
    """What says of an op that its kernel is to multiply matrices (m, k) and (k, n) with `matmul` of this module, in NumPy's stead."""

    dtype: np.dtype[Any]
    m: int
    k: int
    n: int

    @property
    def suit(self) -> bool:
        """Whether they are faster so than by NumPy's BLAS: what is narrower, it copies more than it computes."""
        return self.m >= 8 and self.k >= 16 and self.n >= 48

    @property
    def scratch(self) -> int:
        """Bytes that a product works in."""
        product = _Product(self.dtype, compiler().target)
        columns = min(-(-self.n // product.width) * product.width, COLUMNS + product.width)
        return (product.room + columns * (min(self.k, INNER) + product.lanes + 1)) * self.dtype.itemsize + 64

    def make(self) -> np.ufunc:
        return matmul(self.dtype)


class Namespace:
    """NumPy with another function for products of matrices."""

    def __init__(self, matmul: np.ufunc) -> None:
        self.matmul = matmul

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@cache
def matmul(dtype: np.dtype[Any]) -> np.ufunc:
    """NumPy's ``matmul`` with another loop for floats of this dtype. raises RuntimeError where NumPy has none that looks as expected."""
    code = code_of(np.matmul, (dtype,) * 3)
    if code is None:
        raise RuntimeError("NumPy's loops for products of matrices were not found")
    loop = compiler().address(product_text(dtype, compiler().target), "bare")
    return with_loops(np.matmul, "(n?,k),(k,m?)->(n?,m?)", {code.address: loop})


def product_text(dtype: np.dtype[Any], target: Target) -> str:
    """The module; its function is ``bare``."""
    product = _Product(dtype, target)
    parts = [product, _Rows(dtype, target), _Columns(dtype, target)]
    parts += [_Tile(dtype, target, *kind) for kind in product.tiles_of(False) + product.tiles_of(True)]
    texts = [part.text() for part in parts]
    declared = {name: line for part in parts for name, line in part.declared.items()}
    return "\n".join([*declared.values(), *texts]) + "\n"


class _Part(ArrayKernel):
    """What the functions of the module share."""

    def __init__(self, dtype: np.dtype[Any], target: Target) -> None:
        super().__init__(target, dtype, 0)
        self.item = dtype.itemsize
        self.lanes = self.registers.bytes // self.item
        self.width = _VECTORS * self.lanes
        # A tile takes two vectors for each of its rows; two more hold the panel, and one a number of the strip.
        self.tallest = min(14, (self.registers.count - _VECTORS - 1) // _VECTORS // 2 * 2)
        self.strip = power_of_two(max(self.tallest, self.lanes))  # how far columns of a turned strip are apart, in numbers
        self.apart = INNER + 64 // self.item  # how far rows of a strip are apart: not a power of two, so that they fall into different sets
        self.room = max(self.tallest * self.apart, INNER * self.strip)  # of a strip

    def text(self) -> str:
        raise NotImplementedError

    def function(self, signature: str) -> str:
        """The text of the function."""
        return "\n".join([f"define {signature} {{\nentry:", *self.lines, "}"])

    def moved(self, pointer: str, *terms: str) -> str:
        """``pointer`` and so many bytes."""
        for term in terms:
            pointer = self.new(f"getelementptr i8, ptr {pointer}, i64 {term}")
        return pointer

    def number_of(self, operation: str, a: str, b: Any) -> str:
        return self.new(f"{operation} i64 {a}, {b}")

    def run(self, function: str, *operands: tuple[str, str]) -> None:
        """Calls a function of this module, or at an address."""
        name = function if function.startswith("%") else f"@{function}"
        self.line(f"call void {name}({', '.join(f'{kind} {operand}' for kind, operand in operands)})")

    def smaller(self, a: str, b: Any) -> str:
        return self.call("llvm.smin.i64", "i64", ("i64", a), ("i64", str(b)))


class _Tile(_Part):
    """Part of the product: ``rows`` rows by some vectors, of which ``left`` numbers are wanted, for ``inner`` summands.

    a       the strip: rows that are `apart`, or, turned, columns that are `strip` numbers apart
    b       the panel
    c       where the part begins, with rows that are ``row`` bytes apart; if ``adds``, what is there is added to

    ``rows`` is the height, or one less.
    """

    def __init__(self, dtype: np.dtype[Any], target: Target, height: int, vectors: int, is_turned: bool) -> None:
        super().__init__(dtype, target)
        self.height, self.vectors, self.is_turned = height, vectors, is_turned

    def text(self) -> str:
        height, vectors, lanes = self.height, self.vectors, self.lanes
        kind = self.vector(lanes)
        # (What few tiles need is computed where they need it.)
        self.line("br i1 %adds, label %adding, label %ready")
        self.label("adding")
        masks, rows = self.masks(), self.rows()
        there = [self.load(self.at(row, v * lanes), lanes, masks[v]) for row in rows for v in range(vectors)]
        self.line("br label %ready")
        self.label("ready")
        starts = [self.new(f"phi {kind} [ zeroinitializer, %entry ], [ {value}, %adding ]") for value in there]
        along = self.strip if self.is_turned else 1
        rounds = self.number_of("udiv", "%inner", UNROLLED)
        with self.carrying(rounds, kind, starts) as loop:
            panel, strip = self.at("%b", (loop.counter, UNROLLED * self.width)), self.at("%a", (loop.counter, UNROLLED * along))
            for k in range(UNROLLED):
                self.add(self.at(panel, k * self.width), self.at(strip, k * along), loop.values)
        done = self.number_of("mul", rounds, UNROLLED)
        panel, strip = self.at("%b", (done, self.width)), self.at("%a", (done, along))
        with self.carrying(self.number_of("sub", "%inner", done), kind, loop.values) as loop:
            self.add(self.at(panel, (loop.counter, self.width)), self.at(strip, (loop.counter, along)), loop.values)
        rows = self.rows()
        whole = self.new(f"icmp sge i64 %left, {vectors * lanes}")
        self.line(f"br i1 {whole}, label %whole, label %edge")
        for name in ("whole", "edge"):
            self.label(name)
            masks = self.masks() if name == "edge" else []
            for k, total in reversed(list(enumerate(loop.values))):
                i, v = divmod(k, vectors)
                self.store(total, self.at(rows[i], v * lanes), lanes, masks[v] if name == "edge" else None)
            self.line("ret void")
        return self.function(f"internal void @{self.name_of(height, vectors, self.is_turned)}{_TILE}")

    def add(self, panel: str, strip: str, totals: list[str]) -> None:
        """One product for each number of the part."""
        down = 1 if self.is_turned else self.apart
        met = [self.load(self.at(panel, v * self.lanes), self.lanes) for v in range(self.vectors)]
        for i in range(self.height):
            number = self.spread(self.new(f"load {self.number}, ptr {self.at(strip, i * down)}"), self.lanes, self.number)
            for v in range(self.vectors):
                k = i * self.vectors + v
                totals[k] = self.fma(number, met[v], totals[k], self.lanes)

    def masks(self) -> list[str]:
        """Of the numbers of each vector that are wanted."""
        return [self.lanes_below(self.number_of("sub", "%left", v * self.lanes), self.lanes) for v in range(self.vectors)]

    def rows(self) -> list[str]:
        """Where the rows of the part begin. One too many begins where the last one does, which is stored after it."""
        rows = ["%c"]
        for _ in range(self.height - 2):
            rows.append(self.moved(rows[-1], "%row"))
        is_short = self.new(f"icmp slt i64 %rows, {self.height}")
        return [*rows, self.new(f"select i1 {is_short}, ptr {rows[-1]}, ptr {self.moved(rows[-1], '%row')}")]

    @staticmethod
    def name_of(height: int, vectors: int, is_turned: bool) -> str:
        return f"tile_{height}_{vectors}_{int(is_turned)}"


class _Rows(_Part):
    """Copies ``count`` rows of ``length`` numbers, ``step`` bytes apart, to rows that are ``apart`` bytes apart."""

    def text(self) -> str:
        lanes = self.lanes
        whole = self.number_of("and", "%length", -lanes)
        rest = self.number_of("sub", "%length", whole)
        mask, some = self.lanes_below(rest, lanes), self.new(f"icmp sgt i64 {rest}, 0")
        vectors = self.number_of("udiv", whole, lanes)
        with self.counting("%count") as i:
            source, target = self.moved("%from", self.number_of("mul", i, "%step")), self.moved("%to", self.number_of("mul", i, "%apart"))
            with self.counting(vectors) as j:
                self.store(self.load(self.at(source, (j, lanes)), lanes), self.at(target, (j, lanes)), lanes)
            with self.only_if(some):
                self.store(self.load(self.at(source, whole), lanes, mask), self.at(target, whole), lanes)
        self.line("ret void")
        return self.function("internal void @rows(i64 %count, i64 %length, ptr %from, i64 %step, ptr %to, i64 %apart)")


class _Columns(_Part):
    """Turns ``count`` rows of ``length`` numbers, ``step`` bytes apart, into columns of a panel: as many as a vector has lanes.

    Rows that are not there become zeros. Behind the panel so many rows may be written to as a vector has lanes.
    """

    def text(self) -> str:
        lanes = self.lanes
        blocks = self.number_of("udiv", self.number_of("add", "%length", lanes - 1), lanes)
        rows = []
        for i in range(lanes):
            last = self.number_of("sub", "%count", 1)
            rows.append(self.moved("%from", self.number_of("mul", self.smaller(last, i), "%step")))
        there = [self.new(f"icmp slt i64 {i}, %count") for i in range(lanes)]
        with self.counting(blocks) as block:
            first = self.number_of("mul", block, lanes)
            mask = self.lanes_below(self.number_of("sub", "%length", first), lanes)
            bits = f"<{lanes} x i1>"
            met = []
            for row, is_there in zip(rows, there, strict=True):
                chosen = self.new(f"select i1 {is_there}, {bits} {mask}, {bits} zeroinitializer")
                met.append(self.load(self.at(row, first), lanes, chosen))
            target = self.at("%to", (first, self.width))
            for vector in self.transposed(met, lanes):
                self.store(vector, target, lanes)
                target = self.at(target, self.width)
        self.line("ret void")
        return self.function("internal void @columns(i64 %count, i64 %length, ptr %from, i64 %step, ptr %to)")


class _Product(_Part):
    """NumPy's inner loop: any number of products, one after the other."""

    def text(self) -> str:
        tables = []
        for is_turned in (False, True):
            names = [_Tile.name_of(*kind) for kind in self.tiles_of(is_turned)]
            tables.append(f"@tiles_{int(is_turned)} = internal constant [{len(names)} x ptr] [{', '.join(f'ptr @{n}' for n in names)}]")
        self.body()
        return "\n".join([*tables, self.function(BARE_SIGNATURE)])

    def tiles_of(self, is_turned: bool) -> list[tuple[int, int, bool]]:
        """The tiles that there are: (height, vectors, is_turned) of each, in the order in which `tiles` finds them."""
        return [(height, vectors, is_turned) for vectors in range(1, _VECTORS + 1) for height in range(2, self.tallest + 1, 2)]

    def given(self, what: str, i: int) -> str:
        return self.new(f"load i64, ptr {self.new(f'getelementptr i64, ptr %{what}, i64 {i}')}")

    def body(self) -> None:
        count, m, k, n = (self.given("dims", i) for i in range(4))
        outer = [self.given("strides", i) for i in range(3)]
        am, ak, bk, bn, cm, cn = (self.given("strides", i) for i in range(3, 9))
        pointers = [self.new(f"load ptr, ptr {self.new(f'getelementptr ptr, ptr %operands, i64 {i}')}") for i in range(3)]

        def is_item(stride: str) -> str:
            return self.new(f"icmp eq i64 {stride}, {self.item}")

        in_rows, is_turned = is_item(ak), is_item(bk)
        left = self.new(f"or i1 {in_rows}, {is_item(am)}")
        right = self.new(f"or i1 {is_turned}, {is_item(bn)}")
        large = [self.new(f"icmp sge i64 {size}, {fewest}") for size, fewest in ((m, FEWEST), (n, FEWEST), (k, 1))]
        self.turned_left = self.new(f"xor i1 {in_rows}, true")
        self.turned_right = self.new(f"and i1 {is_turned}, {self.new(f'xor i1 {is_item(bn)}, true')}")
        self.line(f"br i1 {self.all_of([is_item(cn), left, right, *large])}, label %fits, label %otherwise")
        self.label("fits")
        self.m, self.n, self.k, self.steps = m, n, k, (am, ak, bk, bn, cm)
        self.pairs = self.parts_of(m, 2)
        sizes = (self.pairs, self.tallest // 2), (k, INNER), (n, COLUMNS)
        self.strips, self.blocks, self.parts = (self.parts_of(size, most) for size, most in sizes)
        columns = self.smaller(self.number_of("mul", self.parts_of(n, self.width), self.width), COLUMNS + self.width)
        rows = self.number_of("add", self.smaller(k, INNER), self.lanes + 1)
        size = self.number_of("add", self.number_of("mul", columns, rows), self.room + 64 // self.item)
        memory = self.take_memory(self.number_of("mul", size, self.item), "%strip", "otherwise")
        self.panels = self.at("%strip", self.room)
        # With an odd number of rows a strip lacks its last one. Nobody wants what is made of what stands there, but some numbers are slow.
        unset = self.new(f"select i1 {self.new(f'trunc i64 {m} to i1')}, i64 {self.room * self.item}, i64 0")
        self.call("llvm.memset.p0.i64", "void", ("ptr", "%strip"), ("i8", "0"), ("i64", unset), ("i1", "false"))
        with self.counting(count) as number:
            a, b, c = (self.moved(p, self.number_of("mul", number, step)) for p, step in zip(pointers, outer, strict=True))
            self.product(a, b, c)
        self.call("PyMem_RawFree", "void", ("ptr", memory))
        self.line("ret void")
        self.label("otherwise")
        self.line("call void %data(ptr %operands, ptr %dims, ptr %strides, ptr null)")
        self.line("ret void")

    def parts_of(self, size: str, most: int) -> str:
        """Into how many parts of at most ``most`` a size is cut."""
        return self.number_of("udiv", self.number_of("add", size, most - 1), most)

    def begin(self, part: str, size: str, parts: str) -> str:
        """Where one of some parts of nearly equal size begins."""
        return self.number_of("udiv", self.number_of("mul", part, size), parts)

    def product(self, a: str, b: str, c: str) -> None:
        am, ak, bk, bn, cm = self.steps
        panels = self.parts_of(self.n, self.width)
        with self.counting(self.parts) as part:
            following = self.number_of("add", part, 1)
            j0 = self.number_of("mul", self.begin(part, panels, self.parts), self.width)
            j1 = self.smaller(self.number_of("mul", self.begin(following, panels, self.parts), self.width), self.n)
            columns = self.number_of("sub", j1, j0)
            with self.counting(self.blocks) as block:
                k0 = self.begin(block, self.k, self.blocks)
                inner = self.number_of("sub", self.begin(self.number_of("add", block, 1), self.k, self.blocks), k0)
                right = self.moved(b, self.number_of("mul", k0, bk), self.number_of("mul", j0, bn))
                left, target = self.moved(a, self.number_of("mul", k0, ak)), self.at(c, j0)
                adds = self.new(f"icmp sgt i64 {block}, 0")
                self.pack(right, inner, columns)
                with self.counting(self.strips) as strip:
                    i0, i1 = (
                        self.number_of("mul", self.begin(i, self.pairs, self.strips), 2) for i in (strip, self.number_of("add", strip, 1))
                    )
                    height = self.number_of("sub", self.smaller(i1, self.m), i0)
                    self.take(self.moved(left, self.number_of("mul", i0, am)), height, inner)
                    self.tiles(height, inner, columns, self.moved(target, self.number_of("mul", i0, cm)), adds)

    def pack(self, right: str, inner: str, columns: str) -> None:
        """Copies part of the right matrix as panels, row by row: memory is quick where it is read in order."""
        _, _, bk, bn, _ = self.steps
        turned, plain, done = self.name("turned"), self.name("plain"), self.name("packed")
        self.line(f"br i1 {self.turned_right}, label %{turned}, label %{plain}")
        self.label(turned)
        with self.counting(self.parts_of(columns, self.lanes)) as half:
            first = self.number_of("mul", half, self.lanes)
            panel, vector = self.number_of("udiv", half, _VECTORS), self.number_of("urem", half, _VECTORS)
            place = self.at(self.panel(panel, inner), (vector, self.lanes))
            there, source = self.number_of("sub", columns, first), self.moved(right, self.number_of("mul", first, bn))
            self.run("columns", ("i64", there), ("i64", inner), ("ptr", source), ("i64", bn), ("ptr", place))
        self.line(f"br label %{done}")
        self.label(plain)
        whole = self.number_of("udiv", columns, self.width)
        rest = self.number_of("sub", columns, self.number_of("mul", whole, self.width))
        masks = [self.lanes_below(self.number_of("sub", rest, v * self.lanes), self.lanes) for v in range(_VECTORS)]
        some = self.new(f"icmp sgt i64 {rest}, 0")
        with self.counting(inner) as k:
            source = self.moved(right, self.number_of("mul", k, bk))
            with self.counting(whole) as j:
                self.copy(self.at(source, (j, self.width)), self.at(self.panel(j, inner), (k, self.width)), [None] * _VECTORS)
            with self.only_if(some):
                self.copy(self.at(source, (whole, self.width)), self.at(self.panel(whole, inner), (k, self.width)), masks)
        self.line(f"br label %{done}")
        self.label(done)

    def copy(self, source: str, target: str, masks: Sequence[str | None]) -> None:
        """A row of a panel."""
        for v, mask in enumerate(masks):
            self.store(self.load(self.at(source, v * self.lanes), self.lanes, mask), self.at(target, v * self.lanes), self.lanes)

    def panel(self, number: str, inner: str) -> str:
        """Where one of the panels begins: a row of room is between them, as rows at equal distances would fall into few sets of a cache."""
        size = self.number_of("mul", self.number_of("add", inner, 1), self.width)
        return self.at(self.panels, self.number_of("mul", number, size))

    def take(self, left: str, height: str, inner: str) -> None:
        """Copies a strip of the left matrix."""
        am, ak, _, _, _ = self.steps
        count = self.new(f"select i1 {self.turned_left}, i64 {inner}, i64 {height}")
        length = self.new(f"select i1 {self.turned_left}, i64 {height}, i64 {inner}")
        step = self.new(f"select i1 {self.turned_left}, i64 {ak}, i64 {am}")
        apart = self.new(f"select i1 {self.turned_left}, i64 {self.strip * self.item}, i64 {self.apart * self.item}")
        self.run("rows", ("i64", count), ("i64", length), ("ptr", left), ("i64", step), ("ptr", "%strip"), ("i64", apart))

    def tiles(self, height: str, inner: str, columns: str, target: str, adds: str) -> None:
        """Computes a strip of the product."""
        table = self.new(f"select i1 {self.turned_left}, ptr @tiles_1, ptr @tiles_0")
        kind = self.number_of("udiv", self.number_of("sub", height, 1), 2)
        with self.counting(self.parts_of(columns, self.width)) as panel:
            first = self.number_of("mul", panel, self.width)
            left = self.number_of("sub", columns, first)
            is_narrow = self.new(f"icmp sle i64 {left}, {self.lanes}")
            number = self.new(f"select i1 {is_narrow}, i64 {kind}, i64 {self.number_of('add', kind, self.tallest // 2)}")
            tile = self.new(f"load ptr, ptr {self.new(f'getelementptr ptr, ptr {table}, i64 {number}')}")
            b, c = self.panel(panel, inner), self.at(target, first)
            self.run(
                tile, ("i64", inner), ("ptr", "%strip"), ("ptr", b), ("ptr", c), ("i64", self.steps[4]), ("i1", adds),
                ("i64", height), ("i64", left),
            )  # fmt: skip
