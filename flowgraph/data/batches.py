"""Batches of arrays: shuffled anew in each epoch, and made ahead of their use by one background thread.

What a batch holds depends on the arrays, the seed, the epoch and the batch's number only, and never on how far
ahead the thread is.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from .rows import Rows, count_rows, generator, take_rows, whole

Transform: TypeAlias = "Callable[[Any, np.random.Generator], Any]"  # quoted, as np.random takes 10 ms to load


def batches(
    arrays: Rows,
    size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    epochs: int | None = 1,
    drop_last: bool = False,
    prefetch: int = 2,
    transform: Transform | None = None,
) -> Batches:
    """An iterator over ``arrays`` in batches of ``size`` rows, prepared by a background thread.

    arrays     an array, a tuple, list or dict of arrays; all with the same first size. Not copied, and never written to
    size       rows of a batch; the last one of an epoch may be smaller
    shuffle    a new order in each epoch, which depends on ``seed`` and the epoch's number only
    epochs     how often to go through the arrays; None: without end
    drop_last  leave out an epoch's last batch where it is smaller than ``size``
    prefetch   how many batches may lie ready or be in the making; 0: no thread, each is made when it is asked for
    transform  called as transform(batch, rng) in that thread, returns the batch to hand out; ``rng`` depends on
               ``seed``, the epoch and the batch's number only. ``batch`` is its own to change
    returns    ``Batches``: each batch has the structure of ``arrays``, and is a copy
    raises     ArgumentError, ShapeError here for what does not fit; DataError while iterating, with the stage and the
               batch's number, if a transform or an array raises

    It is used up after ``epochs`` epochs. The thread ends with the last batch, with ``close()``, at the end of a
    ``with`` block, or when nothing refers to the iterator any more, as after a ``break`` out of
    ``for batch in fg.data.batches(...)``.

    >>> images, labels = np.zeros((10, 28, 28), np.float32), np.arange(10)
    >>> for x, y in fg.data.batches((images, labels), 4):
    ...     print(x.shape, y.shape)
    (4, 28, 28) (4,)
    (4, 28, 28) (4,)
    (2, 28, 28) (2,)
    """
    rows = count_rows(arrays)
    size = whole(size, "batches: size", at_least=1)
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
    return Batches(source, whole(prefetch, "batches: prefetch", at_least=0))


class Batches(Iterator[Any]):
    """The iterator that ``batches`` returns: one consumer, closable, resumable, with a length unless it is endless.

    per_epoch  how many batches an epoch has
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

    # The thread holds the source and the channel and never this object: so this object is freed when the consumer drops
    # it, and its finalizer tells the thread to end.
    def __init__(self, source: _Source, prefetch: int) -> None:
        self.per_epoch = source.per_epoch
        self._epochs = source.epochs
        self._settings = source.settings()
        self._source: _Source | None = source
        self._prefetch = prefetch
        self._taken = 0
        self._over = ""  # why there is no further batch
        self._begin()

    def _begin(self) -> None:
        assert self._source is not None
        self._batches: Iterator[Any] | None = self._source.batches(self._taken)
        self._channel = _Channel(self._prefetch)
        self._thread: threading.Thread | None = None
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
        if item is _CLOSED:
            raise self._no_more()
        if item is _END:
            self._finish(_USED_UP)
            raise StopIteration
        if isinstance(item, _Failure):
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
        if self._thread is None:
            # Started with the first batch, so that an iterator that is never used has no thread. A daemon, so that a
            # program that ends in the middle of its data does not wait for it.
            self._thread = threading.Thread(target=_fill, args=(self._batches, self._channel), name="flowgraph batches", daemon=True)
            self._batches = None
            self._thread.start()
        item = self._channel.ready.get()
        self._channel.slots.put(True)
        return item

    def _made_here(self) -> Any:
        assert self._batches is not None
        try:
            return next(self._batches, _END)
        except Exception as error:
            return _Failure(error)

    def _finish(self, why: str) -> None:
        self._over = why
        self._batches = self._source = None
        self._channel.close()
        self._join()

    def _join(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._channel.clear()

    def _no_more(self) -> DataError:
        return DataError(
            f"these batches {self._over}",
            help="call fg.data.batches again for new ones; epochs=2 goes through the data twice",
        )


_USED_UP = "are used up"
_END = object()
_CLOSED = object()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Channel:
    # The channel between the thread and the consumer promises:
    # - At most as many batches exist in it, ready or in the making, as there were slots: the thread takes a slot before
    #   it makes a batch, and the consumer gives the slot back when it takes the batch.
    # - After close() the thread makes no further batch, and ends as soon as the one in the making is done.
    # - close() may run anywhere, as the garbage collector calls it: within a put or get of this very channel, too. So
    #   there is no lock here, which its own thread might hold, but queues whose put() is documented as reentrant.
    def __init__(self, slots: int) -> None:
        self.ready: SimpleQueue[Any] = SimpleQueue()
        self.slots: SimpleQueue[bool] = SimpleQueue()
        self.closed = False
        for _ in range(slots):
            self.slots.put(True)

    def close(self) -> None:
        self.closed = True
        self.slots.put(False)  # wakes the thread where it waits for a slot

    def clear(self) -> None:
        # The thread has ended: nothing comes in any more.
        try:
            while True:
                self.ready.get_nowait()
        except Empty:
            self.ready.put(_CLOSED)  # wakes a consumer that waits while another thread closes


def _fill(made: Iterator[Any], channel: _Channel) -> None:
    try:
        while channel.slots.get() and not channel.closed:
            channel.ready.put(next(made))
    except StopIteration:
        channel.ready.put(_END)
    except BaseException as error:  # whatever it is, the consumer must not wait for ever
        channel.ready.put(_Failure(error))


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

    def batches(self, taken: int) -> Iterator[Any]:
        epoch, first = divmod(taken, self.per_epoch)
        while self.epochs is None or epoch < self.epochs:
            # Orders and transforms draw from streams of their own: (0, epoch) and (1, epoch, number).
            order = generator(self.seed, "batches", 0, epoch).permutation(self.rows) if self.shuffle else None
            for number in range(first, self.per_epoch):
                yield self._make(epoch, number, order)
            epoch, first = epoch + 1, 0

    def _make(self, epoch: int, number: int, order: NDArray[np.intp] | None) -> Any:
        span = slice(number * self.size, min((number + 1) * self.size, self.rows))
        stage = "reading the arrays"
        try:
            batch = take_rows(self.arrays, span if order is None else order[span])
            if self.transform is None:
                return batch
            stage = f"transform {getattr(self.transform, '__name__', None) or repr(self.transform)}"
            return self.transform(batch, generator(self.seed, "batches", 1, epoch, number))
        except Exception as error:
            raise DataError(
                f"batches: {stage} failed at batch {number} of epoch {epoch}: {type(error).__name__}: {error}",
                rows=[("stage", stage), ("batch", f"{number} of epoch {epoch}, both counted from 0")],
            ) from error
