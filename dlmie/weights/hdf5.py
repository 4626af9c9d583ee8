"""HDF5: Keras's `.h5` and `.weights.h5`, and any other file of named arrays."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from dlmie.errors import WeightsError, WeightsWarning
from dlmie.files.hdf5 import check_heaps, entries, guard, is_numeric
from dlmie.files.limits import check_declared
from dlmie.files.number_types import native
from dlmie.files.pickles import name_of


def read_hdf5(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """The arrays of an HDF5 file.

    Where the attributes `layer_names` and `weight_names` give Keras's order (at the root of a
    weights file, under `model_weights` in a whole model), names are `LAYER/WEIGHT` in that order,
    such as `block1_conv1/kernel`. Anything else keeps its path: `layers/conv2d/vars/0` in Keras 3,
    `W1` in a flat file. The state of Keras's optimizer is left out. Kernels of the backend Theano
    are rotated: see :func:`_rotated`.
    """
    import h5py

    check_heaps(file)
    with h5py.File(file, "r") as root:
        guard(root, size, WeightsError)
        nodes = _nodes(root)
        arrays = {path: node for path, node in nodes.items() if isinstance(node, h5py.Dataset)}
        for prefix, group in (("", root), ("model_weights/", nodes.get("model_weights"))):
            if group is not None and _names(group, "layer_names"):
                arrays = _in_keras_order(nodes, prefix, _names(group, "layer_names"))
        found = {name: native(np.asarray(dataset[()])) for name, dataset in arrays.items()}
        return _rotated(found) if _of_theano(root, file) else found


#: The weights inside a ``.keras`` archive.
ARCHIVED = "model.weights.h5"

_KERNEL = re.compile(r"(?:.*/)?(?:kernel|W)(?:_\d+)?")


def read_keras_archive(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """The arrays of a `.keras` archive of Keras 3: a zip with an HDF5 file in it."""
    with zipfile.ZipFile(file) as archive, tempfile.TemporaryFile() as unpacked:
        declared = archive.getinfo(ARCHIVED).file_size
        check_declared(declared, size, WeightsError)
        with archive.open(ARCHIVED) as member:
            shutil.copyfileobj(member, unpacked)
        unpacked.seek(0)
        return read_hdf5(unpacked, declared)


def _of_theano(root: Any, file: IO[bytes]) -> bool:
    """Whether Keras ran on Theano when it wrote a file: as it says, or else as its name says."""
    groups = [root, root["model_weights"]] if "model_weights" in root else [root]
    for group in groups:
        if "backend" in group.attrs:
            return name_of(group.attrs["backend"]) == "theano"
    name = Path(str(file.name)).name
    if "th_kernels" not in name:
        return False
    warnings.warn(
        f"{name} does not say by which backend it was written: Theano is assumed, as its name has "
        "th_kernels, and its kernels are rotated by 180°",
        WeightsWarning,
        stacklevel=2,
    )
    return True


def _rotated(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with the kernels of convolutions rotated by 180°: Theano flips them.

    Rows and columns are the first axes of a kernel; in files of "th" dimension ordering the last.
    """
    kernels = {n: a for n, a in arrays.items() if a.ndim > 2 and _KERNEL.fullmatch(n)}
    last = sum(map(_last_is_space, kernels.values())) * 2 > len(kernels)
    rotated = {}
    for name, kernel in kernels.items():
        axes = range(2, kernel.ndim) if last else range(kernel.ndim - 2)
        rotated[name] = np.flip(kernel, tuple(axes))
    return {**arrays, **rotated}


def _last_is_space(kernel: np.ndarray) -> bool:
    """Whether the last axes of a kernel are its rows and columns: as many of both, and few."""
    count = kernel.ndim - 2
    first, last = kernel.shape[:count], kernel.shape[-count:]
    if (len(set(first)) == 1) != (len(set(last)) == 1):
        return len(set(last)) == 1
    return math.prod(last) < math.prod(first)


def _nodes(root: Any) -> dict[str, Any]:
    """Every group and numeric dataset by its path; only those that are in this very file."""
    import h5py

    found: dict[str, Any] = {}

    for path, _, node in entries(root):
        kept = isinstance(node, h5py.Group) or is_numeric(node)
        if kept and not path.startswith(("optimizer/", "optimizer_weights/")):
            found[path] = node
    return found


def _in_keras_order(nodes: dict[str, Any], prefix: str, layers: list[str]) -> dict[str, Any]:
    ordered: dict[str, Any] = {}
    for layer in layers:
        for weight in _names(_find(nodes, prefix + layer), "weight_names"):
            name = f"{layer}/{_short(weight, layer)}"
            if name in ordered:
                raise WeightsError(f"holds two arrays called {name!r}")
            ordered[name] = _find(nodes, f"{prefix}{layer}/{weight}")
    return ordered


def _find(nodes: dict[str, Any], path: str) -> Any:
    if path not in nodes:
        raise WeightsError(f"is damaged: it lists {path}, which is not there")
    return nodes[path]


def _short(weight: str, layer: str) -> str:
    """The name of a weight without its layer's: Keras 2 has `conv/kernel:0`, Keras 1 `conv_W`."""
    separator = "/" if "/" in weight else "_"
    return weight.removeprefix(layer + separator).removesuffix(":0")


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names; Keras splits one that is too long for an attribute into numbered parts."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    return [name_of(name) for part in parts for name in group.attrs[part]]
