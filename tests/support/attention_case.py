"""Captions with made-up attention, for the tests of attention figures and their golden file."""

from __future__ import annotations

import numpy as np

from dlmie.captioning.decoding import Caption
from dlmie.visualize.figures.figure import Figure


def said(
    text: str, alphas: np.ndarray, gates: np.ndarray | None = None, log_probability: float = -2.5
) -> Caption:
    extras = {"alphas": alphas} if gates is None else {"alphas": alphas, "gates": gates}
    words = list(range(4, 4 + len(text.split())))
    return Caption(words, log_probability, -1.0, True, extras, text)


def planted(row: int, column: int, grid: tuple[int, int], rest: float = 0.2) -> np.ndarray:
    """A map with most of its weight on one cell."""
    alpha = np.full(grid, rest / (grid[0] * grid[1]), np.float32)
    alpha[row, column] += 1 - rest
    return alpha


def golden_figure() -> Figure:
    """Two words on a small picture of another aspect than the grid's."""
    from dlmie.visualize.attention.maps import attend

    y, x = np.mgrid[0:36, 0:54]
    picture = np.stack([4 * x, 6 * y, 255 - 3 * x], axis=-1).clip(0, 255).astype(np.uint8)
    alphas = np.stack([planted(0, 3, (2, 4)), planted(1, 1, (2, 4), 0.5)])
    caption = said("red moon", alphas, np.array([0.25, 0.75]))
    return attend(caption, picture, layout="strip", pixels=108)
