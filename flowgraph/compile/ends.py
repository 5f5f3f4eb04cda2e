"""Ends: where the storages that a stretch of units touches are let go, and what is alive on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .columns import Numbers
from .units import Stretch


class Ends:
    """Finds the last unit that touches each storage, going through the stretches of a plan from its end.

    slots    how many there are
    members  storage -> its slots, where it has several
    settled  for each storage whether its end is known; shared with who goes through the other units
    """

    def __init__(self, slots: int, members: Mapping[int, Sequence[int]], settled: bytearray) -> None:
        self._members = members
        self._slots = slots
        self._roots: Numbers | None = None
        self._is_settled = np.frombuffer(settled, bool)

    def settle(self, stretch: Stretch) -> None:
        """Says what each unit of ``stretch`` frees, given that all behind it was settled before."""
        if self._roots is None:
            self._roots = np.arange(self._slots)
            for storage, several in self._members.items():
                self._roots[list(several)] = storage
            self._last = np.empty((2, len(self._roots)), np.int64)  # of each storage that the stretch touches: its last unit
        units = np.arange(len(stretch))
        made = self._roots[stretch.first : stretch.first + len(stretch)]
        two = np.flatnonzero(stretch.reads[1] >= 0)
        reads = self._roots[stretch.reads[0]], self._roots[stretch.reads[1][two]]
        touched = np.concatenate([made, *reads])
        by_first, by_second = self._last
        by_first[touched] = by_second[touched] = -1
        by_first[made] = units
        by_first[reads[0]] = units  # (of several that are written to one place the last stays)
        by_second[reads[1]] = two
        dying = np.sort(touched[~self._is_settled[touched]])
        dying = dying[np.diff(dying, prepend=-1) > 0]
        self._is_settled[dying] = True
        freeing = np.maximum(by_first[dying], by_second[dying])
        if self._members:
            slots = [self._members.get(storage, (storage,)) for storage in dying.tolist()]
            freeing = np.repeat(freeing, [len(several) for several in slots])
            dying = np.array([slot for several in slots for slot in several], np.int64)
        stretch.freed, stretch.freeing = dying.astype(np.int32), freeing.astype(np.int32)


def bytes_alive(stretch: Stretch, made: Numbers) -> tuple[int, int]:
    """By how many bytes more are alive than before a stretch, at most and at its end. Notes what it ``made``, by slot."""
    nbytes = stretch.nbytes
    made[stretch.first : stretch.first + len(stretch)] = nbytes
    freed = np.bincount(stretch.freeing, made[stretch.freed], minlength=len(stretch)).astype(np.int64)
    behind = np.cumsum(nbytes - freed)
    return int((behind + freed).max()), int(behind[-1])
