"""Traces: what runs did, when, on which thread, and why not sooner; what they would have done on other machines."""

from .trace import Trace

__all__ = ["Trace"]
