"""The unfinished file of a prepared data set: places for images that survive ``kill -9``.

HDF5 makes the file's whole structure, with its space, before the first image.  The images are then
written straight to their places with plain writes, which HDF5 never notices: a file that is cut
off at any moment still opens, and a full disk is an ordinary error (inside HDF5 it would end the
process).  An image counts as done once its stamp is written, after its pixels are on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dlmie.data.captions.records import Record
from dlmie.data.images import stamp_of
from dlmie.data.prepared import reserve
from dlmie.data.splits import in_order
from dlmie.files.checksums import hash_json
from dlmie.files.locks import acquire

VERSION = 2  # of the file format; 1 kept its text as HDF5 text of variable length

_PLACES = 1  # version of where images lie, which is the same in both

_STAMP = np.dtype("<u8")
DIGEST = 16  # bytes of the BLAKE2b of an image's pixels


class Item:
    """One image to write: where it goes and what tells that it was written.

    Its stamp changes when the image file changes, or, for a rendered image, when ``maker`` does.
    """

    def __init__(self, record: Record, slot: int, maker: str) -> None:
        self.record, self.split, self.slot = record, record.split, slot
        mark = f"{record.name}|{maker}"
        if isinstance(record.image, Path):
            mark = f"{record.image.absolute()}|{stamp_of(record.image)}"
        digest = hashlib.blake2b(mark.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        self.stamp = int.from_bytes(digest, "little") | 1  # never 0, which means not done


class Plan:
    """Which image goes to which slot of which split.

    Parameters
    ----------
    records
        One per image; those of files must exist.
    settings
        JSON values that the result depends on, among them ``size``, ``store`` and ``source``.
    """

    def __init__(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        names = in_order({record.split for record in records})
        self.settings = settings
        self.size: int = settings["size"]
        self.store: str = settings["store"]
        self.splits: dict[str, list[Item]] = {name: [] for name in names}
        maker = hash_json(settings["source"])
        for record in records:
            items = self.splits[record.split]
            items.append(Item(record, len(items), maker))

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    def items(self) -> Iterator[Item]:
        """Give all images, split after split."""
        for items in self.splits.values():
            yield from items

    def bytes(self) -> int:
        """Give the space that images take, with what HDF5 needs to find them."""
        return len(self) * ((self.size**2 * 3 if self.store == "pixels" else 0) + 200) + 10_000

    def slots(self) -> str:
        """Hash what fixes the structure of the file; the captions may still change."""
        names = {
            split: [item.record.name for item in items] for split, items in self.splits.items()
        }
        return hash_json([_PLACES, self.size, self.store, names])

    def fingerprint(self, skipped: Sequence[Any]) -> str:
        """Hash all that goes in: equal fingerprints make equal files."""
        content = [
            [item.split, item.record.name, item.stamp, item.record.captions, item.record.objects]
            for item in self.items()
        ]
        return hash_json([_PLACES, dict(self.settings), content, list(skipped)])


class PartFile:
    """The unfinished file, open and locked against other processes.

    Resumes the existing file if it fits the plan, else creates a new one.

    Parameters
    ----------
    path
        The file.
    plan
        What is to be in it.

    Attributes
    ----------
    todo : list[Item]
        The images that it does not hold yet.

    Raises
    ------
    DataError
        If another process is writing it.
    OSError
        If it cannot be written.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self._plan = plan
        self._handle = acquire(path, path)
        try:
            try:
                self._find_places()
            except (OSError, KeyError, ValueError, RuntimeError):  # new, damaged or of another plan
                reserve(self._handle, plan.bytes())  # a full disk must not meet HDF5
                self._make()
                self._find_places()
            reserve(self._handle, os.fstat(self._handle).st_size)
        except BaseException:
            self.close()
            raise
        self.todo = [
            item for item in plan.items() if self._done[item.split][item.slot] != item.stamp
        ]

    def write(self, item: Item, pixels: np.ndarray, digest: bytes) -> None:
        """Put an image into its place; it counts after :meth:`commit`."""
        places = self._places[item.split]
        if "images" in places:
            self._put(places["images"][item.slot], pixels.tobytes())
        self._put(places["digests"] + item.slot * DIGEST, digest)

    def commit(self, items: Sequence[Item]) -> None:
        """Make images count that were written, when the disk has them."""
        getattr(os, "fdatasync", os.fsync)(self._handle)
        for item in items:
            stamp = np.array(item.stamp, _STAMP).tobytes()
            self._put(self._places[item.split]["done"] + item.slot * _STAMP.itemsize, stamp)

    @contextlib.contextmanager
    def finish(self, room: int) -> Iterator[h5py.File]:
        """Open the file with HDF5 to write the rest, at most ``room`` bytes, and put it on disk.

        The room is taken beforehand, so that HDF5 does not meet a full disk; and nothing that is
        there is changed before the end, so that ``kill -9`` still leaves a file to go on with.
        """
        end = os.fstat(self._handle).st_size
        try:
            for start in range(end, end + room, 1 << 20):
                self._put(start, bytes(min(1 << 20, end + room - start)))
        except OSError:
            os.ftruncate(self._handle, end)
            raise
        with h5py.File(self.path, "r+", libver="earliest", locking=False) as file:
            cache = file.id.get_mdc_config()
            cache.incr_mode = cache.flash_incr_mode = cache.decr_mode = 0
            cache.evictions_enabled = False
            file.id.set_mdc_config(cache)
            yield file
        os.fsync(self._handle)

    def close(self) -> None:
        """Close and unlock it."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def _find_places(self) -> None:
        """Look up where in the file the values are, and which images are done."""
        self._places: dict[str, dict[str, Any]] = {}
        self._done: dict[str, np.ndarray] = {}
        with h5py.File(self.path, "r", locking=False) as file:
            if file.attrs["slots"] != self._plan.slots():
                raise ValueError("made for other images")
            for split, items in self._plan.splits.items():
                group = file["splits"][split]
                places: dict[str, Any] = {}
                for name in ("digests", "done"):
                    places[name] = group[name].id.get_offset()
                    if places[name] is None or len(group[name]) != len(items):
                        raise ValueError("has no room")
                if self._plan.store == "pixels":
                    look = group["images"].id.get_chunk_info_by_coord
                    places["images"] = [
                        look((slot, 0, 0, 0)).byte_offset for slot in range(len(items))
                    ]
                    if None in places["images"]:
                        raise ValueError("has no room")
                self._places[split], self._done[split] = places, group["done"][()]

    def _make(self) -> None:
        size = self._plan.size
        with h5py.File(self.path, "w", libver="earliest", locking=False) as file:
            file.attrs["slots"] = self._plan.slots()
            for split, items in self._plan.splits.items():
                group = file.create_group(f"splits/{split}")
                count = len(items)
                if self._plan.store == "pixels":
                    _allocate(group, "images", (count, size, size, 3), np.dtype("u1"), True)
                _allocate(group, "digests", (count, DIGEST), np.dtype("u1"), False)
                _allocate(group, "done", (count,), _STAMP, False)

    def _put(self, place: int, data: bytes) -> None:
        view = memoryview(data)
        while view:  # one write may take less than all
            count = os.pwrite(self._handle, view, place)
            view, place = view[count:], place + count


def _allocate(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, chunked: bool
) -> None:
    """Make a data set whose place in the file is fixed now: one block, or one chunk a row."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    if chunked:
        properties.set_chunk((1, *shape[1:]))
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # pixels are written before they count
    else:
        properties.set_fill_value(np.zeros((), dtype))
        properties.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    kind, space = h5py.h5t.py_create(dtype), h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, name.encode(), kind, space, properties)
