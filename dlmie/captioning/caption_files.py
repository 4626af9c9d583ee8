"""Captions that anyone made beside the references of the same images; and captions written.

Files are read by :mod:`dlmie.data.captions.formats`, as those are that a data set is prepared from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from dlmie.data.captions.formats import (
    Entry,
    Reading,
    Source,
    read_entries,
    recognize,
    unknown_format,
)
from dlmie.data.captions.formats.table import looks_like_table
from dlmie.data.captions.texts import caption_fault
from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.files.documents import json_text


@dataclass(frozen=True)
class CaptionSet:
    """Captions beside the references of the same images.

    Attributes
    ----------
    names : list[str]
        One per image; the line's number, from 1, for plain text.
    hypotheses : list[str]
        One per image.
    references : list[list[str]]
        At least one per image.
    notes : list[str]
        Lines about what was left out on purpose.
    """

    names: list[str]
    hypotheses: list[str]
    references: list[list[str]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """A file of captions: its images, or its lines where it is plain text."""

    path: Path
    images: list[Entry]
    lines: list[str] | None
    notes: list[str]


def read_captions(
    hypotheses: str | Path,
    references: Sequence[str | Path],
    *,
    subset: bool = False,
    reading: Reading | None = None,
) -> CaptionSet:
    """Read captions and the references to score them against; formats are found by content.

    Both may be of any format that data sets are prepared from (COCO annotations and results,
    Karpathy, Flickr, tables, lists and lines of JSON objects, ``{image: captions}``), and what
    ``dlmie caption`` and ``dlmie evaluate`` write; of ranked captions the first counts.  Images are
    matched by their label (``image_id``) or by their name, where exactly one fits.  Or both are
    plain text: one caption per line, and one file or more of references, line by line; an empty
    line is an image without this reference.

    Parameters
    ----------
    hypotheses
        The file of captions.
    references
        One or more files of references; those of one image are joined.
    subset
        Accept references of images that have no caption, and leave these images out.
    reading
        Encoding and columns, where the files do not say them.

    Raises
    ------
    DataError
        In one line: a file that cannot be read, an image without caption or reference, two
        captions for one image, files with different numbers of lines.
    """
    if not references:
        raise DataError("give at least one file of references")
    reading = reading or Reading()
    said = _read(Path(hypotheses), replace(reading, best_only=True))
    answers = [_read(Path(path), reading) for path in references]
    if said.lines is not None:
        return _align_lines(said, said.lines, answers)
    return _align_names(said, answers, subset)


def write_coco_results(
    path: str | Path, names: Sequence[str | int], captions: Sequence[str]
) -> None:
    """Write captions as COCO's results file, ``[{"image_id": …, "caption": …}, …]``.

    Parameters
    ----------
    path
        The file; it is there whole or not at all.
    names
        One per image; names that are whole numbers, as COCO's are, are written as numbers.
    captions
        One per image.

    Raises
    ------
    DlmieError
        If the lists differ in length, a name stands twice, or the file cannot be written.
    """
    if len(names) != len(captions) or len(set(map(str, names))) != len(names):
        raise DataError(f"{path}: give one caption for each image and each image once")
    rows = [
        {"image_id": _image_id(name), "caption": caption}
        for name, caption in zip(names, captions, strict=True)
    ]
    atomic.write_text(path, json_text(rows, indent=0) + "\n")


def _image_id(name: str | int) -> str | int:
    number = str(name)
    # "007" stays text: as a number it would come back as another name
    whole = number.isdecimal() and number.isascii() and (number == "0" or number[0] != "0")
    return int(number) if whole and len(number) < 1000 else name


def _read(path: Path, reading: Reading) -> _File:
    """Read one file.

    Raises
    ------
    DataError
        If it cannot be read, or any row of it cannot be used: scores are of all images or none.
    """
    source = Source(path, reading)
    module = recognize(source)
    if module is None:
        if source.document is not None or looks_like_table(source):
            raise unknown_format(source)
        lines = source.strict_text.removesuffix("\n").split("\n")
        return _File(path, [], [line.strip() for line in lines], [])
    entries = read_entries(source, module)
    if source.problems:
        more = len(source.problems) - 1
        rest = f" (and {more:,} more)" if more else ""
        raise DataError(f"{source.problems[0]}{rest}; nothing of {path} was scored")
    for entry in entries:
        for caption in entry.captions:
            # An empty caption is a bad one; an empty reference is left out when it is scored.
            wrong = caption_fault(caption)
            if wrong and caption != "" and not (isinstance(caption, str) and caption.isspace()):
                raise DataError(f"{path}: image {_called(entry)}: a caption {wrong}")
    return _File(path, entries, None, source.notes)


def _called(entry: Entry) -> str:
    return str(entry.image_id) if entry.name is None else entry.name


def _align_lines(said: _File, captions: list[str], answers: Sequence[_File]) -> CaptionSet:
    columns = []
    for other in answers:
        if other.lines is None:
            raise DataError(
                f"{said.path} is plain text but {other.path} names its images: "
                "give both in one kind"
            )
        if len(other.lines) != len(captions):
            raise DataError(
                f"{other.path} has {len(other.lines)} lines but {said.path} has {len(captions)}: "
                "line by line, both must tell of the same images"
            )
        columns.append(other.lines)
    references = [list(texts) for texts in zip(*columns, strict=True)]
    names = [str(number) for number in range(1, len(captions) + 1)]
    empty = [name for name, texts in zip(names, references, strict=True) if not any(texts)]
    if empty:
        raise DataError(f"line {empty[0]} is empty in every file of references: {_some(empty)}")
    return CaptionSet(names, captions, references)


class _References:
    """References by every name of their image."""

    def __init__(self, files: Iterable[_File]) -> None:
        self.names: list[str] = []
        self.texts: list[list[str]] = []
        self._known: dict[str, int] = {}  # name or label → place
        self._tails: dict[str, list[int]] = {}  # last part of a path → places
        for file in files:
            if file.lines is not None:
                raise DataError(
                    f"{file.path} is plain text but the captions name their images: "
                    "give both in one kind"
                )
            for entry in file.images:
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        keys = _keys(entry)
        place = next((self._known[key] for key in keys if key in self._known), len(self.names))
        if place == len(self.names):
            self.names.append(_called(entry))
            self.texts.append([])
            self._tails.setdefault(PurePosixPath(self.names[-1]).name, []).append(place)
        for key in keys:
            self._known.setdefault(key, place)
        self.texts[place].extend(entry.captions)

    def find(self, entry: Entry) -> int | None:
        """The place of an image: by its label or name, else by the one path that ends alike."""
        for key in _keys(entry):
            if key in self._known:
                return self._known[key]
        parts = PurePosixPath(_called(entry)).parts
        places = [
            place
            for place in self._tails.get(PurePosixPath(_called(entry)).name, [])
            if _end_alike(parts, PurePosixPath(self.names[place]).parts)
        ]
        return places[0] if len(places) == 1 else None

    def hint(self, name: str) -> str:
        """What an unknown image may have meant: one that differs in zeros, case or suffix."""
        close = _folded(name)
        same = next((known for known in self._known if _folded(known) == close), None)
        return f" (the references have {same}: names must be written alike)" if same else ""


def _keys(entry: Entry) -> list[str]:
    label = [] if entry.image_id is None else [str(entry.image_id)]
    return [*label, *([] if entry.name is None else [entry.name])]


def _end_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether the shorter of two paths is the end of the longer one."""
    count = min(len(first), len(second))
    return first[-count:] == second[-count:]


def _folded(name: str) -> str:
    return PurePosixPath(name).stem.casefold().lstrip("0")


def _align_names(said: _File, answers: Sequence[_File], subset: bool) -> CaptionSet:
    references = _References(answers)
    where = ", ".join(str(other.path) for other in answers)
    repeated = [_called(entry) for entry in said.images if len(entry.captions) != 1]
    if repeated:
        raise DataError(
            f"{said.path}: exactly one caption per image is scored; not so {_some(repeated)}"
        )
    places = [references.find(entry) for entry in said.images]
    unknown = [
        _called(entry)
        for entry, place in zip(said.images, places, strict=True)
        if place is None or not any(text.strip() for text in references.texts[place])
    ]
    if unknown:
        hint = references.hint(unknown[0])
        raise DataError(f"{said.path}: no reference in {where} for {_some(unknown)}{hint}")
    known = [place for place in places if place is not None]
    twice = [references.names[place] for place, count in Counter(known).items() if count > 1]
    if twice:
        raise DataError(
            f"{said.path}: exactly one caption per image is scored; not so {_some(twice)}"
        )
    missing = sorted(set(range(len(references.names))) - set(known))
    if missing and not subset:
        raise DataError(
            f"{said.path}: no caption for {_some([references.names[i] for i in missing])} of "
            f"{where}; ask for the subset to score only the others"
        )
    return CaptionSet(
        [_called(entry) for entry in said.images],
        [entry.captions[0] for entry in said.images],
        [references.texts[place] for place in known],
        [*said.notes, *(note for other in answers for note in other.notes)],
    )


def _some(names: Sequence[str]) -> str:
    """A few names and how many more."""
    shown = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"image {shown}" if len(names) == 1 else f"images {shown}{more}"
