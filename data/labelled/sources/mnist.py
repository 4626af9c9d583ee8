"""MNIST (LeCun et al. 1998) and what has its layout, such as Fashion-MNIST: idx files.

Four files, gzipped or not: images and labels of ``train`` and of ``t10k``. An idx file begins with
two zero bytes, its type of numbers (8: uint8), its number of axes and the length of each as
big-endian int32; then come the numbers.
"""

from __future__ import annotations

import contextlib
import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np

from dlmie.data.labelled.sources.source import (
    Block,
    Part,
    Reading,
    Source,
    checked_labels,
    file_stamp,
)
from dlmie.errors import DataError

CLASSES = 10
PARTS = {"train": "train", "test": "t10k"}

_BLOCK = 1000  # images
_UINT8 = 8


class Mnist(Source):
    """MNIST from the folder of its files; the images are read in blocks.

    Parameters
    ----------
    path : Path
        The folder.
    """

    format = "mnist"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.classes = [str(digit) for digit in range(CLASSES)]
        self._files: dict[str, tuple[Path, Path]] = {}  # images and labels
        for part, prefix in PARTS.items():
            try:
                self._add(part, prefix)
            except DataError as error:
                self.errors.append(str(error))

    def _add(self, part: str, prefix: str) -> None:
        images, labels = (
            _find(self.path, prefix, "images", 3),
            _find(self.path, prefix, "labels", 1),
        )
        if images is None and labels is None:
            self.problems.append(f"{self.path.name}: the files {prefix}-* are missing")
            return
        if images is None or labels is None:
            there, missing = (labels, "images") if images is None else (images, "labels")
            raise DataError(f"{there}: the {missing} that belong to it are missing")
        with _opened(images, 3) as (_, (count, rows, columns)):
            pass
        with _opened(labels, 1) as (file, (labelled,)):
            numbers = np.frombuffer(_exactly(file, labelled, labels, last=True), np.uint8)
        if count != labelled:
            raise DataError(f"{labels}: has {labelled:,} labels for {count:,} images")
        if not count or not rows * columns:
            raise DataError(f"{images}: holds no pixels")
        if self.parts and self.shape != (rows, columns, 1):
            before = f"{self.shape[0]} × {self.shape[1]}"
            raise DataError(f"{images}: has images of {rows} × {columns} pixels, not {before}")
        self.shape = (rows, columns, 1)
        self._files[part] = images, labels
        self.parts[part] = Part(checked_labels(numbers, CLASSES, str(labels)))

    def blocks(self, reading: Reading) -> Iterator[Block]:
        """Read the images a thousand at a time."""
        rows, columns, _ = self.shape
        for part, (path, _) in self._files.items():
            with _opened(path, 3) as (file, (count, *_)):
                for start in range(0, count, _BLOCK):
                    stop = min(start + _BLOCK, count)
                    size = (stop - start) * rows * columns
                    content = _exactly(file, size, path, last=stop == count)
                    images = np.frombuffer(content, np.uint8).reshape(-1, rows, columns, 1)
                    yield Block(part, np.arange(start, stop), images)

    @property
    def origin(self) -> dict[str, object]:
        files = [file_stamp(path) for pair in self._files.values() for path in pair]
        return {"format": self.format, "files": files}


def matches(path: Path) -> bool:
    """Whether a folder holds files of MNIST's names."""
    return path.is_dir() and any(
        _find(path, prefix, what, axes) is not None
        for prefix in PARTS.values()
        for what, axes in (("images", 3), ("labels", 1))
    )


def _find(folder: Path, prefix: str, what: str, axes: int) -> Path | None:
    """``train-images-idx3-ubyte`` as it is written here or there, gzipped or not."""
    for dash in "-.":
        for ending in ("", ".gz"):
            path = folder / f"{prefix}-{what}{dash}idx{axes}-ubyte{ending}"
            if path.is_file():
                return path
    return None


@contextlib.contextmanager
def _opened(path: Path, axes: int) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """An idx file of bytes after its header, and the lengths of its axes."""
    try:
        with path.open("rb") as raw, _plain(raw, path) as file:
            head = _exactly(file, 4, path)
            if head != bytes((0, 0, _UINT8, axes)):
                raise DataError(f"{path}: is not an idx file of bytes with {axes} axes")
            yield file, struct.unpack(f">{axes}I", _exactly(file, 4 * axes, path))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is damaged or truncated ({error}); download it again") from None


def _plain(raw: IO[bytes], path: Path) -> IO[bytes]:
    """A file as it is without its compression."""
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw


def _exactly(file: IO[bytes], count: int, path: Path, *, last: bool = False) -> bytes:
    """So many bytes of a file; after the last of them it must end."""
    pieces, missing = [], count
    while missing and (piece := file.read(min(missing, 1 << 24))):  # not what a header announces
        pieces.append(piece)
        missing -= len(piece)
    if missing:
        raise DataError(f"{path}: is truncated: {missing:,} bytes are missing; download it again")
    if last and file.read(1):
        raise DataError(f"{path}: is longer than its header says; download it again")
    return b"".join(pieces)
