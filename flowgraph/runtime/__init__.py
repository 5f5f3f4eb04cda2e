"""Runs a plan. `schedule` decides what may run next, `pool` owns the threads, `memory` the kept buffers, `run` puts them together,
`observe` runs a plan node by node, and `tracing` notes what a run does.
"""

from .crew import Crew
from .direct import direct_call
from .memory import BufferPool, Buffers
from .observe import Step, Turn, Walk, evaluated, find_first, started
from .pool import Pool
from .program import Program
from .run import Run, RunReport
from .schedule import RunState, Schedule
from .tracing import Recording, TracedRun

__all__ = [
    "BufferPool",
    "Buffers",
    "Crew",
    "Pool",
    "Program",
    "Recording",
    "Run",
    "RunReport",
    "RunState",
    "Schedule",
    "Step",
    "TracedRun",
    "Turn",
    "Walk",
    "direct_call",
    "evaluated",
    "find_first",
    "started",
]
