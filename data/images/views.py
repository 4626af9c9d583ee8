"""Views of an image to learn from: as it is, mirrored, or cut out at random.

A captioner that sees other views of a photograph in each epoch cannot learn it by heart so soon.
Views have numbers: 0 is the image, 1 its mirror image, from 2 on each is a crop of its own.
"""

from __future__ import annotations

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
    rng = np.random.default_rng([view, key])
    shape = np.asarray(image.shape[:2])
    area, stretch = rng.uniform(*_AREA), rng.uniform(-_STRETCH, _STRETCH)
    share = np.sqrt(area * np.exp([stretch, -stretch]))
    size = np.clip(np.rint(shape * share), 1, shape).astype(int)
    top, left = rng.integers(0, shape - size + 1)
    cut = image[top : top + size[0], left : left + size[1]]
    seen = resize_image(cut, (int(shape[0]), int(shape[1]))).astype(np.float32)
    if rng.random() < 0.5:
        seen = seen[:, ::-1]
    brighter, sharper = rng.uniform(1 - _LIGHT, 1 + _LIGHT, 2)
    mean = seen.mean()
    return np.clip(np.rint(brighter * (mean + sharper * (seen - mean))), 0, 255).astype(np.uint8)
