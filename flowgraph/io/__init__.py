"""Files: checkpoints, graphs, weights as safetensors, and records of a training. What is loaded is data, and never runs as code."""

from .checkpoints import Checkpoints
from .events import Event, Events, Series, load_events
from .graphs import load_graph, save_graph
from .recorder import Recorder
from .weights import WeightsError, WeightsReport, load_weights, save_weights

__all__ = [
    "Checkpoints", "save_weights", "load_weights", "WeightsReport", "WeightsError", "save_graph", "load_graph",
    "Recorder", "load_events", "Events", "Series", "Event",
]  # fmt: skip
