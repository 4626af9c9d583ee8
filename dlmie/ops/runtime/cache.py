"""The folder in which compiled code is kept, and the lock on it: PyTensor's, shared with dlmie."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from dlmie.errors import CompilerError

WAITING = "dlmie: waiting for another process that is compiling into {}\n"


def cache_folder() -> Path:
    """Where PyTensor keeps compiled modules, and dlmie its kernel library.

    Raises
    ------
    CompilerError
        It cannot be written; names the flag that moves it.
    """
    from pytensor.configdefaults import config

    try:
        folder = Path(config.compiledir)
        if os.access(folder, os.W_OK):
            return folder
        reason = f"{folder} is read-only"
    except (OSError, ValueError) as error:  # PyTensor makes the folder when first asked for it
        reason = str(error)
    raise CompilerError(
        f"the cache of compiled code cannot be written ({reason.rstrip('.')}): "
        "set PYTENSOR_FLAGS=base_compiledir=/a/folder/you/can/write"
    )


def heal(error: ImportError | FileNotFoundError) -> bool:
    """Delete a compiled module that cannot be loaded, so that it is compiled again; say so.

    After a power cut or on a full disk a module may be empty; PyTensor keeps it all the same.

    Parameters
    ----------
    error : ImportError or FileNotFoundError
        What loading it raised; the latter where another process has just deleted it.

    Returns
    -------
    bool
        Whether there was such a module in the cache.
    """
    from pytensor.link.c.basic import get_module_cache

    folder = cache_folder()
    if isinstance(error, FileNotFoundError):
        return folder in Path(str(error.filename)).parents
    path = Path(error.path or "")
    if folder not in path.parents or not path.exists():
        return False
    cache = get_module_cache()
    name = str(path)
    for key in [key for key, entry in cache.entry_from_key.items() if entry == name]:
        del cache.entry_from_key[key]
    known = cache.module_hash_to_key_data
    for module_hash in [h for h, data in known.items() if data.get_entry() == name]:
        del known[module_hash]
    cache.module_from_name.pop(name, None)
    shutil.rmtree(path.parent, ignore_errors=True)
    say_healed(path, error)
    return True


def say_healed(path: Path, error: Exception) -> None:
    """One line about a file of the cache that was damaged."""
    reason = str(error).rpartition(": ")[2]
    sys.stderr.write(f"dlmie: {path} cannot be loaded ({reason}): deleted and compiled again\n")


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
    from pytensor.configdefaults import config

    line = WAITING.format(config.compiledir)
    announcement = threading.Timer(1.0, sys.stderr.write, [line])
    announcement.daemon = True
    announcement.start()
    try:
        yield
    finally:
        announcement.cancel()
