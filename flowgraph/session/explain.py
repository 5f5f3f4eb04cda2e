"""``fg.explain``: what the passes make of a request, without a session of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..compile import Explanation
from ..graph import Node, Tensor, get_default_graph
from .session import Session


def explain(fetches: Any, feeds: Mapping[Tensor, Any] | None = None, **options: Any) -> Explanation:
    """What becomes of a request before it runs: the nodes that it needs, what each pass changes, the plan. Print it.

    fetches, feeds  as for ``Session.run``; ``feeds`` may hold shapes in place of values
    options         as for ``Session``, for a session that exists for this alone
    raises          what ``Session.plan`` raises

    >>> x = fg.placeholder("x", ("n",), "float32")
    >>> account = fg.explain(x * 1.0 + fg.exp(x * 1.0), {x: (3,)}, jit=False)
    >>> account.changes
    (('algebra', 'multiply', 'is x'), ('algebra', 'multiply_1', 'is x'))
    >>> [unit.node.name for unit in account.plan.units]
    ['exp', 'add']
    """
    first = _first(fetches)
    with Session(get_default_graph() if first is None else first.graph, **options) as session:
        return session.explain(fetches, feeds)


def _first(fetches: Any) -> Tensor | Node | None:
    """Any tensor or node in a nesting of them."""
    if isinstance(fetches, Tensor | Node):
        return fetches
    inside = fetches.values() if isinstance(fetches, Mapping) else fetches if isinstance(fetches, list | tuple) else ()
    return next((found for each in inside if (found := _first(each)) is not None), None)
