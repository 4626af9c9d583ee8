"""What is wrong with a captioned data set, found without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from dlmie.data.captions import formats
from dlmie.data.captions.boxes import add_boxes
from dlmie.data.captions.records import Record, clean
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.captions.writing import absent
from dlmie.data.captions.writing.text import split_words
from dlmie.data.images import ImageError, load_image
from dlmie.data.prefetch import default_workers
from dlmie.progress import Bar
from dlmie.typing import JsonObject


@dataclass(frozen=True)
class Findings:
    """What :func:`survey` found.

    Attributes
    ----------
    problems : list[str]
        A line for everything that would be left out.
    notes : list[str]
        Lines about what was chosen, or looks odd.
    source : dict
        Files, formats and splits, as in the header of a prepared file.
    left_out : dict[str, int]
        Words that would be read as ``<unk>``, see :meth:`Vocabulary.left_out`.
    """

    problems: list[str]
    notes: list[str]
    source: JsonObject
    left_out: dict[str, int]


def survey(
    source: str | Path | Sequence[str | Path],
    *,
    boxes: Sequence[str | Path] = (),
    min_count: int = 5,
    max_size: int | None = None,
    tokenizer: str = "words",
    vocabulary: Vocabulary | None = None,
    workers: int | None = None,
    progress: bool = True,
    **choices: Unpack[formats.Choices],
) -> Findings:
    """Do all that preparing does but write: parse rows, split words, decode images.

    Parameters
    ----------
    source, boxes, min_count, max_size, tokenizer, vocabulary, workers, progress
        See :func:`dlmie.data.captions.dataset.prepare`.
    **choices
        Where the images are, how they find their splits and files their format: see
        :func:`dlmie.data.captions.formats.read`.

    Raises
    ------
    DataError
        If the source as a whole cannot be read.
    """
    if vocabulary is not None:
        tokenizer = vocabulary.tokenizer
    listing = formats.read(source, **choices)
    records, more = clean(listing.records, tokenizer)
    problems = [*listing.problems, *more]
    if boxes:
        problems += add_boxes(records, boxes)[1]
    by_split: dict[str, list[Record]] = {"train": []}
    for record in records:
        by_split.setdefault(record.split, []).append(record)
    if not by_split["train"]:
        problems.append(
            formats.no_training_image(listing) or "no training image with usable captions"
        )
    wording = split_words(by_split, tokenizer, min_count, max_size, vocabulary)
    problems += _image_faults(records, workers, progress)
    return Findings(problems, [*listing.notes, *wording.notes], listing.source, wording.left_out)


def check(
    source: str | Path | Sequence[str | Path], **choices: Unpack[formats.Choices]
) -> list[str]:
    """Find everything in a data set that preparing would leave out; change nothing.

    Parameters
    ----------
    source, **choices
        See :func:`survey`.

    Returns
    -------
    list[str]
        One line a problem; empty if all is well.

    Raises
    ------
    DataError
        If the source as a whole cannot be read.
    """
    return survey(source, **choices).problems


def _image_faults(records: Sequence[Record], workers: int | None, progress: bool) -> list[str]:
    """Decode every image; a line for each that cannot be."""

    def fault(record: Record) -> str | None:
        missing = absent(record)
        if missing is not None:
            return missing
        try:
            load_image(record.image if isinstance(record.image, Path) else record.image())
        except ImageError as error:
            return f"{record.name}: {error}"
        return None

    with ThreadPoolExecutor(workers or default_workers()) as pool:
        faults = pool.map(fault, records)
        bar = Bar(faults, total=len(records), disable=not progress, unit="image", desc="images")
        return [line for line in bar if line]
