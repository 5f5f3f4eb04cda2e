"""The progress of a loop: a bar in a terminal or a notebook, and a line every so often where the output goes to a file.

What is shown is decided here and knows no display; three small classes show it. No thread redraws anything: the loop itself does,
a few times a second.
"""

from __future__ import annotations

import html
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from ..errors import ArgumentError
from ..graph import Tensor
from ..graph.arguments import as_count, as_number
from ..io.numbers import on_host

T = TypeVar("T")

WINDOW = 50  # measurements that a rate is a mean of: 5 s in a terminal

# The loop around the one that begins; each thread and coroutine has its own.
_AROUND: ContextVar[Progress[Any] | None] = ContextVar("flowgraph_progress", default=None)


def progress(items: Iterable[T], title: str = "", *, total: int | None = None, unit: str | None = None, every: float = 10.0) -> Progress[T]:
    """What ``items`` gives, one after another, while it is shown how far the loop has come, how quickly, and how long it will take.

    items    anything to loop over; of `flowgraph.data.batches` epochs and rows a second are shown as well, and where it went on from
    title    what is going on, such as "training"
    total    how many items there are; None: their length, if they have one
    unit     what is counted a second; None: the rows of batches, or the steps of the loop
    every    seconds between two lines, where the output is no terminal and no notebook: in a file, or the log of a server
    returns  a `Progress`: loop over it, and give it numbers to show with ``show(loss=loss)``
    raises   ArgumentError for what cannot be looped over

    It writes to the standard error, so that what a program prints stays as it is. Bars of loops within loops stand below each other.
    The bar of a terminal is drawn by rich (``pip install "flowgraph[cli]"``); without it, there are lines as well.

    >>> bar = fg.viz.progress(range(100), "training")
    >>> for step in bar:
    ...     bar.show(loss=1 / (step + 1))
    >>> bar.count
    100
    """
    return Progress(items, title, total, unit, every)


class Progress(Generic[T]):
    """What `progress` returns.

    count  items that the loop has been through
    text   what is shown beside the bar
    """

    def __init__(self, items: Iterable[T], title: str, total: int | None, unit: str | None, every: float) -> None:
        if isinstance(items, Tensor) or not isinstance(items, Iterable):
            raise ArgumentError(f"progress: what to loop over is expected, got {items!r:.80}", help="fg.viz.progress(range(1000))")
        if not isinstance(title, str) or not (unit is None or isinstance(unit, str)):
            raise ArgumentError(f"progress: title and unit are texts, got {title!r:.60} and {unit!r:.60}")
        self.title, self.every = title, as_number(every, "progress: every")
        self.total = _length(items) if total is None else as_count(total, "progress: total")
        self._items = items
        self._per_epoch: int | None = getattr(items, "per_epoch", None)
        self._per_step = 1 if self._per_epoch is None else int(getattr(items, "size", 1))
        self._unit = unit or ("rows" if self._per_epoch is not None else "steps")
        self.count = self._first = 0
        self._values: dict[str, Any] = {}
        self._start = self._ended = 0.0
        self._seen: deque[tuple[float, int]] = deque([(0.0, 0)], WINDOW)

    def show(self, **values: Any) -> None:
        """Numbers or texts to show from now on: ``bar.show(loss=loss, accuracy=f"{accuracy:.1%}")``; None takes one away."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                help = "session.run(tensor, feeds) gives its value"
                raise ArgumentError(f"progress: {name} is a node of a graph, not a number", help=help)
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = value

    def __iter__(self) -> Iterator[T]:
        around = _AROUND.get()
        # (where batches went on from a checkpoint)
        self.count = self._first = int(self._items.state["taken"]) if self._per_epoch is not None and hasattr(self._items, "state") else 0
        self._start, self._ended = time.perf_counter(), 0.0
        self._seen.clear()
        self._seen.append((self._start, self.count))
        _AROUND.set(self)
        display = _display(self, around is not None)
        due = 0.0
        try:
            for item in self._items:
                now = time.perf_counter()
                if now >= due:
                    self._seen.append((now, self.count))
                    display.draw()
                    due = now + display.gap
                yield item
                self.count += 1
        finally:  # also after a break, or an error in the loop
            _AROUND.set(around)
            self._ended = time.perf_counter()
            display.close()

    @property
    def text(self) -> str:
        share = f"/{self.total} ({self.count / self.total:.0%})" if self.total else ""
        parts = [f"{self.count}{share}"]
        if self._per_epoch is not None and self.total != self._per_epoch:
            epoch = (max(self.count - 1, 0) if self._ended else self.count) // self._per_epoch + 1
            parts.append(f"epoch {epoch}" + (f"/{-(-self.total // self._per_epoch)}" if self.total else ""))
        parts += [f"{name} {_written(value)}" for name, value in self._values.items()]
        if self._ended:
            seconds, done = self._ended - self._start, self.count - self._first
        else:
            (begin, first), (end, last) = self._seen[0], self._seen[-1]
            seconds, done = end - begin, last - first
        rate = done / seconds if seconds > 0 else 0.0
        if rate:
            parts.append(f"{_rounded(rate * self._per_step)} {self._unit}/s")
        if self._ended:
            parts.append(f"in {_duration(seconds)}" + (", stopped" if self.total and self.count < self.total else ""))
        elif rate and self.total:
            parts.append(f"{_duration((self.total - self.count) / rate)} left")
        return "  ".join(parts)

    @property
    def seconds(self) -> float:
        """How long the loop has been going on, or took."""
        return (self._ended or time.perf_counter()) - self._start

    def __repr__(self) -> str:
        return f"<Progress {self.title or self._unit}: {self.count} of {self.total if self.total is not None else 'unknown'}>"


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except TypeError:
        return None


def _written(value: Any) -> str:
    value = on_host(value)
    array = np.asarray(value)
    return f"{array.reshape(())[()]:.4g}" if array.size == 1 and array.dtype.kind in "fV" else str(value)[:60]


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


# --- where it is shown


class _Display(Protocol):
    gap: float  # seconds between two drawings

    def draw(self) -> None: ...

    def close(self) -> None: ...


def _display(bar: Progress[Any], is_inner: bool) -> _Display:
    ipython = sys.modules.get("IPython")
    if ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None:
        return _Notebook(bar, is_inner)
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        try:
            return _Terminal(bar, is_inner)
        except ImportError:
            pass  # a training should not fail for its bar
    return _Lines(bar, is_inner)


class _Lines:
    """A line every so often, and one at the end; for a loop within another only where it took so long that it had lines before."""

    gap = 0.5

    def __init__(self, bar: Progress[Any], is_inner: bool) -> None:
        self._bar, self._is_inner, self._shown = bar, is_inner, 0.0

    def draw(self) -> None:
        if self._bar.seconds >= self._shown + self._bar.every:
            self._shown = self._bar.seconds
            self._print()

    def close(self) -> None:
        if self._shown or not self._is_inner:
            self._print()

    def _print(self) -> None:
        if sys.stderr is not None:  # (there is none where Windows has no console)
            print(f"{self._bar.title}  {self._bar.text}".lstrip(), file=sys.stderr, flush=True)


class _Terminal:
    """A bar by rich. That of a loop within another stands below it, and goes when that loop ends."""

    gap = 0.1

    def __init__(self, bar: Progress[Any], is_inner: bool) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        self._bar = bar
        texts = [TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True))]
        # What the program prints to a file must not come to the terminal instead.
        to_screen = sys.stdout is not None and sys.stdout.isatty()
        self._bars = Bars(*texts, console=_console(), auto_refresh=False, transient=is_inner, redirect_stdout=to_screen)
        self._task = self._bars.add_task(bar.title, total=bar.total, text="")
        self._bars.start()

    def draw(self) -> None:
        self._bars.update(self._task, completed=self._bar.count, text=self._bar.text, refresh=True)

    def close(self) -> None:
        self.draw()
        self._bars.stop()


@cache
def _console() -> Any:
    """The one that all bars share, as they have to know of each other."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


class _Notebook:
    """A bar of the browser's, which needs no widgets."""

    gap = 0.25

    def __init__(self, bar: Progress[Any], is_inner: bool) -> None:
        from IPython.display import HTML, display

        self._bar, self._html = bar, HTML
        self._handle: Any = display(self._content(), display_id=True)
        self._clear: Callable[[], None] | None = (lambda: self._handle.update(HTML(""))) if is_inner else None

    def draw(self) -> None:
        self._handle.update(self._content())

    def close(self) -> None:
        if self._clear is not None:
            self._clear()
        else:
            self.draw()

    def _content(self) -> Any:
        bar = self._bar
        state = f'value="{bar.count}" max="{bar.total}"' if bar.total else f'value="{int(bar.seconds > 0)}"' * bool(bar.count)
        return self._html(
            f'<div style="font-variant-numeric: tabular-nums">{html.escape(bar.title)} <progress {state}></progress> '
            f"{html.escape(bar.text)}</div>"
        )
