"""Headers: what an HDF5 file of dlmie states about itself, as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlmie.errors import DataError, DlmieError
from dlmie.files.documents import parse_json
from dlmie.files.hdf5 import DAMAGE, open_hdf5, read_text
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    import h5py


@dataclass(frozen=True)
class Kind:
    """What the header of a file must state, and what messages call such a file."""

    format: str
    version: int
    name: str
    command: str  # that writes such files


def read_header(file: h5py.File, path: str | os.PathLike[str]) -> JsonObject:
    """The header of an open file.

    Raises
    ------
    DataError
        It is not JSON.
    Exception
        One of :data:`~dlmie.files.hdf5.DAMAGE`: there is no header, or it is damaged.
    """
    header = parse_json(read_text(file["header"]), f"{os.fspath(path)}: its header")
    if not isinstance(header, dict):
        raise TypeError("a header is an object")
    return header


def check_kind(
    header: Mapping[str, object],
    kind: Kind,
    path: str | os.PathLike[str],
    error: type[DlmieError] = DataError,
) -> None:
    """Refuse a file of another kind, or of a version that is not known yet.

    Raises
    ------
    error
        In one line.
    """
    found, version = header.get("format", "HDF5"), header.get("version")
    if found != kind.format or not isinstance(version, int):
        raise error(f"{path}: is a {found} file, not {kind.name}")
    if version > kind.version:
        raise error(
            f"{path}: has format version {version}, this dlmie reads up to {kind.version}; "
            "upgrade dlmie: pip install -U dlmie"
        )


def stated_format(path: str | os.PathLike[str]) -> str | None:
    """The format that a file of dlmie states in its header; None for any other file.

    Raises
    ------
    DataError
        It has a header of ours, which cannot be read.
    """
    try:
        file = open_hdf5(path)
    except DataError:
        return None
    with file:
        if file.get("header") is None:
            return None
        try:
            return str(read_header(file, path).get("format"))
        except DAMAGE:
            raise DataError(f"{path}: its header is damaged; copy or make it again") from None
