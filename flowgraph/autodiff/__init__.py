"""Differentiation: it turns a graph into more of the same graph. Built only of ops; nothing here computes."""

from .gradients import gradients
from .vmap import vmap

__all__ = ["gradients", "vmap"]
