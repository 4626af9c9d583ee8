"""TinyImageNet-100-A, the photographs of the cs231n visualisation assignment.

The folder, as ``tiny-imagenet-100-A.zip`` of cs231n.stanford.edu unpacks (250 MB):

* ``wnids.txt``: one WordNet id a line; the line's number is the label;
* ``words.txt``: ``n02123045<TAB>tabby, tabby cat``;
* ``train/ID/ID_boxes.txt``: file names, a tab after each, of ``train/ID/images/``;
* ``val/val_annotations.txt``: file name, tab, id …, of ``val/images/``;
* ``test/images/``, and ``test/test_annotations.txt`` where the answers are known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlmie.data.images import load_image
from dlmie.errors import DataError

SIZE = 64  # rows and columns of every image


@dataclass
class TinyImageNet:
    """All images with their labels; 2.8 GB of memory for the whole set.

    Attributes
    ----------
    class_names : list of list of str
        By label: all names of the class, the first of them the usual one.
    X_train, X_val, X_test : (images, 3, 64, 64)
        RGB in grey levels of 0..255, less ``mean_image`` where that was subtracted.
    y_train, y_val : (images,) int32
    y_test : (images,) int32 or None
        None where the folder does not hold the answers.
    mean_image : (3, 64, 64)
        Of the training images.

    Examples
    --------
    ::

        data = TinyImageNet.read("tiny-imagenet-100-A")
        net = PretrainedCNN("pretrained_model.h5", mean=data.mean_pixel)
    """

    class_names: list[list[str]]
    X_train: np.ndarray
    y_train: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray | None
    mean_image: np.ndarray

    @property
    def mean_pixel(self) -> tuple[float, float, float]:
        """The mean colour (red, green, blue) of the training images."""
        red, green, blue = self.mean_image.mean(axis=(1, 2))
        return float(red), float(green), float(blue)

    @classmethod
    def read(
        cls,
        folder: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        subtract_mean: bool = True,
        progress: bool = False,
    ) -> TinyImageNet:
        """Read a folder of that layout.

        Parameters
        ----------
        folder
        dtype : str
            Of the images.
        subtract_mean : bool
            Whether to subtract the mean image of the training set from all images.
        progress : bool
            Show a bar.

        Raises
        ------
        DataError
            A file is missing, names what is not there, or holds an image of another size.
        """
        folder = Path(folder)
        label = {wnid: number for number, wnid in enumerate(_lines(folder / "wnids.txt"))}
        known = [_fields(line, 2) for line in _lines(folder / "words.txt")]
        names = {fields[0]: fields[1] for fields in known}
        class_names = [names.get(wnid, wnid).split(", ") for wnid in label]

        files: list[Path] = []
        y_train: list[int] = []
        for wnid, number in label.items():
            place = folder / "train" / wnid
            found = [_fields(line, 1)[0] for line in _lines(place / f"{wnid}_boxes.txt")]
            files += [place / "images" / name for name in found]
            y_train += [number] * len(found)
        X_train = _images(files, dtype, "train", progress)
        files, y_val = _annotated(folder / "val" / "val_annotations.txt", label)
        X_val = _images(files, dtype, "val", progress)
        answers, y_test = folder / "test" / "test_annotations.txt", None
        if answers.exists():
            files, y_test = _annotated(answers, label)
        else:
            files = sorted((folder / "test" / "images").glob("*"))
        X_test = _images(files, dtype, "test", progress)

        if not len(X_train):
            raise DataError(f"{folder}: has no training images")
        mean_image = X_train.mean(axis=0, dtype=np.float64).astype(dtype)
        if subtract_mean:
            for images in (X_train, X_val, X_test):
                images -= mean_image
        train = np.array(y_train, np.int32)
        return cls(class_names, X_train, train, X_val, y_val, X_test, y_test, mean_image)


def _annotated(path: Path, label: dict[str, int]) -> tuple[list[Path], np.ndarray]:
    """Images and labels of a file of lines ``name<TAB>id …``; the images lie beside it."""
    files, labels = [], []
    for line in _lines(path):
        name, wnid = _fields(line, 2)
        if wnid not in label:
            raise DataError(f"{path}: {name} is of class {wnid}, which wnids.txt does not list")
        files.append(path.parent / "images" / name)
        labels.append(label[wnid])
    return files, np.array(labels, np.int32)


def _images(files: Sequence[Path], dtype: str, split: str, progress: bool) -> np.ndarray:
    """(images, 3, 64, 64), grey ones in three equal channels."""
    from tqdm import tqdm

    result = np.empty((len(files), 3, SIZE, SIZE), dtype)
    shown: Iterable[Path] = tqdm(files, f"reading {split}", disable=not progress, unit="image")
    for planes, path in zip(result, shown, strict=True):
        pixels = load_image(path)
        if pixels.shape[:2] != (SIZE, SIZE):
            rows, columns = pixels.shape[:2]
            raise DataError(f"{path}: is {rows} × {columns}, not {SIZE} × {SIZE} pixels")
        planes[:] = pixels.transpose(2, 0, 1)
    return result


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; TinyImageNet has one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return [line for line in text.splitlines() if line.strip()]


def _fields(line: str, count: int) -> tuple[str, ...]:
    """The first fields of a line between tabs."""
    found = tuple(field.strip() for field in line.split("\t")[:count])
    if len(found) < count:
        raise DataError(f"TinyImageNet: a line has {len(found)} fields, not {count}: {line!r}")
    return found
