"""Runs a plan. `schedule` decides what may run next, `pool` owns the threads, `memory` the kept buffers, `run` puts them together."""

from .direct import direct_call
from .memory import BufferPool, Buffers
from .pool import Pool
from .program import Program
from .run import Run, RunReport
from .schedule import RunState, Schedule

__all__ = ["BufferPool", "Buffers", "Pool", "Program", "Run", "RunReport", "RunState", "Schedule", "direct_call"]
