"""Small data sets of labeled images in the layouts in which the real ones come."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL.Image

CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
CIFAR_NAMES += ["truck"]
CIFAR_FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def cifar_batch(number: int, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 32, 32, 3) uint8 and labels of a file, 0 to 4 and 5 of testing."""
    rng = np.random.default_rng(number)
    labels = np.concatenate([np.arange(10), rng.integers(0, 10, count - 10)])
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), labels


def planes(images: np.ndarray) -> np.ndarray:
    """(n, rows, columns, channels) → (n, channels × rows × columns), as CIFAR keeps them."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes bytes as the strings of Python 2, as the official files have them."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_string


def python2_pickle(value: Any) -> bytes:
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def write_cifar(
    folder: Path, *, count: int = 20, dumps: Callable[[Any], bytes] = python2_pickle
) -> Path:
    """``cifar-10-batches-py`` with so many images per file; returns the folder."""
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    for number, name in enumerate(CIFAR_FILES):
        images, labels = cifar_batch(number, count)
        batch = {
            b"batch_label": b"a batch",
            b"labels": labels.tolist(),
            b"data": planes(images),
            b"filenames": [f"{name}_{i}.png".encode() for i in range(count)],
        }
        (place / name).write_bytes(dumps(batch))
    names = [name.encode() for name in CIFAR_NAMES]
    (place / "batches.meta").write_bytes(dumps({b"label_names": names, b"num_vis": 3072}))
    return place


def write_cifar_binary(folder: Path, *, count: int = 20) -> Path:
    """``cifar-10-batches-bin`` of the same images; returns the folder."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for number, name in enumerate(CIFAR_FILES):
        images, labels = cifar_batch(number, count)
        rows = np.concatenate([labels[:, None].astype(np.uint8), planes(images)], axis=1)
        (place / f"{name}.bin").write_bytes(rows.tobytes())
    (place / "batches.meta.txt").write_text("\n".join(CIFAR_NAMES) + "\n\n")
    return place


def idx(array: np.ndarray) -> bytes:
    """An idx file of bytes."""
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(
    folder: Path, *, zipped: bool = True, sizes: Mapping[str, int] | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four files of MNIST; returns images and labels by prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for prefix, count in (sizes or {"train": 30, "t10k": 12}).items():
        rng = np.random.default_rng(count)
        images = rng.integers(0, 256, (count, 6, 5), np.uint8)
        labels = np.arange(count) % 10
        made[prefix] = images, labels
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(array)
            ending = ".gz" if zipped else ""
            path = folder / f"{prefix}-{name}-ubyte{ending}"
            path.write_bytes(gzip.compress(content) if zipped else content)
    return made


def write_image(path: Path, value: int = 0, size: Sequence[int] = (4, 4)) -> Path:
    """A PNG of one color that depends on ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), (value % 256, value * 7 % 256, value * 31 % 256), np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    return path


def write_class_folders(
    folder: Path, classes: Sequence[str] = ("cat", "dog"), count: int = 10
) -> Path:
    """``class/*.png``; returns the folder."""
    for label, name in enumerate(classes):
        for number in range(count):
            write_image(folder / name / f"{number}.png", 100 * label + number)
    return folder
