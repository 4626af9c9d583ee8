"""Feature caches: run an encoder over a data set once, and train from what it gave.

How an extraction survives ``kill -9``: finished pieces of some hundred images lie, compressed, in
the folder ``NAME.part``, each written under another name and renamed. The last step joins them,
chunk by chunk as they are, and renames the result. The file has the same bytes whether the work
was interrupted or not. While it works it takes up to twice the space of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import h5py
import numpy as np

from dlmie.data.captions.dataset import Captions, Split
from dlmie.data.captions.feature_cache import KIND, Features, differences, plain, views
from dlmie.data.images import Preprocessing, preprocess, view_image
from dlmie.data.prefetch import prefetch
from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.files.datasets import resumable
from dlmie.files.documents import read_json
from dlmie.files.hdf5 import create_text, file_image, open_hdf5
from dlmie.files.locks import locked
from dlmie.files.outputs import Outputs
from dlmie.files.schema import check_document
from dlmie.progress import Bar
from dlmie.text import bytes_text

__all__ = ["Features", "extract_features"]

Encode = Callable[[np.ndarray], np.ndarray]

_CHUNK_BYTES = 2**16  # read at once at least; more would slow the reading of single rows
_PIECE_BYTES = 2**26  # held in memory, and lost at most when the work is interrupted
_PIECE_IMAGES = 256


class ExtractionOptions(TypedDict, total=False):
    """Options of :func:`extract_features` that decide what is kept, and how."""

    flip: bool
    crops: int
    dtype: str
    batch: int
    overwrite: bool


def extract_features(
    data: Captions,
    encode: Encode,
    preprocessing: Preprocessing,
    *,
    to: str | Path,
    header: Mapping[str, Any],
    flip: bool = False,
    crops: int = 0,
    dtype: str = "float16",
    batch: int = 32,
    overwrite: bool = False,
    progress: bool = True,
) -> Features:
    """Run an encoder over all images of a data set and keep what it gives in one file.

    Called again after an interruption (also ``kill -9``) it resumes where it stopped; called
    again when the same file is complete it opens it.

    Parameters
    ----------
    data
        The prepared data set.
    encode
        The encoder: ``(n, 3, size, size)`` float32 → ``(n, channels, rows, columns)`` or
        ``(n, channels)``.
    preprocessing
        What the encoder expects.
    to
        The file to write; until it is complete there is a folder ``NAME.part``.
    header
        What the features are: ``encoder``, ``layer``, ``weights`` (SHA-256) and other JSON values.
    flip
        Keep the features of the mirrored images as well.
    crops
        Keep those of so many random crops of each training image as well.
    dtype
        ``"float16"`` or ``"float32"``.
    batch
        Images encoded at once.
    overwrite
        Replace a file, or the beginnings of one, that holds something else.
    progress
        Say the size and the time to expect, and show a bar, on standard error.

    Returns
    -------
    Features
        The opened cache.

    Raises
    ------
    DataError
        The file exists and holds something else; the values do not fit ``dtype`` or are not
        finite; the disk is full or too small; another process writes the same file.

    Examples
    --------
    Average colors as features::

        features = extract_features(
            data, lambda x: x.mean(axis=(2, 3)), Preprocessing(64), to="colors.h5",
            header={"encoder": "average", "layer": "color", "weights": ""},
        )
    """
    if dtype not in ("float16", "float32"):
        raise DataError(f"dtype is 'float16' or 'float32', not {dtype!r}")
    if batch < 1:
        raise DataError(f"batch is {batch}; it must be at least 1")
    if crops < 0:
        raise DataError(f"crops is {crops}; it must not be negative")
    wanted = plain(header) | {
        "format": KIND.format,
        "version": KIND.version,
        "preprocessing": plain(preprocessing.to_json()),
        "data": data.hash,
        "dtype": dtype,
        "flip": bool(flip),
        "splits": {split.name: len(split) for split in data},
        **({"crops": crops} if crops else {}),
    }
    to = Path(to).absolute()
    Outputs([data.path]).refuse_inputs(to)
    if to.exists() and not overwrite:
        with contextlib.closing(Features(to, in_memory=False)) as there:
            _refuse(to, there.header, wanted, "name another file or overwrite it")
        return Features(to)
    part = to.with_name(to.name + atomic.UNFINISHED)
    with resumable(to, part):
        part.mkdir(parents=True, exist_ok=True)
    with locked(part / "lock", to):
        start = _begin(part, wanted, overwrite)
        if "shape" not in start:
            start = _measure(data, encode, preprocessing, start, batch, to, progress)
            with resumable(to, part), atomic.replacing(part / "header.json") as file:
                file.write(json.dumps(start).encode())
        plan = _Plan(part, start)
        _encode_all(plan, data, encode, preprocessing, batch, to, progress)
        with resumable(to, part):
            atomic.finish(plan.join(), to)
            shutil.rmtree(part, ignore_errors=True)
    return Features(to)


@dataclass(frozen=True)
class _Piece:
    """Some neighboring images of one split in one view, and the file of their features."""

    path: Path
    split: str
    view: int
    stored: str  # the name of the view's array
    start: int
    stop: int


class _Plan:
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

    def pieces(self) -> Iterator[_Piece]:
        """Give all pieces in the order of the file."""
        for split, images in self.header["splits"].items():
            chunk = self.chunk(split)
            step = max(1, min(_PIECE_IMAGES, _PIECE_BYTES // self.row_bytes) // chunk) * chunk
            for view, stored in views(self.header, split).items():
                for start in range(0, images, step):
                    path = self.part / f"{split}-{stored}-{start:08d}-{self.made_by}.h5"
                    yield _Piece(path, split, view, stored, start, min(start + step, images))

    def save(self, piece: _Piece, rows: np.ndarray) -> None:
        """Write a piece: compressed in memory, then to the disk, then renamed."""

        def fill(file: h5py.File) -> None:
            self._create(file, "rows", piece.split, len(rows), growing=True)[...] = rows

        with atomic.replacing(piece.path) as target:
            target.write(file_image(fill))

    def join(self) -> Path:
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


def _begin(part: Path, wanted: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """Read what an interrupted extraction was about; give the header to go on with."""
    try:
        there = check_document(read_json(part / "header.json"), {}, part)
    except DataError:
        return wanted
    if overwrite and _differences(there, wanted):
        for path in part.iterdir():
            if path.name != "lock":
                path.unlink()
        return wanted
    # A finished file may hold more than is wanted; more work than that is not gone on with.
    wanted, started = ({"crops": 0, **header} for header in (wanted, there))
    _refuse(part, started, wanted, f"name another file, or delete {part.name} to begin again")
    return {**there, "version": KIND.version}


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What makes features other ones; in which version of the format they are kept does not."""
    return differences(there, {k: v for k, v in wanted.items() if k != "version"})


def _refuse(path: Path, there: Mapping[str, Any], wanted: Mapping[str, Any], fix: str) -> None:
    found = _differences(there, wanted)
    if found:
        raise DataError(f"{path}: exists and holds other features: {'; '.join(found)}; {fix}")


def _measure(
    data: Captions,
    encode: Encode,
    preprocessing: Preprocessing,
    header: dict[str, Any],
    batch: int,
    to: Path,
    progress: bool,
) -> dict[str, Any]:
    """Encode one batch: add the shape to the header; say size and time to expect."""
    split = next((split for split in data if len(split)), None)
    if split is None:
        raise DataError(f"{data.path}: holds no images to encode")
    images = np.arange(min(batch, len(split)))
    encode(preprocess(split.load_images(images[:1]), preprocessing))  # compiles, which is not timed
    start = time.perf_counter()
    x = preprocess(split.load_images(images), preprocessing)
    rows = _checked(encode(x), len(images), None, header["dtype"], "the first images")
    seconds = time.perf_counter() - start
    plan = _Plan(to, header | {"shape": list(rows.shape[1:])})
    if progress:
        Bar.write(
            f"{to.name}: {plan.images:,} images of {'×'.join(map(str, plan.shape))} "
            f"{plan.dtype}; at most {bytes_text(plan.images * plan.row_bytes)}, twice that while "
            f"it works; about {Bar.format_interval(seconds / len(images) * plan.images)}",
            file=sys.stderr,
        )
    return plan.header


def _encode_all(
    plan: _Plan,
    data: Captions,
    encode: Encode,
    preprocessing: Preprocessing,
    batch: int,
    to: Path,
    progress: bool,
) -> None:
    """Make every piece that is not there yet."""
    todo = [piece for piece in plan.pieces() if not piece.path.exists()]
    left = sum(piece.stop - piece.start for piece in todo)

    def inputs() -> Iterator[tuple[_Piece, int, np.ndarray]]:
        for piece in todo:
            split: Split = data[piece.split]
            for start in range(piece.start, piece.stop, batch):
                index = np.arange(start, min(start + batch, piece.stop))
                pairs = zip(split.load_images(index), index, strict=True)
                images = np.stack([view_image(image, piece.view, int(i)) for image, i in pairs])
                yield piece, start, preprocess(images, preprocessing)

    bar = Bar(
        total=plan.images, initial=plan.images - left, disable=not progress, unit="image",
        desc="features",
    )  # fmt: skip
    with bar, contextlib.closing(prefetch(inputs(), 2)) as ready:
        rows = np.empty(0)
        for piece, start, x in ready:
            if start == piece.start:
                rows = np.empty((piece.stop - piece.start, *plan.shape), plan.dtype)
            what = f"images {start} to {start + len(x) - 1} of {piece.split}"
            made = _checked(encode(x), len(x), plan.shape, plan.dtype, what)
            rows[start - piece.start : start - piece.start + len(x)] = made
            bar.update(len(x))
            if start + len(x) == piece.stop:
                with resumable(to, plan.part):
                    plan.save(piece, rows)
                left -= len(rows)
                _check_space(plan, piece.path.stat().st_size / len(rows), left, to)


def _checked(
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


def _check_space(plan: _Plan, row_bytes: float, left: int, to: Path) -> None:
    """Stop early if the disk will be full: rather now than after hours."""
    needed = row_bytes * (left + plan.images)  # the pieces to come and the joined file
    free = shutil.disk_usage(plan.part).free
    if 0.9 * needed > free:  # the pieces to come may compress better than this one
        raise DataError(
            f"{to}: needs {bytes_text(needed)} more and the disk has {bytes_text(free)} left; "
            f"free some and run the same again to go on from {plan.part.name}"
        )
