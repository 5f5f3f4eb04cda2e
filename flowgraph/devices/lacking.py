"""What is special on GPUs: operations whose kernels CuPy has no function for, those that wait for the device, and those that may fail."""

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


# Operations in whose kernel the host waits for the device, or makes what the device reads, as some draws do, and those that CuPy leaves to
# cuSOLVER, which it does not ask for anything within a capture: they cannot be captured.
WAITING = frozenset(
    "arange bincount cholesky class_labels cofactors cond det eig eigh eigvals eigvalsh expm inv log_uniform_candidates nonzero pinv qr "
    "random_gamma receive repeat repeat_positions resize_grad slogdet solve solve_triangular svd svdvals top_positions unique "
    "while".split()
)
# Operations that fail for some matrices. CuPy looks for that only when it is told to.
CHECKED = frozenset("cholesky eigh eigvalsh eig eigvals expm inv pinv qr solve solve_triangular svd svdvals".split())
