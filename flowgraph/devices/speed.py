"""How fast devices compute and copy: what placement reckons with. Given numbers, or measured ones, kept in a `Calibration`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ArgumentError, FileFormatError


@dataclass(frozen=True)
class Speed:
    """What a kernel costs on a device: a call, and then arithmetic or the reading and writing of memory, whichever takes longer."""

    call_seconds: float
    flops_per_second: float
    bytes_per_second: float

    def seconds(self, flops: float, nbytes: float) -> float:
        """Of a kernel with so much to do."""
        return self.call_seconds + max(flops / self.flops_per_second, nbytes / self.bytes_per_second)


@dataclass(frozen=True)
class Link:
    """What a copy costs: a wait until it is under way, the hand-over to another thread included, and then the bytes."""

    wait_seconds: float
    bytes_per_second: float

    def seconds(self, nbytes: float) -> float:
        """Of a copy of so many bytes."""
        return self.wait_seconds + nbytes / self.bytes_per_second


# Where nothing was measured: a core of a server of 2022 with NumPy; a GPU of 2023 in float32 without TF32; threads, and PCIe 4.
SPEEDS = {"cpu": Speed(1e-6, 1e11, 6e9), "cuda": Speed(5e-6, 4e13, 2.5e12)}
LINKS = {"cpu": Link(40e-6, 6e9), "cuda": Link(20e-6, 2e10)}


@dataclass(frozen=True)
class Calibration:
    """What was measured of devices, for `Session(calibration=...)`; of what was not measured, given numbers hold.

    speeds   device -> `Speed`
    links    "cpu:0 cuda:0" -> `Link`, from the first to the second
    kernels  kind of device ("cpu" or "cuda") -> name of a node -> seconds

    >>> measured = fg.Calibration(kernels={"cpu": {"matmul": 0.25}})
    >>> measured.kernels["cpu"]["matmul"]
    0.25
    """

    speeds: Mapping[str, Speed] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    kernels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def speed(self, device: str) -> Speed:
        """That of a device."""
        return self.speeds.get(device) or SPEEDS[kind_of(device)]

    def link(self, source: str, target: str) -> Link:
        """That from one device to another."""
        return self.links.get(f"{source} {target}") or LINKS["cuda" if "cuda" in (kind_of(source), kind_of(target)) else "cpu"]

    def measured(self, device: str, node: str) -> float | None:
        """The seconds that a node was seen to take on a device, or one of its kind."""
        return self.kernels.get(kind_of(device), {}).get(node)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes it as JSON."""
        with open(file, "w", encoding="utf-8") as out:
            json.dump(asdict(self), out, indent=1)

    @classmethod
    def of(cls, document: Any) -> Calibration:
        """What its fields say, as JSON has them. raises ValueError, KeyError, TypeError or AttributeError for what is none."""
        return cls(
            {name: Speed(**_numbers(row)) for name, row in document["speeds"].items()},
            {name: Link(**_numbers(row)) for name, row in document["links"].items()},
            {kind: _numbers(row) for kind, row in document["kernels"].items()},
        )

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Calibration:
        """What `save` wrote. raises FileFormatError for anything else."""
        try:
            with open(file, encoding="utf-8") as source:
                return cls.of(json.load(source))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{os.fspath(file)} is no calibration: {error}", help="Calibration.save writes one") from None


GIVEN = Calibration()


def kind_of(device: str) -> str:
    """``"cpu"`` or ``"cuda"``."""
    return device.partition(":")[0]


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    if any(isinstance(value, bool) or not isinstance(value, int | float) or not value > 0 for value in row.values()):
        raise ValueError(f"times and speeds are numbers above 0, got {dict(row)!r:.80}")
    return dict(row)


def calibrate(devices: Sequence[str] = ("cpu:0",)) -> Calibration:
    """Measures devices, which takes about a second each: a call, a product of matrices, a sum of large arrays, and copies between them.

    devices  names, as for ``Session``
    returns  what a session takes: ``Session(devices=devices, calibration=fg.calibrate(devices))``
    raises   ArgumentError for a device that is not there

    Close sessions before: they hold BLAS at one thread, and calibrating does so as well, as a session's threads will.
    """
    from threadpoolctl import threadpool_limits

    from . import open_device

    if not isinstance(devices, list | tuple) or not devices:
        raise ArgumentError(f"calibrate: devices is a list of names, got {devices!r:.80}", help='fg.calibrate(["cpu:0"])')
    opened = [open_device(name) for name in devices]
    speeds: dict[str, Speed] = {}
    links: dict[str, Link] = {}
    with threadpool_limits(1, user_api="blas"):
        for device in opened:
            speeds[device.name] = _speed(device)
            for other in opened:
                if other is not device:
                    links[f"{device.name} {other.name}"] = _link(device, other)
    return Calibration(speeds, links)


def _speed(device: Any) -> Speed:
    xp = device.xp
    with device.active():
        small, square, large = xp.ones(16, "float32"), xp.ones((1024, 1024), "float32"), xp.ones(2**22, "float32")
        out = xp.empty_like(large)
        call = _fastest(lambda: xp.add(small, small), device.wait, 100)
        product = _fastest(lambda: xp.matmul(square, square), device.wait, 3)
        moved = _fastest(lambda: xp.add(large, large, out), device.wait, 3)
    return Speed(call, 2 * 1024**3 / max(product - call, 1e-9), 3 * large.nbytes / max(moved - call, 1e-9))


def _link(source: Any, target: Any) -> Link:
    with source.active():
        small, large = source.xp.ones(16, "float32"), source.xp.ones(2**22, "float32")
    wait = _fastest(lambda: target.copied(small), target.wait, 20)
    whole = _fastest(lambda: target.copied(large), target.wait, 3)
    # (A copy goes from one thread to another, which takes longer than the copy of a few numbers.)
    return Link(max(wait, LINKS["cpu"].wait_seconds / 2), large.nbytes / max(whole - wait, 1e-9))


def _fastest(call: Callable[[], Any], wait: Callable[[], None], times: int) -> float:
    """Seconds of a call, in the fastest of five rounds of ``times``."""
    best = float("inf")
    for _ in range(5):
        wait()
        start = time.perf_counter()
        for _ in range(times):
            call()
        wait()
        best = min(best, (time.perf_counter() - start) / times)
    return best
