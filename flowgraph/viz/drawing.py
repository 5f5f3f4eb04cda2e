"""Drawing: a picture in a file, or in hand: for a notebook, and to be saved. It knows nothing of what is drawn."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError


class Drawing:
    """A picture that a notebook shows, and that can be saved in each format that its function draws. ``str(drawing)`` is its text.

    format  "svg", "png", "pdf", "dot" or "html"
    data    its bytes in that format, as a file has them

    >>> x = fg.placeholder("x", ())
    >>> drawing = fg.draw(fg.exp(x))
    >>> drawing.format, "exp" in str(drawing)
    ('svg', True)
    >>> drawing.save("exp.html")
    PosixPath('exp.html')
    """

    def __init__(self, name: str, make: Callable[[str], bytes], format: str, formats: Sequence[str]) -> None:
        self.format, self.data = format, make(format)
        self._name, self._make, self._formats = name, make, formats

    def save(self, file: str | os.PathLike[str]) -> Path:
        """Writes it to ``file``, whose ending says the format; returns the path. raises ArgumentError for a format that is none."""
        path, kind = path_and_format(self._name, Path(file) if isinstance(file, str) else file, None, self._formats)
        if path is None:
            raise ArgumentError(f"{self._name}: the path of a file is expected, got None", help=f'for example "{self._name}.svg"')
        path.write_bytes(self.data if kind == self.format else self._make(kind))
        return path

    def __str__(self) -> str:
        return self.data.decode() if self.format in ("svg", "dot", "html") else repr(self)

    def __repr__(self) -> str:
        return f"<Drawing: {self.format}, {len(self.data) / 1000:.1f} kB>"

    def _repr_svg_(self) -> str | None:
        return str(self) if self.format == "svg" else None

    def _repr_png_(self) -> bytes | None:
        return self.data if self.format == "png" else None

    def _repr_html_(self) -> str | None:
        if self.format != "html":
            return None
        return f'<iframe srcdoc="{html.escape(str(self))}" width="100%" height="640" style="border:1px solid #d3dae1"></iframe>'


def path_and_format(name: str, file: Any, format: Any, formats: Sequence[str]) -> tuple[Path | None, str]:
    """Where to write, and in which format: that which was asked for, or the ending of the file's name. raises ArgumentError."""
    example = f'for example "{name}.svg"'
    if file is not None and not isinstance(file, str | os.PathLike):
        raise ArgumentError(f"{name}: the path of a file is expected, got {file!r:.80}", help=example)
    path = None if file is None else Path(file)
    kind = format if format is not None else path.suffix[1:].lower() if path is not None else "svg"
    if not isinstance(kind, str) or kind not in formats:
        got = f"and {str(path)!r} has no ending" if isinstance(kind, str) and not kind else f"got {kind!r:.60}"
        raise ArgumentError(f"{name}: the format is one of {', '.join(formats)}, {got}", help=example)
    return path, kind


def delivered(name: str, make: Callable[[str], bytes], file: Any, format: Any, formats: Sequence[str]) -> Any:
    """What ``make`` gives for a format, in a file, whose path is returned; without one a `Drawing`."""
    path, kind = path_and_format(name, file, format, formats)
    if path is None:
        return Drawing(name, make, kind, formats)
    path.write_bytes(make(kind))
    return path
