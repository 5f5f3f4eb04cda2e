"""Items that background threads make ahead of their use, handed out in order. Knows nothing of what the items are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

END = object()  # there is no further item
CLOSED = object()  # the channel was closed while the consumer waited


class Failure:
    """What came in place of an item."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Channel:
    """Between the threads that make items and the one consumer."""

    # It promises:
    # - At most as many items exist in it, ready or in the making, as there were slots: a thread takes a slot before it makes an
    #   item, and the consumer gives the slot back when it takes the item.
    # - Items come in the order of their jobs, whichever thread makes which: a thread takes a job and queues the cell for its
    #   item in one step, under the lock of `Work`.
    # - After close() no further item is begun, and each thread ends as soon as the one that it makes is done.
    # - close() may run anywhere, as the garbage collector calls it: within a put or get of this very channel, too. So
    #   there is no lock here, which its own thread might hold, but queues whose put() is documented as reentrant.
    def __init__(self, slots: int) -> None:
        self.ready: SimpleQueue[Any] = SimpleQueue()  # cells, each a queue for one item
        self.slots: SimpleQueue[bool] = SimpleQueue()
        self.closed = False
        for _ in range(slots):
            self.slots.put(True)

    def take(self) -> Any:
        """The next item, END, CLOSED or a Failure, once it is there."""
        cell = self.ready.get()
        if cell is CLOSED:
            return CLOSED
        item = cell.get()
        self.slots.put(True)
        return item

    def close(self) -> None:
        """Lets the threads end."""
        self.closed = True
        self.slots.put(False)  # wakes a thread that waits for a slot; it wakes the next one when it ends

    def clear(self) -> None:
        """Drops what was made ahead. The threads have ended: nothing comes in any more."""
        try:
            while True:
                self.ready.get_nowait()
        except Empty:
            self.ready.put(CLOSED)  # wakes a consumer that waits while another thread closes


class Work:
    """What is left to make. ``lock`` guards ``jobs`` and ``ended``, and the order of the cells in the channel; only makers take it."""

    def __init__(self, jobs: Iterator[Any], make: Callable[[Any], Any]) -> None:
        self.jobs, self.make = jobs, make
        self.lock = threading.Lock()
        self.ended = False

    def fill(self, channel: Channel) -> None:
        """Makes items until there is nothing left, one fails, or the channel is closed: the life of a thread."""
        try:
            while channel.slots.get() and not channel.closed and self._made_one(channel):
                pass
        finally:
            channel.slots.put(False)

    def _made_one(self, channel: Channel) -> bool:
        with self.lock:
            if self.ended:
                return False
            cell: SimpleQueue[Any] = SimpleQueue()
            channel.ready.put(cell)
            item: Any
            try:
                job = next(self.jobs, END)
                item = END
            except BaseException as error:  # whatever it is, the consumer must not wait for ever
                job, item = END, Failure(error)
            self.ended = job is END
        if job is not END:
            try:
                item = self.make(job)
            except BaseException as error:
                with self.lock:
                    self.ended = True
                item = Failure(error)
        cell.put(item)
        return not isinstance(item, Failure) and item is not END
