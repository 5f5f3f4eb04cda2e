"""Text: how bytes, times, counts, other quantities, tables and errors of others read, everywhere."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def format_bytes(count: int) -> str:
    """As plans and errors show it.

    >>> format_bytes(15_900_000)
    '15.9 MB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def first_line(error: BaseException) -> str:
    """What an error says first; its class, where it says nothing.

    >>> first_line(MemoryError())
    'MemoryError'
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def format_seconds(seconds: float) -> str:
    """As plans show it."""
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def time(seconds: float) -> str:
    """Three digits, in the unit that fits.

    >>> time(0.0012345), time(2.5e-05), time(3.0), time(-2e-06), time(0.0)
    ('1.23 ms', '25 us', '3 s', '-2 us', '0 us')
    """
    size = abs(seconds)
    if size < 5e-10:
        return "0 us"
    if size >= 1:
        return f"{seconds:.3g} s"
    if size >= 0.9995e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"


def rate(per_second: float, unit: str) -> str:
    """A number a second.

    >>> rate(3.21e10, "flop"), rate(0, "B")
    ('32.1 Gflop/s', '')
    """
    if not per_second:
        return ""
    for size, prefix in PREFIXES[:4]:
        if per_second >= size:
            return f"{per_second / size:.3g} {prefix}{unit}/s"
    return f"{per_second:.3g} {unit}/s"


def quantity(value: float, unit: str) -> str:
    """A number with a prefix for its size.

    >>> [quantity(0.00132, "s"), quantity(3.2e9, "flop/s"), quantity(0.43, "%"), quantity(1200.0, "")]
    ['1.32 ms', '3.2 Gflop/s', '43 %', '1200']
    """
    if unit == "%":
        return f"{value * 100:.3g} %" if abs(value) < 10 else f"{value * 100:.0f} %"
    if not unit or value == 0 or not math.isfinite(value):
        return f"{value:.4g} {unit}".rstrip()
    least = 1.0 if unit in ("B", "flop") else 0.0
    size, prefix = next((pair for pair in PREFIXES if abs(value) >= pair[0] * 0.9995), PREFIXES[-1])
    if size < least:
        size, prefix = 1.0, ""
    return f"{value / size:.3g} {prefix}{unit}"


def percent(part: float) -> str:
    """A part of 1.

    >>> percent(0.314), percent(0.0012)
    ('31 %', '0.1 %')
    """
    return f"{part * 100:.0f} %" if part >= 0.0995 or not part else f"{part * 100:.1f} %"


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lines with the columns below each other, those in ``left`` at their left ends; columns that are empty are left out.

    >>> for line in table([["node", "time"], ["matmul", "3 ms"], ["sum", "10 us"]]):
    ...     print(line)
    node     time
    matmul   3 ms
    sum     10 us
    """
    kept = [place for place in range(max(map(len, rows), default=0)) if any(row[place] for row in rows[1:] or rows)]
    widths = {place: max(len(row[place]) for row in rows) for place in kept}
    return [
        "  ".join(f"{row[place]:<{widths[place]}}" if place in left else f"{row[place]:>{widths[place]}}" for place in kept).rstrip()
        for row in rows
    ]


def shortened(text: str, most: int) -> str:
    """The end of a long name, which tells most.

    >>> shortened("model/layer_1/dense/matmul", 16)
    '.../dense/matmul'
    """
    return text if len(text) <= most else f"...{text[-(most - 3) :]}"
