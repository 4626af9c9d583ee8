"""Planes of numbers resized without rounding: maps, gradients, images in network units."""

from __future__ import annotations

import numpy as np


def resize_planes(planes: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Linear interpolation of planes to another size.

    Parameters
    ----------
    planes
        (…, H, W), of any float type, which the result keeps.
    size
        Rows and columns, or one number for both.

    Returns
    -------
    np.ndarray
        (…, rows, columns).

    Examples
    --------
    >>> resize_planes(np.array([[0.0, 1.0]]), (1, 4))
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    from skimage.transform import resize

    rows, columns = (size, size) if isinstance(size, int) else size
    if planes.shape[-2:] == (rows, columns):
        return planes
    stacked = np.moveaxis(planes.reshape(-1, *planes.shape[-2:]), 0, -1)
    result = resize(
        stacked.astype(np.float64),
        (rows, columns),
        order=1,
        mode="edge",
        anti_aliasing=rows < planes.shape[-2] or columns < planes.shape[-1],
        preserve_range=True,
    )
    shaped = np.moveaxis(result, -1, 0).reshape(*planes.shape[:-2], rows, columns)
    return np.ascontiguousarray(shaped, dtype=planes.dtype)
