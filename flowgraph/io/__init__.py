"""Files: checkpoints, graphs, weights as safetensors, and records of a training. What is loaded is data, and never runs as code."""

from typing import TYPE_CHECKING

from ..graph.names import tells_near
from .checkpoints import Checkpoints
from .events import Event, Events, Series, load_events
from .graphs import load_graph, save_graph
from .recorder import Recorder
from .weights import WeightsError, WeightsReport, load_weights, save_weights

__all__ = [
    "Checkpoints", "save_weights", "load_weights", "WeightsReport", "WeightsError", "save_graph", "load_graph",
    "Recorder", "load_events", "Events", "Series", "Event",
]  # fmt: skip

if not TYPE_CHECKING:  # else any name would do for whoever checks types
    __getattr__ = tells_near(__name__, __all__)
