"""Signals that end a command: it cleans up and names the signal, whichever it is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Besides Ctrl-C: what ``kill`` sends, and a terminal that is closed.
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end; its text is the signal's name."""


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Turn signals that would end the process at once into an exception, as Ctrl-C is one.

    A signal that is ignored (``nohup``) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
