"""Image files found by the names that captions files give them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath

from dlmie.data.images.archives import is_archive, member_of
from dlmie.data.images.folders import is_folder, walk_images
from dlmie.data.images.formats import is_image_name
from dlmie.data.images.names import Listings, form_of, group_by_form, is_file, list_files
from dlmie.errors import DataError

_LONGEST = 255  # bytes of a name, on all usual file systems


@dataclass(frozen=True)
class Found:
    """What became of a name.

    Attributes
    ----------
    path : Path
        The file; where there is none, the place where it was expected.
    problem : str or None
        Why there is no file: one line that begins with the name or the path.
    several : bool
        Whether that is because more than one file fits.
    """

    path: Path
    problem: str | None = None
    several: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for all names of one file, however they are written."""
        try:
            if (member := member_of(self.path)) is not None:
                return member.identity
            status = os.stat(self.path)
        except (OSError, ValueError):
            return (form_of(str(self.path)),)
        return (status.st_dev, status.st_ino)


class ImageFolder:
    """Find image files by the names that captions files use.

    A name is first looked up where it says, then in other forms of the same name: Unicode form,
    case, backslashes, a suffix that is missing.  In a folder that was given also below it, where
    the whole tail of the path agrees.  Only one file may fit: nothing is guessed.

    A zip archive counts as a folder.  Those that lie in a folder that was given are looked into for
    what the folder itself lacks.

    Parameters
    ----------
    beside
        The folder of the captions file.
    images
        The folder or the archive of the images, if it was given.

    Raises
    ------
    DataError
        If the folder of the images does not exist, or an archive cannot be read.
    """

    #: Folders that usually hold the images beside a captions file.
    USUAL = ("", "images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images")

    def __init__(self, beside: Path, images: str | Path | None) -> None:
        if images is None:
            roots = [beside / name for name in self.USUAL]
            self._searches = [_Search([root for root in roots if root.is_dir()])]
            return
        folder = Path(images)
        if not is_folder(folder):
            raise DataError(f"{images}: no such folder or zip archive of images")
        self._searches = [_Search([folder], below=True)]
        archives = [path for path in sorted(folder.glob("[!.]*")) if is_archive(path)]
        if archives:
            self._searches.append(_Search(archives, below=True))

    def find(self, name: str, folder: str | None = None, hints: Sequence[str] = ()) -> Found:
        """The file of an image.

        Parameters
        ----------
        name
            As a captions file says it.
        folder
            The folder that the captions file says it lies in, if it does.
        hints
            Folders that it may lie in, such as those named like its split; they also decide
            between files that fit equally.
        """
        missing = None
        for search in self._searches:
            found = search.find(name, folder, hints)
            if found.problem is None or found.several:
                return found
            missing = missing or found
        assert missing is not None, "there is one search"
        return missing


class _Search:
    """Folders or archives in which to look for names.

    Parameters
    ----------
    roots
        Several archives are equals: a name that two of them hold is not decided by their order.
    below
        Whether files lie anywhere below them.
    """

    def __init__(self, roots: Sequence[Path], *, below: bool = False) -> None:
        self.roots, self.below = roots, below
        self._listings = Listings()

    def find(self, name: str, folder: str | None, hints: Sequence[str]) -> Found:
        fault = _fault(name)
        if fault is not None:
            return Found(self._nowhere, f"{_shortened(name)}: {fault}")
        places = self._places(name, folder or "", hints)
        if not places:
            outside = "lies outside the folder of images; name one that holds it with --images"
            return Found(self._nowhere, f"{name}: {outside}")
        for fitting in chain([self._exact(places)], self._fitting(name, places)):
            files = self._decided(fitting, hints)
            if len(files) == 1:
                return Found(files[0])
            if files:
                problem = f"{name}: fits {list_files(files)}; say which by its folder"
                return Found(places[0].path, problem, several=True)
        expected = places[0].path
        return Found(expected, f"{expected}: no such file{self._hint(expected)}")

    def _exact(self, places: Sequence[_Place]) -> list[Path]:
        """The first place at which there is a file; of archives, the first in each."""
        found: dict[Path, Path] = {}
        for place in places:
            if place.root not in found and is_file(place.path):
                found[place.root] = place.path
                if not self.below:
                    break
        return list(found.values())

    def _places(self, name: str, folder: str, hints: Sequence[str]) -> list[_Place]:
        """Where a file of this name would lie, the likeliest place first."""
        places = []
        for root in self.roots:
            inner = _within(root, name)
            if inner is None:
                continue
            for part in dict.fromkeys((folder, "", *hints)):
                below = _within(root, f"{part}/{inner}") if part else inner
                places += [] if below is None else [_Place(root, below)]
        return places

    @property
    def _nowhere(self) -> Path:
        """Where a name is expected that can be nowhere: no file."""
        return self.roots[0] / ""

    def _fitting(self, name: str, places: Sequence[_Place]) -> Iterator[list[Path]]:
        """Files that a name may mean, the likeliest kind of them first."""
        inner = _within(places[0].root, name)
        assert inner is not None, "else it would have no place"
        wanted = [form_of(part) for part in inner.parts]
        for without_suffix in (False,) if is_image_name(wanted[-1]) else (False, True):
            yield [
                path
                for place in places
                for path in self._listings.same_form(
                    place.root, place.inner.parts, without_suffix=without_suffix
                )
            ]
            if self.below:
                named = self._index[without_suffix].get(wanted[-1], ())
                yield [path for path in named if _folders_end_with(path, wanted[:-1])]

    def _decided(self, fitting: Sequence[Path], hints: Sequence[str]) -> list[Path]:
        """The files among those that fit; the one in a folder of the hints, if there is one."""
        files = list({Found(p).identity: p for p in fitting if is_file(p)}.values())
        wanted = {form_of(hint) for hint in hints}
        hinted = [p for p in files if wanted & {_bare(part) for part in p.parts[:-1]}]
        return hinted if len(hinted) == 1 else files

    def _hint(self, expected: Path) -> str:
        alike = self._listings.stems(expected.parent).get(form_of(expected.stem), ())
        return f"; did you mean {alike[0]!r}?" if len(alike) == 1 else ""

    @cached_property
    def _index(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        """All images below the roots by the form of their names; and without suffixes."""
        paths = [path for root in self.roots for path in sorted(walk_images(root))]
        names, stems = [path.name for path in paths], [path.stem for path in paths]
        return group_by_form(names, paths), group_by_form(stems, paths)


@dataclass(frozen=True)
class _Place:
    """Where a file may lie within a root."""

    root: Path
    inner: PurePosixPath

    @property
    def path(self) -> Path:
        return self.root / self.inner


def _shortened(name: str) -> str:
    return name if len(name) <= 100 else f"{name[:99]}…"


def _fault(name: str) -> str | None:
    """Why a name cannot be that of a file."""
    if "://" in name:
        return "is an address, and dlmie downloads nothing: name the file of the image"
    longest = max((len(part.encode("utf-8", "replace")) for part in name.split("/")), default=0)
    if longest > _LONGEST:
        return f"is too long for the name of a file ({longest} bytes)"
    return None


def _within(root: Path, name: str) -> PurePosixPath | None:
    """Where a name lies in a folder; None where it leaves it.

    An absolute path of another machine lies in the folder if it goes through one of its name; in
    an archive, if it goes through a folder that the archive is called after.
    """
    if "\\" in name and not is_file(root / name):
        name = name.replace("\\", "/")
    drive = re.match("[A-Za-z]:(?=/)", name)
    text = name[2:] if drive else name
    inner = PurePosixPath(os.path.normpath(text or "."))
    if not inner.is_absolute():
        return None if inner.parts[:1] in ((), ("..",)) else inner
    here = PurePosixPath(os.path.abspath(root))
    if drive is None and inner.is_relative_to(here):
        return inner.relative_to(here) if inner != here else None
    if drive is None and is_file(Path(text)):
        return None
    ours = (form_of(here.name), form_of(here.name).removesuffix(".zip"))
    passed = [place for place, part in enumerate(inner.parts[:-1]) if form_of(part) in ours]
    return PurePosixPath(*inner.parts[passed[-1] + 1 :]) if passed else None


def _bare(folder: str) -> str:
    """``train2014``, ``train2014.zip`` → ``train``"""
    return form_of(folder).removesuffix(".zip").rstrip("0123456789_-")


def _folders_end_with(path: Path, wanted: Sequence[str]) -> bool:
    """Tell whether the folders that a file lies in are, from the end, those of these forms."""
    folders = [form_of(part) for part in Path(os.path.abspath(path)).parts[:-1]]
    return not wanted or folders[-len(wanted) :] == list(wanted)
