"""Work in background threads."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")

_END = object()


def default_workers() -> int:
    """The number of threads that decode images: one per processor, at most 8."""
    available = getattr(os, "sched_getaffinity", None)
    return min(8, len(available(0)) if available else os.cpu_count() or 1)


def prefetch(items: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Yield the same items, made up to ``depth`` ahead by a thread.

    Reading and decompressing let other threads run, so that the next batch is ready when the
    current step of training ends. The thread starts with the first item that is asked for. It
    has ended when the iteration has: at the last item, at an error, or when the iterator is
    closed or forgotten.

    Parameters
    ----------
    items
        What to go through, in the thread.
    depth
        How many items may wait; 0 works without a thread.

    Raises
    ------
    Exception
        Whatever ``items`` raises, where the consumer would have got that item.

    Examples
    --------
    >>> list(prefetch(range(3)))
    [0, 1, 2]
    """
    if depth < 1:
        yield from items
        return
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        iterator = iter(items)
        last: tuple[Any, BaseException | None] = (_END, None)
        try:
            for item in iterator:
                waiting.put((item, None))
                if stop.is_set():
                    return
        except BaseException as error:  # not lost with the thread: the consumer gets it
            last = (_END, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:  # a generator's files are closed here, not at some later time
                close()
        waiting.put(last)

    thread = threading.Thread(target=work, name="dlmie-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        while thread.is_alive():  # a full queue would hold the thread forever
            try:
                waiting.get(timeout=0.01)
            except queue.Empty:
                continue
