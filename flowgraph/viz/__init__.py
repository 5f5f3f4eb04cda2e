"""Pictures: graphs by Graphviz, plots by matplotlib (extra ``plot``); and the progress of a loop."""

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
