"""Steps: a run that the caller drives, node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Node, Tensor
from ..graph.report import where
from ..graph.spec import format_shape, format_spec
from ..runtime import Buffers, Program, Step, Walk
from .runs import Runs
from .values import fitting, handed_out


class LiveStep:
    """A node that has just run, in a run that goes on when the next is asked for.

    node     of the graph; where several became one compiled loop, that of its last result. ``nodes``: all of them
    tensors  those whose values are there now
    values   these, in the same order; not to be written
    """

    def __init__(self, walk: Walk, step: Step) -> None:
        self._walk, self._step = walk, step
        members = getattr(step.node.op, "members", None)
        self.nodes: tuple[Node, ...] = (step.node,) if members is None else tuple(members)
        self.node = step.node if members is None else step.node.outputs[0].node
        self.tensors: tuple[Tensor, ...] = tuple([tensor for tensor, _ in step.made])

    @property
    def values(self) -> tuple[Any, ...]:
        return tuple([self._walk.known[tensor] for tensor in self.tensors])

    @property
    def value(self) -> Any:
        """The last of its values: of most nodes the only one. raises ArgumentError where a part of a node has run, and it has none yet."""
        if not self.tensors:
            raise ArgumentError(f"{self.node.name} has no value yet: a part of it has run")
        return self.values[-1]

    def change(self, value: Any, tensor: Tensor | None = None) -> None:
        """Puts another value in the place of ``tensor``'s, or of the only one: what runs from now on reads it.

        raises  ArgumentError for another shape, or a tensor that is none of this step's
        """
        if tensor is None and len(self.tensors) == 1:
            tensor = self.tensors[0]
        if tensor is None or tensor not in self.tensors:
            names = ", ".join(each.name for each in self.tensors) or "nothing"
            raise ArgumentError(f"this step makes {names}", help="step.change(value, tensor) changes one of them")
        old = np.asarray(self._walk.known[tensor])
        array = np.array(np.broadcast_to(value, old.shape) if np.ndim(value) == 0 else value, old.dtype)
        if array.shape != old.shape:
            raise ArgumentError(f"{tensor.name} is {format_shape(old.shape)}, not {format_shape(array.shape)}")
        self._walk.change(tensor, array if array.ndim else array[()])

    def __repr__(self) -> str:
        specs = ", ".join(format_spec(np.shape(value), np.asarray(value).dtype) for value in self.values)
        return f"<LiveStep {self.node.name}: {specs or 'a part'}>"

    def __str__(self) -> str:
        specs = ", ".join(format_spec(np.shape(value), np.asarray(value).dtype) for value in self.values)
        return f"{self.node.name}   {specs or 'a part'}   {where(self.node.location)}"


class Steps:
    """A run node by node; made by ``session.steps``, and gone through once with ``for``.

    results  what was fetched, nested as it was asked for, once all steps have run
    """

    def __init__(self, walk: Walk, ended: Callable[[Walk], Any]) -> None:
        self._walk, self._ended = walk, ended
        self._results: Any = None
        self._is_over = False
        self._going = self._steps()

    def __len__(self) -> int:
        return len(self._walk.steps)

    def __iter__(self) -> Iterator[LiveStep]:
        return self._going

    def _steps(self) -> Iterator[LiveStep]:
        for step in self._walk:
            yield LiveStep(self._walk, step)
        self._results, self._is_over = self._ended(self._walk), True

    @property
    def results(self) -> Any:
        for _ in () if self._is_over else self._going:
            pass
        return self._results


def steps_of(program: Program, values: list[Any], buffers: Buffers, runs: Runs, names: Callable[[list[Any]], Any]) -> Steps:
    """The steps of a run that starts with ``values``; ``runs`` shows and writes what comes of it, ``names`` nests its results."""
    plan = program.plan

    def ended(walk: Walk) -> Any:
        results = [handed_out(buffers.home(values[slot]), True) if slot >= 0 else None for slot in plan.fetches]
        if program.extra:
            runs.look(program, results)
        runs.write([(node, fitting(node, runs.stored(node, buffers.home(values[slot])))) for node, slot in plan.updates])
        return names(results[: len(results) - program.extra])

    return Steps(Walk(plan, values, buffers), ended)
