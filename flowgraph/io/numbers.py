"""What is handed over to be recorded or shown, as arrays of real numbers on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Tensor
from ..graph.op import as_array


def on_host(value: Any) -> Any:
    """``value``, or a copy on the host where it is a CuPy array, as sessions return with ``device_arrays``."""
    return value.get() if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get") else value


def as_numbers(value: Any, what: str) -> np.ndarray[Any, Any]:
    """``value`` as an array of real numbers; ``what`` it is begins the message. raises ArgumentError, DtypeError for anything else."""
    if isinstance(value, Tensor):
        help = "session.run(tensor, feeds) gives its value, session.variables[name] that of a variable"
        raise ArgumentError(f"{what}: {value.name} is a node of a graph, not an array", help=help)
    array = as_array(on_host(value), what)
    if array.dtype.kind == "c":
        raise ArgumentError(f"{what}: complex numbers cannot be shown", help="np.abs(values)")
    return array
