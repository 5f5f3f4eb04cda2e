"""Pictures: graphs by Graphviz, plots by matplotlib (extra ``plot``); and the progress of a loop."""

from typing import TYPE_CHECKING

from ..graph.names import tells_near
from .classes import confusion, decision_boundary
from .curves import curves, distributions
from .difference import draw_difference
from .draw import draw
from .drawing import Drawing
from .figures import heat_of
from .heat import Heat
from .images import filters, images
from .inside import activations, saliency
from .plot import Plot
from .progress import Progress, progress

__all__ = [
    "draw", "Drawing", "draw_difference", "Heat", "heat_of", "progress", "Progress",
    "activations", "confusion", "curves", "decision_boundary", "distributions", "filters", "images", "Plot", "saliency",
]  # fmt: skip

if not TYPE_CHECKING:  # else any name would do for whoever checks types
    __getattr__ = tells_near(__name__, __all__)
