"""Windows: arrays of which a loop reads an element that lies apart from its own, or nothing where there is none.

A rim of one number, a slice, and what is scattered to a slice are all the same to a loop: an array and, for each axis, how far behind an
element of the domain the one stands that it reads, and from where to where there are any. So the neighbours of a finite difference are
loads from one array, and neither the rim nor the slices are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import Node
from ..graph.spec import is_known
from ..jit.loops import Window
from ..records import replace

# Ops that put one of their inputs, by its position, where an index says.
PLACING = {"scatter": 0, "add_at": 1}
# Loops with windows are not cut: outside a sub-graph, whose kernels are not cut either, only domains of at most so many elements have them.
LARGEST = 2**19


def sliced(index: Any, shape: Sequence[int]) -> list[tuple[int, int]] | None:
    """First element and number of elements along each axis where ``index`` is nothing but slices without steps; else None."""
    if len(index) > len(shape) or not all(isinstance(item, slice) for item in index):
        return None
    bounds = []
    for item, size in zip((*index, *[slice(None)] * (len(shape) - len(index))), shape, strict=True):
        if not all(bound is None or isinstance(bound, int) for bound in (item.start, item.stop, item.step)):
            return None
        start, stop, step = item.indices(size)
        if step != 1:
            return None
        bounds.append((start, max(stop - start, 0)))
    return bounds


def takes_all(index: Any) -> bool:
    """Whether ``index`` does nothing but put in axes of size 1."""
    return all(item is None or (isinstance(item, slice) and item == slice(None)) for item in index)


def whole(shape: Sequence[int]) -> Window:
    """The window that is the array itself."""
    return Window(tuple(shape), (0,) * len(shape), (0,) * len(shape), tuple(shape), 0.0)


def placed(node: Node, part: Any, out: Any) -> Window | None:
    """What an element of the result reads of ``part`` (a spec) where ``node`` puts it, or adds it, into a slice; else None."""
    if node.op.name not in PLACING or out.dtype.kind != "f" or part.dtype != out.dtype or not is_known(out.shape):
        return None
    bounds = sliced(node.attrs["index"], out.shape) if out.shape else None
    if bounds is None or tuple(part.shape) != tuple(count for _, count in bounds) or 0 in part.shape:
        return None
    # What is added where there is nothing is -0: it leaves every bit as it is, those of -0, too.
    fill = 0.0 if node.op.name == "scatter" else -0.0
    return replace(whole(part.shape), shifts=tuple(-start for start, _ in bounds), fill=fill)


def through(node: Node, window: Window, source: Sequence[int], domain: Sequence[int]) -> Window | None:
    """The window on what ``node``, a slice or a rim, is made of, where ``window`` is one on its result; None for any other node."""
    if node.op.name == "getitem":
        bounds = sliced(node.attrs["index"], source)
        if bounds is None:
            return None
        starts = [start for start, _ in bounds]
        return replace(
            window,
            sizes=tuple(source),
            shifts=tuple(shift + start for shift, start in zip(window.shifts, starts, strict=True)),
            low=tuple(low + start for low, start in zip(window.low, starts, strict=True)),
            high=tuple(high + start for high, start in zip(window.high, starts, strict=True)),
        )
    if node.op.name == "pad" and (never_fills(window, domain) or _same_bits(window.fill, node.attrs["value"])):
        before = [width for width, _ in node.attrs["widths"]]
        return Window(
            tuple(source),
            tuple(shift - b for shift, b in zip(window.shifts, before, strict=True)),
            tuple(max(low - b, 0) for low, b in zip(window.low, before, strict=True)),
            tuple(min(high - b, size) for high, b, size in zip(window.high, before, source, strict=True)),
            float(node.attrs["value"]),
        )
    return None


def never_fills(window: Window, domain: Sequence[int]) -> bool:
    """Whether there is an element for each of the domain's."""
    return all(window.covers(axis, size) for axis, size in enumerate(domain))


def _same_bits(a: float, b: float) -> bool:
    return repr(float(a)) == repr(float(b))
