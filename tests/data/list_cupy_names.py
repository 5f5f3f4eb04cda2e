"""Writes cupy_names.txt: what CuPy has, for its stand-in. Needs CuPy and no GPU: ``python tests/data/list_cupy_names.py``."""

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows(module: Any, ufunc: Any, prefix: str = "") -> Iterator[str]:
    """A line for each public name: what it is, and its parameters."""
    for name in sorted(dir(module)):
        value = getattr(module, name)
        if name.startswith("_") or isinstance(value, types.ModuleType) or name == "annotations":
            continue
        if isinstance(value, ufunc):
            yield f"{prefix}{name} ufunc {value.nin} {value.nout}"
        elif isinstance(value, type) or not callable(value):
            yield f"{prefix}{name} {'type' if isinstance(value, type) else 'value'}"
        else:
            try:
                parameters = " ".join(inspect.signature(value).parameters)
            except (TypeError, ValueError):  # of a compiled function
                parameters = "*"
            yield f"{prefix}{name} function {parameters}".rstrip()


def main() -> None:
    import cupy
    from cupyx.scipy import special

    lines = [f"# What CuPy {cupy.__version__} has: each name, what it is, and the names of its parameters."]
    for part, prefix in (
        (cupy, ""),
        (cupy.linalg, "linalg."),
        (cupy.fft, "fft."),
        (cupy.lib.stride_tricks, "lib.stride_tricks."),
        (special, "special."),
    ):
        lines += rows(part, cupy.ufunc, prefix)
    lines += [f"ndarray.{name} method" for name in dir(cupy.ndarray) if not name.startswith("__")]
    (Path(__file__).parent / "cupy_names.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
