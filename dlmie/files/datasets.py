"""Files of data: opened with their header checked; a line for those that cannot be written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from dlmie.errors import DataError
from dlmie.files.hdf5 import read_text


@dataclass(frozen=True)
class Kind:
    """What the header of a file must say of itself, and what messages call it."""

    format: str
    version: int
    name: str
    command: str  # that writes such files


@contextlib.contextmanager
def reading(path: Path, kind: Kind) -> Iterator[tuple[h5py.File, dict[str, Any]]]:
    """Open a file and give it with its header; it stays open unless the block fails.

    Raises
    ------
    DataError
        If the file is missing, damaged, of another kind or of a newer format, or if the block
        does not find in it what should be there.
    """
    file = _open(path, kind)
    try:
        header: dict[str, Any] = json.loads(read_text(file["header"]))
        found, version = header["format"], header["version"]
        if found != kind.format:
            raise DataError(f"{path}: is a {found} file, not {kind.name}")
        if version > kind.version:
            raise DataError(
                f"{path}: has format version {version}, this dlmie reads up to {kind.version}; "
                "upgrade dlmie"
            )
        yield file, header
    except DataError:
        file.close()
        raise
    except (KeyError, ValueError, TypeError, OSError):
        file.close()
        raise DataError(f"{path}: is not a file that {kind.command} writes") from None


def _open(path: Path, kind: Kind) -> h5py.File:
    if not path.is_file():
        part = path.with_name(path.name + ".part")
        hint = f"; {kind.command} was interrupted: run it again to go on" if part.exists() else ""
        raise DataError(f"{path}: no such file{hint}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "truncated" in str(error):
            raise DataError(f"{path}: is truncated; run {kind.command} again") from None
        raise DataError(f"{path}: is not a file that {kind.command} writes") from None


@contextlib.contextmanager
def reported(to: Path, part: Path) -> Iterator[None]:
    """Turn what a full disk or a folder without permission raises into one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises either
        text = str(error)
        for reason in ("No space left on device", "File too large", "Disk quota exceeded"):
            if reason in text:
                text = f"{reason}; make room and run the same again to go on from {part.name}"
                break
        else:
            text = getattr(error, "strerror", None) or text.splitlines()[0]
        raise DataError(f"{to}: cannot be written: {text}") from None
