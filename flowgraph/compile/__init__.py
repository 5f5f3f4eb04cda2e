"""From a graph to a plan: what a request needs, with the shapes of its feeds, cut into tasks that are worth scheduling."""

from .compiler import PASSES, compile_plan
from .explain import Explanation, explain
from .plan import Plan, Task, Unit

__all__ = ["PASSES", "Explanation", "Plan", "Task", "Unit", "compile_plan", "explain"]
