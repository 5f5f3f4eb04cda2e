"""Draws: random bits, those of NumPy's generator Philox.

What follows a number is no part of its state: block k of four words is a function of the key and of k. So the blocks of an array are made
one beside the other, as many at once as the processor has multipliers for, and not word by word through a generator's state.

Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011): Philox4x64-10. NumPy's form of it counts before it
makes a block, and takes a 32-bit number from each half of a word, the lower one first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..records import Record
from .arrays import ArrayKernel
from .llvm import Target
from .loops import Operand

_ROUNDS = 10
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # what the keys grow by from round to round

_WORD = np.dtype("uint64")


class Bits(Record):
    """A kernel that fills an array, or a part of it, with random bits.

    dtype   int32 or int64
    stream  the counter's last word

    It reads the key (seed, run, fold), which fills the other words, and `place`. Of these `bare` is given the second as ``data``.
    """

    dtype: np.dtype[Any]
    stream: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(_WORD, (True,)),) * 2

    def place(self, first: int, count: int) -> np.ndarray[Any, Any]:
        """What distinguishes the draws of one graph and their parts, as an operand: so one text serves all of them.

        first, count  place of the first element among all; how many are filled
        """
        return np.array([self.stream, first, count], _WORD)

    def text(self, target: Target) -> str:
        return _Writer(target, self.dtype).text()


class _Writer(ArrayKernel):
    def __init__(self, target: Target, dtype: np.dtype[Any]) -> None:
        super().__init__(target, dtype, 3)
        self.lanes = 4 * _WORD.itemsize // dtype.itemsize

    def _load_arguments(self) -> None:
        super()._load_arguments()
        self.data = self.new(f"load ptr, ptr {self.new('getelementptr ptr, ptr %operands, i64 1')}")

    def body(self) -> None:
        seed, run, fold = [self._word("%p0", place) for place in range(3)]
        stream, first, count = [self._word("%data", place) for place in range(3)]
        self.keys = [
            [self.new(f"add i64 {start}, {step * turn % 2**64}") for start, step in zip((seed, run), _WEYL, strict=True)]
            for turn in range(_ROUNDS)
        ]
        self.fold, self.stream = fold, stream
        lanes = self.lanes
        # The first block may have begun before, and the last one may go on behind. (`at` is where the block would begin.)
        block, skipped = self.new(f"udiv i64 {first}, {lanes}"), self.new(f"urem i64 {first}, {lanes}")
        end = self.new(f"add i64 {skipped}, {count}")
        at = self.at("%p2", (skipped, -1))
        self.store(self._bits(block), at, lanes, self._between(skipped, end))
        blocks = self.new(f"udiv i64 {end}, {lanes}")
        rest = self.call("llvm.usub.sat.i64", "i64", ("i64", blocks), ("i64", "1"))
        with self.counting(rest) as number:
            place = self.new(f"add i64 {number}, 1")
            self.store(self._bits(self.new(f"add i64 {block}, {place}")), self.at(at, (place, lanes)), lanes)
        left = self.new(f"sub i64 {end}, {self.new(f'mul i64 {blocks}, {lanes}')}")
        left = self.new(f"select i1 {self.new(f'icmp eq i64 {blocks}, 0')}, i64 0, i64 {left}")
        self.store(self._bits(self.new(f"add i64 {block}, {blocks}")), self.at(at, (blocks, lanes)), lanes, self.lanes_below(left, lanes))

    def _between(self, low: str, high: str) -> str:
        """A mask of the lanes from ``low`` to below ``high``."""
        bits = f"<{self.lanes} x i1>"
        below = self.new(f"xor {bits} {self.lanes_below(low, self.lanes)}, splat (i1 true)")
        return self.new(f"and {bits} {below}, {self.lanes_below(high, self.lanes)}")

    def _word(self, pointer: str, place: int) -> str:
        return self.new(f"load i64, ptr {self.new(f'getelementptr i64, ptr {pointer}, i64 {place}')}")

    def _bits(self, block: str) -> str:
        """Those of a block, counted from 0."""
        vector = "poison"
        for place, word in enumerate(self._words([self.new(f"add i64 {block}, 1"), "0", self.fold, self.stream])):
            vector = self.new(f"insertelement <4 x i64> {vector}, i64 {word}, i32 {place}")
        return vector if self.lanes == 4 else self.new(f"bitcast <4 x i64> {vector} to {self.vector(self.lanes)}")

    def _words(self, counter: Sequence[str]) -> Sequence[str]:
        for keys in self.keys:
            (high0, low0), (high1, low1) = (self._product(counter[2 * half], _MULTIPLIERS[half]) for half in range(2))
            counter = [self._mixed(high1, counter[1], keys[0]), low1, self._mixed(high0, counter[3], keys[1]), low0]
        return counter

    def _product(self, word: str, factor: int) -> tuple[str, str]:
        """The upper and the lower half."""
        whole = self.new(f"mul i128 {self.new(f'zext i64 {word} to i128')}, {factor}")
        return self.new(f"trunc i128 {self.new(f'lshr i128 {whole}, 64')} to i64"), self.new(f"trunc i128 {whole} to i64")

    def _mixed(self, a: str, b: str, c: str) -> str:
        return self.new(f"xor i64 {self.new(f'xor i64 {a}, {b}')}, {c}")
