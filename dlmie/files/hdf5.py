"""The one way in which dlmie opens HDF5 files, whoever made them; and text inside them.

An HDF5 file can name other files whose content is then read as its own, declare sizes that no
memory holds, and keep text in heaps that the HDF5 library follows without end where two bytes are
damaged. What is opened here does none of that.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dlmie.errors import DataError, DlmieError
from dlmie.files.documents import parse_json
from dlmie.files.limits import check_declared
from dlmie.files.opening import check_readable

if TYPE_CHECKING:
    import h5py

MAX_ENTRIES = 100_000  # names of groups and datasets in one file

#: What h5py raises where a file is damaged or of another layout.
DAMAGE = (OSError, KeyError, TypeError, ValueError, RuntimeError)

_NUMBERS = "biufc"


def open_hdf5(
    path: str | os.PathLike[str],
    error: type[DlmieError] = DataError,
    *,
    what: str = "an HDF5 file",
    fix: str = "copy it again",
) -> h5py.File:
    """Open a file for reading, checked to be one that is harmless.

    HDF5's own locks keep nobody from reading: dlmie replaces files, it does not change them.

    Parameters
    ----------
    path : path
    error : type
        What is raised.
    what : str
        What the file should be, for messages.
    fix : str
        What to do where it is not, for messages.

    Raises
    ------
    error
        In one line: the file is missing, cannot be opened (with the system's reason), is
        damaged, takes data from other files, or declares more than its size can back.
    """
    path = Path(path)
    size = check_readable(path, error)
    try:
        file = _open(path)
    except OSError as problem:
        if problem.errno is not None:
            raise error(f"{path}: cannot be opened: {os.strerror(problem.errno)}") from None
        if "truncated" in str(problem):
            raise error(f"{path} ({size:,} bytes) is truncated; {fix}") from None
        raise error(f"{path} ({size:,} bytes) is not {what}, or it is damaged; {fix}") from None
    try:
        guard(file, size, error, f"{path}: ")
        refuse_links(file, error, f"{path}: ")
    except DlmieError:
        file.close()
        raise
    except DAMAGE:
        file.close()
        raise error(f"{path} is damaged; {fix}") from None
    return file


def _open(path: Path) -> h5py.File:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as problem:
        # Locked by a process that changes it or has just finished it, or there are no locks here.
        # Not opened so at once: HDF5 opens no file with and without lock in one process.
        if "lock" not in str(problem):
            raise
        return h5py.File(path, "r", locking=False)


def guard(root: h5py.File, size: int, error: type[DlmieError], where: str = "") -> None:
    """Refuse an open file that takes data from others or declares more than it can hold.

    Links to other files are not followed here; what looks names up must refuse them first
    (:func:`refuse_links`).

    Parameters
    ----------
    root : h5py.File
    size : int
        Bytes of the file.
    error : type
        What is raised.
    where : str
        How messages begin.
    """
    import h5py

    declared = 0
    for number, (name, _, item) in enumerate(entries(root)):
        if number > MAX_ENTRIES:
            raise error(f"{where}holds more than {MAX_ENTRIES:,} entries; refused")
        if isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                raise error(f"{where}takes {name} from another file; refused")
            declared += math.prod(item.shape or ()) * item.dtype.itemsize
    check_declared(declared, size, error, where)


def refuse_links(root: h5py.File, error: type[DlmieError], where: str = "") -> None:
    """Refuse an open file in which a name may stand for something in another file."""
    import h5py

    for name, link, _ in entries(root):
        if not isinstance(link, (h5py.HardLink, h5py.SoftLink)):
            raise error(f"{where}takes {name} from another file; refused")


def entries(
    root: h5py.Group, path: str = "", seen: set[object] | None = None
) -> Iterator[tuple[str, object, object]]:
    """Every name in a file, how it is linked, and what it stands for if that is in the file.

    Not h5py's own visitors: in them an error, as damage causes it, becomes a SystemError.
    """
    import h5py

    seen = seen or set()
    seen.add(root.id)
    for name in root:
        link = root.get(name, getlink=True)
        item = root[name] if isinstance(link, h5py.HardLink) else None
        yield f"{path}{name}", link, item
        if isinstance(item, h5py.Group) and item.id not in seen:
            yield from entries(item, f"{path}{name}/", seen)


def numbers(dataset: h5py.Dataset) -> np.ndarray:
    """The content of a dataset of numbers.

    Raises
    ------
    ValueError
        It holds something else.
    OSError
        It is damaged.
    """
    if not is_numeric(dataset):
        raise ValueError(f"{dataset.name} holds no numbers")
    return np.asarray(dataset[()])


def is_numeric(item: object) -> bool:
    """Whether something in a file is a dataset of booleans, integers, floats or complex numbers."""
    import h5py

    return isinstance(item, h5py.Dataset) and item.dtype.kind in _NUMBERS


def file_image(fill: Callable[[h5py.File], object], **options: Any) -> bytes:
    """The bytes of an HDF5 file that ``fill`` puts content into, made in memory.

    The library that writes HDF5 does not survive a disk that fills up meanwhile: what it could not
    write it tries again when the process ends, and fails where nobody can catch it.
    """
    import h5py

    with h5py.File("in memory", "w", driver="core", backing_store=False, **options) as file:
        fill(file)
        file.flush()
        return file.id.get_file_image()


def text_bytes(texts: Iterable[str]) -> int:
    """The space that :func:`create_texts` takes at most."""
    return 4096 + sum(6 * len(text.encode("utf-8", "surrogatepass")) + 4 for text in texts)


def create_text(group: h5py.Group, name: str, text: str) -> None:
    """Keep a text: as bytes with a checksum, which no damage turns into something else."""
    content = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    filters: Mapping[str, object] = (
        {"chunks": content.shape, "fletcher32": True} if content.size else {}
    )
    group.create_dataset(name, data=content, **filters)


def create_texts(group: h5py.Group, name: str, texts: list[str]) -> None:
    """Keep a list of texts; see :func:`create_text`."""
    create_text(group, name, json.dumps(texts, ensure_ascii=False))


def read_text(dataset: h5py.Dataset) -> str:
    """A text of :func:`create_text`, or one of the variable length that dlmie 0.1 wrote.

    Raises
    ------
    ValueError, OSError
        It is no text, or damaged.
    """
    if is_numeric(dataset):
        content = numbers(dataset)
        if content.dtype != np.uint8:
            raise ValueError(f"{dataset.name} holds no text")
        return content.tobytes().decode("utf-8", "surrogatepass")
    (text,) = _variable_texts(dataset)
    return text


def read_texts(dataset: h5py.Dataset) -> list[str]:
    """A list of :func:`create_texts`, or one of the variable length that dlmie 0.1 wrote.

    Raises
    ------
    ValueError, OSError
        It is no list of texts, or damaged.
    """
    if not is_numeric(dataset):
        return _variable_texts(dataset)
    texts = parse_json(read_text(dataset), str(dataset.name))
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{dataset.name} holds no list of texts")
    return texts


_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
_HEAP = b"GCOL"
_HEAP_HEAD = struct.Struct("<4s B 3x Q")  # signature, version, size
_OBJECT_HEAD = struct.Struct("<H 6x Q")  # index, size


def _variable_texts(dataset: h5py.Dataset) -> list[str]:
    """Text of variable length, without the HDF5 library: it follows a damaged heap without end.

    A dataset of such text holds references into "global heaps" (HDF5 File Format Specification,
    III.E). All of them are looked up within the bounds of the file.
    """
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise ValueError("holds a group in place of text")
    plan = dataset.file.id.get_create_plist()
    if h5py.check_string_dtype(dataset.dtype) is None or plan.get_sizes() != (8, 8):
        raise ValueError(f"{dataset.name} holds no text")
    count, offset = math.prod(dataset.shape), dataset.id.get_offset()
    if not count:
        return []
    if offset is None or plan.get_userblock():
        raise ValueError(f"{dataset.name} is not laid out as dlmie does")
    heaps: dict[int, dict[int, bytes]] = {}
    texts = []
    with open(dataset.file.filename, "rb") as file:
        references = np.frombuffer(_at(file, offset, count * _REFERENCE.itemsize), _REFERENCE)
        for length, heap, index in references.tolist():
            if heap not in heaps:
                heaps[heap] = _read_heap(file, heap) if heap else {0: b""}
            content = heaps[heap].get(index)
            if content is None or length > len(content):
                raise ValueError(f"{dataset.name} is damaged")
            texts.append(content[:length].decode("utf-8", "surrogateescape"))
    return texts


def _read_heap(file: IO[bytes], place: int) -> dict[int, bytes]:
    """The objects of a global heap by their index."""
    signature, version, size = _HEAP_HEAD.unpack(_at(file, place, _HEAP_HEAD.size))
    if signature != _HEAP or version != 1:
        raise ValueError("a heap of text is damaged")
    content, here = _at(file, place, size), _HEAP_HEAD.size
    found: dict[int, bytes] = {}
    while here + _OBJECT_HEAD.size <= size:
        index, length = _OBJECT_HEAD.unpack_from(content, here)
        if index == 0:  # the rest is free
            break
        here += _OBJECT_HEAD.size
        if here + length > size:
            raise ValueError("a heap of text is damaged")
        found[index] = content[here : here + length]
        here += -(-length // 8) * 8
    return found


def _at(file: IO[bytes], place: int, count: int) -> bytes:
    """Bytes at a place of a file, all of which must be there."""
    if place + count > os.fstat(file.fileno()).st_size:
        raise ValueError("the file is damaged")
    file.seek(place)
    return file.read(count)


def check_heaps(file: IO[bytes]) -> None:
    """Search a file that another program wrote for damaged heaps, before the HDF5 library reads it.

    Reads all of it, as whoever wants its arrays does anyway.

    Raises
    ------
    ValueError
        A heap is damaged.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(_HEAP)
        while place >= 0:
            if place % 8 == 0:  # as HDF5 aligns them
                _read_heap(file, place)
            place = content.find(_HEAP, place + 1)
    file.seek(0)
