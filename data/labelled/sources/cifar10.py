"""CIFAR-10 (Krizhevsky 2009): the Python and the binary version, unpacked or in its archive.

``cifar-10-batches-py/`` holds pickles ``data_batch_1`` … ``data_batch_5`` and ``test_batch`` with
``data`` (10,000, 3,072) uint8, ``labels`` and ``filenames``, and ``batches.meta`` with the names of
the classes. ``cifar-10-batches-bin/`` holds the same as ``.bin`` files of 3,073 bytes per
image: its label, then its pixels; the names stand in ``batches.meta.txt``. Either way the pixels of
an image are its red, its green and its blue plane, row by row.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from dlmie.data.labelled.sources.source import (
    Block,
    Part,
    Reading,
    Source,
    checked_labels,
    file_stamp,
    grouped,
    rows_to_images,
)
from dlmie.errors import DataError, WeightsError
from dlmie.files.pickles import Deferred, RestrictedUnpickler, name_of

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SHAPE = (32, 32, 3)
PER_FILE = 10_000  # images of an official file
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
META = "batches.meta"
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")

_PIXELS = SHAPE[0] * SHAPE[1] * SHAPE[2]
_LARGEST = 256 * 2**20  # bytes of one file; official ones have 31 million
_BLOCK = 1000  # images
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass
class _Batch:
    """One file of the data set."""

    images: np.ndarray  # (n, 32, 32, 3) uint8
    labels: np.ndarray  # (n,) int64
    names: list[str] | None


class Cifar10(Source):
    """CIFAR-10 in memory (180 MB), from a folder or an archive of either version.

    Parameters
    ----------
    path : Path
        The folder, one that holds it under its official name, or the ``.tar.gz``.
    """

    format = "cifar10"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.shape, self.path = SHAPE, path
        files = _archived(path) if path.is_file() else _unpacked(path)
        batches: dict[str, _Batch] = {}
        self.classes = list(CLASSES)
        for name, content in files:
            stem, where = name.removesuffix(".bin"), f"{path.name}: {name}"
            try:
                if name in (META, f"{META}.txt"):
                    self.classes = _class_names(name, content, where)
                elif stem in (*TRAIN, *TEST):
                    read = _from_binary if name.endswith(".bin") else _from_pickle
                    batches[stem] = read(content, where)
            except DataError as error:
                self.errors.append(str(error))
        self._files = {
            "train": [batches[name] for name in TRAIN if name in batches],
            "test": [batches[name] for name in TEST if name in batches],
        }
        for name in (*TRAIN, *TEST):
            self._note_what_is_missing(name, batches.get(name))
        for part, found in self._files.items():
            if found:
                self.parts[part] = _joined(found)

    def _note_what_is_missing(self, name: str, batch: _Batch | None) -> None:
        if batch is None:
            if not any(name in error for error in self.errors):
                self.problems.append(f"{self.path.name}: {name} is missing")
        elif len(batch.labels) != PER_FILE:
            count = len(batch.labels)
            self.problems.append(f"{self.path.name}: {name} has {count:,} of {PER_FILE:,} images")

    def blocks(self, reading: Reading) -> Iterator[Block]:
        """Cut what is in memory into blocks."""
        for part, batches in self._files.items():
            start = 0
            for batch in batches:
                yield from grouped(part, batch.images, start, _BLOCK)
                start += len(batch.images)

    @property
    def origin(self) -> dict[str, object]:
        files = [self.path] if self.path.is_file() else _members(self.path)
        return {"format": self.format, "files": [file_stamp(file) for file in files]}


def matches(path: Path) -> bool:
    """Whether this is CIFAR-10, as far as names tell; any archive is taken for it."""
    return bool(_members(path)) if path.is_dir() else tarfile.is_tarfile(path)


def _known(name: str) -> bool:
    return name.removesuffix(".bin") in (*TRAIN, *TEST) or name in (META, f"{META}.txt")


def _members(folder: Path) -> list[Path]:
    """The files of the data set in a folder, or in the folder of its official name there."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        found = sorted(path for path in place.glob("*_batch*") if _known(path.name))
        if found:
            return found + [path for path in sorted(place.glob(f"{META}*")) if _known(path.name)]
    return []


def _unpacked(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in _members(folder):
        try:
            if path.stat().st_size > _LARGEST:
                raise DataError(f"{path}: is too large for a file of CIFAR-10")
            yield path.name, path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive in its order, without unpacking it to the disk."""
    try:
        with tarfile.open(path) as archive:
            found = False
            for member in archive:
                name = PurePosixPath(member.name).name
                if not member.isreg() or not _known(name):
                    continue
                if member.size > _LARGEST:
                    raise DataError(f"{path}: {name} is too large for a file of CIFAR-10")
                content = archive.extractfile(member)
                assert content is not None, "regular members have content"
                found = True
                yield name, content.read()
    except _DAMAGE as error:
        raise DataError(f"{path}: is damaged or truncated ({error}); download it again") from None
    if not found:
        raise DataError(f"{path}: this archive does not hold CIFAR-10; unpack it first")


def _from_pickle(content: bytes, where: str) -> _Batch:
    found = _unpickled(content, where)
    rows, labels = found.get("data"), found.get("labels")
    if not isinstance(rows, np.ndarray) or labels is None:
        raise DataError(f"{where}: has no data and labels; is it a file of CIFAR-10?")
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != _PIXELS:
        shape = " × ".join(map(str, rows.shape))
        raise DataError(
            f"{where}: its data are {shape} {rows.dtype}, not n × {_PIXELS} uint8 (32 × 32 RGB)"
        )
    try:
        numbers = np.asarray(labels)
    except ValueError:  # lists of different lengths in a list
        numbers = np.empty(0, object)
    if len(numbers) != len(rows):
        raise DataError(f"{where}: has {len(rows):,} images and {len(numbers):,} labels")
    names = found.get("filenames")
    names = [name_of(name) for name in names] if isinstance(names, list) else None
    if names is not None and len(names) != len(rows):
        raise DataError(f"{where}: has {len(rows):,} images and {len(names):,} file names")
    return _Batch(rows_to_images(rows, SHAPE), checked_labels(numbers, len(CLASSES), where), names)


def _from_binary(content: bytes, where: str) -> _Batch:
    if len(content) % (1 + _PIXELS) or not content:
        raise DataError(
            f"{where}: is truncated: {len(content):,} bytes are not a whole number of images of "
            f"{1 + _PIXELS:,} bytes"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    labels = checked_labels(rows[:, 0], len(CLASSES), where)
    return _Batch(rows_to_images(rows[:, 1:], SHAPE), labels, None)


def _class_names(name: str, content: bytes, where: str) -> list[str]:
    if name.endswith(".txt"):
        names = content.decode("utf-8", "replace").split()
    else:
        listed = _unpickled(content, where).get("label_names")
        names = [name_of(each) for each in listed] if isinstance(listed, list) else []
    if len(names) != len(CLASSES) or len(set(names)) != len(names):
        raise DataError(f"{where}: names {len(names)} classes, not {len(CLASSES)} different ones")
    return names


def _unpickled(content: bytes, where: str) -> Mapping[str, object]:
    """A pickled dictionary whose keys are text, read without executing anything."""
    try:
        tree = RestrictedUnpickler(io.BytesIO(content), len(content)).load()
    except WeightsError as error:
        raise DataError(f"{where}: {error}") from None
    except Exception as error:  # a broken file makes the parser fail in a dozen ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise DataError(f"{where}: is damaged or truncated ({reason})") from None
    if not isinstance(tree, dict):
        raise DataError(f"{where}: holds a {type(tree).__name__}, not a file of CIFAR-10")
    return {
        name_of(key): value.value() if isinstance(value, Deferred) else value
        for key, value in tree.items()
    }


def _joined(batches: list[_Batch]) -> Part:
    labels = np.concatenate([batch.labels for batch in batches])
    if any(batch.names is None for batch in batches):
        return Part(labels)
    return Part(labels, [name for batch in batches for name in batch.names or []])
