"""Control flow: nodes that hold sub-graphs. Their rules differentiate and batch what they hold, so this stands above autodiff."""

from .checkpoint import checkpoint
from .cond import cond
from .scan import map, scan
from .while_loop import while_loop

__all__ = ["checkpoint", "cond", "map", "scan", "while_loop"]
