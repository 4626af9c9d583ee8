"""The folder in which compiled code is kept, and the lock on it: PyTensor's, shared with dlmie."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytensor

from dlmie.errors import CompilerError

WAITING = "dlmie: waiting for another process that is compiling into {}\n"


def cache_folder() -> Path:
    """Where PyTensor keeps compiled modules, and dlmie its kernel library.

    Raises
    ------
    CompilerError
        It cannot be written; names the flag that moves it.
    """
    try:
        folder = Path(pytensor.config.compiledir)
        if os.access(folder, os.W_OK):
            return folder
        reason = f"{folder} is read-only"
    except (OSError, ValueError) as error:  # PyTensor makes the folder when first asked for it
        reason = str(error)
    raise CompilerError(
        f"the cache of compiled code cannot be written ({reason.rstrip('.')}): "
        "set PYTENSOR_FLAGS=base_compiledir=/a/folder/you/can/write"
    )


@contextlib.contextmanager
def compile_lock() -> Iterator[None]:
    """PyTensor's lock on its cache folder; a wait of over a second is announced."""
    from pytensor.compile.compilelock import lock_ctx

    with contextlib.ExitStack() as stack:
        with announced_wait():
            stack.enter_context(lock_ctx(timeout=-1))  # ends with its process: no need to give up
        yield


@contextlib.contextmanager
def announced_wait() -> Iterator[None]:
    """What takes over a second in here waits for another process: say so."""
    line = WAITING.format(pytensor.config.compiledir)
    announcement = threading.Timer(1.0, sys.stderr.write, [line])
    announcement.daemon = True
    announcement.start()
    try:
        yield
    finally:
        announcement.cancel()
