"""Data files: opened with their header checked; one-line errors where writing them fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlmie.errors import DataError, DlmieError
from dlmie.files.atomic import UNFINISHED, explained
from dlmie.files.hdf5 import DAMAGE, open_hdf5
from dlmie.files.headers import Kind, check_kind, read_header

if TYPE_CHECKING:
    import h5py


@contextlib.contextmanager
def reading(path: Path, kind: Kind) -> Iterator[tuple[h5py.File, dict[str, Any]]]:
    """Open a file and yield it with its header; it stays open unless the block fails.

    Raises
    ------
    DataError
        If the file is missing, damaged, of another kind or of a newer format, or if the block
        does not find in it what should be there.
    """
    file = _open(path, kind)
    foreign = f"{path}: is damaged, or not a file that {kind.command} writes"
    try:
        header = read_header(file, path)
        check_kind(header, kind, path)
        yield file, header
    except DlmieError:
        file.close()
        raise
    except (*DAMAGE, AttributeError):
        file.close()
        raise DataError(foreign) from None


def _open(path: Path, kind: Kind) -> h5py.File:
    part = path.with_name(path.name + UNFINISHED)
    if not path.exists() and part.exists():
        raise DataError(
            f"{path}: no such file; {kind.command} was interrupted: run it again to resume"
        )
    return open_hdf5(
        path, what=f"a file that {kind.command} writes", fix=f"run {kind.command} again"
    )


@contextlib.contextmanager
def resumable(to: Path, part: Path) -> Iterator[None]:
    """Turn what writing ``part`` raises into one line; the work can be resumed from it."""
    with explained(to, f"make room and run the same again to go on from {part.name}"):
        try:
            yield
        except RuntimeError as error:  # h5py's, of a full disk
            raise OSError(str(error).splitlines()[0]) from error
