"""State: what one run leaves to the next. The values of variables, the seed, and the number of runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile import Plan
from ..compile.kinds import POOLED_BYTES
from ..devices import Device
from ..errors import ArgumentError, ShapeError, UninitializedError
from ..graph import Node
from ..graph.report import where
from ..graph.spec import format_spec
from ..ops.state import Initializer
from ..runtime import Buffers
from .values import fitting, is_plain, kept

# Without a global lock another thread may be about to take a reference that the count does not show yet.
_COUNTS_REFERENCES = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


class State:
    """The state of a session on its devices, the first of which serves what nothing else decides.

    values  variable's node id -> array; arrays are replaced, never changed
    changes how often an array of ``values`` was replaced
    seed    of initial values and random draws; ``runs``: how many have started

    `lock` guards everything.
    """

    def __init__(self, seed: int, devices: Sequence[Device], buffers: Buffers) -> None:
        check_seed(seed)
        self.lock = threading.Lock()
        self.values: dict[int, Any] = {}
        self.seed, self.runs, self.changes = seed, 0, 0
        self._devices, self._buffers = devices, buffers
        self._host_only = all(device.is_host for device in devices)

    def begin(self, plan: Plan, values: list[Any]) -> int:
        """Fills in what a run is given besides its feeds, the variables and its key, and counts it; its number. The lock is held."""
        number = self.count(plan, values)
        for node, slot in plan.variables:
            values[slot] = self.read(node)
        return number

    def count(self, plan: Plan, values: list[Any]) -> int:
        """The same without the variables."""
        number = self.runs
        if plan.run_key >= 0:
            values[plan.run_key] = np.array([self.seed, number, 0], np.uint64)
        self.runs += 1
        return number

    def read(self, node: Node) -> Any:
        """The value of a variable, which is its first where it has none yet. The lock is held."""
        if node.id not in self.values:
            self.put(node, self._initial(node))
        return self.values[node.id]

    def read_on_host(self, node: Node) -> Any:
        """A copy of it, as a NumPy array. The lock is held."""
        return self.home(node).to_host(self.read(node))

    def write(self, written: Sequence[tuple[Node, Any]]) -> list[Any]:
        """Puts new values in the place of others, all at once; gives those that were there, or None."""
        with self.lock:
            replaced = [self.values.get(node.id) for node, _ in written]
            for node, value in written:
                self.put(node, value)
        return replaced

    def put(self, node: Node, value: Any) -> None:
        """Puts a value in the place of another. The lock is held."""
        self.values[node.id] = value
        self.changes += 1

    def home(self, node: Node) -> Device:
        """The device that a variable lives on."""
        first = self._devices[0]
        return first if node.device is None else next((each for each in self._devices if each.name == node.device), first)

    def stored(self, node: Node, value: Any) -> Any:
        """A value of a variable on its device; on the host in C order, as tapes need it."""
        device = self.home(node)
        return np.asarray(value, order="C") if device.is_host else device.copied(value)

    def kept(self, node: Node, value: Any) -> Any:
        """A value that a run has made, as its variable may hold it; as it is where it can be. raises ShapeError where it does not fit."""
        if self._host_only and value.__class__ is np.ndarray and is_plain(value):
            return fitting(node, value)
        device = self.home(node)
        if device.is_host:
            return fitting(node, kept(value))
        return fitting(node, value if value.flags.c_contiguous and value.base is None else device.copied(value))

    def recycle(self, arrays: list[Any], updates: Sequence[tuple[Node, int]]) -> None:
        """Gives arrays that the variables of ``updates`` have held to their devices' pools, where the next step finds them for new values.

        A run that began before may still read one. Its reference shows in the count: three are the list's, the loop's and the call's.
        """
        if not _COUNTS_REFERENCES:
            return
        for place in range(len(arrays)):
            array = arrays[place]  # (`enumerate` would hold one more reference)
            if sys.getrefcount(array) == 3 and isinstance(array, np.ndarray) and array.nbytes >= POOLED_BYTES and is_plain(array):
                self._buffers.on(updates[place][0].device or self._devices[0].name).give(array)

    def _initial(self, node: Node) -> Any:
        """The first value of a variable: it depends on the seed and the variable alone."""
        initial = node.attrs["initial"]
        if initial is None:
            raise UninitializedError(
                f"variable {node.name} {format_spec(node.outputs[0].shape, node.outputs[0].dtype)} is read but has no value",
                rows=[("made at", where(node.location))],
                help=f"load it (fg.io.load_weights), set it (session.variables[{node.name!r}] = array), or give it an initial value",
            )
        if isinstance(initial, Initializer) and not isinstance(initial, np.ndarray | np.generic):
            value = np.asarray(initial(np.random.Generator(np.random.Philox(key=[self.seed, node.id]))), initial.dtype)
            if value.shape != node.outputs[0].shape:
                raise ShapeError(f"the initializer of {node.name} made {value.shape}, not {node.outputs[0].shape}")
            return self.stored(node, value)
        return self.stored(node, initial)

    @property
    def random(self) -> tuple[int, int]:
        """Seed and number of runs."""
        with self.lock:
            return self.seed, self.runs

    @random.setter
    def random(self, state: tuple[int, int]) -> None:
        if not isinstance(state, tuple | list) or len(state) != 2:
            raise ArgumentError(f"Session: random_state is a pair, the seed and the number of runs, got {state!r:.80}")
        seed, runs = state
        check_seed(seed)
        if isinstance(runs, bool) or not isinstance(runs, int) or not 0 <= runs < 2**64:
            raise ArgumentError(f"Session: the number of runs is an int from 0 to 2**64 - 1, got {runs!r}")
        with self.lock:
            self.seed, self.runs = seed, runs


def check_seed(seed: Any) -> None:
    """raises ArgumentError for what is no seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ArgumentError(f"Session: the seed is an int from 0 to 2**64 - 1, got {seed!r}")
