"""Where the cells of a grid are, as channels that attention and the LSTM can read."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable


def grid_position(rows: Variable | int, columns: Variable | int, count: int) -> Variable:
    """Sines and cosines of the row and the column of each cell.

    With u the cell's center as a fraction of the height (or the width), the channels are
    √2 sin(π k u) and √2 cos(π k u) for k = 1 … ``count``, of rows and then of columns: a fixed
    encoding in two dimensions, after Vaswani et al. (2017), section 3.5, over fractions of the
    image, so that grids of other sizes are encoded alike.  √2 gives them unit variance.

    Parameters
    ----------
    rows, columns : int or symbolic int
    count : int
        Number of frequencies.

    Returns
    -------
    (rows × columns, 4 × count) float64
        Row by row.
    """

    def waves(cells: Variable | int) -> Variable:
        """(cells, 2 × count)"""
        center = (pt.arange(cells, dtype="float64") + 0.5) / cells
        angle = np.pi * center[:, None] * np.arange(1, count + 1)
        return np.sqrt(2) * pt.concatenate([pt.sin(angle), pt.cos(angle)], axis=1)

    down, across = waves(rows), waves(columns)
    width = 2 * count
    return pt.concatenate(
        [
            pt.alloc(down[:, None], rows, columns, width),
            pt.alloc(across[None], rows, columns, width),
        ],
        axis=2,
    ).reshape((rows * columns, 2 * width))
