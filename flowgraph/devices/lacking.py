"""What GPUs lack: operations whose kernels CuPy has no function for. A node of one runs on the host; the plan says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HOST = "its function takes arrays of the host"
NO_COMPLEX = "CuPy has no logical operations of complex numbers"

LACKING = {"py_call": HOST, "custom_op": HOST}
LACKING_COMPLEX = dict.fromkeys(("logical_and", "logical_or", "logical_xor", "logical_not"), NO_COMPLEX)


def lacking(op: str, dtypes: Sequence[Any]) -> str | None:
    """Why a GPU cannot run an op with inputs of these dtypes; None where it can."""
    if op in LACKING_COMPLEX and any(dtype.kind == "c" for dtype in dtypes):
        return LACKING_COMPLEX[op]
    return LACKING.get(op)
