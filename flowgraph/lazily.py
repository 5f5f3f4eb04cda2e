"""Modules that many programs do without, each loaded when it is first named: that keeps the import of flowgraph short."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType


def lazily(module: str, names: Sequence[str]) -> Callable[[str], ModuleType]:
    """The ``__getattr__`` of ``module``, which stands for those beside it that are called ``names``.

    raises AttributeError for any other name
    """

    def load(name: str) -> ModuleType:
        if name in names:
            return importlib.import_module(f"..{name}", module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)

    return load
