"""The images that a picture is made of: read once, and described in its manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np

from dlmie.data.images import ImageSource, load_with_alpha, resize_image, resize_planes
from dlmie.errors import DataError
from dlmie.files.schema import Key, check_document

_KEYS = {
    "path": Key(str, null=True),
    "sha256": Key(str),
}


class ImageDescription(TypedDict):
    """Where an image came from, a hash of its pixels, its rows and columns."""

    path: str | None
    sha256: str
    size: list[int]


@dataclass(frozen=True)
class SourceImage:
    """An image that was read.

    Attributes
    ----------
    pixels : (H, W, 3) uint8
    path : str or None
        Of its file, where it has one.
    alpha : (H, W) uint8 or None
        Its opacity, where something is transparent.
    """

    pixels: np.ndarray = field(repr=False)
    path: str | None = None
    alpha: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def read(cls, image: ImageSource) -> SourceImage:
        """Read anything that :func:`~dlmie.data.images.load_image` reads."""
        pixels, alpha = load_with_alpha(image)
        return cls(pixels, str(image) if isinstance(image, (str, Path)) else None, alpha)

    def describe(self) -> ImageDescription:
        """The image's entry in a manifest."""
        pixels = np.ascontiguousarray(self.pixels)
        return {
            "path": self.path,
            "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
            "size": list(pixels.shape[:2]),
        }

    def within(self, longer: int | None) -> np.ndarray:
        """The pixels, reduced so that no side is above ``longer``."""
        if longer is None or max(self.pixels.shape[:2]) <= longer:
            return self.pixels
        factor = longer / max(self.pixels.shape[:2])
        rows, columns = (max(1, round(side * factor)) for side in self.pixels.shape[:2])
        return resize_image(self.pixels, (rows, columns))

    def opacity(self, size: tuple[int, int]) -> np.ndarray | None:
        """The opacity at another size, (rows, columns) uint8; None where all is opaque."""
        if self.alpha is None:
            return None
        resized = resize_planes(self.alpha.astype(np.float64), size)
        return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def find_image(
    name: str, described: ImageDescription, given: ImageSource | None, folder: Path | None
) -> ImageSource:
    """The image that a manifest means, checked by its hash; a given one may be different.

    Parameters
    ----------
    name : str
        Of the argument, for errors.
    described : ImageDescription
    given : optional
        The image to use instead.
    folder : path, optional
        Of the manifest: images are also looked for there.

    Raises
    ------
    DataError
        The image was not found, has changed, or was never a file.
    """
    if given is not None:
        return given
    path = check_document(described, _KEYS, f"the manifest's {name}")["path"]
    if path is None:
        raise DataError(f"the picture was made from pixels in memory: give the {name}")
    places = [Path(path)] if folder is None else [Path(path), folder / Path(path).name]
    place = next((p for p in places if p.is_file()), None)
    if place is None:
        raise DataError(f"{path}: the {name} of the picture was not found; give it")
    if SourceImage.read(place).describe()["sha256"] != described["sha256"]:
        raise DataError(f"{place}: has changed since the picture was made")
    return str(place)
