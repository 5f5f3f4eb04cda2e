"""Programs: the plans that a session has made so far, each ready to be run, found again by what was asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..compile import compile_plan
from ..devices import Calibration, Device
from ..graph import Graph, Node, Shape, Tensor
from ..graph.graph import COLLECTOR
from ..runtime import Buffers, Program
from ..runtime.on_device import device_program
from .guards import Growth
from .values import closed

# Plans kept for each session: a plan for each set of fetches, feeds and shapes.
PLANS_KEPT = 128


class Programs:
    """Makes plans for ``devices``, the first of which serves what nothing else decides, and keeps the last that were used.

    A plan that several threads ask for is made by the first, and the others wait for it.

    `_lock` guards `_made`, `_making` and `_is_closed`.
    """

    def __init__(
        self,
        graph: Graph,
        devices: Sequence[Device],
        buffers: Buffers,
        passes: Collection[str],
        code: Callable[..., Any] | None,
        calibration: Calibration,
    ) -> None:
        self._devices, self._buffers = devices, buffers
        self._passes, self._code, self._calibration = passes, code, calibration
        self._host_only = all(device.is_host for device in devices)
        self._growth = Growth(graph)
        self._lock = threading.Lock()
        self._made: OrderedDict[Any, Program] = OrderedDict()
        self._making: dict[Any, threading.RLock] = {}  # held by who makes what this is the key of
        self._is_closed = False

    def of(
        self,
        flat: Sequence[Tensor | Node],
        shapes: Mapping[Tensor, Shape],
        limit: int | None,
        homes: Mapping[Tensor, str] = MappingProxyType({}),
        device_arrays: bool = False,
        watched: Sequence[Tensor] = (),
    ) -> Program:
        """What computes ``flat``, and behind it what is watched, from feeds of these shapes; made when it is asked for first."""
        flat = [*flat, *watched] if watched else flat
        key: Any = (tuple(map(id, flat)), tuple((id(t), s) for t, s in shapes.items()), limit, len(watched))
        if not self._host_only:
            key = (*key, tuple(homes.items()), device_arrays)
        with self._lock:
            program = self._known(key)
            if program is not None:
                return program
            turn = self._making.setdefault(key, threading.RLock())
        with turn:
            try:
                with self._lock:
                    program = self._known(key)
                if program is None:
                    program = self._new(flat, shapes, limit, homes, device_arrays)
                    program.extra = len(watched)
                    with self._lock:
                        self._made[key] = program
                        while len(self._made) > PLANS_KEPT:
                            self._made.popitem(last=False)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return program

    def _known(self, key: Any) -> Program | None:
        """That of ``key``, if it is kept; raises SessionClosedError once closed. The lock is held."""
        if self._is_closed:
            raise closed()
        program = self._made.get(key)
        if program is not None:
            self._made.move_to_end(key)
        return program

    def _new(
        self,
        flat: Sequence[Tensor | Node],
        shapes: Mapping[Tensor, Shape],
        limit: int | None,
        homes: Mapping[Tensor, str],
        device_arrays: bool,
    ) -> Program:
        self._growth.check()
        with COLLECTOR.paused:  # a plan has as many objects as the graph, and none is garbage
            plan = compile_plan(
                flat,
                shapes,
                self._devices[0],
                passes=self._passes,
                compiled=self._code,
                memory_limit=limit,
                others=self._devices[1:],
                calibration=self._calibration,
                homes=homes,
                device_arrays=device_arrays,
            )
            return Program(plan, self._buffers) if self._host_only else device_program(plan, self._buffers)

    def values(self) -> list[Program]:
        """Those that are kept, the last used last."""
        with self._lock:
            return list(self._made.values())

    def close(self) -> None:
        """Lets go of all; from now on none is given."""
        with self._lock:
            self._is_closed = True
            self._made.clear()
