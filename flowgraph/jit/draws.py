"""Draws: uniform random numbers, with the bits of NumPy's generator Philox.

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
from .text import literal

_ROUNDS = 10
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # what the keys grow by from round to round

_WORD = np.dtype("uint64")


class Uniform(Record):
    """A kernel that fills an array with draws from [0, 1).

    dtype   of the draws: float32 or float64
    stream  the counter's last word
    size    how many

    It reads the key (seed, run, fold), which fills the other words, and `given`.
    """

    dtype: np.dtype[Any]
    stream: int
    size: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(_WORD, (True,)),) * 2

    @property
    def given(self) -> tuple[np.ndarray[Any, Any], ...]:
        """What distinguishes the draws of one graph, as an operand: so one text serves all of them."""
        return (np.array([self.stream, self.size], _WORD),)

    def text(self, target: Target) -> str:
        return _Writer(target, self.dtype).text()


class _Writer(ArrayKernel):
    def __init__(self, target: Target, dtype: np.dtype[Any]) -> None:
        super().__init__(target, dtype, 3)

    def body(self) -> None:
        seed, run, fold = [self._word("%p0", place) for place in range(3)]
        stream, size = [self._word("%p1", place) for place in range(2)]
        self.keys = [
            [self.new(f"add i64 {start}, {step * turn % 2**64}") for start, step in zip((seed, run), _WEYL, strict=True)]
            for turn in range(_ROUNDS)
        ]
        self.fold, self.stream = fold, stream
        lanes = 4 * _WORD.itemsize // self.dtype.itemsize
        blocks = self.new(f"udiv i64 {size}, {lanes}")
        with self.counting(blocks) as block:
            self.store(self._numbers(block, lanes), self.at("%p2", (block, lanes)), lanes)
        left = self.new(f"urem i64 {size}, {lanes}")
        self.store(self._numbers(blocks, lanes), self.at("%p2", (blocks, lanes)), lanes, self.lanes_below(left, lanes))

    def _word(self, pointer: str, place: int) -> str:
        return self.new(f"load i64, ptr {self.new(f'getelementptr i64, ptr {pointer}, i64 {place}')}")

    def _numbers(self, block: str, lanes: int) -> str:
        """The numbers of a block, counted from 0."""
        vector, integer = "poison", f"i{8 * self.dtype.itemsize}"
        for place, word in enumerate(self._words([self.new(f"add i64 {block}, 1"), "0", self.fold, self.stream])):
            vector = self.new(f"insertelement <4 x i64> {vector}, i64 {word}, i32 {place}")
        bits, mantissa = f"<{lanes} x {integer}>", np.finfo(self.dtype).nmant + 1
        parts = self.new(f"bitcast <4 x i64> {vector} to {bits}")
        whole = self.new(f"lshr {bits} {parts}, splat ({integer} {8 * self.dtype.itemsize - mantissa})")
        scale = f"splat ({self.number} {literal(2.0**-mantissa, self.dtype)})"
        return self.arithmetic("fmul", self.new(f"sitofp {bits} {whole} to {self.vector(lanes)}"), scale, lanes)

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
