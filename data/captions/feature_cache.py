"""Reading of feature caches: what an encoder made of every image of a data set.

The layout of a cache (HDF5, format version 2; version 1 kept the header as HDF5 text)::

    header                  JSON: format, version, encoder, layer, weights, preprocessing, data, …
    splits/NAME/features    (images, …) float16 or float32; chunks of few images, gzip, checksums
    splits/NAME/flipped     the same of the mirrored images, if wanted
    splits/train/crop1 …    the same of random crops, if wanted
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import h5py
import numpy as np

from dlmie.data.images.views import FIRST_CROP, MIRRORED, PLAIN
from dlmie.errors import DataError
from dlmie.files.datasets import reading
from dlmie.files.headers import Kind
from dlmie.files.schema import Key, check_document

if TYPE_CHECKING:
    from dlmie.data.captions.dataset import Captions
    from dlmie.data.captions.given_features import ArrayOptions

KIND = Kind("dlmie.features", 2, "a feature cache", "dlmie features")


_HEADER = {
    "shape": Key(list, each=Key(int, low=1)),
    "splits": Key(dict, each=Key(int, low=0)),
    "dtype": Key(str, among=("float16", "float32")),
    "flip": Key(bool),
    "crops": Key(int, low=0, high=1000, required=False),
    "data": Key(str),
    "preprocessing": Key(dict, required=False),
}


class Features:
    """A feature cache that `extract_features` wrote.

    Parameters
    ----------
    path
        The file.
    in_memory
        Whether to keep what was read of a split in memory. By default if the whole file,
        decompressed, takes less than a quarter of the memory that is free now. Without it memory
        is bounded by what one `read` returns.

    Attributes
    ----------
    path : Path
        The file.
    header : dict
        What the file says of itself: ``encoder``, ``layer``, ``weights``, ``preprocessing``,
        ``data`` (hash of the data set), ``dtype``, ``flip``, ``shape``, ``splits``.
    shape : tuple of int
        Shape of the features of one image: ``(1280, 7, 7)``.
    splits : dict
        Number of images of each split.
    in_memory : bool
        Whether reading keeps what it reads.

    Raises
    ------
    DataError
        If the file is missing, damaged, not a feature cache or of a newer format.

    Examples
    --------
    Read three annotation grids::

        features = Features("flickr8k-block10.h5")
        features.read("train", [0, 5, 17]).shape    # (3, 112, 14, 14)
    """

    def __init__(self, path: str | Path, in_memory: bool | None = None) -> None:
        self.path = Path(path)
        with reading(self.path, KIND) as (self._file, self.header):
            check_document(self.header, _HEADER, self.path)
            self.shape: tuple[int, ...] = tuple(self.header["shape"])
            _check_layout(self.shape, self.header.get("layout"), self.path)
            self.splits: dict[str, int] = dict(self.header["splits"])
            self._data: dict[tuple[str, int], h5py.Dataset | np.ndarray] = {}
            for name, images in self.splits.items():
                for view, stored in views(self.header, name).items():
                    data = self._file["splits"][name][stored]
                    if data.shape != (images, *self.shape):
                        raise KeyError(name)
                    self._data[name, view] = data
        if in_memory is None:
            in_memory = self.nbytes < available_memory() / 4
        self.in_memory = in_memory

    @staticmethod
    def from_arrays(
        data: Captions, arrays: Mapping[str, np.ndarray], **options: Unpack[ArrayOptions]
    ) -> Features:
        """Features that another program made: see :func:`features_from_arrays`."""
        from dlmie.data.captions.given_features import features_from_arrays

        return features_from_arrays(data, arrays, **options)

    @property
    def nbytes(self) -> int:
        """Bytes of all features, decompressed."""
        each = int(np.prod(self.shape)) * np.dtype(self.header["dtype"]).itemsize
        return each * sum(len(views(self.header, s)) * n for s, n in self.splits.items())

    def read(
        self,
        split: str,
        indices: Sequence[int] | np.ndarray,
        view: int | Sequence[int] | np.ndarray = 0,
    ) -> np.ndarray:
        """Read the features of some images.

        Parameters
        ----------
        split
            Name of the split.
        indices
            Places in the split, in any order, repetitions allowed; increasing ones are read
            fastest.
        view
            0: of the image; 1: of its mirror image; from 2 on: of a crop. For all, or one for each
            index.

        Returns
        -------
        numpy.ndarray
            ``(images, *shape)`` float32.

        Raises
        ------
        DataError
            If there is no such split, image or view, or the file is damaged.
        """
        if split not in self.splits:
            raise DataError(f"{self.path}: has no split {split!r}; it has {', '.join(self.splits)}")
        indices = np.asarray(indices, np.int64).reshape(-1)
        outside = indices[(indices < 0) | (indices >= self.splits[split])]
        if len(outside):
            raise DataError(
                f"{self.path}: has no image {outside[0]} in {split}, which has "
                f"{self.splits[split]}: it was made of other data"
            )
        wanted = np.broadcast_to(np.asarray(view, np.int64), indices.shape)
        kinds = np.unique(wanted).tolist()
        for kind in kinds:
            if (split, kind) not in self._data:
                what = "mirrored images" if kind == MIRRORED else f"crop {kind - FIRST_CROP + 1}"
                raise DataError(
                    f"{self.path}: holds no features of {what} of {split}; make them with "
                    f"{'flip' if kind == MIRRORED else 'crops'}, or train without it"
                )
        if len(kinds) == 1:
            return self._rows(split, kinds[0], indices).astype(np.float32, copy=False)
        result = np.empty((len(indices), *self.shape), np.float32)
        for kind in kinds:
            result[wanted == kind] = self._rows(split, kind, indices[wanted == kind])
        return result

    def _rows(self, split: str, view: int, indices: np.ndarray) -> np.ndarray:
        data = self._data[split, view]
        try:
            if self.in_memory and isinstance(data, h5py.Dataset):
                data = self._data[split, view] = data[()]
            if isinstance(data, np.ndarray):
                return data[indices]
            wanted, places = np.unique(indices, return_inverse=True)
            rows = np.empty((len(wanted), *self.shape), data.dtype)
            # Neighbors are read in one go; a list of rows is what h5py is slow at.
            for run in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(wanted) > 1) + 1):
                if len(run):
                    source = np.s_[wanted[run[0]] : wanted[run[-1]] + 1]
                    data.read_direct(rows, source, np.s_[run[0] : run[-1] + 1])
        except OSError:
            raise DataError(f"{self.path}: is damaged; make the features again") from None
        return rows if np.array_equal(wanted, indices) else rows[places]

    def check_matches(self, expected: Mapping[str, Any]) -> None:
        """Refuse to mix: compare the header with what is needed.

        Parameters
        ----------
        expected
            Any keys of ``header`` with the values that they must have: ``{"layer": "block10",
            "data": captions.hash}``.

        Raises
        ------
        DataError
            Naming every difference.
        """
        found = differences(self.header, expected)
        if found:
            raise DataError(
                f"{self.path}: does not fit: {'; '.join(found)}. Make the features again for this, "
                "or name the file that was made so"
            )

    def close(self) -> None:
        """Close the file; what is in memory can still be read."""
        self._file.close()

    def __enter__(self) -> Features:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.shape))
        splits = ", ".join(f"{name} {images}" for name, images in self.splits.items())
        where = "in memory" if self.in_memory else "on disk"
        return f"Features({self.path.name}: {splits}; {shape} {self.header['dtype']}, {where})"


def _check_layout(shape: tuple[int, ...], layout: object, path: Path) -> None:
    """Refuse grids that look as if channels came last, unless the file says that they do not."""
    if layout is None and len(shape) == 3 and shape[0] == shape[1] != shape[2]:
        raise DataError(
            f"{path}: features of shape {shape} seem to be rows, columns, channels, but dlmie "
            "keeps channels first: make the file with Features.from_arrays(…, layout=…)"
        )


def views(header: Mapping[str, Any], split: str) -> dict[int, str]:
    """The views of images that a cache holds of a split, with the names of their arrays.

    Crops are to learn from: only the images of the split "train" have some.

    Examples
    --------
    >>> views({"flip": True, "crops": 2}, "train")
    {0: 'features', 1: 'flipped', 2: 'crop1', 3: 'crop2'}
    """
    crops = header.get("crops", 0) if split == "train" else 0
    mirrored = {MIRRORED: "flipped"} if header["flip"] else {}
    cropped = {FIRST_CROP + k: f"crop{k + 1}" for k in range(crops)}
    return {PLAIN: "features", **mirrored, **cropped}


def differences(header: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Name every expected value that a header does not have: ``layer is 'fc7', not 'conv5_3'``.

    What is expected to be None may be missing.

    Examples
    --------
    >>> differences({"layer": "fc7", "size": 224}, {"layer": "conv5_3", "size": 224})
    ["layer is 'fc7', not 'conv5_3'"]
    """
    found = []
    for key, value in plain(expected).items():
        there = header.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            found += [f"{key}.{line}" for line in differences(there, value)]
        elif key not in header and value is not None:
            found.append(f"{key} is not recorded, should be {_short(value)}")
        elif there != value:
            found.append(f"{key} is {_short(there)}, not {_short(value)}")
    return found


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn values into what comes back from a JSON file (tuples become lists)."""
    try:
        return json.loads(json.dumps(dict(values)))
    except (TypeError, ValueError) as error:
        raise DataError(f"the header of features takes only JSON values: {error}") from None


def _short(value: Any) -> str:
    text = repr(value)
    # Two hashes are told apart by their beginnings.
    return f"{text[1:13]}…" if re.fullmatch(r"'[0-9a-f]{40,}'", text) else text


def available_memory() -> int:
    """Bytes of memory that this process can still use, also inside a container."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    bounds = [pages // 2]  # where nothing better is known: half of the machine
    with contextlib.suppress(OSError, ValueError, AttributeError):
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        bounds = [int(match[1]) * 1024]  # type: ignore[index]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        root = Path("/sys/fs/cgroup")
        with contextlib.suppress(OSError, ValueError):  # no such group, or the limit is "max"
            bounds.append(int((root / limit).read_text()) - int((root / used).read_text()))
    return max(0, min(bounds))


FeatureSource = Features | str | Path
"""A feature cache, or where it lies."""
