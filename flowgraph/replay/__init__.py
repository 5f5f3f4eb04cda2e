"""Replay: a recorded run, gone through step by step, forwards and backwards; and orders of tasks tried until one differs."""

from .orders import OrderReport, check_orders
from .record import Record, load_record
from .replay import Comparison, Replay

__all__ = ["Comparison", "OrderReport", "Record", "Replay", "check_orders", "load_record"]
