"""Images found in folders, and files by the names that people type."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dlmie.data.images.archives import archive_of, is_archive_folder, walk_archive
from dlmie.data.images.formats import is_image_file, is_image_name, is_image_start
from dlmie.data.images.names import Listings, is_file, list_files
from dlmie.errors import DataError
from dlmie.text import nearest


def find_images(paths: Iterable[str | Path], recursive: bool = True) -> list[Path]:
    """List the images that files and folders stand for, each once.

    A file that is named is taken whatever its name, also where case or Unicode form differ and
    only one file fits; of a folder all pictures, sorted, hidden ones left out, and those of its
    sub-folders if ``recursive``.  Linked folders are followed, each folder once.  A zip archive
    that is named counts as a folder, one that lies in a folder does not.

    Pictures of kinds that cannot be read, such as HEIC without pillow-heif, are listed too:
    :func:`~dlmie.data.images.load_image` says of each what to do.

    Raises
    ------
    DataError
        If a path does not exist or a folder holds no image.

    Examples
    --------
    >>> find_images([])
    []
    """
    found: dict[Path, None] = {}  # a dict keeps the order and drops repetitions
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        place = existing_path(path)
        if is_folder(place):
            inside = sorted(walk_images(place, recursive))
            if not inside:
                kind = "folder" if place.is_dir() else "archive"
                raise DataError(f"{place}: no image in this {kind}")
            found.update(dict.fromkeys(inside))
        else:
            found[place] = None
    return list(found)


def existing_path(path: str | Path) -> Path:
    """The file or folder that a user names, whose name may differ in case or Unicode form.

    Raises
    ------
    DataError
        If there is none, or several differ from the name in form only; or it is an address.
    """
    if isinstance(path, str) and "://" in path:
        raise DataError(
            f"{path}: is an address, and dlmie downloads nothing: save it, and name the file"
        )
    place = Path(path)
    if _exists(place):
        return place
    parts = place.parts[1:] if place.anchor else place.parts
    listings = Listings()
    fitting = list(listings.same_form(Path(place.anchor), parts))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(f"{path}: fits {list_files(fitting)}: name one of them exactly")
    beside = [name for same in listings.names(place.parent).values() for name in same]
    raise DataError(f"{path}: no such file or folder{nearest(place.name, beside)}")


def is_folder(path: Path) -> bool:
    """Whether images can lie in what a path names: a folder, a zip archive or a folder in one.

    Raises
    ------
    DataError
        The archive cannot be read.
    """
    return path.is_dir() or is_archive_folder(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink() or is_file(path) or is_folder(path)
    except (OSError, ValueError):
        return False


def walk_images(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """The pictures of a folder or an archive; each is entered once, whatever links lead to it."""
    if archive_of(folder) is not None:
        for member in walk_archive(folder, recursive):
            if is_image_name(member.name) or is_image_start(member.start(16)):
                yield member.path
        return
    seen: set[tuple[int, int]] = set()
    waiting: list[Path] = [folder]
    linked: list[Path] = []
    while waiting or linked:
        place = waiting.pop() if waiting else linked.pop()  # by its own place, if that is here
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            yield place  # reading it says why it cannot be
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = place / entry.name
            with contextlib.suppress(OSError):
                if entry.is_dir():
                    if recursive:
                        (linked if entry.is_symlink() else waiting).append(path)
                    continue
            if is_image_file(path):
                yield path
