"""Feature caches: run an encoder over a data set once, and train from what it gave.

How an extraction survives ``kill -9``: finished pieces of some hundred images lie, compressed, in
the folder ``NAME.part``, each written under another name and renamed. The last step joins them,
chunk by chunk as they are, and renames the result. The file has the same bytes whether the work
was interrupted or not. While it works it takes up to twice the space of the file.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from dlmie.data.captions.dataset import Captions, Split
from dlmie.data.captions.feature_cache import KIND, Features, differences, plain
from dlmie.data.captions.feature_pieces import Piece, Plan, checked_rows, unfinished
from dlmie.data.images import Preprocessing, preprocess, view_image
from dlmie.data.prefetch import prefetch
from dlmie.data.prepared import check_room
from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.files.datasets import resumable
from dlmie.files.documents import read_json
from dlmie.files.outputs import Outputs
from dlmie.files.schema import check_document
from dlmie.parallel import Ranks, world
from dlmie.progress import Bar
from dlmie.text import bytes_text

__all__ = ["Features", "extract_features"]

Encode = Callable[[np.ndarray], np.ndarray]


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
    ranks = world()
    if ranks.on_first(to.exists) and not overwrite:
        with contextlib.closing(Features(to, in_memory=False)) as there:
            _refuse(to, there.header, wanted, "name another file or overwrite it")
        return Features(to)

    def begin() -> tuple[Path, dict[str, Any]]:
        part = folder.enter_context(unfinished(to))
        start = _begin(part, wanted, overwrite)
        if "shape" not in start:
            start = _measure(data, encode, preprocessing, start, batch, to, progress)
            with resumable(to, part), atomic.replacing(part / "header.json") as file:
                file.write(json.dumps(start).encode())
        return part, start

    with contextlib.ExitStack() as folder:
        plan = Plan(*ranks.on_first(begin))
        _encode_all(plan, ranks, data, encode, preprocessing, batch, to, progress)
        ranks.wait()  # all pieces are there
        ranks.on_first(partial(plan.finish, to))
    return Features(to)


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
    # The first batch compiles and touches new memory: the second shows what the others take.
    encode(preprocess(split.load_images(images), preprocessing))
    start = time.perf_counter()
    x = preprocess(split.load_images(images), preprocessing)
    rows = checked_rows(encode(x), len(images), None, header["dtype"], "the first images")
    seconds = time.perf_counter() - start
    plan = Plan(to, header | {"shape": list(rows.shape[1:])})
    if progress:
        Bar.write(
            f"{to.name}: {plan.images:,} images of {'×'.join(map(str, plan.shape))} "
            f"{plan.dtype}; at most {bytes_text(plan.images * plan.row_bytes)}, twice that while "
            f"it works; about {Bar.format_interval(seconds / len(images) * plan.images)}",
            file=sys.stderr,
        )
    return plan.header


def _encode_all(
    plan: Plan,
    ranks: Ranks,
    data: Captions,
    encode: Encode,
    preprocessing: Preprocessing,
    batch: int,
    to: Path,
    progress: bool,
) -> None:
    """Make every piece that is not there yet; several ranks share them."""

    def missing() -> list[Piece]:
        return [piece for piece in plan.pieces() if not piece.path.exists()]

    todo = ranks.on_first(missing)[ranks.rank :: ranks.size]
    own = sum(piece.stop - piece.start for piece in todo)
    left = sum(ranks.everyone(own))

    def inputs() -> Iterator[tuple[Piece, int, np.ndarray]]:
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
            made = checked_rows(encode(x), len(x), plan.shape, plan.dtype, what)
            rows[start - piece.start : start - piece.start + len(x)] = made
            bar.update(min(len(x) * ranks.size, plan.images - bar.n))
            if start + len(x) == piece.stop:
                with resumable(to, plan.part):
                    plan.save(piece, rows)
                left -= len(rows) * ranks.size  # the others are about as far
                # Rather now than after hours: the pieces to come, which may compress better than
                # this one, and the joined file.
                row_bytes = piece.path.stat().st_size / len(rows)
                check_room(
                    to,
                    0.9 * row_bytes * (max(left, 0) + plan.images),
                    advice=f"free some and run the same again to go on from {plan.part.name}",
                )
