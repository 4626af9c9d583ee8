"""Images in zip archives, read where they lie, by paths that go through the archive.

``train2014.zip/train2014/a.jpg`` is the file ``train2014/a.jpg`` in ``train2014.zip``.  Nothing is
unpacked to the disk: a member is read into memory, up to :data:`MAX_MEMBER` bytes, when its pixels
are wanted.
"""

from __future__ import annotations

import functools
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dlmie.data.images.pixels import ImageError
from dlmie.errors import DataError
from dlmie.text import bytes_text

#: Members that claim to be larger are not read: they have to lie in memory as a whole.
MAX_MEMBER = 128 * 2**20

_UTF_8 = 0x800  # flag of a name that is written so, not in the encoding of DOS
_ENCRYPTED = 0x1
# What reading a damaged or unusual member raises.
_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
    *(NotImplementedError, RuntimeError),
)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes
    ----------
    archive : Path
    name : str
        With folders, ``/`` between them.
    """

    archive: Path
    name: str

    @property
    def path(self) -> Path:
        """The path that goes through the archive."""
        return self.archive / self.name

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for all paths to this file, and for no other."""
        status = self.archive.stat()
        return (status.st_dev, status.st_ino, self.name)

    @property
    def stamp(self) -> str:
        """Changes when the file does: its length and checksum."""
        info = self._info()
        return f"{info.file_size}|{info.CRC:08x}"

    def read(self, limit: int = MAX_MEMBER) -> bytes:
        """The content.

        Raises
        ------
        ImageError
            It is too large, encrypted, damaged or there twice; one line that names it.
        """
        archive, info = _opened(self.archive), self._info()
        if info.file_size > limit:
            size = bytes_text(info.file_size)
            raise ImageError(f"{self.path}: would take {size} of memory: unpack the archive")
        if info.flag_bits & _ENCRYPTED:
            raise ImageError(f"{self.path}: is encrypted: unpack the archive")
        try:
            with archive.file.open(info) as member:
                return member.read(limit)  # checks the checksum at the end
        except _FAULTS as error:
            raise ImageError(f"{self.path}: is damaged in its archive ({_line(error)})") from None

    def start(self, length: int) -> bytes:
        """The first bytes; none where they cannot be read."""
        try:
            with _opened(self.archive).file.open(self._info()) as member:
                return member.read(length)
        except (DataError, *_FAULTS):
            return b""

    def _info(self) -> zipfile.ZipInfo:
        found = _opened(self.archive).members.get(self.name, ())
        if len(found) == 1:
            return found[0]
        if found:
            raise ImageError(
                f"{self.path}: the archive holds {len(found)} files of this name: make it anew"
            )
        raise ImageError(f"{self.path}: no such file in the archive")


class _Archive:
    """An open archive and what lies in its folders.

    Names that leave the archive (``/etc/x``, ``../x``) are no members.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.file = zipfile.ZipFile(path)
        except _FAULTS as error:
            raise DataError(f"{path}: cannot be read as a zip archive ({_line(error)})") from None
        self.members: dict[str, list[zipfile.ZipInfo]] = {}
        self.folders: dict[str, set[str]] = {"": set()}
        for info in self.file.infolist():
            name = _name(info)
            if name is None:
                continue
            if not info.is_dir():
                self.members.setdefault(name, []).append(info)
            parts = name.split("/")
            for depth, part in enumerate(parts):
                self.folders.setdefault("/".join(parts[:depth]), set()).add(part)
            if info.is_dir():
                self.folders.setdefault(name, set())


def _name(info: zipfile.ZipInfo) -> str | None:
    """The name of a member; None where it lies outside of the archive.

    Many programs write names in UTF-8 without the flag that says so.
    """
    name = info.filename
    if not info.flag_bits & _UTF_8:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or not inner.parts:
        return None
    return inner.as_posix()


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _opened(path: Path) -> _Archive:
    status = path.stat()
    return _kept(path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _kept(path: Path, *state: int) -> _Archive:
    """One reading of the directory of an archive, as long as the file stays as it is."""
    return _Archive(path)


def archive_of(path: Path) -> tuple[Path, str] | None:
    """The archive that a path names or goes through, and what follows it; None for other paths.

    An archive is told by its suffix, ``.zip``.

    Examples
    --------
    >>> archive_of(Path("photos/a.jpg")) is None
    True
    """
    for place in (path, *path.parents):
        if is_archive(place):
            return place, path.relative_to(place).as_posix() if place != path else ""
    return None


def is_archive(path: Path) -> bool:
    """Whether a path names an archive."""
    return path.suffix.lower() == ".zip" and path.is_file()


def member_of(path: Path) -> Member | None:
    """The member that a path names, whether or not it is there; None for an ordinary path.

    Raises
    ------
    DataError
        The archive cannot be read.
    """
    found = archive_of(path)
    if found is None or not found[1]:
        return None
    member = Member(*found)
    _opened(member.archive)
    return member


def has_member(path: Path) -> bool:
    """Whether a path names a file in an archive."""
    found = archive_of(path)
    return found is not None and found[1] in _opened(found[0]).members


def is_archive_folder(path: Path) -> bool:
    """Whether a path names an archive, or a folder in one."""
    found = archive_of(path)
    return found is not None and found[1] in _opened(found[0]).folders


def names_in_archive(path: Path) -> list[str] | None:
    """What lies in an archive or in a folder of one, sorted; None for other paths."""
    found = archive_of(path)
    if found is None:
        return None
    return sorted(_opened(found[0]).folders.get(found[1], ()))


def walk_archive(path: Path, recursive: bool = True) -> Iterator[Member]:
    """The files in an archive or in a folder of one; hidden ones, and those of macOS, left out."""
    found = archive_of(path)
    if found is None:
        return
    archive, folder = found
    depth = len(folder.split("/")) if folder else 0
    for name in _opened(archive).members:
        parts = name.split("/")
        inner = parts[depth:]
        if parts[:depth] != folder.split("/")[:depth] or not (recursive or len(inner) == 1):
            continue
        if not any(part.startswith(".") or part == "__MACOSX" for part in inner):
            yield Member(archive, name)
