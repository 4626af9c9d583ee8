"""What the networks of other programs expect of their input, by name and by published file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from dlmie.data.images import Preprocessing
from dlmie.errors import DlmieError
from dlmie.text import suggest


def caffe(
    size: int, mean: tuple[float, float, float] = (103.939, 116.779, 123.68)
) -> Preprocessing:
    """Of the networks that were trained with Caffe: BGR minus the mean pixel."""
    return Preprocessing(size, mean=mean, channels="BGR")


def torchvision(size: int) -> Preprocessing:
    """Of torchvision's networks: RGB, normalized by mean and deviation of pixels in 0..1."""
    return Preprocessing(
        size,
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(255 * 0.229, 255 * 0.224, 255 * 0.225),
    )


def caffe_rgb(size: int) -> Preprocessing:
    """Of Caffe's networks whose first filters were turned to read RGB, minus the mean pixel."""
    return Preprocessing(size, mean=(123.0, 117.0, 104.0))


def minus_one_to_one(size: int) -> Preprocessing:
    """RGB, pixels scaled to -1..1: mode "tf" of Keras."""
    return Preprocessing(size, mean=(127.5,) * 3, scale=(127.5,) * 3)


def zero_to_one(size: int) -> Preprocessing:
    """RGB, pixels scaled to 0..1."""
    return Preprocessing(size, scale=(255.0,) * 3)


#: What networks expect of their input, by the names that users may choose from.
PREPROCESSINGS: dict[str, Callable[[int], Preprocessing]] = {
    "torchvision": torchvision,
    "caffe": caffe,
    "caffe-rgb": caffe_rgb,
    "minus-one-to-one": minus_one_to_one,
    "zero-to-one": zero_to_one,
}

# Files of public collections by the first digits of their SHA-256, which also stand in their names.
_PUBLISHED = {
    "00b39a1b": "caffe",  # vgg16-00b39a1b.pth, converted from Caffe (Johnson, neural style)
    "d01eb7cb": "caffe",  # vgg19-d01eb7cb.pth, the same
    "88682ab5": "caffe-rgb",  # vgg16_features-amdegroot-88682ab5.pth (torchvision)
    "397923af": "torchvision",  # vgg16-397923af.pth
    "dcbb9e9d": "torchvision",  # vgg19-dcbb9e9d.pth
    "f364aa15": "torchvision",  # squeezenet1_1-f364aa15.pth
    "b8a52dc0": "torchvision",  # squeezenet1_1-b8a52dc0.pth
}


def preprocessing_called(name: str, size: int) -> Preprocessing:
    """The preprocessing of a name of :data:`PREPROCESSINGS`.

    Raises
    ------
    DlmieError
        There is none of this name.
    """
    if name not in PREPROCESSINGS:
        raise DlmieError(f"unknown preprocessing {name!r}{suggest(name, PREPROCESSINGS)}")
    return PREPROCESSINGS[name](size)


def published_preprocessing(path: Path, digest: str) -> str | None:
    """What a published weight file expects, by its SHA-256 or by the digits of it in its name."""
    named = re.findall(r"(?<![0-9a-z])[0-9a-f]{8}(?![0-9a-z])", path.name.lower())
    return next((_PUBLISHED[key] for key in (digest[:8], *named) if key in _PUBLISHED), None)
