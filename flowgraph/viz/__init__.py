"""Pictures: graphs by Graphviz, and plots by matplotlib (extra ``plot``)."""

from .draw import draw
from .plots import confusion, curve, filters, images

__all__ = ["confusion", "curve", "draw", "filters", "images"]
