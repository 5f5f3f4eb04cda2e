"""Pictures: graphs by Graphviz, and plots by matplotlib (extra ``plot``)."""

from .draw import draw
from .heat import Heat
from .plots import confusion, curve, filters, images

__all__ = ["Heat", "confusion", "curve", "draw", "filters", "images"]
