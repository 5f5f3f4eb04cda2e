"""Replay: a recorded run, gone through step by step, forwards and backwards; and orders of tasks tried until one differs."""

from .record import Record, load_record
from .replay import Replay

__all__ = ["Record", "Replay", "load_record"]
