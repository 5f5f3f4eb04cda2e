"""What each kernel of a request takes, measured on the devices of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile import compile_plan
from ..devices import Calibration
from ..devices.speed import kind_of
from ..graph import Node, Tensor
from ..runtime.timed import kernel_seconds

if TYPE_CHECKING:
    from .session import Session


def calibrated(session: Session, flat: Sequence[Tensor | Node], arrays: Mapping[Tensor, Any]) -> Calibration:
    """The session's calibration with the times in it of each kernel of ``flat``, on one device of each kind."""
    kernels = {kind: dict(names) for kind, names in session.calibration.kernels.items()}
    shapes = {tensor: array.shape for tensor, array in arrays.items()}
    for kind, device in {kind_of(device.name): device for device in reversed(session.devices)}.items():
        others = [other for other in session.devices if other is not device]
        plan = compile_plan(flat, shapes, device, passes=session.passes, compiled=session._code, others=others, placed=False)
        values: list[Any] = [None] * plan.slots
        for tensor, slot in plan.feeds:
            values[slot] = device.copied(arrays[tensor])
        for node, slot in plan.variables:
            values[slot] = device.copied(session.variables[node.outputs[0]])
        if plan.run_key >= 0:
            values[plan.run_key] = np.array([session.seed, 0, 0], np.uint64)
        kernels.setdefault(kind, {}).update(kernel_seconds(plan, session._buffers, device, values))
    return session.calibration._replace(kernels=kernels)
