"""What the writers of prepared files share."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from dlmie.errors import DataError
from dlmie.files.hdf5 import DAMAGE, open_hdf5
from dlmie.files.headers import read_header
from dlmie.text import bytes_text


def check_room(to: Path, needed: float, *, advice: str) -> None:
    """Refuse what does not fit on the disk before anything is made.

    Parameters
    ----------
    to : Path
        The file; its folder exists.
    needed : float
        Bytes.
    advice : str
        What may help.

    Raises
    ------
    DataError
        The disk is too small.
    """
    free = shutil.disk_usage(to.parent).free
    if needed > free:
        raise DataError(
            f"{to}: needs {bytes_text(needed)} and the disk has {bytes_text(free)} left; {advice}"
        )


def reserve(descriptor: int, size: int) -> None:
    """Allocate the space of a file now, where the system can.

    HDF5 does not survive a disk that fills up while it writes.

    Raises
    ------
    OSError
        The disk is too small.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not on this file system
                raise


def check_same(path: Path, fingerprint: str) -> None:
    """Refuse a file that exists already, unless it holds what would be written.

    Raises
    ------
    DataError
        It holds something else.
    """
    if _fingerprint_of(path) != fingerprint:
        raise DataError(
            f"{path}: exists and holds something else; name another file or overwrite it"
        )


def _fingerprint_of(path: Path) -> object:
    """The fingerprint in a file's header; None where there is none."""
    try:
        with open_hdf5(path) as file:
            return read_header(file, path).get("fingerprint")
    except DAMAGE:
        return None
