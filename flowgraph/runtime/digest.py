"""Digests: what each task of a run leaves behind, as a hash, so that two runs can be compared without keeping their values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..compile import Plan
from ..compile.lower import as_given
from ..compile.plan import ENTRY, WHOLE
from ..compile.source import shared_slots

_BYTES = 12


def digest(value: Any) -> bytes:
    """A hash of an array or number: of its dtype, its shape and its bits."""
    import hashlib

    array = np.asarray(value)
    made = hashlib.blake2b(f"{array.dtype.str if array.dtype.kind != 'V' else array.dtype.name} {array.shape}".encode(), digest_size=_BYTES)
    made.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b"")
    return made.digest()


def left_by(plan: Plan) -> list[list[tuple[int, Any]]]:
    """For each task what others, or the caller, read of what it makes: slots, and which part of each (``...`` for all)."""
    shared, result = shared_slots(plan), []
    for task in plan.tasks:
        left: dict[tuple[int, Any], tuple[int, Any]] = {}
        for unit in task.units:
            rows = unit.seen(unit.along if unit.mode == "part" else ENTRY if unit.mode == "partial" else WHOLE)
            if rows is not ...:
                made: list[tuple[int, Any]] = [(unit.buffer, rows)]
                for slot, cut in zip(unit.writes, unit.cut[len(unit.cut) - len(unit.writes) :], strict=True):
                    made.append((slot, unit.seen(cut)))
            elif unit.kernel is as_given or (unit.writes and unit.mode == "fresh" and unit.bodies):
                made = []  # an array that is still to be filled; a part of a loop, whose rows run along another axis for each result
            else:
                made = [(slot, ...) for slot in (*unit.writes, unit.output)]
            left.update({(slot, str(rows)): (slot, rows) for slot, rows in made if slot in shared})
        result.append(list(left.values()))
    return result


class Digests:
    """The digests of one run: hashes by task, for those that have ended. Called behind each task, on the thread that ran it.

    home  gives a value as it is on the host
    """

    def __init__(self, left: Sequence[Sequence[tuple[int, Any]]], home: Callable[[Any], Any]) -> None:
        self.left, self.home = left, home
        self.of_task: dict[int, bytes] = {}
        self._lock = threading.Lock()  # guards `of_task`

    def __call__(self, task: int, values: Sequence[Any]) -> None:
        import hashlib

        made = hashlib.blake2b(digest_size=_BYTES)
        for slot, rows in self.left[task]:
            value = self.home(values[slot])
            if value is not None:
                parts = value if isinstance(value, tuple | list) else (value,)
                for part in parts:
                    made.update(digest(part if rows is ... else part[rows]))
        with self._lock:
            self.of_task[task] = made.digest()
