"""What this machine has to compute on, and why what is missing is missing. CuPy is imported when somebody asks, and not before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .cudnn import Unserved, load


class DeviceInfo(NamedTuple):
    """A device that is there, or why there is none of its kind.

    name          ``cpu:0``, ``cuda:1``; ``cuda`` where there is none
    processor     the processor's name, as its maker gives it
    memory_bytes  all of its memory; 0 where the system does not tell
    libraries     (name, version) of what computes on it
    missing       why it cannot be used; empty where it can
    compute_capability  of a GPU: what its processors can do, as NVIDIA numbers it
    """

    name: str
    processor: str = ""
    memory_bytes: int = 0
    libraries: Mapping[str, str] = MappingProxyType({})
    missing: str = ""
    compute_capability: str = ""

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / 2**30:.1f} GiB" if self.memory_bytes else ""
        libraries = ", ".join(f"{name} {version}" for name, version in self.libraries.items())
        capability = f"compute capability {self.compute_capability}" if self.compute_capability else ""
        missing = f"cannot be used: {self.missing}" if self.missing else ""
        return f"{self.name}: {'; '.join(filter(None, [self.processor, memory, capability, libraries, missing]))}"


def devices() -> list[DeviceInfo]:
    """What there is to compute on: the host with its NumPy and BLAS, and each GPU that CuPy finds, or why there is none.

    A session takes some of them by name, and may part the host into several: ``Session(devices=["cpu:0", "cpu:1"])``.

    >>> [device.name for device in fg.devices() if not device.missing]
    ['cpu:0']
    """
    return [_host(), *_gpus()]


def _host() -> DeviceInfo:
    from threadpoolctl import threadpool_info

    libraries = {"NumPy": np.__version__}
    for library in threadpool_info():
        if library["user_api"] == "blas":
            libraries[library["internal_api"]] = library["version"] or "of unknown version"
    return DeviceInfo("cpu:0", _processor(), _host_bytes(), libraries)


def _processor() -> str:
    """The processor's name. Python's own answer is on Linux no more than its family."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, name = line.partition(":")
                if key.strip() == "model name":
                    return name.strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def _host_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, and some systems do not know these names
        return 0


def _gpus() -> list[DeviceInfo]:
    try:
        import cupy
    except ImportError as error:  # also where CuPy is there, but a library of CUDA is not
        return [DeviceInfo("cuda", missing=why_not(error))]
    try:
        runtime: Any = cupy.cuda.runtime
        found = [_gpu(index, runtime.getDeviceProperties(index), cupy.__version__, runtime) for index in range(runtime.getDeviceCount())]
    except Exception as error:  # CUDARuntimeError, and whatever a driver that is missing or too old leads to
        return [DeviceInfo("cuda", missing=f"CuPy {cupy.__version__} finds no GPU: {error}")]
    return found or [DeviceInfo("cuda", missing=f"CuPy {cupy.__version__} finds no GPU")]


def why_not(error: ImportError) -> str:
    """Why CuPy cannot be imported, in words."""
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        return 'CuPy is not installed: pip install "flowgraph[cuda12]" or "flowgraph[cuda13]"'
    return f"CuPy could not be loaded: {error}"


def _gpu(index: int, properties: Mapping[str, Any], version: str, runtime: Any) -> DeviceInfo:
    number = runtime.runtimeGetVersion()  # 12040 is CUDA 12.4
    name = properties["name"]
    return DeviceInfo(
        f"cuda:{index}",
        name.decode(errors="replace") if isinstance(name, bytes) else str(name),
        int(properties["totalGlobalMem"]),
        {"CuPy": version, "CUDA": f"{number // 1000}.{number % 1000 // 10}", **_cudnn()},
        compute_capability=f"{properties['major']}.{properties['minor']}",
    )


def _cudnn() -> dict[str, str]:
    """cuDNN with its version, where it can be loaded."""
    try:
        number = load(None).backend_version()  # 92801 is 9.28.1
    except Unserved:
        return {}
    return {"cuDNN": f"{number // 10000}.{number // 100 % 100}.{number % 100}"}
