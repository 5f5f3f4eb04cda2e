"""Files: checkpoints, graphs, and weights as safetensors. What is loaded is data, and never runs as code."""

from .checkpoints import Checkpoints
from .graphs import load_graph, save_graph
from .weights import WeightsError, WeightsReport, load_weights, save_weights

__all__ = ["Checkpoints", "save_weights", "load_weights", "WeightsReport", "WeightsError", "save_graph", "load_graph"]
