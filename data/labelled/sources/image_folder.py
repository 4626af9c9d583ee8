"""Folders of images by class: ``train/cat/1.png``, or ``cat/1.png`` without splits."""

from __future__ import annotations

from pathlib import Path

from dlmie.data.images import find_images, is_image_name
from dlmie.data.labelled.sources.image_files import ImageFiles
from dlmie.data.labelled.sources.source import UNDIVIDED
from dlmie.data.splits import SPLITS, draw, in_order, resolve_split
from dlmie.errors import DataError


class ImageFolder(ImageFiles):
    """A folder of class folders, or of splits with class folders.

    The classes are those of ``train``, in the order of their names. The images of a split come in
    an order that depends on their names only, as if shuffled: their first thousand has all classes.

    Parameters
    ----------
    folder : Path
    size : int or None
        Height and width in pixels; None leaves the images as they are.
    """

    format = "folder"

    def __init__(self, folder: Path, size: int | None = None) -> None:
        super().__init__(folder, size)
        splits = _split_folders(folder)
        groups = {name: _folders(place) for name, place in splits.items()}
        self.classes = [place.name for place in groups.get("train", groups.get(UNDIVIDED, []))]
        self._note_what_is_left_out(set(splits.values()), folder)
        if not self.classes:
            self.errors.append(f"{folder}: has no folder of images for each class")
        for part in in_order(set(groups)):
            self._add_part(part, groups[part])
        self.measure()

    def _add_part(self, part: str, groups: list[Path]) -> None:
        found: list[tuple[Path, int]] = []
        for place in groups:
            if place.name not in self.classes:
                self.errors.append(f"{place}: is not a class of train ({', '.join(self.classes)})")
                continue
            files = _images(place)
            if not files and part in ("train", UNDIVIDED):
                self.errors.append(f"{place}: holds no images; fill or remove this class")
            label = self.classes.index(place.name)
            found += [(path, label) for path in files]
        found.sort(key=lambda one: draw(one[0].relative_to(self.folder).as_posix()))
        self.add(part, [path for path, _ in found], [label for _, label in found])

    def _note_what_is_left_out(self, splits: set[Path], folder: Path) -> None:
        places = splits if folder in splits else {*splits, folder}
        for place in sorted(places):
            loose = [path for path in place.iterdir() if is_image_name(path.name)]
            if loose:
                self.problems.append(f"{place}: {len(loose):,} images are in no class; left out")
        if folder not in splits:
            for place in sorted(set(_folders(folder)) - splits):
                self.problems.append(f"{place}: is not a split; left out")


def matches(path: Path) -> bool:
    """Whether this is a folder with folders in it."""
    return path.is_dir() and bool(_folders(path))


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split, or the folder itself where there is none of ``train``."""
    named: dict[str, Path] = {}
    for place in _folders(folder):
        name = resolve_split(place.name)
        if name in SPLITS and _folders(place):
            if name in named:
                raise DataError(f"{place}: and {named[name].name} are both the split {name}")
            named[name] = place
    return named if "train" in named else {UNDIVIDED: folder}


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(place: Path) -> list[Path]:
    try:
        return find_images([place])
    except DataError:  # there is none
        return []
