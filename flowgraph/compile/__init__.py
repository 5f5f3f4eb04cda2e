"""From a graph to a plan: what a request needs, with the shapes of its feeds, cut into tasks that are worth scheduling."""

from .compiler import compile_plan
from .explain import Explanation, explain
from .plan import Plan, Task, Unit
from .simplify import PASSES

__all__ = ["PASSES", "Explanation", "Plan", "Task", "Unit", "compile_plan", "explain"]
