"""Features that another program made: named arrays in, a feature cache out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Required, TypedDict

import numpy as np

from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.feature_cache import KIND, Features
from dlmie.data.captions.feature_pieces import Plan, checked_rows, unfinished
from dlmie.data.images import Preprocessing, form_of
from dlmie.errors import DataError
from dlmie.files.datasets import resumable
from dlmie.files.documents import read_text
from dlmie.files.outputs import Outputs

LAYOUTS = ("channels-first", "channels-last")


class ArrayOptions(TypedDict, total=False):
    """Options of :func:`features_from_arrays`."""

    encoder: Required[str]
    to: Required[str | Path]
    layer: str
    layout: str | None
    dtype: str
    overwrite: bool


def features_from_arrays(
    data: Captions,
    arrays: Mapping[str, np.ndarray],
    *,
    encoder: str,
    to: str | Path,
    layer: str = "features",
    layout: str | None = None,
    dtype: str = "float16",
    overwrite: bool = False,
) -> Features:
    """Keep features that another program made, so that captioners train on them.

    A captioner that learned from them captions from such features alone (``dlmie evaluate``): dlmie
    has no encoder that would make them of a photograph.

    Parameters
    ----------
    data : Captions
    arrays : mapping
        By name of the image, (channels,) or a grid; those of images that are not in the data are
        left out.
    encoder, layer : str
        What made them, such as "clip ViT-B/32": it is noted.
    to : path
    layout : str, optional
        Of grids: "channels-first" (channels, rows, columns), or "channels-last" (rows, columns,
        channels). Where it is not given, the shape must leave no doubt that channels come first.
    dtype : str
        "float16" or "float32".
    overwrite : bool
        Replace a file.

    Raises
    ------
    DataError
        An image has no array; arrays hold no numbers, have different shapes, or one that is no
        such layout; values are not finite, or too large for ``dtype``; the file exists.

    Examples
    --------
    >>> arrays = dict(zip(names, np.load("clip.npy"), strict=True))          # doctest: +SKIP
    >>> Features.from_arrays(data, arrays, encoder="clip ViT-B/32", to="clip.h5")  # doctest: +SKIP
    """
    if layout not in (None, *LAYOUTS):
        raise DataError(f"layout is {' or '.join(LAYOUTS)}, not {layout!r}")
    if dtype not in ("float16", "float32"):
        raise DataError(f"dtype is 'float16' or 'float32', not {dtype!r}")
    to = Path(to).absolute()
    Outputs([data.path]).refuse_inputs(to)
    if to.exists() and not overwrite:
        raise DataError(f"{to}: exists; name another file or overwrite it")
    rows = {split.name: _rows(arrays, split.names, data.path) for split in data}
    shapes = {np.shape(array) for each in rows.values() for array in each}
    if len(shapes) != 1:
        some = " and ".join(map(str, sorted(shapes)[:3]))
        raise DataError(f"features of one encoder have one shape, not {some}")
    (stored,) = shapes
    axes = _axes(stored, layout)
    digest = hashlib.sha256()
    for each in rows.values():
        for array in each:
            digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    seen = Preprocessing(data.size).to_json()
    header = {
        "encoder": {
            "name": encoder,
            "layer": layer,
            "size": data.size,
            "weights": {"sha256": digest.hexdigest()},  # of the features: whoever made them
            "preprocessing": seen,
        },
        "format": KIND.format,
        "version": KIND.version,
        "preprocessing": seen,
        "data": data.hash,
        "dtype": dtype,
        "layout": "channels-first",
        "flip": False,
        "splits": {name: len(each) for name, each in rows.items()},
        "shape": [stored[axis] for axis in axes],
    }
    _write(to, json.loads(json.dumps(header)), rows, axes)
    return Features(to)


def named_arrays(path: Path, names: Path | None) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file by name; the rows of a ``.npy`` file by a list of names.

    Raises
    ------
    DataError
        Not such a file, or damaged; no names, or another number of them; a name that is listed
        twice.
    """
    if path.suffix.lower() not in (".npy", ".npz") or not path.is_file():
        raise DataError(f"{path}: features come as a file .npy, with a list of names, or .npz")
    try:
        with path.open("rb") as file:  # np.load alone would leave a damaged one open
            if file.read(2) == b"PK":
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return {name: archive[name] for name in archive.files}
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # of many kinds: NumPy evaluates what stands in a header
        raise DataError(f"{path}: cannot be read ({str(error).partition(chr(10))[0]})") from None
    if not loaded.ndim:
        raise DataError(f"{path}: is one number, not a row for each image")
    if names is None:
        raise DataError(f"{path}: which row is which image? Name a list, one a line, with --names")
    listed = [line.strip() for line in read_text(names).split("\n") if line.strip()]
    if len(listed) != len(loaded):
        raise DataError(f"{names}: lists {len(listed):,} images, {path} has {len(loaded):,} rows")
    twice = next((name for name, count in Counter(listed).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{names}: lists {twice} twice")
    return dict(zip(listed, loaded, strict=True))


def _rows(arrays: Mapping[str, np.ndarray], names: Sequence[str], source: Path) -> list[np.ndarray]:
    """The array of each image: by its name, or by one that differs in form or in its folders."""
    alike: dict[str, list[str]] = {}
    for name in arrays:
        alike.setdefault(_bare(name), []).append(name)
    found, missing = [], []
    for name in names:
        same = [name] if name in arrays else alike.get(_bare(name), [])
        if len(same) > 1:
            raise DataError(
                f"{name}: several arrays match ({', '.join(same[:3])}): call one {name}"
            )
        if not same:
            missing.append(name)
            continue
        array = np.asarray(arrays[same[0]])
        if array.dtype.kind not in "biuf":
            raise DataError(f"{name}: features are real numbers, not {array.dtype}")
        found.append(array)
    if missing:
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        raise DataError(f"{source}: no features of {', '.join(missing[:3])}{more}")
    return found


def _bare(name: str) -> str:
    """What is left of a name without its folders and suffix."""
    return Path(form_of(name)).stem


def _axes(shape: tuple[int, ...], layout: str | None) -> tuple[int, ...]:
    """The axes of stored features in the order (channels, rows, columns)."""
    if len(shape) not in (1, 3) or 0 in shape:
        raise DataError(f"features are (channels,) or a grid of three axes, not {shape}")
    if len(shape) == 1:
        return (0,)
    if layout is None and shape[1] != shape[2]:
        raise DataError(
            f"features of shape {shape}: are channels the first or the last? Say so: layout "
            "channels-first or channels-last"
        )
    return (2, 0, 1) if layout == "channels-last" else (0, 1, 2)


def _write(
    to: Path, header: dict[str, object], rows: Mapping[str, list[np.ndarray]], axes: tuple[int, ...]
) -> None:
    with unfinished(to) as part:
        plan = Plan(part, header)
        for piece in plan.pieces():
            some = rows[piece.split][piece.start : piece.stop]
            stacked = np.stack([np.transpose(array, axes) for array in some])
            what = f"images {piece.start} to {piece.stop - 1} of {piece.split}"
            made = checked_rows(stacked, len(some), plan.shape, plan.dtype, what)
            with resumable(to, part):
                plan.save(piece, made)
        plan.finish(to)
