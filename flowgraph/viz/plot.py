"""Plot: what the functions of `fg.viz` draw with matplotlib (extra ``plot``), in a file or in a notebook."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, MissingExtraError

File = str | os.PathLike[str] | None
GREY = "#5f6b7a"  # of what is written beside


class Plot:
    """A picture that a notebook shows, and that can be saved or changed.

    figure  matplotlib's Figure: ``plot.figure.axes[0].set_title(...)``

    >>> plot = fg.viz.curves({"loss": [3.0, 2.0, 1.5]})
    >>> plot.save("loss.png")
    PosixPath('loss.png')
    """

    def __init__(self, width: float, height: float, *, free: bool = False) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise MissingExtraError.of("matplotlib", "plot") from None
        self.figure: Any = Figure(figsize=(width, height), layout=None if free else "constrained")
        FigureCanvasAgg(self.figure)

    def save(self, file: str | os.PathLike[str]) -> Path:
        """Writes it to ``file``, whose ending says the format (png, svg, pdf), with the same bytes each time; returns the path."""
        if not isinstance(file, str | os.PathLike):
            raise ArgumentError(f"the path of a picture is expected, got {file!r:.80}", help='for example "curve.png"')
        path = Path(file)
        known = self.figure.canvas.get_supported_filetypes()
        if path.suffix[1:].lower() not in known:
            raise ArgumentError(f"a picture is one of {', '.join(known)}, got {str(path)!r:.80}", help='for example "curve.png"')
        import matplotlib

        with matplotlib.rc_context({"svg.hashsalt": "flowgraph"}):
            dated = {".svg": {"Date": None}, ".svgz": {"Date": None}, ".pdf": {"CreationDate": None}, ".eps": {"CreationDate": None}}
            self.figure.savefig(path, dpi=130, metadata=dated.get(path.suffix.lower()))
        return path

    def to(self, file: File) -> Any:
        """What the functions return: the path where ``file`` is one, else the plot itself."""
        return self if file is None else self.save(file)

    def axes(self, rows: int = 1, columns: int = 1) -> np.ndarray[Any, Any]:
        """Axes in rows and columns, without a frame above and on the right."""
        axes = self.figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat:
            axis.spines[["top", "right"]].set_visible(False)
        return np.asarray(axes)

    def colors(self, count: int) -> np.ndarray[Any, Any]:
        """``count`` colours (count, 3), which repeat where there are too many to be told apart."""
        import matplotlib

        name, size = ("tab10", 10) if count <= 10 else ("tab20", 20)
        return matplotlib.colormaps[name](np.arange(count) % size)[:, :3]

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, dpi=100, format="png")
        return file.getvalue()
