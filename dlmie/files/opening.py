"""Files that are about to be read: there, readable, and not something that never ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dlmie.errors import DataError, DlmieError


def check_readable(path: str | os.PathLike[str], error: type[DlmieError] = DataError) -> int:
    """The size in bytes of a regular file that may be read.

    A pipe or a device is refused before it is opened: opening or reading it may wait forever.

    Raises
    ------
    error
        In one line: it is missing, a folder, a pipe or a device, or the system refuses.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise error(f"{path}: is {kind}, not a file")
        with path.open("rb"):
            return status.st_size
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be opened: {problem.strerror or problem}") from None
    except ValueError as problem:  # a NUL in the name
        raise error(f"{str(path)!r}: cannot be opened: {problem}") from None
