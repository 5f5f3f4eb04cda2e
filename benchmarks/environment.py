"""What a table was measured with: the machine, the versions, the command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals import RIVALS


def describe(threads: int, arguments: list[str]) -> dict[str, str]:
    """Heading -> text, in the order in which a reader wants them."""
    versions = {package: version for rival in RIVALS.values() for package, version in rival.versions.items()}
    config: Any = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    busy = f"{os.getloadavg()[0]:.1f} processes were running on average in the minute before" if hasattr(os, "getloadavg") else ""
    return {
        "command": f"`{shlex.join(['python', '-m', 'benchmarks', *arguments])}`",
        "date": datetime.now().strftime("%Y-%m-%d"),
        "processor": f"{processor()}, {os.cpu_count()} CPUs",
        "threads": f"n = {threads}",
        "load": busy,
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{package} {version}" for package, version in sorted(versions.items())),
        "BLAS of NumPy": f"{blas['name']} {blas['version']}",
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
