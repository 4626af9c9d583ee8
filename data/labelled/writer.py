"""The writer of prepared labeled images.

The layout of a file (HDF5, ``dlmie.labelled`` version 1); every array has checksums::

    header                 JSON as bytes: format, version, hash, classes, splits, source, …
    splits/NAME/images     (images, rows, columns, channels) uint8
    splits/NAME/labels     (images,) int64
    splits/NAME/names      JSON as bytes: what each image is called, where the source says
    mean_image             (rows, columns, channels) float64, of the training images
    channel_std            (channels,) float64, of all pixels of the training images

The images are read and written in blocks: peak memory is what the source needs and one block.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from dlmie.data.labelled.sources import Block, Reading, Source
from dlmie.data.labelled.splitting import LEFT_OUT, choose_splits
from dlmie.data.prefetch import default_workers
from dlmie.data.prepared import check_room, check_same, reserve
from dlmie.data.splits import in_order
from dlmie.errors import DataError
from dlmie.files import atomic, hdf5
from dlmie.files.checksums import hash_json
from dlmie.files.headers import Kind
from dlmie.progress import Bar

KIND = Kind("dlmie.labelled", 1, "prepared labeled images", "dlmie prepare")

_CHUNK = 1 << 16  # bytes of images that are read at once


def write_labelled(
    source: Source,
    to: str | Path,
    *,
    splits: Mapping[str, int] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a source as one prepared file.

    Called again when the same file is complete it does nothing.

    Parameters
    ----------
    source
    to
        The file to write; it appears when it is complete.
    splits
        See :func:`~dlmie.data.labelled.splitting.choose_splits`.
    strict
        Raise for the first image that cannot be used, rather than leave it out and list it in
        ``header["skipped"]``.
    overwrite
        Replace a complete file that holds something else.
    workers
        Threads that decode; by default one per processor, at most 8.
    progress
        Show a bar on standard error.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        The source has errors or no training images; the file exists with other content; the disk
        is full; with ``strict``, the first problem.
    """
    to = Path(to).absolute()
    if source.errors:
        raise DataError(_first(source.errors))
    if strict and source.problems:
        raise DataError(_first(source.problems))
    chosen = choose_splits(source.parts, splits)
    fingerprint = hash_json([KIND.version, source.origin, dict(splits or {})])
    if to.exists() and not overwrite:
        check_same(to, fingerprint)
        return to
    sizes = {
        name: sum(int((each == name).sum()) for each in chosen.values())
        for name in in_order({str(name) for each in chosen.values() for name in set(each)})
        if name != LEFT_OUT
    }
    if not sizes.get("train"):
        raise DataError(f"{to.name}: there are no training images")
    space = _space(source, sizes)
    with atomic.explained(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        check_room(to, space, advice="make room or write elsewhere")
    reading = Reading(workers or default_workers())
    with (
        atomic.explained(to),
        atomic.replacing(to) as handle,
        h5py.File(handle, "w") as file,
    ):
        file.flush()
        reserve(handle.fileno(), space)
        writers = {name: _SplitWriter(file, name, size, source) for name, size in sizes.items()}
        with Bar(
            total=sum(sizes.values()), disable=not progress, unit="image", desc="images"
        ) as bar:
            for block in source.blocks(reading):
                if strict and reading.skipped:
                    raise DataError(_first(reading.skipped))
                bar.update(_write_block(block, chosen, source, writers))
        _finish(file, source, writers, reading, fingerprint)
    return to


class _SplitWriter:
    """The arrays of one split while it grows."""

    def __init__(self, file: h5py.File, name: str, size: int, source: Source) -> None:
        self.name, self.count = name, 0
        self.group = file.create_group(f"splits/{name}")
        shape = source.shape
        together = min(size, max(1, _CHUNK // math.prod(shape)))
        self.images = self.group.create_dataset(
            "images",
            (size, *shape),
            np.uint8,
            maxshape=(None, *shape),
            chunks=(together, *shape),
            fletcher32=True,
        )
        self.labels: list[np.ndarray] = []
        self.names: list[str] | None = []
        self.digest = hashlib.sha256()
        self.sum = np.zeros(shape, np.int64)
        self.squares = np.zeros(shape[2], np.int64)

    def add(self, images: np.ndarray, labels: np.ndarray, names: list[str] | None) -> None:
        """Append images with their labels and names."""
        images = np.ascontiguousarray(images)
        self.images[self.count : self.count + len(images)] = images
        self.count += len(images)
        self.labels.append(labels)
        self.digest.update(images.data)
        if names is None or self.names is None:
            self.names = None
        else:
            self.names += names
        if self.name == "train":
            self.sum += images.sum(axis=0, dtype=np.int64)
            wide = images.astype(np.int32)
            self.squares += (wide * wide).sum(axis=(0, 1, 2), dtype=np.int64)

    def finish(self, classes: int) -> dict[str, object]:
        """Write the labels and names; returns what the header says of the split."""
        labels = np.concatenate(self.labels) if self.labels else np.empty(0, np.int64)
        self.images.resize(self.count, axis=0)
        _array(self.group, "labels", labels)
        if self.names:
            hdf5.create_texts(self.group, "names", self.names)
        self.digest.update(labels.astype("<i8").tobytes())
        return {
            "images": self.count,
            "per_class": np.bincount(labels, minlength=classes).tolist(),
            "hash": self.digest.hexdigest(),
        }

    @property
    def mean_image(self) -> np.ndarray:
        """(rows, columns, channels) float64."""
        return self.sum / self.count

    @property
    def channel_std(self) -> np.ndarray:
        """(channels,) float64, exact before its last rounding."""
        pixels = self.count * self.sum[..., 0].size
        sums = self.sum.sum(axis=(0, 1)).tolist()
        exact = [pixels * q - s * s for q, s in zip(self.squares.tolist(), sums, strict=True)]
        return np.array([math.sqrt(each) / pixels for each in exact])


def _write_block(
    block: Block,
    chosen: Mapping[str, np.ndarray],
    source: Source,
    writers: Mapping[str, _SplitWriter],
) -> int:
    """Give the images of a block to their splits; returns how many were written."""
    part = source.parts[block.part]
    splits, written = chosen[block.part][block.positions], 0
    for name, writer in writers.items():
        mine = np.flatnonzero(splits == name)
        if not len(mine):
            continue
        positions = block.positions[mine]
        images = block.images if len(mine) == len(splits) else block.images[mine]
        names = None if part.names is None else [part.names[p] for p in positions]
        writer.add(images, part.labels[positions], names)
        written += len(mine)
    return written


def _finish(
    file: h5py.File,
    source: Source,
    writers: Mapping[str, _SplitWriter],
    reading: Reading,
    fingerprint: str,
) -> None:
    train = writers["train"]
    if not train.count:
        raise DataError(f"no training image can be used: {_first(reading.skipped)}")
    classes = len(source.classes)
    splits = {name: writer.finish(classes) for name, writer in writers.items()}
    _array(file, "mean_image", train.mean_image)
    _array(file, "channel_std", train.channel_std)
    hashes = {name: split["hash"] for name, split in splits.items()}
    header = {
        "format": KIND.format,
        "version": KIND.version,
        "shape": list(source.shape),
        "classes": source.classes,
        "splits": splits,
        "source": {k: v for k, v in source.origin.items() if k != "files"},
        "problems": source.problems,
        "skipped": reading.skipped,
        "fingerprint": fingerprint,
        "hash": hash_json([list(source.shape), source.classes, hashes]),
    }
    hdf5.create_text(file, "header", json.dumps(header, ensure_ascii=False))


def _array(group: h5py.Group, name: str, values: np.ndarray) -> None:
    filters = {"fletcher32": True, "chunks": values.shape} if values.size else {}
    group.create_dataset(name, data=values, **filters)


def _space(source: Source, sizes: Mapping[str, int]) -> int:
    """Bytes that the file takes at most."""
    images = sum(sizes.values())
    names = sum(
        hdf5.text_bytes(part.names) for part in source.parts.values() if part.names is not None
    )
    # What HDF5 needs to find a chunk, and a last chunk for each split that is not full.
    return images * (math.prod(source.shape) + 80) + names + (len(sizes) + 8) * _CHUNK + 1_000_000


def _first(lines: list[str]) -> str:
    more = f" ({len(lines) - 1:,} more; --check lists all)" if len(lines) > 1 else ""
    return (lines[0] if lines else "there is none") + more
