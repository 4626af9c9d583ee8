"""Files of captions that anyone made, and of references, read into aligned lists; and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlmie.errors import DataError
from dlmie.files import containers as storage

#: What a file holds: image name → its texts. Plain text knows no names: None, by line.
_Named = dict[str, list[str]]
_Lines = list[str]


@dataclass(frozen=True)
class CaptionSet:
    """Captions beside the references of the same images.

    Attributes
    ----------
    names : list[str]
        One an image; the line's number, from 1, for plain text.
    hypotheses : list[str]
        One an image.
    references : list[list[str]]
        At least one an image.
    """

    names: list[str]
    hypotheses: list[str]
    references: list[list[str]]


def read_captions(
    hypotheses: str | Path, references: Sequence[str | Path], *, subset: bool = False
) -> CaptionSet:
    """Read captions and the references to score them against; formats are found by content.

    ========================================  ==================================================
    captions                                  references
    ========================================  ==================================================
    ``[{"image_id": 1, "caption": "…"}, …]``  ``{"annotations": [{"image_id", "caption"}, …]}``
    ``{"image": "caption", …}``               ``{"image": ["reference", …], …}``
    plain text, one caption a line            plain text files, one line an image each; an empty
                                              line is an image without this reference
    ========================================  ==================================================

    The two JSON kinds mix freely. Several JSON files of references are joined.

    Parameters
    ----------
    hypotheses
        The file of captions.
    references
        One or more files of references.
    subset
        Accept references of images that have no caption, and leave these images out.

    Raises
    ------
    DataError
        In one line: a file that cannot be read, an image without caption or reference, two
        captions for one image, files with different numbers of lines.
    """
    if not references:
        raise DataError("give at least one file of references")
    captions = _read(Path(hypotheses))
    answers = [(Path(path), _read(Path(path))) for path in references]
    if isinstance(captions, list):
        return _align_lines(Path(hypotheses), captions, answers)
    return _align_names(Path(hypotheses), captions, answers, subset)


def write_coco_results(
    path: str | Path, names: Sequence[str | int], captions: Sequence[str]
) -> None:
    """Write captions as COCO's results file, ``[{"image_id": …, "caption": …}, …]``.

    Parameters
    ----------
    path
        The file; it is there whole or not at all.
    names
        One an image; names that are whole numbers, as COCO's are, are written as numbers.
    captions
        One an image.

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
    storage.write(path, (json.dumps(rows, ensure_ascii=False, indent=0) + "\n").encode())


def _image_id(name: str | int) -> str | int:
    number = str(name)
    # "007" stays text: as a number it would come back as another name
    return int(number) if number.isdecimal() and str(int(number)) == number else name


def _read(path: Path) -> _Named | _Lines:
    """One file: texts by image name, or lines."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    if not text:
        raise DataError(f"{path}: the file is empty")
    if text.lstrip().startswith(("[", "{")):
        try:
            return _named(path, json.loads(text))
        except json.JSONDecodeError as error:
            if path.suffix == ".json":
                raise DataError(f"{path}: broken JSON at line {error.lineno}") from None
    # Not splitlines(), for which rare characters inside a caption end a line too.
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def _named(path: Path, value: Any) -> _Named:
    """Texts by image name from the parsed JSON of any kind."""
    rows: Iterable[tuple[Any, Any]]
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        value = value["annotations"]
    if isinstance(value, list):
        rows = (_row(path, number, row) for number, row in enumerate(value, 1))
    else:
        rows = value.items()
    named: _Named = {}
    for name, texts in rows:
        listed = texts if isinstance(texts, list) else [texts]
        if not all(isinstance(text, str) for text in listed):
            raise DataError(f"{path}: image {name!r}: a caption must be text")
        named.setdefault(str(name), []).extend(listed)
    return named


def _row(path: Path, number: int, row: Any) -> tuple[Any, Any]:
    try:
        return row["image_id"], row["caption"]
    except (KeyError, TypeError):
        raise DataError(
            f'{path}: entry {number} must be {{"image_id": …, "caption": …}}, not {row!r:.60}'
        ) from None


def _align_lines(
    path: Path, captions: _Lines, answers: list[tuple[Path, _Named | _Lines]]
) -> CaptionSet:
    columns = []
    for other, lines in answers:
        if not isinstance(lines, list):
            raise DataError(f"{path} is plain text but {other} is JSON: give both in one kind")
        if len(lines) != len(captions):
            raise DataError(
                f"{other} has {len(lines)} lines but {path} has {len(captions)}: "
                "line by line, both must tell of the same images"
            )
        columns.append(lines)
    references = [[text for text in texts if text] for texts in zip(*columns, strict=True)]
    names = [str(number) for number in range(1, len(captions) + 1)]
    empty = [name for name, texts in zip(names, references, strict=True) if not texts]
    if empty:
        raise DataError(f"line {empty[0]} is empty in every file of references: {_some(empty)}")
    return CaptionSet(names, captions, references)


def _align_names(
    path: Path, captions: _Named, answers: list[tuple[Path, _Named | _Lines]], subset: bool
) -> CaptionSet:
    references: _Named = {}
    for other, named in answers:
        if isinstance(named, list):
            raise DataError(f"{path} is JSON but {other} is plain text: give both in one kind")
        for name, texts in named.items():
            references.setdefault(name, []).extend(texts)
    where = ", ".join(str(other) for other, _ in answers)
    repeated = [name for name, texts in captions.items() if len(texts) != 1]
    if repeated:
        raise DataError(f"{path}: exactly one caption an image is scored; not so {_some(repeated)}")
    unknown = [name for name in captions if not references.get(name)]
    if unknown:
        raise DataError(f"{path}: no reference in {where} for {_some(unknown)}")
    missing = [name for name in references if name not in captions]
    if missing and not subset:
        raise DataError(
            f"{path}: no caption for {_some(missing)} of {where}; "
            "ask for the subset to score only the others"
        )
    names = list(captions)
    return CaptionSet(names, [captions[n][0] for n in names], [references[n] for n in names])


def _some(names: Sequence[str]) -> str:
    """A few names and how many more."""
    shown = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"image {shown}" if len(names) == 1 else f"images {shown}{more}"
