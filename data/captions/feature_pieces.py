"""Pieces of a feature cache: written one by one, so that interrupted work can be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dlmie.data.captions.feature_cache import views
from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.files.datasets import resumable
from dlmie.files.hdf5 import create_text, file_image, open_hdf5
from dlmie.files.locks import locked

_CHUNK_BYTES = 2**16  # read at once at least; more would slow the reading of single rows
_PIECE_BYTES = 2**26  # held in memory, and lost at most when the work is interrupted
_PIECE_IMAGES = 256


@contextlib.contextmanager
def unfinished(to: Path) -> Iterator[Path]:
    """The folder of the pieces of a file, beside it; no other process writes into it meanwhile."""
    part = to.with_name(to.name + atomic.UNFINISHED)
    with resumable(to, part):
        part.mkdir(parents=True, exist_ok=True)
    with locked(part / "lock", to):
        yield part


@dataclass(frozen=True)
class Piece:
    """Some neighboring images of one split in one view, and the file of their features."""

    path: Path
    split: str
    view: int
    stored: str  # the name of the view's array
    start: int
    stop: int


class Plan:
    """Which image goes to which piece, and how large pieces and chunks are."""

    def __init__(self, part: Path, header: dict[str, Any]) -> None:
        self.part, self.header = part, header
        # In the name of each piece: what other features left behind is never taken for these.
        text = json.dumps({**header, "version": 1}, sort_keys=True)
        self.made_by = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.shape = tuple(header["shape"])
        self.dtype = np.dtype(header["dtype"])
        self.row_bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self.images = sum(len(views(header, s)) * n for s, n in header["splits"].items())

    def chunk(self, split: str) -> int:
        """Images in a chunk: a power of two, if the split has so many."""
        fitting = max(1, _CHUNK_BYTES // self.row_bytes)
        return min(2 ** (fitting.bit_length() - 1), 64, max(1, self.header["splits"][split]))

    def pieces(self) -> Iterator[Piece]:
        """Give all pieces in the order of the file."""
        for split, images in self.header["splits"].items():
            chunk = self.chunk(split)
            step = max(1, min(_PIECE_IMAGES, _PIECE_BYTES // self.row_bytes) // chunk) * chunk
            for view, stored in views(self.header, split).items():
                for start in range(0, images, step):
                    path = self.part / f"{split}-{stored}-{start:08d}-{self.made_by}.h5"
                    yield Piece(path, split, view, stored, start, min(start + step, images))

    def save(self, piece: Piece, rows: np.ndarray) -> None:
        """Write a piece: compressed in memory, then to the disk, then renamed."""

        def fill(file: h5py.File) -> None:
            self._create(file, "rows", piece.split, len(rows), growing=True)[...] = rows

        with atomic.replacing(piece.path) as target:
            target.write(file_image(fill))

    def finish(self, to: Path) -> None:
        """Make one file of all pieces, which are then deleted."""
        with resumable(to, self.part):
            atomic.finish(self._join(), to)
            shutil.rmtree(self.part, ignore_errors=True)

    def _join(self) -> Path:
        """Copy the chunks of all pieces, as they are, into one file."""
        path = self.part / "joined"
        file = h5py.File(path, "w")
        try:
            for split, images in self.header["splits"].items():
                group = file.create_group(f"splits/{split}")
                for stored in views(self.header, split).values():
                    self._create(group, stored, split, images)
            for piece in self.pieces():
                name = f"splits/{piece.split}/{piece.stored}"
                target, corner = file[name].id, (0,) * len(self.shape)
                with open_hdf5(piece.path) as source:
                    rows = source["rows"].id
                    for start in range(0, piece.stop - piece.start, self.chunk(piece.split)):
                        mask, content = rows.read_direct_chunk((start, *corner))
                        target.write_direct_chunk((piece.start + start, *corner), content, mask)
            create_text(file, "header", json.dumps(self.header, ensure_ascii=False))
            file.flush()
        finally:
            with contextlib.suppress(Exception):  # a disk that is full also fails to close
                file.close()
        return path

    def _create(
        self, group: h5py.Group, name: str, split: str, rows: int, growing: bool = False
    ) -> h5py.Dataset:
        # Level 1 halves what ReLU gives; faster LZF would not give the same bytes every time.
        # Fletcher's checksum turns damage into an error. A piece may end within a chunk.
        return group.create_dataset(
            name,
            shape=(rows, *self.shape),
            maxshape=(None, *self.shape) if growing else None,
            chunks=(self.chunk(split), *self.shape) if rows else None,
            dtype=self.dtype,
            compression=1 if rows else None,
            fletcher32=True if rows else None,
            fillvalue=0,
        )


def checked_rows(
    rows: np.ndarray, count: int, shape: tuple[int, ...] | None, dtype: Any, what: str
) -> np.ndarray:
    """Convert what the encoder gave, or say what is wrong with it."""
    rows = np.asarray(rows)
    if rows.ndim < 2 or len(rows) != count or (shape is not None and rows.shape[1:] != shape):
        expected = (count, *(shape or ("…",)))
        raise DataError(f"the encoder gave {rows.shape} for {what}, not {expected}")
    with np.errstate(over="ignore", under="ignore"):
        made = rows.astype(dtype, copy=False)
    if not np.isfinite(made).all():
        if not np.isfinite(rows).all():
            raise DataError(f"the encoder gave values that are not finite for {what}")
        raise DataError(
            f"the encoder gave {np.abs(rows).max():.3g} for {what}, too much for {dtype}; "
            "keep these features as float32"
        )
    return made
