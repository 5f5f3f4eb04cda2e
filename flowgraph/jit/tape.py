"""Tapes: many small kernels as one call from Python. Instructions lie one behind the other, and a loop in machine code follows them.

What an instruction calls has the signature of NumPy's inner loops, ``void (char **args, intp *dimensions, intp *strides, void *data)``:
these loops themselves, so that a tape gives the very bits of the ufuncs, matrix products included, and the kernels of `loops`. An
instruction on few numbers takes 10 ns, where the call from Python takes 200.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from .follow import FOLLOW, HELPER, TAPE, TEAM
from .kernels import compiler, native
from .ufuncs import Code
from .values import SUPPORTED

_POINTER = ctypes.sizeof(ctypes.c_void_p)

# Words of the head of an instruction: code, its pointer, how many places, times, and the addresses of dimensions, strides and steps.
_HEAD = 7
# A place is one word: the number of an array in the upper bits, and how many bytes behind its first element. Number 0 stands for address 0.
PLACE_BITS = 48
MOST_ARRAYS = 16_000  # (their addresses lie on the stack)
MOST_OPERANDS = 64
# Below this a call keeps Python's lock: letting it go and taking it again costs some 0.1 us, and more where others wait for it.
SECONDS_WITH_LOCK = 3e-6


def place(array: int, offset: int = 0) -> int:
    """The word for the memory ``offset`` bytes behind the first element of an array, which are counted from 1."""
    return (array << PLACE_BITS) + offset


class Tape:
    """Instructions, as they are written. `call` makes a function of them.

    As machine code reads it, an instruction is the address of its head, which many have in common, and its places.
    """

    def __init__(self) -> None:
        self._words: list[int] = []
        self._starts: list[int] = []  # where in the words each instruction begins
        self._heads: dict[tuple[Any, ...], int] = {}  # what is called, with which numbers -> how many came before
        self._keeps: list[Any] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(
        self,
        code: Code,
        places: Sequence[int],
        dims: tuple[int, ...],
        strides: tuple[int, ...],
        times: int = 1,
        steps: tuple[int, ...] = (),
    ) -> None:
        """One instruction.

        times  how often it is called, and ``steps``: by how many bytes each place then moves on
        """
        self._starts.append(len(self._words))
        self._words += (self._head(code, len(places), dims, strides, times, steps), *places)

    def _head(self, code: Code, count: int, dims: tuple[int, ...], strides: tuple[int, ...], times: int, steps: tuple[int, ...]) -> int:
        """The number of a head."""
        key = code.address, code.data, count, times, dims, strides, steps
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = len(self._heads)
            if code.keeps is not None:
                self._keeps.append(code.keeps)
        return head

    def _addresses(self) -> Any:
        """Writes the heads; their addresses, and what has to live for them."""
        numbers, known = [0], {}  # dimensions and strides, and where some of them are
        for key in self._heads:
            for some in key[4:]:
                if some not in known:
                    known[some] = len(numbers)
                    numbers += some
        listed = np.array(numbers, np.int64)
        heads = np.array([(*key[:4], *[listed.ctypes.data + 8 * known[some] for some in key[4:]]) for key in self._heads], np.int64)
        heads = heads.reshape(-1, _HEAD)
        return heads.ctypes.data + 8 * _HEAD * np.arange(len(heads)), [listed, heads, *self._keeps]

    def laid_out(self, *head: int) -> _Words:
        """Its words behind those of ``head``, as machine code reads them."""
        addresses, keeps = self._addresses()
        words = np.array([*head, *self._words, 0], np.int64).view(_Words)
        at = np.array(self._starts, np.int64) + len(head)
        words[at] = addresses[words[at]]
        words.keeps = keeps
        return words

    def call(self, otherwise: Callable[..., Any], *, with_lock: bool, stack: int = 0) -> Callable[..., Any]:
        """A function of the arrays, in the order of their numbers, that follows the tape, and gives the last of them.

        with_lock  whether it keeps Python's lock
        stack      bytes that it has besides, as an array with the next number

        Arrays are C-contiguous and aligned, or scalars of NumPy that are only read; if not, ``otherwise`` is called in its stead.
        """
        words = self.laid_out(int(with_lock), id(otherwise), stack)
        words.keeps.append(otherwise)
        return native(_address(TAPE), words)


class PackedTape(Tape):
    """A tape all of which is there at once.

    shapes  what is called, each as code, dims, strides, times and steps
    which   for each instruction the number of its shape, and ``places``: (operands, instructions); those of fewer operands have the first
    """

    def __init__(self, shapes: Sequence[tuple[Code, Any, Any, int, Any]], which: Any, places: Any) -> None:
        super().__init__()
        counts = np.array([len(strides) for _, _, strides, _, _ in shapes], np.int64)
        heads = [self._head(code, len(strides), dims, strides, times, steps) for code, dims, strides, times, steps in shapes]
        self._which, self._places, self._sizes = np.array(heads, np.int64)[which], places, counts[which] + 1

    def __len__(self) -> int:
        return len(self._which)

    def laid_out(self, *head: int) -> _Words:
        addresses, keeps = self._addresses()
        behind = len(head) + np.cumsum(self._sizes)
        words = np.empty(len(head) + int(self._sizes.sum()) + 1, np.int64).view(_Words)
        words[: len(head)], words[-1] = head, 0
        words[behind - self._sizes] = addresses[self._which]
        for k, row in enumerate(self._places, 1):
            has = self._sizes > k
            words[(behind - self._sizes + k)[has]] = row[has]
        words.keeps = keeps
        return words


def team_call(
    tasks: Sequence[tuple[Tape, tuple[int, ...]]], otherwise: Callable[..., Any], board: Any, *, stack: int = 0
) -> Callable[..., Any]:
    """As `Tape.call`, for several tapes, which the caller works off together with those who help.

    tasks  each with those that it waits for, by their numbers; of those that may run the first goes first
    board  where helpers look: eight int64, zeros at first, for one call at a time; see `helper`
    """
    count = len(tasks)
    words = [tape.laid_out() for tape, _ in tasks]
    readers = [np.array([reader for reader, (_, after) in enumerate(tasks) if number in after], np.int64) for number in range(count)]
    table = np.array([(tape.ctypes.data, len(to), to.ctypes.data) for tape, to in zip(words, readers, strict=True)], np.int64)
    ready = [0] * (-(-count // 64))
    for number, (_, after) in enumerate(tasks):
        if not after:
            ready[number // 64] |= 1 << (number % 64)
    marks = np.array(ready, np.uint64).view(np.int64)
    state = np.array([count, 0, 0, table.ctypes.data, count, *[len(after) for _, after in tasks], *marks.tolist()], np.int64)
    head = np.array([0, id(otherwise), stack, board.ctypes.data, state.ctypes.data, len(state)], np.int64).view(_Words)
    head.keeps = [words, readers, table, state, otherwise, board]
    return native(_address(TEAM), head)


def helper(board: Any, patience: int) -> Callable[[], Any]:
    """A function that helps the calls that show on ``board``, until it has looked ``patience`` times in vain.

    It ends, too, where it finds itself on the processor of the one that it would help, whose number is the fourth on the board.
    """
    words = np.array([board.ctypes.data, patience], np.int64).view(_Words)
    words.keeps = [board]
    return native(_address(HELPER), words)


def repeat_code(tape: Tape, rotations: Sequence[tuple[int, int, int]], finals: Sequence[tuple[int, int, int]]) -> Code:
    """Code that follows ``tape`` again and again: its operands are the arrays of the tape.

    Its dimensions are the number of times, 0 where the first array tells it, and that of the arrays; its strides say by how many bytes each
    array moves on from time to time.

    rotations  (first, second, third): behind each time the first array becomes what the second is, and the second, where there is a third,
               changes places with that
    finals     (array, bytes, array): of the first so much is copied to the second at the end
    """
    words = tape.laid_out()
    numbers = [words.ctypes.data, len(rotations), len(finals), *chain.from_iterable(rotations), *chain.from_iterable(finals)]
    data = np.array(numbers, np.int64)
    return Code(_address(TAPE, "bare"), data.ctypes.data, (words, data))


@cache
def is_possible() -> bool:
    """Whether what follows tapes can be compiled here. Where it cannot, a warning says so, once."""
    try:
        return bool(_address(TAPE))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        warnings.warn(
            f"what calls kernels from machine code could not be compiled, and Python calls them: {reason}", RuntimeWarning, stacklevel=2
        )
        return False


@cache
def _address(text: str, function: str = "kernel") -> int:
    """That of a function of the module ``text``."""
    names = [f"@flowgraph_{dtype.name}" for dtype in sorted(SUPPORTED, key=str)]
    lines = []
    for i, name in enumerate(names):
        lines += [f"  %is_{i} = icmp eq ptr %kind, {name}", f"  %known_{i} = or i1 %is_{i}, {f'%known_{i - 1}' if i else 'false'}"]
    lines.append(f"  br i1 %known_{len(names) - 1}, label %fine, label %otherwise")
    text = (FOLLOW + text).replace("HEADER", str(compiler().target.header)).replace("SCALARS", "\n".join(lines))
    return compiler().address(text.replace("TYPES", "\n".join(f"{name} = external global i8" for name in names)), function)


class _Words(np.ndarray[Any, Any]):
    """The words of a tape; it keeps alive what they point at. Machine code gets it as its self."""

    keeps: Any
