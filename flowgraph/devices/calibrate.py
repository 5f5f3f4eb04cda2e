"""Measuring how fast devices compute and copy, for `flowgraph.devices.speed`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError
from . import open_device
from .speed import LINKS, Calibration, Link, Speed


def calibrate(devices: Sequence[str] = ("cpu:0",)) -> Calibration:
    """Measures devices, which takes about a second each: a call, a product of matrices, a sum of large arrays, and copies between them.

    devices  names, as for ``Session``
    returns  what a session takes: ``Session(devices=devices, calibration=fg.calibrate(devices))``
    raises   ArgumentError for a device that is not there

    Close sessions before: they hold BLAS at one thread, and calibrating does so as well, as a session's threads will.
    """
    from threadpoolctl import threadpool_limits

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
