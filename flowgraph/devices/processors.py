"""How many processors a process may keep busy: those that it may run on, and the share of their time that its control group has."""

from __future__ import annotations

import os
from math import ceil

# Where Linux says how much time of processors a group may take in each period: in one file, or in two of the older kind.
GROUPS = "/sys/fs/cgroup"


def processors(groups: str = GROUPS) -> int:
    """The number of threads that can compute at once: at least 1.

    A container that is allowed 1.5 processors of 64 gets 2. With more threads it would stand still for the rest of each period.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, ceil(_quota(groups))))


def _quota(groups: str) -> float:
    """The processors whose time a group may take; a large number where there is no limit, or none that can be read."""
    told = _read(f"{groups}/cpu.max").split() or [_read(f"{groups}/cpu/cpu.cfs_quota_us"), _read(f"{groups}/cpu/cpu.cfs_period_us")]
    try:
        time, period = map(int, told)
        return time / period if time > 0 < period else 1e9
    except ValueError:  # "max 100000", or no such file
        return 1e9


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""
