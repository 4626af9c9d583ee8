"""The one way in which dlmie writes a file: whole or not at all, never half of it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dlmie.errors import DataError
from dlmie.files.documents import json_text
from dlmie.text import printable

#: The end of the name of every file that is not finished.
UNFINISHED = ".part"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = tuple(os.strerror(number) for number in _FULL)


def write(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file: it is there whole or not at all.

    Missing folders are made, links are followed, and what is not a regular file (``/dev/stdout``,
    a pipe) is written as it stands.

    Raises
    ------
    DataError
        The disk is full or the folder cannot be written; nothing is left behind.
    """
    with explained(path), replacing(path) as file:
        file.write(content)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write text in UTF-8, bytes of file names that are not as ``\\xe9``; see :func:`write`."""
    return write(path, printable(text).encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write plain values as JSON that people can read; see :func:`write`."""
    return write_text(path, json_text(value) + "\n")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes its name when the block ends well and the disk has its content.

    Until then it has no name, or one that no other process uses; an earlier file stays as it is.
    This is what :func:`write` does, with the system's own errors.

    Yields
    ------
    file
        Binary, for writing, reading and seeking.

    Raises
    ------
    OSError
        Nothing is left behind.

    Examples
    --------
    >>> with replacing("/dev/null") as file:
    ...     _ = file.write(b"gone")
    """
    target = Path(os.path.realpath(path))
    earlier = _status(target)
    if earlier is not None and not stat.S_ISREG(earlier.st_mode):
        if stat.S_ISDIR(earlier.st_mode):
            raise OSError(errno.EISDIR, "it is a folder")
        with target.open("wb") as file:
            yield file
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = None if earlier is None else stat.S_IMODE(earlier.st_mode)
    with _unnamed(target) as file:
        yield file
        file.flush()
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def finish(part: Path, path: Path) -> None:
    """Give an unfinished file its name, once the disk has its content.

    For files that grow over hours or that another library writes; :func:`replacing` for others.
    """
    descriptor = os.open(part, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(part, path)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _unnamed(target: Path) -> Iterator[IO[bytes]]:
    """A new file in the folder of ``target``, renamed to it at the end, else deleted."""
    part = target.with_name(temporary_name(target.name))
    descriptor = _open_without_name(target.parent)
    named = descriptor is None
    if descriptor is None:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            if not named:
                _name(file.fileno(), part)
                named = True
        os.replace(part, target)
    except BaseException:
        if named:
            with contextlib.suppress(OSError):
                part.unlink()
        raise


def temporary_name(name: str) -> str:
    """A name for an unfinished file that no other process uses: ``NAME.1f0a99c2.part``."""
    ending = f".{secrets.token_hex(4)}{UNFINISHED}"
    # File systems count bytes, 255 of them; a letter that is cut in two is left out.
    room = 255 - len(ending)
    return os.fsencode(name)[:room].decode("utf-8", "ignore") + ending


def _open_without_name(folder: Path) -> int | None:
    """A file that vanishes with its process, even by ``kill -9``; None where there are none."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, flag | os.O_RDWR, 0o666)
    except OSError:  # not on this file system; other errors recur in the ordinary way
        return None


def _name(descriptor: int, path: Path) -> None:
    """Give a file without name its name, which must be free."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # With the number of a folder, which an absolute path ignores, links are followed.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


@contextlib.contextmanager
def explained(
    path: str | os.PathLike[str],
    room: str = "free some space or name another folder (an earlier version of the file is "
    "untouched)",
) -> Iterator[None]:
    """Turn what writing a file may raise into one line that says what to do.

    Parameters
    ----------
    path : path
        What is being written.
    room : str
        What to do about a disk that is full.

    Raises
    ------
    DataError
        For every OSError of the block.
    """
    try:
        yield
    except OSError as error:
        # HDF5 says it in words alone, somewhere in its message.
        full = error.errno in _FULL or any(text in str(error) for text in _FULL_TEXTS)
        reason = error.strerror or str(error).partition("\n")[0]
        said = f"the disk is full; {room}" if full else reason
        raise DataError(f"{path} was not written: {said}") from error
