"""Expressions over arrays, as typed at a prompt: ``any(isnan(x))``, ``norm(x) > 1e3``, ``value("layer1/w")[0] * 2``.

Python's own syntax, with NumPy's functions and nothing else: no attributes but shape, dtype, size and ndim, no assignment, no import.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError

_NAMES = """abs all allclose any arange argmax argmin array asarray ceil clip concatenate cos count_nonzero cumsum diag dot exp eye floor
full histogram isclose isfinite isinf isnan isneginf isposinf linspace log log1p log10 log2 logical_and logical_not logical_or max maximum
mean median min minimum nan_to_num ones ones_like prod ptp quantile reshape round sign sin sort sqrt square std sum tanh transpose unique
var where zeros zeros_like inf nan pi float16 float32 float64 int8 int16 int32 int64 uint8 bool_ complex64 complex128""".split()
FUNCTIONS: dict[str, Any] = {name: getattr(np, name) for name in _NAMES}
FUNCTIONS |= {"norm": np.linalg.norm, "len": len, "float": float, "int": int, "bool": bool, "True": True, "False": False, "None": None}

_ATTRIBUTES = frozenset({"shape", "dtype", "size", "ndim", "T"})
_NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call, ast.keyword, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp,
    ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Attribute, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


class Expression:
    """A text made a function of the names in it.

    text    what was typed
    names   what else than functions it may name: ``x`` for the value that is asked about
    raises  ArgumentError for what is no expression, or names something unknown

    >>> Expression("any(isnan(x)) or norm(x) > 10", {"x"})(x=np.array([3.0, 4.0]))
    np.False_
    """

    def __init__(self, text: str, names: set[str]) -> None:
        self.text = text
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ArgumentError(f"{text!r:.80} is no expression: {error}", help="for example any(isnan(x)), or norm(x) > 1e3") from None
        for part in ast.walk(tree):
            if not isinstance(part, _NODES):
                raise ArgumentError(f"{text!r:.80} holds what an expression here may not: {type(part).__name__.lower()}")
            if isinstance(part, ast.Attribute) and part.attr not in _ATTRIBUTES:
                raise ArgumentError(f"{text!r:.80}: of an array there are {', '.join(sorted(_ATTRIBUTES))} here, not {part.attr}")
            if isinstance(part, ast.Name) and part.id not in names and part.id not in FUNCTIONS:
                from difflib import get_close_matches

                near = get_close_matches(part.id, [*names, *FUNCTIONS], n=3)
                raise ArgumentError(
                    f"{text!r:.80}: there is no {part.id!r}", help=f"near: {', '.join(near)}" if near else 'value("name") is a tensor'
                )
        self._code = compile(tree, "<expression>", "eval")

    def __call__(self, **names: Any) -> Any:
        """Its value. raises ArgumentError, with what NumPy says, where it cannot be computed."""
        try:
            with np.errstate(all="ignore"):
                return eval(self._code, {"__builtins__": {}, **FUNCTIONS, **names})
        except ArgumentError:
            raise
        except Exception as error:
            raise ArgumentError(f"{self.text!r:.80} cannot be computed: {error}") from error

    def holds(self, **names: Any) -> bool:
        """Whether it is true: where it is an array, whether any element is."""
        return bool(np.any(self(**names)))


def condition(given: str | Callable[[Any], Any]) -> Callable[[Any], bool]:
    """A test of a value: from an expression of ``x``, or a function."""
    if callable(given):
        return lambda value: bool(np.any(given(value)))
    expression = Expression(given, {"x"})
    return lambda value: expression.holds(x=value)
