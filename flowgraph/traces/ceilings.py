"""Ceilings: how fast this machine's processor computes and reads memory, measured once for each BLAS and kept with the kernels."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass

from ..devices.calibrate import calibrate
from ..devices.speed import SPEEDS
from ..jit.llvm import cache_folder
from .data import Kernel


def _file() -> str:
    """The name of what is kept: BLAS may take other kernels next time, by its version or the environment, at half the speed."""
    from threadpoolctl import threadpool_info

    libraries = sorted(f"{blas.get('architecture')} {blas.get('version')}" for blas in threadpool_info() if blas["user_api"] == "blas")
    told = repr((platform.node(), platform.processor(), libraries))
    return f"ceilings-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


@dataclass(frozen=True)
class Ceilings:
    """Of one thread: float32 operations a second in a matrix product, and bytes a second where arrays are large."""

    flops_per_second: float
    bytes_per_second: float

    def bound(self, kernel: Kernel) -> float:
        """The least seconds that a kernel takes, by what it has to compute, or to read and write; 0 for one of a GPU."""
        if not kernel.device.startswith("cpu"):
            return 0.0
        return max(kernel.flops / self.flops_per_second, kernel.moved / self.bytes_per_second)


def ceilings() -> Ceilings:
    """Those of this machine: kept from before, or measured now, which takes about a second."""
    folder, file = cache_folder(), _file()
    try:
        if folder is not None:
            kept = json.loads((folder / file).read_text("utf-8"))
            return Ceilings(float(kept["flops_per_second"]), float(kept["bytes_per_second"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there yet, or damaged: it is measured anew
    speed = calibrate(["cpu:0"]).speeds.get("cpu:0", SPEEDS["cpu"])
    found = Ceilings(speed.flops_per_second, speed.bytes_per_second)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(json.dumps(asdict(found)), "utf-8")
        except OSError:
            pass  # a folder that cannot be written to: it is measured again next time
    return found
