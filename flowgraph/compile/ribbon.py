"""Ribbon: a stretch of a very large plan as tapes, made from its columns: no object is made for any of its kernels.

What may be in one, and the bits, are those of a section (see `native`). What is made and dies within the stretch lies in one array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph.spec import is_known
from ..jit.tape import MOST_ARRAYS, PLACE_BITS, PackedTape, Tape
from ..jit.ufuncs import Code, code_of
from ..records import Record
from .columns import Numbers, distinct, order_of
from .cost import CALL_SECONDS
from .instructions import Area, Shape, elementwise
from .kinds import Kind
from .native import may_be_called
from .section import LONGEST_SECONDS, MOST_HELD_BYTES, aligned
from .units import Stretch

# What a call by a tape takes where neither the tape nor the arrays are in the processor's cache.
_KERNEL_SECONDS = 50e-9
# Of the arrays that are made so many are read outside at most, as a part of all: each costs more than its kernel.
MOST_MADE = 0.1


class Ribbon(Record, frozen=False, eq=False):
    """What a run of a stretch takes.

    reads   slots whose arrays the tapes get; ``makes``: (slot, spec) of those that they get to fill; behind these they get the arena
    arena   bytes of memory for what is made and dies within the stretch
    tapes   one behind the other, each short enough that whether the run has been stopped may be asked between them
    frees   slots from outside that are emptied behind them
    """

    reads: list[int]
    makes: list[tuple[int, Any]]
    arena: int
    tapes: list[Tape]
    frees: list[int]


def ribbon_of(stretch: Stretch) -> Ribbon | None:
    """The ribbon of a stretch; None where a kernel has to be called from Python, or where too much of what it makes is read outside."""
    shapes = [_shape(kind, operands) for kind, operands in zip(stretch.table.kinds, stretch.table.operands, strict=True)]
    present = set(stretch.kinds.tolist())
    if any(shapes[kind] is None for kind in present):
        return None
    first, count = stretch.first, len(stretch)
    is_inner = (stretch.freed >= first) & (stretch.freed < first + count)
    dies = np.zeros(count, bool)
    dies[stretch.freed[is_inner] - first] = True
    made = np.flatnonzero(~dies)
    is_outer = (stretch.reads >= 0) & (stretch.reads < first)
    reads = sorted(set(stretch.reads[is_outer].tolist()))
    if len(made) > max(MOST_MADE * count, 1) or len(reads) + len(made) + 1 >= MOST_ARRAYS:
        return None
    arena = len(reads) + len(made) + 1
    sizes = np.array([aligned(nbytes) for nbytes in stretch.table.nbytes.tolist()], np.int64)[stretch.kinds] * dies
    dying, behind = stretch.freed[is_inner] - first, stretch.freeing[is_inner]
    offsets, nbytes = _offsets(sizes, dying, behind)
    freed = np.bincount(behind, sizes[dying], minlength=count)
    most = int((np.cumsum(sizes - freed) + freed).max())  # alive at once
    if nbytes > most + max(MOST_HELD_BYTES, most // 4):  # arrays of many sizes, none of which fits where another was
        return None
    words = (arena << PLACE_BITS) + offsets
    words[made] = np.arange(len(reads) + 1, arena) << PLACE_BITS
    places = np.empty((3, count), np.int64)
    places[2] = words
    places[:2] = words[np.where(is_outer, 0, stretch.reads - first)]
    places[:2][is_outer] = (np.searchsorted(reads, stretch.reads[is_outer]) + 1) << PLACE_BITS
    is_one = stretch.reads[1] < 0
    places[1, is_one] = words[is_one]  # the result is the last of two places then
    seconds = np.cumsum(np.maximum(stretch.table.seconds - CALL_SECONDS, 0)[stretch.kinds] + _KERNEL_SECONDS)
    piece = (seconds / LONGEST_SECONDS).astype(np.int64)
    ends = [*(np.flatnonzero(np.diff(piece)) + 1).tolist(), count]
    known = [shape or _NO_SHAPE for shape in shapes]
    tapes: list[Tape] = [
        PackedTape(known, stretch.kinds[start:end], places[:, start:end]) for start, end in zip([0, *ends], ends, strict=False)
    ]
    made_specs = [stretch.table.operands[kind][-1] for kind in stretch.kinds[made].tolist()]
    makes = list(zip((made + first).tolist(), made_specs, strict=True))
    return Ribbon(reads, makes, nbytes, tapes, stretch.freed[~is_inner].tolist())


_NO_SHAPE = Shape(Code(0), (), ())  # of kinds that the stretch has no node of


def _shape(kind: Kind, operands: Sequence[Any]) -> Shape | None:
    """What is called for nodes of a kind, given the specs of what they read and make; None where that is only Python's to do."""
    dtypes = tuple([spec.dtype for spec in operands])
    if not all(is_known(spec.shape) and 0 not in spec.shape for spec in operands) or not may_be_called(kind.kernel, dtypes):
        return None
    code = code_of(kind.kernel, dtypes)
    if code is None or kind.kernel.signature is not None:  # type: ignore[attr-defined]
        return None
    *areas, target = [Area.whole(slot, spec) for slot, spec in enumerate(operands)]
    made = elementwise(code, areas, target)
    return None if made is None else made.shape


def _offsets(sizes: Numbers, dying: Numbers, behind: Numbers) -> tuple[Numbers, int]:
    """Where in the arena each unit's result lies, and the bytes of it all.

    sizes  for each unit, 0 for what does not lie there
    dying  units whose results die, and ``behind``: each behind which unit
    """
    order = order_of(behind)
    ending, at_end = dying[order].tolist(), [*behind[order].tolist(), -1]
    free: dict[int, list[int]] = {size: [] for size in sizes[distinct(sizes)[0]].tolist()}  # bytes -> where there is room for so many
    result: list[int] = []
    nbytes = done = 0
    listed = sizes.tolist()
    for unit, size in enumerate(listed):
        idle = free[size]
        if idle:
            result.append(idle.pop())
        else:
            result.append(nbytes)
            nbytes += size
        while at_end[done] == unit:
            gone = ending[done]
            free[listed[gone]].append(result[gone])
            done += 1
    return np.array(result, np.int64), nbytes
