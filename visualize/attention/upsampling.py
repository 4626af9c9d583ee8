"""From the cells of an attention grid to pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlmie.errors import DlmieError

UPSAMPLINGS = ("smooth", "block")
_MAX_SHIFT = 0.75  # pixels by which smoothing may move the center of a cell at the border


def upsample(alphas: np.ndarray, size: tuple[int, int], method: str = "smooth") -> np.ndarray:
    """Spread the weights of a grid over pixels: each cell's weight stays over that cell.

    ``"block"`` gives each pixel the weight of its cell.  ``"smooth"`` then blurs by a Gaussian,
    reflected at the border, of at most a third of a cell: an even map stays even, nothing becomes
    negative, no weight is lost, and the center of a cell's weight stays where it is inside the
    picture.  A cell at the border cannot have all that *and* keep its center: a blur of σ pixels
    moves it inwards by σ²/(2 s) for cells of s pixels.  σ is chosen so that this is at most 0.75
    pixels; the σ = 20 of the paper's figures (cells of 16 pixels) moves it by 10.

    Parameters
    ----------
    alphas : (…, rows, columns)
    size : (height, width)
        In pixels; need not be multiples of the grid.
    method : str
        ``"smooth"`` or ``"block"``.

    Returns
    -------
    numpy.ndarray
        (…, height, width) float64, weights of cells: the mean over the pixels is the mean over
        the cells.

    Examples
    --------
    >>> upsample(np.array([[0.0, 1.0]]), (2, 4), "block")
    array([[0., 0., 1., 1.],
           [0., 0., 1., 1.]])
    """
    check_choice("upsampling", method, UPSAMPLINGS)
    down, across = (
        _spread(pixels, cells, method)
        for pixels, cells in zip(size, alphas.shape[-2:], strict=True)
    )
    # Two large products instead of two small ones for each map.
    wide = np.tensordot(alphas, across, axes=(-1, 1))  # (…, rows, width)
    return np.moveaxis(np.tensordot(wide, down, axes=(-2, 1)), -1, -2)


def _spread(pixels: int, cells: int, method: str) -> np.ndarray:
    """(pixels, cells): what each pixel along an axis takes from each cell; the rows sum to 1."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left, right = edges[:-1], edges[1:]
    start = np.arange(pixels)[:, None]
    block = np.clip(np.minimum(start + 1, right) - np.maximum(start, left), 0, 1)
    if method == "block":
        return block
    from scipy.ndimage import gaussian_filter1d

    side = pixels / cells
    sigma = min(side / 3, np.sqrt(2 * _MAX_SHIFT * side))
    # "reflect" mirrors at the edge of the last pixel: what would leave the picture comes back.
    return gaussian_filter1d(block, sigma, axis=0, mode="reflect")


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DlmieError(f"{name} is {' or '.join(map(repr, known))}, not {value!r}")
