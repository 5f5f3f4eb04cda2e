"""Sessions: feeds and fetches, the values of variables, compiled functions, the cache of plans."""

from .explain import explain
from .function import Function
from .future import RunFuture
from .session import Session

__all__ = ["Function", "RunFuture", "Session", "explain"]
