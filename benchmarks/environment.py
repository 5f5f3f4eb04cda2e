"""What a table was measured with: the machine, the versions, the command."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals import RIVALS


def cpus() -> list[int]:
    """The processors that this process may use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def available() -> int:
    """How many threads can run at once."""
    return len(cpus()) or os.cpu_count() or 1


def describe(threads: int, arguments: list[str], program: str = "benchmarks") -> dict[str, str]:
    """Heading -> text, in the order in which a reader wants them."""
    versions = {package: version for rival in RIVALS.values() for package, version in rival.versions.items()}
    config: Any = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    busy = f"{os.getloadavg()[0]:.1f} processes were running on average in the minute before" if hasattr(os, "getloadavg") else ""
    return {
        "command": f"`{shlex.join(['python', '-m', program, *arguments])}`",
        "date": datetime.now().strftime("%Y-%m-%d"),
        "processor": f"{processor()}, {os.cpu_count()} CPUs",
        "threads": f"n = {threads}",
        "load": busy,
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{package} {version}" for package, version in sorted(versions.items())),
        "BLAS of NumPy": f"{blas['name']} {blas['version']}",
    }


def drift(loops: list[float]) -> str:
    """How much the host's speed changed, told by the seconds of a loop that is always the same, timed in each round.

    >>> drift([2e-3, 3e-3, 2.5e-3])
    'a loop that is always the same, timed in each of 3 rounds, took 2.00 to 3.00 ms, 2.50 ms in the median'
    """
    if not loops:
        return "nothing was timed"
    low, median, high = (f"{seconds * 1e3:.2f}" for seconds in (min(loops), statistics.median(loops), max(loops)))
    return f"a loop that is always the same, timed in each of {len(loops)} rounds, took {low} to {high} ms, {median} ms in the median"


def processor() -> str:
    """The processor's name, as the system gives it."""
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
