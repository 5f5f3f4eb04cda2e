"""What a workload is: a computation said once, with one implementation per rival beside it.

No processes and no statistics in this module; it knows no rival's library.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Prepared:
    """A rival that is ready to compute.

    step      one timed call; it returns only when everything it computes is there (no work left in flight)
    values    the arrays to compare with NumPy's, called once, after ``Workload.checked_steps`` steps
    note      what a reader has to know to judge this rival's figure
    """

    step: Callable[[], object]
    values: Callable[[], list[Array]]
    note: str = ""


class Setup:
    """What a rival is told, and where it records how long its preparations took and how much memory they kept."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.seconds: dict[str, float] = {}
        self.kept_bytes: dict[str, int] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record the ``with`` block as phase ``name``: "build" makes the graph, "plan" compiles it."""
        before, start = resident_bytes(), time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.kept_bytes[name] = resident_bytes() - before


Implementation = Callable[[Any, Setup], Prepared]


@dataclass(frozen=True)
class Behind:
    """Why flowgraph is not first on a workload; by how much, the table says itself.

    time    where its time goes, with figures
    tried   designs that were tried, each with what it gave: two or more
    left    what has not been tried yet
    """

    time: str
    tried: tuple[str, ...]
    left: str = ""

    def __str__(self) -> str:
        return f"{self.time} Tried: {'; '.join(self.tried)}." + (f" Not yet: {self.left}." if self.left else "")


@dataclass(frozen=True)
class Workload:
    """A computation that several rivals do.

    name            as in ``--workload``
    title           the row of the table
    what            the sentence above the table: what is computed, on which shapes
    problem         makes the inputs, the same ones in every process
    tolerance       largest allowed difference from NumPy's values, relative to the largest of them
    checked_steps   how many steps are run before ``Prepared.values`` is compared
    nodes           where the cost of a node is the point: how many nodes the graph has
    after           a smaller workload of the same kind; a rival that was stopped there is not tried here
    behind          for tables in which flowgraph is not first here
    implementations rival's name -> the function that prepares it
    """

    name: str
    title: str
    what: str
    problem: Callable[[], Any]
    tolerance: float
    checked_steps: int = 1
    nodes: int | None = None
    after: str | None = None
    behind: Behind | None = None
    implementations: dict[str, Implementation] = field(default_factory=dict)

    def on(self, rival: str) -> Callable[[Implementation], Implementation]:
        """A decorator: the function below prepares this workload on ``rival``."""

        def add(implementation: Implementation) -> Implementation:
            self.implementations[rival] = implementation
            return implementation

        return add


def turns(count: int) -> Callable[[], int]:
    """A function that returns 0, 1, ..., ``count`` - 1, 0, 1, ...: which batch of the input the next step takes.

    >>> turn = turns(2)
    >>> [turn(), turn(), turn()]
    [0, 1, 0]
    """
    state = -1

    def turn() -> int:
        nonlocal state
        state = (state + 1) % count
        return state

    return turn


def deviation(values: list[Array], expected: list[Array]) -> float:
    """The largest difference of ``values`` from ``expected``, relative to an array's largest; inf if shapes differ.

    >>> deviation([np.array([1.0, 2.0])], [np.array([1.0, 4.0])])
    0.5
    """
    if [np.shape(v) for v in values] != [np.shape(e) for e in expected]:
        return float("inf")
    worst = 0.0
    for value, exact in zip(values, expected, strict=True):
        difference = np.max(np.abs(np.asarray(value, "f8") - np.asarray(exact, "f8")), initial=0.0)
        scale = np.max(np.abs(np.asarray(exact, "f8")), initial=np.finfo("f8").tiny)
        worst = max(worst, float("inf") if np.isnan(difference) else float(difference / scale))
    return worst


def resident_bytes() -> int:
    """Memory of this process that is in RAM now; 0 where the system does not tell (anything but Linux)."""
    if not sys.platform.startswith("linux"):
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
