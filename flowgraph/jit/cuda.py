"""CUDA: a `Loop` (what to compute for each element) as the text of CUDA kernels.

The primitives are IEEE's, as in the loops for the host, and are compiled without contraction: so an element has the very bits that it has
there. Sums are added up in 64 bits, in an order that the shape alone decides: never by atomic additions, never by how many blocks run at
once.

There are three forms. *Elements*: a thread for each element; sums over all of them end in a number for each block. *Columns*: the same
where sums run over all rows: a thread adds up its columns over the rows of its block. *Rows*: some threads for each row, in phases, as
values may rest on sums over the row. What blocks have added up, a second kernel adds up. No CuPy in this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..records import Record
from .loops import Loop, Operand, Result, Window
from .values import BOOL, FLOAT64, Value, in_order

THREADS = 256
# So many blocks at most add up parts of a sum. (An H200 has 132 multiprocessors, each of which holds 8 blocks of 256 threads.)
BLOCKS = 1024
# Elements of one thread of the form *elements*, so far apart that neighbours read neighbours.
EACH = 4

OPTIONS = ("--std=c++17", "-fmad=false")

_NAMES = {
    "?": "bool", "b": "signed char", "B": "unsigned char", "h": "short", "H": "unsigned short", "i": "int", "I": "unsigned int",
    "l": "long long", "L": "unsigned long long", "q": "long long", "Q": "unsigned long long", "f": "float", "d": "double",
}  # fmt: skip
_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "and": "&", "or": "|", "xor": "^"}
_COMPARE = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_FUNCTIONS = {
    "fma": "fma", "sqrt": "sqrt", "absolute": "fabs", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint",
    "copysign": "copysign",
}  # fmt: skip

# NaN is taken where there is one, and kept.
_HELPERS = """
template <class T> __device__ inline T fg_max(T a, T b) { return (a != a) ? a : ((b > a || b != b) ? b : a); }
template <class T> __device__ inline T fg_min(T a, T b) { return (a != a) ? a : ((b < a || b != b) ? b : a); }
"""


class Launch(Record):
    """One kernel: its name, the numbers of blocks and threads, and whether it is the one that ends the sums."""

    name: str
    grid: int
    block: tuple[int, int]
    ends: bool = False


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


def type_of(dtype: np.dtype[Any]) -> str:
    """CUDA's name of a number."""
    return _NAMES[dtype.char]


class _Writer:
    def __init__(self, loop: Loop) -> None:
        self.loop, self.dims, self.inner = loop, loop.dims, loop.dims[-1]
        self.rows = math.prod(loop.dims[:-1])
        values = in_order([result.value for result in loop.results])
        self.sums = [value for value in values if value.kind in ("sum", "max", "min")]
        self.phases = 1 + max(
            [value.phase - 1 for value in self.sums] + [r.value.phase for r in loop.results if not r.value.is_row], default=0
        )
        self.totals = [i for i, result in enumerate(loop.results) if result.is_total]
        self.sizes = {i: self._kept(loop.results[i]) for i in self.totals}
        self.entries: dict[int, int] = {}  # of each sum: how often it stands in the parts
        self.starts: dict[int, int] = {}  # and where
        self.lines: list[str] = []
        self.depth = 1

    def _kept(self, result: Result) -> int:
        return math.prod(d for d, summed in zip(self.dims, result.summed, strict=True) if not summed)

    def written(self) -> CudaLoop:
        by_rows = bool(self.sums) or any(result.value.is_row and result.value.kind != "constant" for result in self.loop.results)
        by_rows = by_rows or any(self.sizes[i] != 1 and not self._is_of_columns(self.loop.results[i]) for i in self.totals)
        if by_rows:
            launch = self._by_rows()
        elif any(self.sizes[i] != 1 for i in self.totals):
            launch = self._by_columns()
        else:
            launch = self._by_elements()
        text = [_HELPERS, *self._function(launch.name)]
        launches = [launch, *self._endings(text)]
        return CudaLoop("\n".join(text) + "\n", tuple(launches), sum(self.entries[i] * self.sizes[i] for i in self.totals))

    def _lay_out(self, entries: dict[int, int]) -> None:
        """Says how often each sum stands in the parts."""
        at = 0
        for i in self.totals:
            self.entries[i], self.starts[i] = entries[i], at
            at += entries[i] * self.sizes[i]

    def _is_of_columns(self, result: Result) -> bool:
        """Whether it is the sum over all rows, for each place of the row."""
        return all(result.summed[:-1]) and not result.summed[-1]

    # --- text

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def open(self, text: str) -> None:
        self.line(text + " {")
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.line("}")

    def _parameters(self) -> str:
        loop = self.loop
        given = [f"const {type_of(o.dtype)}* __restrict__ p{i}" for i, o in enumerate(loop.operands)]
        given += [f"const long long stride{i}" for i, o in enumerate(loop.operands) if o.strided]
        given += [f"{type_of(r.value.dtype)}* o{i}" for i, r in enumerate(loop.results)]
        return ", ".join([*given, "double* parts"])

    def _function(self, name: str) -> list[str]:
        lines, self.lines = self.lines, []
        return [f'extern "C" __global__ void {name}({self._parameters()}) {{', *lines, "}"]

    # --- the forms

    def _by_elements(self) -> Launch:
        """Every element by itself; sums over all elements."""
        count = self.rows * self.inner
        grid = max(1, -(-count // (THREADS * EACH)))
        if self.totals:
            grid = min(grid, BLOCKS)
            for i in self.totals:
                self.line(f"double sum{i} = -0.0;")
        first, step = f"(long long)blockIdx.x * {THREADS * EACH}", grid * THREADS * EACH
        self.open(f"for (long long start = {first}; start < {count}LL; start += {step}LL)")
        self.line("#pragma unroll")
        self.open(f"for (int k = 0; k < {EACH}; ++k)")
        self.line(f"const long long element = start + k * {THREADS} + threadIdx.x;")
        self.line(f"if (element >= {count}LL) break;")
        self._places("element", with_row=True)
        names: dict[Value, str] = {}
        for i, result in enumerate(self.loop.results):
            name = self._value(result.value, names)
            if result.is_total:
                self.line(f"sum{i} += (double){name};")
            else:
                self.line(f"o{i}[element] = {name};")
        self.close()
        self.close()
        self._lay_out(dict.fromkeys(self.totals, grid))
        self._leave({i: f"sum{i}" for i in self.totals}, "blockIdx.x")
        return Launch("elements", grid, (THREADS, 1))

    def _leave(self, names: dict[int, str], block: str) -> None:
        """Leaves the sums of a block's threads in the parts."""
        if names:
            self.line(f"__shared__ double shared[{THREADS}];")
        for i, name in names.items():
            self._across("sum", name, "double", THREADS, "shared", "threadIdx.x")
            self.line(f"if (threadIdx.x == 0) parts[{self.starts[i]}LL + {block}] = shared[0];")
            self.line("__syncthreads();")

    def _by_columns(self) -> Launch:
        """Sums over all rows: a block has so many columns as threads, and some of the rows. Other sums are over all elements."""
        beside = -(-self.inner // THREADS)
        each = -(-self.rows // max(1, min(BLOCKS // beside, -(-self.rows // 8))))
        chunks = -(-self.rows // each)
        single = [i for i in self.totals if self.sizes[i] == 1]
        self._lay_out({i: chunks * beside if i in single else chunks for i in self.totals})
        for i in self.totals:
            self.line(f"double sum{i} = -0.0;")
        self.line(f"const long long chunk = blockIdx.x / {beside}, j = (long long)(blockIdx.x % {beside}) * {THREADS} + threadIdx.x;")
        self.open(f"if (j < {self.inner}LL)")
        self.line(f"const long long end = min({self.rows}LL, (chunk + 1) * {each}LL);")
        self.open(f"for (long long row = chunk * {each}LL; row < end; ++row)")
        self._places("row", with_row=False)
        names: dict[Value, str] = {}
        for i, result in enumerate(self.loop.results):
            name = self._value(result.value, names)
            self.line(f"sum{i} += (double){name};" if result.is_total else f"o{i}[row * {self.inner}LL + j] = {name};")
        self.close()
        for i in self.totals:
            if i not in single:
                self.line(f"parts[{self.starts[i]}LL + chunk * {self.inner}LL + j] = sum{i};")
        self.close()
        self._leave({i: f"sum{i}" for i in single}, "blockIdx.x")
        return Launch("columns", chunks * beside, (THREADS, 1))

    def _by_rows(self) -> Launch:
        """Some threads for each row, which go over it once for each phase."""
        side = 1
        while side < THREADS and side < self.inner:
            side *= 2
        if self.rows <= 8 and self.inner > 16 * THREADS:
            side = 1024
        high = max(1, THREADS // side)
        groups = max(1, -(-self.rows // high))
        grid = min(groups, BLOCKS) if self.totals else groups
        each = -(-groups // grid)
        grid = -(-groups // each)
        shared = ["double"] + ["float"] * any(v.kind != "sum" and v.dtype.itemsize == 4 for v in self.sums)
        for kind in shared:
            self.line(f"__shared__ {kind} shared_{kind}[{side * high}];")
        self._lay_out(dict.fromkeys(self.totals, grid))
        starts = {i: f"{self.starts[i]}LL + (long long)blockIdx.x * {self.sizes[i]}LL" for i in self.totals}
        for i in self.totals:
            if self._is_one(i):
                self.line(f"double all{i} = 0.0;")
            else:
                self.open(f"for (long long k = threadIdx.y * {side} + threadIdx.x; k < {self.sizes[i]}LL; k += {side * high})")
                self.line(f"parts[{starts[i]} + k] = 0.0;")
                self.close()
        if self.totals:
            self.line("__syncthreads();")
        self.open(f"for (long long turn = 0; turn < {each}LL; ++turn)")
        self.line(f"const long long row = ((long long)blockIdx.x * {each}LL + turn) * {high} + threadIdx.y;")
        self.line(f"const bool is_row = row < {self.rows}LL;")
        self._places("row", with_row=False)
        rows: dict[Value, str] = {}
        for phase in range(self.phases):
            self._phase(phase, rows, side, high, starts)
        for i, result in enumerate(self.loop.results):
            if not result.value.is_row:
                continue
            name = self._row_value(result.value, rows)
            if not result.is_total:
                self.line(f"if (is_row && threadIdx.x == 0) o{i}[row] = {name};")
            else:
                self._add_row_total(i, result, f"(double){name}", starts, high, side)
        self.close()
        for i in self.totals:
            if self._is_one(i):
                self.line(f"if (threadIdx.x == 0 && threadIdx.y == 0) parts[{starts[i]}] = all{i};")
        return Launch("rows", grid, (side, high))

    def _is_one(self, i: int) -> bool:
        """Whether a sum is one number, which a thread may keep."""
        return self.loop.results[i].summed[-1] and self._place(self.loop.results[i]) == ("0",)

    def _phase(self, phase: int, rows: dict[Value, str], side: int, high: int, starts: dict[int, str]) -> None:
        """One walk over the row: what is summed up in it, and what is stored."""
        results = [(i, r) for i, r in enumerate(self.loop.results) if not r.value.is_row and r.value.phase == phase]
        sums = [value for value in self.sums if value.phase == phase + 1]
        if not results and not sums:
            return
        roots = [value.inputs[0] for value in sums] + [r.value for _, r in results]
        for value in in_order(roots):
            if value.is_row:
                self._row_value(value, rows)
        for value in sums:
            start = {"sum": "-0.0", "max": f"({self._number(-np.inf, value.dtype)})", "min": f"({self._number(np.inf, value.dtype)})"}
            kind = "double" if value.kind == "sum" else type_of(value.dtype)
            self.line(f"{kind} sum_{value.number} = {start[value.kind]};")
        along = [(i, r) for i, r in results if r.is_total and r.summed[-1]]
        for i, _ in along:
            self.line(f"double along{phase}_{i} = 0.0;")
        # (The columns of several rows of a block would meet in one place: then one row after the other has its turn.)
        across = [(i, r) for i, r in results if r.is_total and not r.summed[-1]]
        in_turn = bool(across) and high > 1
        if in_turn:
            self.open(f"for (int turn_of = 0; turn_of < {high}; ++turn_of)")
            self.line("__syncthreads();")
        self.open("if (is_row && threadIdx.y == turn_of)" if in_turn else "if (is_row)")
        self.open(f"for (long long j = threadIdx.x; j < {self.inner}LL; j += {side})")
        names = dict(rows)
        for value in sums:
            name = self._value(value.inputs[0], names)
            if value.kind == "sum":
                self.line(f"sum_{value.number} += (double){name};")
            else:
                self.line(f"sum_{value.number} = fg_{value.kind}(sum_{value.number}, {name});")
        for i, result in results:
            name = self._value(result.value, names)
            if not result.is_total:
                self.line(f"o{i}[row * {self.inner}LL + j] = {name};")
            elif result.summed[-1]:
                self.line(f"along{phase}_{i} += (double){name};")
            else:
                self.line(f"parts[{starts[i]} + {' + '.join(self._place(result))}] += (double){name};")
        self.close()
        self.close()
        if in_turn:
            self.close()
        for value in sums:
            kind = "double" if value.kind == "sum" else type_of(value.dtype)
            shared, index = f"shared_{kind}", f"threadIdx.y * {side} + threadIdx.x"
            self._across(value.kind, f"sum_{value.number}", kind, side, shared, index)
            self.line(f"const {type_of(value.dtype)} row_{value.number} = ({type_of(value.dtype)}){shared}[threadIdx.y * {side}];")
            self.line("__syncthreads();")
            rows[value] = f"row_{value.number}"
        for i, result in along:
            self._across("sum", f"along{phase}_{i}", "double", side, "shared_double", f"threadIdx.y * {side} + threadIdx.x")
            self.line(f"const double of_row{phase}_{i} = shared_double[threadIdx.y * {side}];")
            self.line("__syncthreads();")
            self._add_row_total(i, result, f"of_row{phase}_{i}", starts, high, side)

    def _add_row_total(self, i: int, result: Result, name: str, starts: dict[int, str], high: int, side: int) -> None:
        """Adds a number of each row to the sums of the block: one thread does, row by row."""
        self.line(f"if (threadIdx.x == 0) shared_double[threadIdx.y * {side}] = is_row ? {name} : 0.0;")
        self.line("__syncthreads();")
        self.open("if (threadIdx.x == 0 && threadIdx.y == 0)")
        self.open(f"for (int k = 0; k < {high}; ++k)")
        if self._is_one(i):
            self.line(f"all{i} += shared_double[k * {side}];")
        else:
            self.line("const long long other = row + k;")
            self.open(f"if (other < {self.rows}LL)")
            places = self._place(result, row="other")
            self.line(f"parts[{starts[i]} + {' + '.join(places)}] += shared_double[k * {side}];")
            self.close()
        self.close()
        self.close()
        self.line("__syncthreads();")

    def _endings(self, text: list[str]) -> list[Launch]:
        """The kernels that add up what blocks have left: of few sums by a block for each, of many by a thread for each."""
        launches = []
        for i in self.totals:
            result, size, entries, start = self.loop.results[i], self.sizes[i], self.entries[i], self.starts[i]
            kind, name = type_of(result.value.dtype), f"end{i}"
            divided = f" / {float(result.divisor)!r}" if result.divisor != 1 else ""
            if size < 32:
                self.line("double sum = -0.0;")
                self.open(f"for (int b = threadIdx.x; b < {entries}; b += {THREADS})")
                self.line(f"sum += parts[{start}LL + b * {size}LL + blockIdx.x];")
                self.close()
                self.line(f"__shared__ double shared[{THREADS}];")
                self._across("sum", "sum", "double", THREADS, "shared", "threadIdx.x")
                self.line(f"if (threadIdx.x == 0) o{i}[blockIdx.x] = ({kind})(shared[0]{divided});")
                launches.append(Launch(name, size, (THREADS, 1), True))
            else:
                self.line(f"const long long k = (long long)blockIdx.x * {THREADS} + threadIdx.x;")
                self.line(f"if (k >= {size}LL) return;")
                self.line("double sum = -0.0;")
                self.line(f"for (int b = 0; b < {entries}; ++b) sum += parts[{start}LL + b * {size}LL + k];")
                self.line(f"o{i}[k] = ({kind})(sum{divided});")
                launches.append(Launch(name, -(-size // THREADS), (THREADS, 1), True))
            text += self._function(name)
        return launches

    def _across(self, kind: str, name: str, ctype: str, side: int, shared: str, index: str) -> None:
        """The numbers of ``side`` threads as one, halves upon halves; it is in the first of their places in shared memory."""
        self.line(f"{shared}[{index}] = {name};")
        self.line("__syncthreads();")
        half = side // 2
        while half:
            a, b = f"{shared}[{index}]", f"{shared}[{index} + {half}]"
            both = f"{a} + {b}" if kind == "sum" else f"fg_{kind}<{ctype}>({a}, {b})"
            self.line(f"if (threadIdx.x < {half}) {a} = {both};")
            self.line("__syncthreads();")
            half //= 2

    # --- places

    def _places(self, index: str, *, with_row: bool) -> None:
        """The place along each dimension, from the number of the element or of the row."""
        last, rest = len(self.dims) - 1, index
        for axis in range(last if with_row else last - 1, -1, -1):
            name = "j" if axis == last else f"c{axis}"
            if axis == 0:
                self.line(f"const long long {name} = {rest};")
            else:
                self.line(f"const long long {name} = {rest} % {self.dims[axis]}LL, left{axis} = {rest} / {self.dims[axis]}LL;")
                rest = f"left{axis}"

    def _place(self, result: Result, row: str | None = None) -> tuple[str, ...]:
        """Where the sum of a row, or of an element of it, is added up; as the terms of a sum."""
        terms: list[str] = []
        step = 1
        if not result.summed[-1]:
            terms.append("j")
            step = self.inner
        for axis in range(len(self.dims) - 2, -1, -1):
            if not result.summed[axis]:
                behind = math.prod(self.dims[axis + 1 : -1])
                counter = f"c{axis}" if row is None else f"({row} / {behind}LL % {self.dims[axis]}LL)"
                terms.append(f"{counter} * {step}LL")
                step *= self.dims[axis]
        return tuple(terms) or ("0",)

    def _load(self, number: int, operand: Operand) -> str:
        """The element of an operand."""
        if operand.window is not None:
            return self._window_load(number, operand, operand.window)
        last = len(self.dims) - 1
        if operand.strided:
            return f"p{number}[c0 * stride{number} + j]"
        terms, step = [], 1
        for axis in range(last, -1, -1):
            if operand.varies[axis]:
                counter = "j" if axis == last else f"c{axis}"
                terms.append(counter if step == 1 else f"{counter} * {step}LL")
                step *= self.dims[axis]
        return f"p{number}[{' + '.join(reversed(terms)) or '0'}]"

    def _window_load(self, number: int, operand: Operand, window: Window) -> str:
        terms, checks, step = [], [], 1
        last = len(self.dims) - 1
        for axis in range(last, -1, -1):
            counter = "j" if axis == last else f"c{axis}"
            place = f"({counter} + {window.shifts[axis]}LL)" if window.shifts[axis] else counter
            terms.append(f"{place} * {step}LL")
            step *= window.sizes[axis]
            if not window.covers(axis, self.dims[axis]):
                checks.append(f"{place} >= {window.low[axis]}LL && {place} < {window.high[axis]}LL")
        loaded = f"p{number}[{' + '.join(reversed(terms))}]"
        if not checks:
            return loaded
        return f"({' && '.join(checks)}) ? {loaded} : {self._number(window.fill, operand.dtype)}"

    # --- values

    def _value(self, value: Value, names: dict[Value, str]) -> str:
        """The name of a value of an element, with the lines that make it."""
        for source in self._missing(value, names):
            self._make(source, names, "v")
        return names[value]

    def _row_value(self, value: Value, rows: dict[Value, str]) -> str:
        """The name of a value that is the same all along the row. Rows beyond the last compute nonsense, which nobody reads."""
        for source in self._missing(value, rows):
            self._make(source, rows, "r")
        return rows[value]

    def _missing(self, value: Value, names: dict[Value, str]) -> list[Value]:
        seen: set[Value] = set()
        stack: list[Value] = [value]
        while stack:
            current = stack.pop()
            if current not in names and current not in seen:
                seen.add(current)
                stack += current.inputs
        return sorted(seen, key=lambda each: each.number)

    def _make(self, value: Value, names: dict[Value, str], stem: str) -> None:
        if value.kind == "constant":
            names[value] = self._number(np.frombuffer(value.data, value.dtype)[0], value.dtype)
            return
        name = names[value] = f"{stem}{value.number}"
        kind = type_of(value.dtype)
        if value.kind == "load":
            text = self._load(value.data, self.loop.operands[value.data])
            if stem == "r":  # (there may be no such row)
                text = f"is_row ? ({text}) : {self._number(0, value.dtype)}"
        elif value.kind == "position":
            text = "(int)j"
        else:
            text = self._primitive(value, [names[source] for source in value.inputs])
        self.line(f"const {kind} {name} = {text};")

    def _primitive(self, value: Value, inputs: Sequence[str]) -> str:
        kind, dtype, of = value.kind, value.dtype, value.inputs[0].dtype
        ctype = type_of(dtype)
        if kind == "compare":
            return f"{inputs[0]} {_COMPARE[value.data]} {inputs[1]}"
        if kind == "select":
            return f"{inputs[0]} ? {inputs[1]} : {inputs[2]}"
        if kind == "negative":
            return f"-{inputs[0]}"
        if kind == "bitcast":
            names = {"f": "__float_as_int", "d": "__double_as_longlong"}
            back = "__int_as_float" if dtype.char == "f" else "__longlong_as_double"
            return f"{names[of.char] if of.kind == 'f' else back}({inputs[0]})"
        if kind == "cast":
            return f"({ctype}){inputs[0]}"
        if kind == "scale":
            return inputs[2]
        if kind in _FUNCTIONS:
            return f"{_FUNCTIONS[kind]}{'f' if dtype.char == 'f' else ''}({', '.join(inputs)})"
        if kind in ("shl", "lshr", "ashr"):
            wide = _unsigned(dtype)
            if kind == "ashr":
                return f"({ctype})({inputs[0]} >> {inputs[1]})"
            return f"({ctype})(({wide}){inputs[0]} {'<<' if kind == 'shl' else '>>'} {inputs[1]})"
        if dtype.kind in "iu" and kind in ("add", "subtract", "multiply"):  # what overflows wraps around
            wide = _unsigned(dtype)
            return f"({ctype})(({wide}){inputs[0]} {_INFIX[kind]} ({wide}){inputs[1]})"
        text = f"{inputs[0]} {_INFIX[kind]} {inputs[1]}"
        return f"({ctype})({text})" if dtype.kind in "iub" else text

    def _number(self, number: Any, dtype: np.dtype[Any]) -> str:
        if dtype == BOOL:
            return "true" if number else "false"
        if dtype.kind == "f":
            array = np.asarray(number).astype(dtype)
            if dtype == FLOAT64:
                return f"__longlong_as_double(0x{int(array.view(np.uint64)):016x}LL)"
            return f"__int_as_float(0x{int(array.view(np.uint32)):08x})"
        ending = {"q": "LL", "l": "LL", "Q": "ULL", "L": "ULL", "I": "U"}.get(dtype.char, "")
        value = int(number)
        if dtype.kind == "i" and value == np.iinfo(dtype).min:
            return f"({type_of(dtype)})({value + 1}{ending} - 1)"
        return f"({type_of(dtype)})({value}{ending})"


def _unsigned(dtype: np.dtype[Any]) -> str:
    return "unsigned long long" if dtype.itemsize == 8 else "unsigned int"
