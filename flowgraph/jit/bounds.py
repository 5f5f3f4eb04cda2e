"""Bounds: between which numbers a value of a loop is known to be, where it is not NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .values import BOOL, Value

Bounds = tuple[float, float]
ANYWHERE = (-math.inf, math.inf)


def bounds(values: Iterable[Value]) -> dict[Value, Bounds]:
    """The least and the largest number that each of ``values`` can be, but for rounding; each stands behind its inputs."""
    known: dict[Value, Bounds] = {}
    for value in values:
        low, high = _bounds(value, [known[each] for each in value.inputs], known)
        known[value] = ANYWHERE if math.isnan(low) or math.isnan(high) else (low, high)
    return known


def _bounds(value: Value, of: list[Bounds], known: dict[Value, Bounds]) -> Bounds:
    kind, inputs = value.kind, value.inputs
    if kind == "constant":
        number = float(np.frombuffer(value.data, value.dtype)[0])
        return number, number
    if value.dtype == BOOL:
        return 0.0, 1.0
    if value.dtype.kind != "f":
        return ANYWHERE
    if kind == "bitcast":
        return _of_bits(inputs[0], value.dtype)
    if kind == "cast":
        return of[0] if inputs[0].dtype.kind in "fb" else ANYWHERE
    if kind == "negative":
        return -of[0][1], -of[0][0]
    if kind == "absolute":
        low, high = of[0]
        return max(low, -high, 0.0), max(-low, high)
    if kind == "add":
        return of[0][0] + of[1][0], of[0][1] + of[1][1]
    if kind == "subtract":
        return of[0][0] - of[1][1], of[0][1] - of[1][0]
    if kind == "multiply":
        return _product(inputs[0], inputs[1], of)
    if kind == "fma":
        low, high = _product(inputs[0], inputs[1], of)
        return low + of[2][0], high + of[2][1]
    if kind == "sqrt":
        return math.sqrt(max(of[0][0], 0.0)), math.sqrt(max(of[0][1], 0.0))
    if kind == "select":
        return _chosen(value, of, known)
    if kind == "scale":  # of a number about 1: positive
        return 0.0, 2.0 ** (of[1][1] + 1) if of[1][1] < 1000 else math.inf
    if kind in ("max", "min"):
        return of[0]
    if kind == "sum":
        return (0.0 if of[0][0] >= 0 else -math.inf), math.inf
    return ANYWHERE


def _of_bits(bits: Value, dtype: np.dtype[Any]) -> Bounds:
    """Of a number from which a power of two was parted: from the number at which its exponent steps, up to the double of that."""
    if bits.kind != "subtract" or bits.inputs[1].kind != "shl" or bits.inputs[1].inputs[0].kind != "ashr":
        return ANYWHERE
    x, (whole, by) = bits.inputs[0], bits.inputs[1].inputs
    behind, likewise = whole.inputs
    is_parted = behind.kind == "subtract" and behind.inputs[0] is x and likewise is by and by.kind == "constant"
    start = behind.inputs[1].inputs[0] if is_parted and behind.inputs[1].kind == "bitcast" else x
    if start.kind != "constant" or start.dtype != dtype or int.from_bytes(by.data, "little") != np.finfo(dtype).nmant:
        return ANYWHERE
    number = float(np.frombuffer(start.data, dtype)[0])
    return (number, 2 * number) if number > 0 else ANYWHERE


def _product(x: Value, y: Value, of: list[Bounds]) -> Bounds:
    ends = [0.0 if 0.0 in (a, b) else a * b for a in of[0] for b in of[1]]  # (what is infinite is a bound, and no number)
    return (max(0.0, min(ends)) if x is y else min(ends)), max(ends)


def _chosen(value: Value, of: list[Bounds], known: dict[Value, Bounds]) -> Bounds:
    """Of one of two, one of which may have been compared with a number."""
    condition, *choices = value.inputs
    ends = []
    for choice, (low, high), is_so in zip(choices, of[1:], (True, False), strict=True):
        if condition.kind == "compare" and choice in condition.inputs and condition.data in ("lt", "le", "gt", "ge"):
            is_first = choice is condition.inputs[0]
            other = condition.inputs[is_first]
            if other.kind == "constant":
                if (condition.data[0] == "l") ^ is_first ^ is_so:
                    high = min(high, known[other][1])
                else:
                    low = max(low, known[other][0])
        ends.append((low, high))
    return min(low for low, _ in ends), max(high for _, high in ends)
