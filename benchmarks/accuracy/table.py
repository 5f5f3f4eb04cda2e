"""The table of docs/accuracy.md: written from measurements, and read again by the test that compares it with the registry."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy

from benchmarks.environment import processor
from flowgraph.graph import OPS

from .measure import DTYPES, NARROW, Reference, dtypes_of, measured
from .references import FAMILIES, REFERENCES

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
COMPILED = "Compiled loops"
BEGIN, END = "<!-- written by python -m benchmarks.accuracy: begin -->", "<!-- end -->"


class Row(NamedTuple):
    """One op: the largest error in ulps by dtype."""

    op: str
    errors: dict[str, float]
    bound: str
    measure: str
    rival: str = ""


def measure_all(count: int, report: Callable[[str], Any] = lambda line: None) -> dict[str, list[Row]]:
    """The rows by family. ``report`` is told of each op, with the inputs where its error was largest."""
    families: dict[str, list[Row]] = {}
    for title, references in FAMILIES.items():
        families[title] = []
        for name, reference in references.items():
            found = {dtype: measured(OPS[name], reference, dtype, count) for dtype in dtypes_of(OPS[name], reference)}
            for dtype, worst in found.items():
                report(f"{name} {dtype}: {worst.ulps:.4g} ulps over {worst.count} numbers, most at {worst.where}")
            errors = {dtype: worst.ulps for dtype, worst in found.items()}
            families[title].append(Row(name, errors, bounds(reference, errors), reference.measure, rival(name, reference, count)))
    return families


def bounds(reference: Reference, dtypes: Any) -> str:
    """What the tests allow in 32 and 64 bits: one number, or that of real and that of complex inputs."""
    values = dict.fromkeys(reference.bound_in(dtype) for dtype in DTYPES if dtype in dtypes and dtype not in NARROW)
    return ", ".join(f"{value:g}" for value in values)


def bound_of(op: str, dtype: str) -> float:
    """In ulps; integers are exact."""
    return 0.0 if dtype == "integers" else REFERENCES[op].bound_in(dtype)


def rival(name: str, reference: Reference, count: int) -> str:
    """The largest errors of the other library's function, if one is named, in 32 and 64 bits."""
    if reference.rival is None:
        return ""
    other, function = reference.rival
    dtypes = [dtype for dtype in dtypes_of(OPS[name], reference) if dtype not in NARROW]
    errors = [measured(OPS[name], reference, dtype, count, function).ulps for dtype in dtypes]
    return f"{other}: {', '.join(map(figure, errors))}"


def figure(ulps: float) -> str:
    """Two digits, rounded up: what is written is not exceeded."""
    if ulps == 0 or not math.isfinite(ulps):
        return f"{ulps:g}"
    unit = 10.0 ** max(math.floor(math.log10(ulps)) - 1, -2)
    up = math.ceil(ulps / unit - 1e-9) * unit
    return f"{up:.2f}" if up < 1 else f"{up:.1f}" if up < 10 else f"{up:.0f}" if up < 1e5 else f"{up:.1e}"


def is_exact(row: Row) -> bool:
    return not any(row.errors.values()) and set(row.bound.split(", ")) <= {"0", ""}


def header(count: int) -> str:
    config: Any = np.show_config(mode="dicts")
    blas, simd = config["Build Dependencies"]["blas"], config["SIMD Extensions"]
    return (
        f"Measured with about {count:,} drawn numbers for each function of one number, in NumPy {np.__version__} "
        f"({', '.join(simd.get('found', [])) or 'no SIMD extensions'}; {blas['name']} {blas['version']}), SciPy {scipy.__version__}, "
        f"Python {platform.python_version()}, {' '.join(platform.libc_ver()) or platform.system()}, on {processor()}. "
        "Other versions and processors have other vector code and so other last digits."
    )


def markdown(families: dict[str, list[Row]], compiled: list[Row], count: int) -> str:
    """The part of the page between its marks."""
    exact = [row.op for rows in families.values() for row in rows if is_exact(row)]
    parts = [header(count), "## Exact", "0 ulps in every dtype: " + ", ".join(f"`{op}`" for op in exact) + "."]
    sections = {title: [row for row in rows if not is_exact(row)] for title, rows in families.items()}
    for title, rows in {**sections, COMPILED: compiled}.items():
        if rows:
            parts += [f"## {title}", _table(rows)]
    return "\n\n".join(parts)


def _table(rows: list[Row]) -> str:
    dtypes = [dtype for dtype in DTYPES if any(dtype in row.errors for row in rows)]
    rivals = any(row.rival for row in rows)
    lines = [["op", *dtypes, "bound", "ulps of", *["beside it"] * rivals], ["---"] * (len(dtypes) + 3 + rivals)]
    for row in rows:
        cells = [figure(row.errors[dtype]) if dtype in row.errors else "" for dtype in dtypes]
        lines.append([f"`{row.op}`", *cells, row.bound, row.measure, *[row.rival] * rivals])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(text: str, page: Path = PAGE) -> None:
    before, rest = page.read_text("utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", "utf-8")


class Page(NamedTuple):
    """What the page says: the exact ops, and for each other, and for each compiled one, its errors by dtype and its bound."""

    exact: set[str]
    rows: dict[str, tuple[dict[str, float], str]]
    compiled: dict[str, tuple[dict[str, float], str]]


def read(page: Path = PAGE) -> Page:
    kernels, compiled = page.read_text("utf-8").split(BEGIN)[1].split(END)[0].split(f"## {COMPILED}")
    exact = next(line for line in kernels.splitlines() if line.startswith("0 ulps"))
    return Page(set(re.findall(r"`(\w+)`", exact)), _rows(kernels), _rows(compiled))


def _rows(text: str) -> dict[str, tuple[dict[str, float], str]]:
    rows: dict[str, tuple[dict[str, float], str]] = {}
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0] == "op":
            columns = cells
        elif cells and cells[0] != "---":
            row = dict(zip(columns, cells, strict=True))
            rows[row["op"].strip("`")] = {dtype: float(row[dtype]) for dtype in DTYPES if row.get(dtype)}, row["bound"]
    return rows
