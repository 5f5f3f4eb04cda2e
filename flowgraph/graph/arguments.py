"""Checks of arguments that many functions share. Each raises an ArgumentError that says what is expected there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError


def as_count(value: Any, what: str, least: int = 0) -> int:
    """``value`` as an int of ``least`` or more; ``what`` it is begins the message."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{what} is a whole number, at least {least}, got {value!r:.80}")
    return int(value)


def as_int(value: Any, what: str) -> int:
    """``value`` as an int; ``what`` it is begins the message."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{what} is a whole number, got {value!r:.80}")
    return int(value)


def as_number(value: Any, what: str) -> float:
    """``value`` as a float; ``what`` it is begins the message."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ArgumentError(f"{what} is a number, got {value!r:.80}")
    return float(value)


def as_bytes(value: Any, what: str) -> int:
    """``value`` as a number of bytes, at least 1: an int, or text such as "512MB" or "1.5 GiB"; ``what`` it is begins the message.

    >>> as_bytes("512MB", "limit"), as_bytes("1 KiB", "limit")
    (512000000, 1024)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B\s*", value) if isinstance(value, str) else None
    if found is not None:
        number, prefix, binary = found.groups()
        value = int(float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " "))
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f'{what} is a number of bytes, at least 1, or text such as "512MB", got {value!r:.80}')
    return int(value)


def as_flag(value: Any, what: str) -> bool:
    """``value`` as a bool; ``what`` it is begins the message. 0 and 1 are taken as well."""
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_ | int | np.integer) or value not in (0, 1):
        raise ArgumentError(f"{what} is true or false, got {value!r:.80}")
    return bool(value)


def as_choice(value: Any, what: str, choices: Sequence[str | None]) -> Any:
    """``value``, which is one of ``choices``; ``what`` it is begins the message."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        *others, last = ["None" if choice is None else f'"{choice}"' for choice in choices]
        raise ArgumentError(f"{what} is {', '.join(others)} or {last}, got {value!r:.80}")
    return value


def as_several(value: Any, what: str) -> tuple[Any, ...]:
    """``value`` as a tuple: one, or the entries of a list or tuple; ``what`` they are begins the message where it is something else."""
    if isinstance(value, tuple | list):
        return tuple(value)
    if isinstance(value, str | bytes | dict | slice):
        raise ArgumentError(f"{what} are numbers, got {value!r:.80}")
    return tuple(value) if np.iterable(value) else (value,)


def as_function(value: Any, what: str, help: str | None = None) -> Callable[..., Any]:
    """``value``, which can be called; ``what`` it is begins the message."""
    if not callable(value):
        raise ArgumentError(f"{what} is a function, got {value!r:.80}", help=help)
    return value  # type: ignore[no-any-return]


def call(function: Any, what: str, takes: str, *args: Any, **options: Any) -> Any:
    """``function(*args, **options)`` for a function that the user wrote.

    what, takes  what it is and what it takes, for the message where it is no function or takes something else
    """
    as_function(function, what)
    try:
        return function(*args, **options)
    except TypeError as error:
        # Raised by the call itself and not within the function: then there is no frame behind this one.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise ArgumentError(f"{what} takes {takes}: {error}") from None
        raise


def counted(number: int, what: str) -> str:
    """``1 argument``, ``2 arguments``."""
    return f"{number} {what}{'s' * (number != 1)}"
