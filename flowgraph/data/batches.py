"""Batches of arrays or examples: shuffled anew in each epoch, and made ahead of their use by background threads.

What a batch holds depends on the data, the seed, the epoch and the batch's number only, and never on how far
ahead the threads are, or how many.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..graph.arguments import as_flag
from ..graph.report import raised_at
from .ahead import CLOSED, END, Channel, Failure, Work
from .rows import Rows, count_rows, generator, is_examples, stack_examples, take_rows, whole

_Job: TypeAlias = tuple[int, int, NDArray[np.intp] | None]  # epoch, number of the batch within it, order of the rows
Transform: TypeAlias = "Callable[[Any, np.random.Generator], Any]"  # quoted, as np.random takes 10 ms to load


def batches(
    arrays: Rows,
    size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    epochs: int | None = 1,
    drop_last: bool = False,
    prefetch: int | None = None,
    threads: int = 1,
    transform: Transform | None = None,
) -> Batches:
    """An iterator over ``arrays`` in batches of ``size`` rows, prepared by background threads.

    arrays     an array, a tuple, list or dict of arrays, all with the same first size: not copied, and never written to. Or
               any object with a length that gives example ``i`` for ``[i]``, read only when its batch is made: an array or
               number, or a tuple, list or dict of such
    size       rows of a batch; the last one of an epoch may be smaller
    shuffle    a new order in each epoch, which depends on ``seed`` and the epoch's number only
    epochs     how often to go through the arrays; None: without end
    drop_last  leave out an epoch's last batch where it is smaller than ``size``
    prefetch   how many batches may lie ready or be in the making; None: one more than ``threads``; 0: no thread, each is
               made when it is asked for
    threads    how many batches are made at once; more than one pays where reading or ``transform`` waits or leaves the GIL
    transform  called as transform(batch, rng) in such a thread, returns the batch to hand out; ``rng`` depends on
               ``seed``, the epoch and the batch's number only. ``batch`` is its own to change
    returns    ``Batches``: each batch has the structure of ``arrays`` or of an example, and is a copy
    raises     ArgumentError, ShapeError here for what does not fit; DataError while iterating, with the stage and the
               batch's number, if a transform or an array raises

    It is used up after ``epochs`` epochs. The threads end with the last batch, with ``close()``, at the end of a
    ``with`` block, or when nothing refers to the iterator any more, as after a ``break`` out of
    ``for batch in fg.data.batches(...)``.

    >>> images, labels = np.zeros((10, 28, 28), np.float32), np.arange(10)
    >>> for x, y in fg.data.batches((images, labels), 4):
    ...     print(x.shape, y.shape)
    (4, 28, 28) (4,)
    (4, 28, 28) (4,)
    (2, 28, 28) (2,)

    Examples that are read or made one by one:

    >>> class Squares:
    ...     def __len__(self):
    ...         return 5
    ...
    ...     def __getitem__(self, i):
    ...         return {"n": i, "square": float(i * i)}
    >>> for batch in fg.data.batches(Squares(), 3, shuffle=False, threads=2):
    ...     print(batch["n"], batch["square"])
    [0 1 2] [0. 1. 4.]
    [3 4] [ 9. 16.]
    """
    rows = count_rows(arrays)
    size = whole(size, "batches: size", at_least=1)
    shuffle, drop_last = as_flag(shuffle, "batches: shuffle"), as_flag(drop_last, "batches: drop_last")
    if drop_last and size > rows:
        raise ArgumentError(f"batches: size is {size}, so that drop_last leaves nothing of {rows} rows")
    if transform is not None and not callable(transform):
        raise ArgumentError(f"batches: transform is {transform!r} and cannot be called")
    source = _Source(
        arrays=arrays,
        rows=rows,
        size=size,
        shuffle=shuffle,
        seed=whole(seed, "batches: seed", at_least=0),
        epochs=None if epochs is None else whole(epochs, "batches: epochs", at_least=1),
        per_epoch=rows // size if drop_last else -(-rows // size),
        transform=transform,
    )
    threads = whole(threads, "batches: threads", at_least=1)
    prefetch = threads + 1 if prefetch is None else whole(prefetch, "batches: prefetch", at_least=0)
    if threads > 1 and prefetch < threads:
        raise ArgumentError(
            f"batches: {threads} threads have nothing to do where prefetch is {prefetch}",
            help=f"prefetch={threads} or more, or leave it out",
        )
    return Batches(source, prefetch, threads)


class Batches(Iterator[Any]):
    """The iterator that ``batches`` returns: one consumer, closable, resumable, with a length unless it is endless.

    per_epoch  how many batches an epoch has; ``size``: the rows of a batch
    state      where it stands, as plain data; set it to go on from there, as ``fg.io.Checkpoints`` does

    >>> with fg.data.batches(np.arange(10), 4, epochs=3) as numbers:
    ...     len(numbers), numbers.per_epoch
    (9, 3)

    A second iterator over the same arrays goes on where the first one stood:

    >>> first, second = fg.data.batches(np.arange(9), 3), fg.data.batches(np.arange(9), 3)
    >>> skipped, state = next(first), first.state
    >>> second.state = state
    >>> bool((next(first) == next(second)).all())
    True
    """

    # The threads hold the source and the channel and never this object: so this object is freed when the consumer drops
    # it, and its finalizer tells the threads to end.
    def __init__(self, source: _Source, prefetch: int, threads: int) -> None:
        self.per_epoch, self.size = source.per_epoch, source.size
        self._epochs = source.epochs
        self._settings = source.settings()
        self._source: _Source | None = source
        self._prefetch, self._threads = prefetch, threads
        self._taken = 0
        self._over = ""  # why there is no further batch
        self._begin()

    def _begin(self) -> None:
        assert self._source is not None
        self._work: Work | None = Work(self._source.jobs(self._taken), self._source.make)
        self._channel = Channel(self._prefetch)
        self._started: list[threading.Thread] = []
        self._finalizer = weakref.finalize(self, self._channel.close)

    @property
    def state(self) -> dict[str, Any]:
        """How many batches have been handed out, beside what the batches depend on."""
        return {"taken": self._taken, **self._settings}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        """Goes on behind ``state["taken"]`` batches. raises ArgumentError for other batches than these, DataError where they are over."""
        if self._over:
            raise self._no_more()
        differing = [key for key, value in self._settings.items() if state.get(key) != value]
        if differing:
            raise ArgumentError(
                "batches: the state is of other batches than these",
                rows=[(key, f"{state.get(key)!r} there, {self._settings[key]!r} here") for key in differing],
                help="call fg.data.batches with the arguments from before",
            )
        taken = whole(state.get("taken"), "batches: state['taken']", at_least=0)
        if self._epochs is not None and taken > len(self):
            raise ArgumentError(f"batches: the state is behind {taken} batches, but there are {len(self)}", help="give more epochs")
        self._finalizer()
        self._join()
        self._taken = taken
        self._begin()

    def __len__(self) -> int:
        if self._epochs is None:
            raise TypeError("endless batches have no length")
        return self._epochs * self.per_epoch

    def __bool__(self) -> bool:
        return True  # else bool() would ask for the length, which endless batches do not have

    def __iter__(self) -> Self:
        # A second loop over the same object would do nothing, in silence.
        if self._over:
            raise self._no_more()
        return self

    def __next__(self) -> Any:
        if self._over == _USED_UP:
            raise StopIteration
        if self._over:
            raise self._no_more()
        item = self._from_thread() if self._prefetch else self._made_here()
        if item is CLOSED:
            raise self._no_more()
        if item is END:
            self._finish(_USED_UP)
            raise StopIteration
        if isinstance(item, Failure):
            self._finish("have stopped at an error")
            try:
                raise item.error
            finally:
                del item  # the error's traceback holds this frame: else the two would keep each other alive
        self._taken += 1
        return item

    def close(self) -> None:
        """End the thread and drop what it made ahead. Waits for a transform that is at work; may be called again."""
        self._finish(self._over or "are closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _from_thread(self) -> Any:
        if not self._started:
            # Started with the first batch, so that an iterator that is never used has no thread. Daemons, so that a
            # program that ends in the middle of its data does not wait for them.
            assert self._work is not None
            fill, channel = self._work.fill, self._channel
            self._work = None
            self._started = [
                threading.Thread(target=fill, args=(channel,), name="flowgraph batches", daemon=True) for _ in range(self._threads)
            ]
            for thread in self._started:
                thread.start()
        return self._channel.take()

    def _made_here(self) -> Any:
        assert self._work is not None
        try:
            job = next(self._work.jobs, END)
            return job if job is END else self._work.make(job)
        except Exception as error:
            return Failure(error)

    def _finish(self, why: str) -> None:
        self._over = why
        self._work = self._source = None
        self._channel.close()
        self._join()

    def _join(self) -> None:
        for thread in self._started:
            if thread is not threading.current_thread():
                thread.join()
        self._channel.clear()

    def _no_more(self) -> DataError:
        return DataError(
            f"these batches {self._over}",
            help="call fg.data.batches again for new ones; epochs=2 goes through the data twice",
        )


_USED_UP = "are used up"


@dataclass(eq=False, repr=False)
class _Source:
    """What to batch and how; knows neither threads nor queues."""

    arrays: Rows
    rows: int
    size: int
    shuffle: bool
    seed: int
    epochs: int | None
    per_epoch: int
    transform: Transform | None

    def settings(self) -> dict[str, Any]:
        return {"rows": self.rows, "size": self.size, "shuffle": bool(self.shuffle), "seed": self.seed, "per_epoch": self.per_epoch}

    def jobs(self, taken: int) -> Iterator[_Job]:
        epoch, first = divmod(taken, self.per_epoch)
        while self.epochs is None or epoch < self.epochs:
            # Orders and transforms draw from streams of their own: (0, epoch) and (1, epoch, number).
            order = generator(self.seed, "batches", 0, epoch).permutation(self.rows) if self.shuffle else None
            for number in range(first, self.per_epoch):
                yield epoch, number, order
            epoch, first = epoch + 1, 0

    def make(self, job: _Job) -> Any:
        epoch, number, order = job
        span = slice(number * self.size, min((number + 1) * self.size, self.rows))
        stage = "reading the arrays"
        try:
            if is_examples(self.arrays):
                examples: list[Any] = []
                for i in range(span.start, span.stop) if order is None else order[span]:
                    stage = f"reading example {i}"
                    examples.append(self.arrays[int(i)])
                stage = "stacking the examples"
                batch = stack_examples(examples)
            else:
                batch = take_rows(self.arrays, span if order is None else order[span])
            if self.transform is None:
                return batch
            stage = f"transform {getattr(self.transform, '__name__', None) or repr(self.transform)}"
            return self.transform(batch, generator(self.seed, "batches", 1, epoch, number))
        except Exception as error:
            blamed, rows = raised_at(error)
            raise DataError(
                f"batches: {stage} failed at batch {number} of epoch {epoch}: {type(error).__name__}: {error}",
                rows=[*rows, ("stage", stage), ("batch", f"{number} of epoch {epoch}, both counted from 0")],
                blamed=blamed,
            ) from error
