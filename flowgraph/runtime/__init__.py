"""Runs a plan. `schedule` decides what may run next, `pool` owns the threads, `memory` the kept buffers, `run` puts them together,
and `observe` runs a plan node by node.
"""

from .direct import direct_call
from .memory import BufferPool, Buffers
from .observe import Step, Turn, Walk, evaluated, find_first, started
from .pool import Pool
from .program import Program
from .run import Run, RunReport
from .schedule import RunState, Schedule

__all__ = [
    "BufferPool",
    "Buffers",
    "Pool",
    "Program",
    "Run",
    "RunReport",
    "RunState",
    "Schedule",
    "Step",
    "Turn",
    "Walk",
    "direct_call",
    "evaluated",
    "find_first",
    "started",
]
