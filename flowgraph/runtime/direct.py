"""Direct calls: a small plan as one generated Python function of its feeds, without a run, a future or a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..compile.source import call_source, is_direct
from ..graph import Tensor
from .generated import QUIET, Generated, NotInOrder
from .program import Program, explained
from .run import RunReport


def direct_call(
    program: Program,
    session: Any,
    lock: threading.Lock,
    variables: Mapping[int, Any],
    fed: Callable[[Tensor, Any], Any],
    handed_out: Callable[[Any, bool], Any],
    otherwise: Callable[..., list[Any]],
) -> Callable[..., list[Any]] | None:
    """A function of the feeds that gives the fetches as a list; None for a plan that needs a run of its own.

    session    has `_detour`, and is told the report of each call
    variables  values by the id of the variable's node; read under ``lock``
    fed        makes of a feed what fits its tensor, or raises
    otherwise  what takes over when an argument has another shape or dtype than the plan was made for, and while there is a detour
    """
    plan = program.plan
    if not is_direct(plan):
        return None
    names: dict[str, Any] = {
        "session": session,
        "lock": lock,
        "variables": variables,
        "otherwise": otherwise,
        "handed_out": handed_out,
        "lent": program.buffers.on(plan.tasks[0].device).lent if plan.lent else None,
        "ndarray": np.ndarray,
        "not_in_order": NotInOrder,
        "counted": program.calls.add,
        "report": RunReport(len(plan.tasks), plan.peak_bytes),
        **QUIET,
    }
    for i, (tensor, _) in enumerate(plan.feeds):
        names[f"dtype_{i}"], names[f"scalar_{i}"] = tensor.dtype, tensor.dtype.type
        names[f"fed_{i}"] = lambda value, tensor=tensor: fed(tensor, value)[()]
        names[f"shape_{i}"] = plan.shapes[i]
    source = call_source(plan)
    generated = Generated(source, plan, program.buffers, program.kernels(source), **names)

    def explain(error: Exception) -> Exception:
        failed = generated.failed(error)
        return error if failed is None else explained(error, *failed)

    generated.names["explain"] = explain
    return generated.names["call"]  # type: ignore[no-any-return]
