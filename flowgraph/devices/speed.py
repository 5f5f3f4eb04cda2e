"""How fast devices compute and copy: what placement reckons with. Given numbers, or measured ones, kept in a `Calibration`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import FileFormatError


class Speed(NamedTuple):
    """What a kernel costs on a device: a call, and then arithmetic or the reading and writing of memory, whichever takes longer."""

    call_seconds: float
    flops_per_second: float
    bytes_per_second: float

    def seconds(self, flops: float, nbytes: float) -> float:
        """Of a kernel with so much to do."""
        return self.call_seconds + max(flops / self.flops_per_second, nbytes / self.bytes_per_second)


class Link(NamedTuple):
    """What a copy costs: a wait until it is under way, the hand-over to another thread included, and then the bytes."""

    wait_seconds: float
    bytes_per_second: float

    def seconds(self, nbytes: float) -> float:
        """Of a copy of so many bytes."""
        return self.wait_seconds + nbytes / self.bytes_per_second


# Where nothing was measured: a core of a server of 2022 with NumPy; a GPU of 2023 in float32 without TF32; threads, and PCIe 4.
SPEEDS = {"cpu": Speed(1e-6, 1e11, 6e9), "cuda": Speed(5e-6, 4e13, 2.5e12)}
LINKS = {"cpu": Link(40e-6, 6e9), "cuda": Link(20e-6, 2e10)}


class Calibration(NamedTuple):
    """What was measured of devices, for `Session(calibration=...)`; of what was not measured, given numbers hold.

    speeds   device -> `Speed`
    links    "cpu:0 cuda:0" -> `Link`, from the first to the second
    kernels  kind of device ("cpu" or "cuda") -> name of a node -> seconds

    >>> measured = fg.Calibration(kernels={"cpu": {"matmul": 0.25}})
    >>> measured.kernels["cpu"]["matmul"]
    0.25
    """

    speeds: Mapping[str, Speed] = MappingProxyType({})
    links: Mapping[str, Link] = MappingProxyType({})
    kernels: Mapping[str, Mapping[str, float]] = MappingProxyType({})

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
        import json

        with open(file, "w", encoding="utf-8") as out:
            json.dump(self.document, out, indent=1)

    @property
    def document(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        speeds = {name: speed._asdict() for name, speed in self.speeds.items()}
        links = {name: link._asdict() for name, link in self.links.items()}
        return {"speeds": speeds, "links": links, "kernels": {kind: dict(names) for kind, names in self.kernels.items()}}

    @classmethod
    def of(cls, document: Any) -> Calibration:
        """What a `document` tells. raises ValueError, KeyError, TypeError or AttributeError for what is none."""
        return cls(
            {name: Speed(**_numbers(row)) for name, row in document["speeds"].items()},
            {name: Link(**_numbers(row)) for name, row in document["links"].items()},
            {kind: _numbers(row) for kind, row in document["kernels"].items()},
        )

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Calibration:
        """What `save` wrote. raises FileFormatError for anything else."""
        import json

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
