"""Views of an image to learn from: as it is, mirrored, or cut out at random.

A captioner that sees other views of a photograph in each epoch overfits it less soon.
Views have numbers: 0 is the image, 1 its mirror image, from 2 on each is a crop of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlmie.data.images.resizing import resize_image

PLAIN, MIRRORED, FIRST_CROP = 0, 1, 2

_AREA = (0.55, 1.0)  # of a crop, as a share of the image
_STRETCH = 0.15  # of its sides, as the logarithm of their ratio at most
_LIGHT = 0.15  # by so much brightness and contrast change at most


def view_image(image: np.ndarray, view: int, key: int) -> np.ndarray:
    """One view of an image, the same whenever it is asked for.

    A crop covers 55 to 100 % of the area, is resized to the image's size, mirrored half of the
    time, and a little brighter or darker, of more or less contrast (cf. Szegedy et al. 2015,
    section 6; Howard 2013).  Its sides keep nearly their ratio, and most of what the captions
    speak of stays in the picture.

    Parameters
    ----------
    image : (H, W, 3) uint8
    view : int
        0: as it is; 1: mirrored; from 2 on a crop.
    key : int
        Of the image: its crops are functions of this and of the view.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8.
    """
    if view == PLAIN:
        return image
    if view == MIRRORED:
        return image[:, ::-1]
    crop = _draw_crop(image.shape[:2], view, key)
    cut = image[crop.top : crop.top + crop.rows, crop.left : crop.left + crop.columns]
    seen = resize_image(cut, image.shape[:2]).astype(np.float32)
    if crop.mirrored:
        seen = seen[:, ::-1]
    mean = seen.mean()
    light = crop.brighter * (mean + crop.sharper * (seen - mean))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def view_boxes(
    boxes: Sequence[Sequence[float]], shape: tuple[int, int], view: int, key: int
) -> list[list[float]]:
    """Where boxes lie in a view of their image.

    Parameters
    ----------
    boxes
        Each [top, left, bottom, right], fractions of the image.
    shape
        Rows and columns of the image that :func:`view_image` is given.
    view, key
        As there.

    Returns
    -------
    list of list of float
        The part of each box that the view shows, in fractions of the view; boxes that it does not
        show are left out.

    Examples
    --------
    >>> view_boxes([[0.0, 0.0, 0.5, 0.25]], (64, 64), MIRRORED, 0)
    [[0.0, 0.75, 0.5, 1.0]]
    """
    edges = np.asarray(boxes, dtype=float).reshape(-1, 4)
    mirrored = view == MIRRORED
    if view >= FIRST_CROP:
        crop = _draw_crop(shape, view, key)
        mirrored = crop.mirrored
        corner = np.array([crop.top / shape[0], crop.left / shape[1]] * 2)
        size = np.array([crop.rows / shape[0], crop.columns / shape[1]] * 2)
        edges = np.clip((edges - corner) / size, 0, 1)
    if mirrored:
        edges = np.stack([edges[:, 0], 1 - edges[:, 3], edges[:, 2], 1 - edges[:, 1]], axis=1)
    shown = (edges[:, 0] < edges[:, 2]) & (edges[:, 1] < edges[:, 3])
    return edges[shown].tolist()


@dataclass(frozen=True)
class _Crop:
    """What is cut out of an image, in pixels, and what is done with it."""

    top: int
    left: int
    rows: int
    columns: int
    mirrored: bool
    brighter: float
    sharper: float


def _draw_crop(shape: tuple[int, int], view: int, key: int) -> _Crop:
    rng = np.random.default_rng([view, key])
    sides = np.asarray(shape)
    area, stretch = rng.uniform(*_AREA), rng.uniform(-_STRETCH, _STRETCH)
    share = np.sqrt(area * np.exp([stretch, -stretch]))
    size = np.clip(np.rint(sides * share), 1, sides).astype(int)
    top, left = rng.integers(0, sides - size + 1)
    mirrored = rng.random() < 0.5
    brighter, sharper = rng.uniform(1 - _LIGHT, 1 + _LIGHT, 2)
    return _Crop(int(top), int(left), int(size[0]), int(size[1]), mirrored, brighter, sharper)
