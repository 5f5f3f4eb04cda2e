"""Pictures: graphs by Graphviz, plots by matplotlib (extra ``plot``); and the progress of a loop."""

from .draw import draw
from .heat import Heat
from .images import filters, images
from .inside import activations, saliency
from .plot import Plot
from .plots import confusion, curves, decision_boundary

__all__ = ["Heat", "activations", "confusion", "curves", "decision_boundary", "draw", "filters", "images", "Plot", "saliency"]
