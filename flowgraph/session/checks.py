"""Checks of a run's results: NaN and infinities are found in them, and traced back to the node that made them, without a cost to the run.

A run holds its inputs (references, no copies) and tests its results. Where one is not finite, it is repeated from these inputs node by
node, with the same draws, before any variable is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..compile import Plan
from ..compile.copies import CopyNode, ReceiveNode
from ..errors import ArgumentError, NumericsError, NumericsWarning
from ..graph import Node, Tensor
from ..graph.report import explain
from ..runtime import Buffers, Run
from ..runtime.memory import is_on_gpu
from ..runtime.numerics import Search, are_finite, explained, finite_on, is_finite, is_float, statistics
from ..runtime.observe import started


def as_check(value: Any, default: bool | None, what: str) -> bool | None:
    """``value`` as what ``check_numerics`` may be; None: ``default``."""
    if value is not None and not isinstance(value, bool):
        raise ArgumentError(f"{what}: check_numerics is True, False or None, got {value!r:.60}")
    return default if value is None else value


class Check:
    """What is looked at at the end of a run, and what it was given.

    is_strict  whether every result and every new value of a variable must be finite; else only the numbers among the results of a run
               that writes variables are looked at, and a warning is given
    """

    def __init__(self, plan: Plan, values: list[Any], is_strict: bool) -> None:
        self.plan, self.is_strict = plan, is_strict
        slots = [slot for _, slot in plan.feeds] + [slot for _, slot in plan.variables] + [plan.run_key] * (plan.run_key >= 0)
        self._held = [(slot, values[slot]) for slot in slots]

    def error(self, run: Run, buffers: Buffers) -> NumericsError | None:
        """What is wrong with the results of a run; None where nothing is. What was held is let go of."""
        held, self._held = self._held, []
        values, plan = run.values, self.plan
        slots = [slot for slot in plan.fetches if slot >= 0]
        if self.is_strict:
            slots += [slot for _, slot in plan.updates]
        else:
            slots = [slot for slot in slots if not values[slot].ndim]
        wrong = self._wrong(slots, values, buffers)
        if not wrong:
            return None
        with np.errstate(all="ignore"):
            bad = dict.fromkeys(wrong, "")
            for node, slot in plan.updates:
                if slot in bad:
                    bad[slot] = f"variable {node.name} would hold {statistics(buffers.home(values[slot]))}"
            try:
                return self._searched(bad, run, buffers, held)
            except Exception as failure:
                if failure is run.stop:
                    raise
                why = f"the search for the node that made it has failed: {type(failure).__name__}: {failure}"
                return NumericsError("a result is not finite", help=why)

    def _wrong(self, slots: Sequence[int], values: list[Any], buffers: Buffers) -> list[int]:
        """Those of ``slots`` that are not finite. What is on a GPU is tested there."""
        if self.plan.host_only:
            if are_finite([values[slot] for slot in slots if is_float(values[slot])]):
                return []
            return [slot for slot in slots if is_float(values[slot]) and not is_finite(values[slot])]
        there: dict[str, list[int]] = {}
        here: dict[int, Any] = {}
        for slot in dict.fromkeys(slots):
            value = values[slot]
            if not is_on_gpu(value):
                here[slot] = value
            elif value.dtype.kind in "fcV" and value.size:
                there.setdefault(f"cuda:{value.device.id}", []).append(slot)
        wrong = []
        for name, asked in there.items():
            finite = finite_on(buffers.device(name), [values[slot] for slot in asked])
            wrong += [slot for slot, is_fine in zip(asked, finite, strict=True) if not is_fine]
        with np.errstate(all="ignore"):
            here = {slot: buffers.home(value) for slot, value in here.items()}  # behind the tests, as it waits
            wrong += [slot for slot, value in here.items() if is_float(value) and not is_finite(value)]
        return [slot for slot in dict.fromkeys(slots) if slot in wrong]

    def _searched(self, bad: dict[int, str], run: Run, buffers: Buffers, held: list[tuple[int, Any]]) -> NumericsError:
        """What made the results in the slots ``bad``, of which each has what is to be said of it, or no text."""
        plan = self.plan
        calls = next((unit.node for unit in _units(plan) if unit.node.op.name == "py_call"), None)
        if calls is not None:
            what = "; ".join(text or statistics(buffers.home(run.values[slot])) for slot, text in bad.items())
            why = f"which node has made it is not searched for: the run would call {calls.name} again, which may have effects"
            return NumericsError(f"a result is not finite: {what}", help=why)
        values = started(plan, buffers)
        for slot, value in held:
            values[slot] = value
        search = Search(plan, values, buffers, run)
        tensors = {slot: tensor for step in search.walk.steps for tensor, slot in step.made}
        tensors |= {slot: tensor for tensor, slot in plan.feeds} | {slot: node.outputs[0] for node, slot in plan.variables}
        tensors |= {unit.output: unit.node.inputs[0] for unit in plan.units if isinstance(unit.node, CopyNode | ReceiveNode)}
        said = {
            slot: text or f"{tensors[slot].name}: {statistics(buffers.home(run.values[slot]))}"
            for slot, text in bad.items()
            if text or slot in tensors
        }
        culprit = search.find([tensors[slot] for slot in bad if slot in tensors])
        if culprit is None:
            return NumericsError(f"a result is not finite: {'; '.join(said.values()) or 'it is a constant'}")
        return explained(culprit, "\n".join(list(said.values())[:4]))


def not_finite(fetches: Sequence[Tensor | Node], results: Sequence[Any]) -> NumericsError | None:
    """What is wrong with the numbers among results; None where nothing is."""
    for fetch, value in zip(fetches, results, strict=True):
        if isinstance(fetch, Tensor) and isinstance(value, np.generic) and is_float(value) and not is_finite(value):
            node = fetch.node
            help = "check_numerics=True finds the node that made it"
            error = NumericsError(f"a result is not finite: {statistics(value)}", help=help)
            explain(error, op=node.op.name, name=node.name, location=node.location, inputs=[], node=node, forward=node.forward)
            return error
    return None


def _units(plan: Plan) -> Iterator[Any]:
    for unit in plan.units:
        yield unit
        for body in unit.bodies:
            yield from _units(body)


def warn(error: NumericsError) -> None:
    """Gives a warning at the line to blame."""
    place = error.location
    text = f"{error}\n  Said once. Session(check_numerics=True) makes it an error, before anything is written; False looks at nothing"
    file, line = (place.file, place.line) if place is not None else ("flowgraph", 0)
    warnings.warn_explicit(text, NumericsWarning, file, line)
