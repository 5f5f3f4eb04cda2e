"""Turning: the turns of a loop behind its first one, many of them in each call of machine code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile import Unit
from ..compile.kinds import POOLED_BYTES
from ..compile.turns import TurnsCall, turns_call
from .generated import NotInOrder, is_in_order, refuse
from .memory import Buffers

if TYPE_CHECKING:
    from .run import Run

# So long, by estimate, is a call: between two of them a run may be stopped.
BATCH_SECONDS = 0.02
# For fewer turns it is not worth its making.
FEWEST = 4


class Turning:
    """Goes through all turns of a loop but the first, where its body is what machine code can do.

    Any number of threads may call it; what it keeps is made by the first call, and is the same whoever makes it.
    """

    def __init__(self, unit: Unit, buffers: Buffers) -> None:
        self.plan, self.attrs, self.memory = unit.bodies[0], unit.node.attrs, buffers.on(unit.device)
        self.batch = max(1, int(BATCH_SECONDS / max(self.plan.seconds, 1e-9)))

    @cached_property
    def made(self) -> TurnsCall | None:
        return turns_call(self.plan, self.attrs, refuse)

    def __call__(
        self, run: Run, count: int, carry: Sequence[Any], entries: Sequence[Any], rest: Sequence[Any], stacks: Sequence[Any]
    ) -> list[Any] | None:
        """The last carry, once the stacks are full; None where Python has to go through the turns, and nothing has been done.

        count  of all turns, the first of which has been
        carry  what that gave, and is written over
        """
        # (Under a limit kernels are called one by one, as a call holds its buffers for longer.)
        made = self.made if count >= FEWEST and run.program.plan.memory_limit is None else None
        if made is None or not all(x.flags.c_contiguous for x in (*entries, *stacks)):
            return None
        step = -1 if self.attrs["reverse"] else 1
        place, left = (count - 2 if step < 0 else 1), count - 1
        now, buffers, numbers = list(carry), self._buffers(made, carry), np.arange(count)
        while left:
            if run.stop is not None:
                raise run.stop
            turns = min(left, self.batch)
            entered = [x[place : place + 1] for x in (numbers, *entries, *stacks)]
            turn, rows, filled = entered[0], entered[1 : 1 + len(entries)], entered[1 + len(entries) :]
            try:
                made.call(np.int64(turns), turn, *now, *rows, *rest, *filled, *buffers)
            except NotInOrder:
                return None
            left -= turns
            place += step * turns
            two = 0  # the first of the two buffers of a carry
            for k, end in enumerate(made.ends):
                if end is None:
                    continue
                if end >= 0:
                    row = stacks[end - len(now)][place - step]
                    now[k] = row if left else row.copy()
                    continue
                if turns % 2:  # the next turn writes the other one
                    buffers[two : two + 2] = buffers[two + 1], buffers[two]
                now[k] = buffers[two + 1][()]
                two += 2
        return now

    def _buffers(self, made: TurnsCall, carry: Sequence[Any]) -> list[Any]:
        """Arrays to work in. The second buffer of a carry is what the first turn gave: the third one may write over it."""
        spare = {2 * k + 1: c for k, c in enumerate(compress(carry, [end == -1 for end in made.ends])) if is_in_order(c) and np.ndim(c)}
        return [spare[k] if k in spare else self._empty(spec) for k, spec in enumerate(made.buffers)]

    def _empty(self, spec: Any) -> Any:
        return self.memory.lend(spec.shape, spec.dtype) if spec.nbytes >= POOLED_BYTES else np.empty(spec.shape, spec.dtype)
