"""The folder of Tiny-ImageNet, of the course's 100 classes or all 200, as its archive unpacks.

* ``wnids.txt``: one WordNet id per line; the line's number is the label;
* ``words.txt``: ``n02123045<TAB>tabby, tabby cat``;
* ``train/ID/ID_boxes.txt``: file names, a tab after each, of ``train/ID/images/``;
* ``val/val_annotations.txt``: file name, tab, id …, of ``val/images/``;
* ``test/images/``, and ``test/test_annotations.txt`` where the answers are known.
"""

from __future__ import annotations

from pathlib import Path

from dlmie.data.labelled.sources.image_files import ImageFiles
from dlmie.errors import DataError

SIZE = 64  # rows and columns of every image


class TinyImageNetFolder(ImageFiles):
    """The files of Tiny-ImageNet with their labels.

    Parameters
    ----------
    folder : Path
    size : int or None
        Height and width in pixels; None leaves the images as they are.

    Attributes
    ----------
    class_names : list of list of str
        By label: all names of the class, the first of them the usual one.

    Raises
    ------
    DataError
        A file of the layout is missing or damaged.
    """

    format = "tiny-imagenet"

    def __init__(self, folder: Path, size: int | None = None) -> None:
        super().__init__(folder, size)
        label = {wnid: number for number, wnid in enumerate(_lines(folder / "wnids.txt"))}
        known = [_fields(line, 2) for line in _lines(folder / "words.txt")]
        names = {fields[0]: fields[1] for fields in known}
        self.class_names = [names.get(wnid, wnid).split(", ") for wnid in label]
        self.classes = _unique([every[0] for every in self.class_names], list(label))
        files: list[Path] = []
        labels: list[int] = []
        for wnid, number in label.items():
            place = folder / "train" / wnid
            found = [_fields(line, 1)[0] for line in _lines(place / f"{wnid}_boxes.txt")]
            files += [place / "images" / name for name in found]
            labels += [number] * len(found)
        self.add("train", files, labels)
        self.add("dev", *_annotated(folder / "val" / "val_annotations.txt", label))
        answers = folder / "test" / "test_annotations.txt"
        if answers.exists():
            self.add("test", *_annotated(answers, label))
        self.measure()


def matches(path: Path) -> bool:
    """Whether this is a folder of that layout."""
    return (path / "wnids.txt").is_file()


def _unique(names: list[str], ids: list[str]) -> list[str]:
    """Names of classes, with the WordNet id where two classes share one (crane, crane)."""
    shared = {name for name in names if names.count(name) > 1}
    pairs = zip(names, ids, strict=True)
    return [f"{name} ({wnid})" if name in shared else name for name, wnid in pairs]


def _annotated(path: Path, label: dict[str, int]) -> tuple[list[Path], list[int]]:
    """Images and labels of a file of lines ``name<TAB>id …``; the images lie beside it."""
    files, labels = [], []
    for line in _lines(path):
        name, wnid = _fields(line, 2)
        if wnid not in label:
            raise DataError(f"{path}: {name} is of class {wnid}, which wnids.txt does not list")
        files.append(path.parent / "images" / name)
        labels.append(label[wnid])
    return files, labels


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; TinyImageNet has one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return [line for line in text.splitlines() if line.strip()]


def _fields(line: str, count: int) -> tuple[str, ...]:
    """The first fields of a line between tabs."""
    found = tuple(field.strip() for field in line.split("\t")[:count])
    if len(found) < count:
        raise DataError(f"TinyImageNet: a line has {len(found)} fields, not {count}: {line!r}")
    return found
