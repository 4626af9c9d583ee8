"""The one writer of prepared data sets.

The layout of a prepared file (HDF5, format version 2)::

    header                    JSON: format, version, hash, size, splits, skipped, …
    vocabulary                words in the order of their numbers
    splits/NAME/images        (slots, size, size, 3) uint8, one chunk an image     (store="pixels")
    splits/NAME/paths         (images,) text, relative to header["folder"]         (store="paths")
    splits/NAME/rows          (images,) the slot of each image
    splits/NAME/names         (images,) text
    splits/NAME/image_ids     (images,) int64, -1 where the data set has none
    splits/NAME/image_labels  (images,) JSON of each, only where one is no such number
    splits/NAME/objects       (images,) JSON, where known
    splits/NAME/references    (captions,) text as people wrote it
    splits/NAME/tokens        (words,) int32, all captions one after the other, with start and end
    splits/NAME/token_offsets (captions + 1,) where each caption begins
    splits/NAME/token_image   (captions,) the image of each caption
    splits/NAME/digests       (slots, 16) BLAKE2b of each image's pixels
    splits/NAME/done          (slots,) stamp of the source once the image is written, else 0

Text is UTF-8 in uint8 arrays with checksums; a list of texts is JSON in one. Version 1 kept text as
HDF5's text of variable length, which has no checksum.

The images come first, into the places that :mod:`dlmie.data.captions.writing.slots` makes; the text
comes last.  Peak memory: the text, the images being decoded (one per worker, at full size) and 128
resized ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.captions.records import Record, clean
from dlmie.data.captions.tokenizers import CONTRACT
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.captions.writing.slots import DIGEST, VERSION, Item, PartFile, Plan
from dlmie.data.captions.writing.text import text_bytes, write_text
from dlmie.data.images import ImageError, is_file, load_image
from dlmie.data.prefetch import default_workers
from dlmie.data.prepared import check_room, check_same
from dlmie.errors import DataError
from dlmie.files.atomic import UNFINISHED, finish
from dlmie.files.datasets import resumable
from dlmie.files.headers import Kind
from dlmie.files.outputs import Outputs
from dlmie.progress import Bar
from dlmie.text import bytes_text

KIND = Kind("dlmie.captions", VERSION, "prepared captions", "dlmie prepare")
_BLOCK = 128  # images between two commits


def write_captions(
    records: Iterable[Record],
    to: str | Path,
    *,
    size: int = 224,
    min_count: int = 5,
    max_size: int | None = None,
    tokenizer: str = "words",
    vocabulary: Vocabulary | None = None,
    store: str = "pixels",
    strict: bool = False,
    overwrite: bool = False,
    source: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write records as one prepared file that :class:`dlmie.data.captions.dataset.Captions` opens.

    Called again after an interruption (also ``kill -9``) it resumes where it stopped; called again
    when the same file is complete it does nothing.

    Parameters
    ----------
    records
        One per image; the order within a split is kept.
    to
        The file to write; until it is complete it is called ``NAME.part``.
    size
        Pixels: images are resized to ``size × size``.
    min_count, max_size, tokenizer
        The vocabulary, from the training split only: see :meth:`Vocabulary.build`.
    vocabulary
        That of a captioner which is to be trained further on these captions, in place of one made
        from them; the tokenizer is the one it was made with.
    store
        ``"pixels"``, or ``"paths"`` to keep references and decode the files at every use.
    strict
        Raise for the first image or caption that cannot be used, rather than leave it out and
        list it in ``header["skipped"]`` and ``header["problems"]``.
    overwrite
        Replace a complete file that holds something else.
    source
        JSON values saved in the header: where the records came from.  For rendered images it must
        name what they depend on (a seed, the version of the renderer): an interrupted file is
        resumed only where it is the same.
    problems, notes
        Lines about rows that could not even become records, and about what else is worth knowing;
        saved in the header.
    workers
        Threads that decode; by default one per processor, at most 8.
    progress
        Say the size and the time to expect, and show a bar, on standard error.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        No training captions; nothing usable; the file exists with other content; the disk is
        full; with ``strict``, the first problem.
    """
    if store not in ("pixels", "paths"):
        raise DataError(f"store is 'pixels' or 'paths', not {store!r}")
    if size < 1:
        raise DataError(f"size must be at least 1 pixel, not {size}")
    if vocabulary is not None:
        tokenizer = vocabulary.tokenizer
    to = Path(to).absolute()
    part = to.with_name(to.name + UNFINISHED)
    cleaned, more = clean(records, tokenizer)
    lines = [*problems, *more]
    present, skipped = _present(cleaned, store)
    if strict and (lines or skipped):
        first = [*lines, *(f"{entry['name']}: {entry['reason']}" for entry in skipped)][0]
        raise DataError(f"{first} (--check lists all problems)")
    settings = {
        "size": size,
        "min_count": min_count,
        "max_size": max_size,
        "tokenizer": tokenizer,
        "tokenizer_contract": CONTRACT if vocabulary is None else vocabulary.contract,
        "store": store,
        "source": dict(source or {}),
    }
    if vocabulary is not None:
        settings["vocabulary_hash"] = vocabulary.hash
    Outputs(record.image for record in present if isinstance(record.image, Path)).refuse_inputs(to)
    plan = Plan(present, settings)
    if not plan.splits.get("train"):
        first = f"; {skipped[0]['reason']}" if skipped else ""
        raise DataError(f"{to.name}: no training image with captions{first}")
    fingerprint = plan.fingerprint(skipped)
    if to.exists() and not overwrite:
        check_same(to, fingerprint)
        return to

    workers = workers or default_workers()
    with resumable(to, part):
        to.parent.mkdir(parents=True, exist_ok=True)
        there = getattr(part.stat(), "st_blocks", 0) * 512 if part.exists() else 0
        check_room(
            to,
            plan.bytes() + text_bytes(plan, {}) - there,
            advice="make room, write elsewhere, choose a smaller size or store paths",
        )
        file = PartFile(part, plan)
    try:
        if progress:
            _announce(to, plan, file.todo, workers)
        for item, reason in _write_images(file, to, size, workers, progress):
            if strict:
                raise DataError(reason)
            skipped.append({"name": item.record.name, "split": item.split, "reason": reason})
        header = {
            "format": KIND.format,
            "version": KIND.version,
            **settings,
            "resize": "to size × size, aspect ratio not kept, order 1, anti-aliasing, rounded",
            "skipped": sorted(skipped, key=lambda entry: entry["name"]),
            "problems": lines,
            "notes": list(notes),
            "fingerprint": fingerprint,
        }
        with resumable(to, part):
            with file.finish(text_bytes(plan, header)) as hdf:
                write_text(hdf, plan, header, vocabulary)
            finish(part, to)
    finally:
        file.close()
    return to


def _present(records: Sequence[Record], store: str) -> tuple[list[Record], list[dict[str, str]]]:
    """Separate the records whose image file exists from those to skip."""
    present, skipped = [], []
    for record in records:
        if not isinstance(record.image, Path) and store == "paths":
            raise DataError(f"{record.name}: a rendered image has no path to store")
        reason = absent(record)
        if reason is None:
            present.append(record)
        else:
            skipped.append({"name": record.name, "split": record.split, "reason": reason})
    return present, skipped


def absent(record: Record) -> str | None:
    """Why there is no file of a record's image, in one line; None if there is one."""
    if record.missing is not None or not isinstance(record.image, Path):
        return record.missing
    return None if is_file(record.image) else f"{record.image}: no such file"


def load_pixels(record: Record, size: int) -> np.ndarray:
    """Read or render a record's image at its final size: (size, size, 3) uint8."""
    image = record.image
    return load_image(image if isinstance(image, Path) else image(), size)


def _announce(to: Path, plan: Plan, todo: list[Item], workers: int) -> None:
    """Say what to expect, from a few images tried."""
    sample = todo[:: max(1, len(todo) // 8)][:8]

    def read(items: list[Item]) -> None:
        for item in items:
            with contextlib.suppress(ImageError):
                load_pixels(item.record, plan.size)

    read(sample[:1])  # which loads the readers, too
    start = time.perf_counter()
    read(sample)
    seconds = (time.perf_counter() - start) / max(1, len(sample)) * len(todo) / workers
    done = len(plan) - len(todo)
    resumed = f", {done:,} of them already done" if done else ""
    Bar.write(
        f"{to.name}: {len(plan):,} images{resumed}; {bytes_text(plan.bytes())}; "
        f"about {_minutes(seconds)}",
        file=sys.stderr,
    )


def _write_images(
    file: PartFile, to: Path, size: int, workers: int, progress: bool
) -> Iterator[tuple[Item, str]]:
    """Write the images in blocks; yield those that cannot be used, with the reason."""

    def pixels_of(item: Item) -> tuple[np.ndarray, bytes]:
        pixels = load_pixels(item.record, size)
        return pixels, hashlib.blake2b(pixels.tobytes(), digest_size=DIGEST).digest()

    waiting: deque[tuple[Item, Future[tuple[np.ndarray, bytes]]]] = deque()
    coming = iter(file.todo)
    block: list[Item] = []
    with (
        ThreadPoolExecutor(workers) as pool,
        Bar(total=len(file.todo), disable=not progress, unit="image", desc="images") as bar,
    ):
        try:
            while True:
                for item in islice(coming, _BLOCK - len(waiting)):
                    waiting.append((item, pool.submit(pixels_of, item)))
                if not waiting:
                    break
                item, future = waiting.popleft()
                bar.update()
                try:
                    pixels, digest = future.result()
                except ImageError as error:
                    name, reason = item.record.name, str(error)
                    yield item, reason if name in reason else f"{name}: {reason}"
                    continue
                with resumable(to, file.path):
                    file.write(item, pixels, digest)
                    block.append(item)
                    if len(block) == _BLOCK:
                        file.commit(block)
                        block.clear()
            with resumable(to, file.path):
                file.commit(block)
        finally:
            for _, future in waiting:
                future.cancel()


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
