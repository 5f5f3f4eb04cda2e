"""ArrayKernel: what the texts of kernels over whole arrays share: their arguments, addresses, vectors and scratch memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .arguments import CallableText
from .llvm import Target
from .text import BARE_SIGNATURE, literal, type_of, vector_of


def tiles(total: int, most: int) -> list[tuple[int, int]]:
    """``total`` cut into as few parts of at most ``most`` as can be, of nearly equal size: (how many, of which size).

    >>> tiles(50, 6)
    [(5, 6), (4, 5)]
    """
    parts = -(-total // most)
    size, larger = divmod(total, parts)
    return [(count, length) for count, length in ((larger, size + 1), (parts - larger, size)) if count]


def divisors(number: int) -> list[int]:
    """All of them, from 1 to the number itself."""
    return [k for k in range(1, number + 1) if number % k == 0]


def power_of_two(number: int) -> int:
    """The smallest one that is not below ``number``."""
    return 1 << max(0, number - 1).bit_length()


class ArrayKernel(CallableText):
    """A kernel of arrays of one dtype, C-contiguous and of known shapes but for the first dimension of the first.

    A subclass says in `body` what happens between the arguments' pointers, ``%p0`` and so on; ``%n0`` is the first one's first dimension.
    Python's lock is let go meanwhile, and memory that is short is a MemoryError. An argument that is not contiguous or not aligned goes to
    the Python function that is ``self``.
    """

    scratch = 0  # numbers of scratch memory that the body needs, at %scratch
    data = "%short"  # what the call from Python hands on as ``data``

    def __init__(self, target: Target, dtype: np.dtype[Any], count: int) -> None:
        super().__init__(target)
        self.dtype, self.arrays = dtype, count
        self.number = type_of(dtype)

    def body(self) -> None:
        raise NotImplementedError

    def text(self) -> str:
        """The module: ``kernel``, which Python can call, and ``bare`` (see `tape`), which counts at ``data`` how often memory is short."""
        self._load_arguments()
        saved = self.call("PyEval_SaveThread", "ptr")
        self.line(f"call void @bare(ptr %operands, ptr %dims, ptr null, ptr {self.data})")
        self.call("PyEval_RestoreThread", "void", ("ptr", saved))
        short = self.new("load i64, ptr %short")
        self.line(f"br i1 {self.new(f'icmp eq i64 {short}, 0')}, label %done, label %exhausted")
        self.label("exhausted")
        self.line(f"ret ptr {self.call('PyErr_NoMemory', 'ptr')}")
        self.label("done")
        result = f"%a{self.arrays - 1}"
        self.call("Py_IncRef", "void", ("ptr", result))
        self.line(f"ret ptr {result}")
        return self.callable_module() + self._bare()

    def _load_arguments(self) -> None:
        self.line(f"%operands = alloca [{self.arrays} x ptr]")
        self.line("%dims = alloca i64")
        self.line("%short = alloca i64")
        self.line("store i64 0, ptr %short")
        taken = [self.take_array(i) for i in range(self.arrays)]
        first = self.new(f"load i64, ptr {self.field(0, 'dimensions')}")
        self.line(f"store i64 {first}, ptr %dims")
        for i, (data, _) in enumerate(taken):
            self.line(f"store ptr {data}, ptr {self.new(f'getelementptr ptr, ptr %operands, i64 {i}')}")
        self.go_on_if([check for _, check in taken])

    def _bare(self) -> str:
        self.lines = []
        declared, self.declared = self.declared, {}
        for i in range(self.arrays):
            self.line(f"%p{i} = load ptr, ptr {self.new(f'getelementptr ptr, ptr %operands, i64 {i}')}")
        self.line("%n0 = load i64, ptr %dims")
        if self.scratch:
            # (Not of the stack: threads have little of it.)
            size = self.scratch * self.dtype.itemsize + 64
            memory = self.take_memory(str(size), "%scratch", "exhausted")
        self.body()
        if self.scratch:
            self.call("PyMem_RawFree", "void", ("ptr", memory))
        self.line("ret void")
        if self.scratch:
            self.label("exhausted")
            self.new("atomicrmw add ptr %data, i64 1 seq_cst")
            self.line("ret void")
        self.declared = {name: text for name, text in self.declared.items() if name not in declared}
        return self.module(BARE_SIGNATURE)

    def take_memory(self, size: str, name: str, otherwise: str) -> str:
        """Takes so many bytes, and goes on at the label ``otherwise`` where there are none; gives what is to be freed.

        ``name`` becomes where a line of the cache begins in it: ``size`` has 64 bytes more than are used.
        """
        memory = self.call("PyMem_RawMalloc", "ptr", ("i64", size))
        self.line(f"br i1 {self.new(f'icmp eq ptr {memory}, null')}, label %{otherwise}, label %ready")
        self.label("ready")
        address = self.new(f"add i64 {self.new(f'ptrtoint ptr {memory} to i64')}, 63")
        self.line(f"{name} = inttoptr i64 {self.new(f'and i64 {address}, -64')} to ptr")
        return memory

    # --- addresses

    def at(self, pointer: str, *terms: int | str | tuple[str, int]) -> str:
        """``pointer`` moved on by the sum of ``terms`` numbers: each an int, a name, or a name times an int."""
        fixed = 0
        for term in terms:
            if isinstance(term, int):
                fixed += term
                continue
            name, factor = term if isinstance(term, tuple) else (term, 1)
            if name == "0":
                continue
            if factor != 1:
                name = self.new(f"mul nsw i64 {name}, {factor}")
            pointer = self.new(f"getelementptr {self.number}, ptr {pointer}, i64 {name}")
        return self.new(f"getelementptr {self.number}, ptr {pointer}, i64 {fixed}") if fixed else pointer

    # --- vectors

    def vector(self, lanes: int) -> str:
        return vector_of(self.dtype, lanes)

    def load(self, at: str, lanes: int, mask: str | None = None, fill: str = "zeroinitializer") -> str:
        """A vector from memory, of any alignment; lanes that ``mask`` leaves out are not touched there, and are ``fill``."""
        if mask is None:
            return self.new(f"load {self.vector(lanes)}, ptr {at}, align {self.dtype.itemsize}")
        return self.masked_load(self.dtype, lanes, at, mask, fill)

    def store(self, vector: str, at: str, lanes: int, mask: str | None = None) -> None:
        if mask is None:
            self.line(f"store {self.vector(lanes)} {vector}, ptr {at}, align {self.dtype.itemsize}")
        else:
            self.masked_store(self.dtype, lanes, vector, at, mask)

    def lanes_of(self, truths: Sequence[bool], valid: str | None = None) -> str | None:
        """A mask that is known, without any lane where ``valid`` (an i1) is false; None if it has all lanes.

        The choice is made of bits, and not of masks: LLVM 20 to 22 loses the upper half of a known mask that is chosen so, where it
        has more lanes than a register, and loads without a mask.
        """
        lanes = len(truths)
        if valid is None:
            return None if all(truths) else f"<{', '.join(f'i1 {int(t)}' for t in truths)}>"
        bits = -1 if all(truths) else sum(1 << k for k, truth in enumerate(truths) if truth)
        return self.new(f"bitcast i{lanes} {self.new(f'select i1 {valid}, i{lanes} {bits}, i{lanes} 0')} to <{lanes} x i1>")

    def lanes_below(self, limit: str, lanes: int) -> str:
        """A mask of the lanes whose number is below ``limit``, which may be below 0 or above all."""
        most = self.call("llvm.smin.i64", "i64", ("i64", limit), ("i64", str(lanes)))
        some = self.call("llvm.smax.i64", "i64", ("i64", most), ("i64", "0"))
        bits = 8 * self.dtype.itemsize  # (those of the numbers that are masked, so that it is one comparison of vectors)
        word = self.new(f"trunc i64 {some} to i{bits}") if bits < 64 else some
        numbers = ", ".join([f"i{bits} {k}" for k in range(lanes)])
        return self.new(f"icmp slt <{lanes} x i{bits}> <{numbers}>, {self.spread(word, lanes, f'i{bits}')}")

    def shuffle(self, a: str, b: str, lanes: int, order: Iterable[int]) -> str:
        """The lanes of ``a`` and, counted on, of ``b`` in another order."""
        return self.shuffled(self.dtype, a, b, lanes, order)

    def transposed(self, rows: Sequence[str], lanes: int) -> list[str]:
        """As many vectors as they have lanes: lane k of the first, of the second, and so on, for each k."""
        vectors, half = list(rows), lanes // 2
        while half:
            low = [k if not k & half else lanes + k - half for k in range(lanes)]
            high = [k + half if not k & half else lanes + k for k in range(lanes)]
            for i in [k for k in range(lanes) if not k & half]:
                a, b = vectors[i], vectors[i + half]
                vectors[i], vectors[i + half] = self.shuffle(a, b, lanes, low), self.shuffle(a, b, lanes, high)
            half //= 2
        return vectors

    def arithmetic(self, name: str, a: str, b: str, lanes: int) -> str:
        return self.new(f"{name} {self.vector(lanes)} {a}, {b}")

    def fma(self, a: str, b: str, c: str, lanes: int) -> str:
        """``a * b + c``, with one rounding where the processor can do that quickly."""
        return self.multiplied_and_added(self.dtype, a, b, c, lanes)

    def load_steps(self, row: str, first: int, step: int, count: int, size: int, fill: Any = 0.0, valid: str | None = None) -> str:
        """Numbers ``first``, ``first + step``, ... of a row of ``size``, ``count`` of them, as a vector of the next power of two.

        What lies outside the row is ``fill``, and all of it where ``valid`` (an i1) is false.
        """
        lanes = power_of_two(count)
        reach = lanes * step
        inside = [j <= step * (count - 1) and 0 <= first + j < size for j in range(reach)]
        splat = f"splat ({self.number} {literal(fill, self.dtype)})" if fill else "zeroinitializer"
        loaded = self.load(self.at(row, first), reach, self.lanes_of(inside, valid), splat)
        return loaded if step == 1 else self.shuffle(loaded, "poison", reach, range(0, reach, step))

    def store_first(self, vector: str, at: str, count: int) -> None:
        """The first ``count`` lanes of a vector of the next power of two."""
        lanes = power_of_two(count)
        self.store(vector, at, lanes, self.lanes_of([k < count for k in range(lanes)]))


def chunks(length: int, lanes: int) -> list[tuple[int, int]]:
    """A row cut into vectors: (first, how many) of each.

    >>> chunks(40, 16)
    [(0, 16), (16, 16), (32, 8)]
    """
    return [(first, min(lanes, length - first)) for first in range(0, length, lanes)]
