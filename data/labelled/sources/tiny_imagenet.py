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
from dlmie.files.documents import read_text

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
        listed = [wnid for (wnid,) in _rows(folder / "wnids.txt", 1)]
        label = {_plain(wnid, folder / "wnids.txt"): number for number, wnid in enumerate(listed)}
        known = _rows(folder / "words.txt", 2)
        names = {fields[0]: fields[1] for fields in known}
        self.class_names = [names.get(wnid, wnid).split(", ") for wnid in label]
        self.classes = _unique([every[0] for every in self.class_names], list(label))
        files: list[Path] = []
        labels: list[int] = []
        for wnid, number in label.items():
            place = folder / "train" / wnid
            boxes = place / f"{wnid}_boxes.txt"
            found = [_plain(name, boxes) for (name,) in _rows(boxes, 1)]
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
    for name, wnid in _rows(path, 2):
        if wnid not in label:
            raise DataError(f"{path}: {name} is of class {wnid}, which wnids.txt does not list")
        files.append(path.parent / "images" / _plain(name, path))
        labels.append(label[wnid])
    return files, labels


def _rows(path: Path, count: int) -> list[tuple[str, ...]]:
    """The first fields, between tabs, of the lines of a file that are not empty."""
    rows = []
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            found = tuple(field.strip() for field in line.split("\t")[:count])
            if len(found) < count:
                raise DataError(f"{path}, line {number}: has {len(found)} fields, not {count}")
            rows.append(found)
    return rows


def _plain(name: str, path: Path) -> str:
    """The name of a file in a folder; one that leads elsewhere is an error."""
    if Path(name).name != name or "\\" in name:
        raise DataError(f"{path}: {name} is not the name of a file in the folder images")
    return name


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise DataError(f"{path}: no such file; TinyImageNet has one")
    return read_text(path).split("\n")
