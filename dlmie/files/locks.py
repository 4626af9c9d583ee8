"""Locks between processes: one writes, the second is told who; they end with their process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dlmie.errors import DataError

_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def locked(
    path: Path, what: str | os.PathLike[str], doing: str = "writing this file"
) -> Iterator[int]:
    """Hold a lock on a file while the block runs.

    Parameters
    ----------
    path : Path
        The file that is locked; made if it is not there.
    what : path
        What the lock protects, for the message.
    doing : str
        What its holder does.

    Yields
    ------
    int
        The open file.

    Raises
    ------
    DataError
        Another process holds the lock.
    """
    descriptor = acquire(path, what, doing)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def acquire(path: Path, what: str | os.PathLike[str], doing: str = "writing this file") -> int:
    """Open and lock a file; closing it ends the lock. See :func:`locked`."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno not in _HELD:
                raise
            raise DataError(f"{what}: another process is {doing}{holder}") from None
        # Between opening and locking, the holder may have renamed or deleted the file: then this
        # lock is on something that nobody looks for any more.
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    """`` (process 4711)`` where the system says who holds the lock, else nothing."""
    status = os.fstat(descriptor)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 fe:00:2236928 0 EOF
            if len(words) >= 6 and words[1] == "FLOCK" and words[5] == place:
                return f" (process {words[4]})"
    return ""
