"""Several layers of a network as one: their channels side by side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError


def join_layers(layers: Mapping[str, Variable]) -> Variable:
    """The channels of several layers, in order, on the coarsest of their grids.

    Finer grids are averaged over the cells of the coarsest, by area where these do not coincide
    with cells of the finer ones.

    Parameters
    ----------
    layers : mapping of str to variable
        By name: (batch, channels, rows, columns) each, or (batch, channels) each.

    Returns
    -------
    (batch, all channels[, rows, columns])

    Raises
    ------
    DlmieError
        Some are grids and some are not.
    """
    dimensions = {variable.type.ndim for variable in layers.values()}
    if not dimensions <= {2} and not dimensions <= {4}:
        raise DlmieError(f"{'+'.join(layers)}: grids and vectors cannot be joined")
    variables = list(layers.values())
    if dimensions == {4}:
        rows = _least([_length(v, 2) for v in variables])
        columns = _least([_length(v, 3) for v in variables])
        variables = [_averaged(_averaged(v, 2, rows), 3, columns) for v in variables]
    return pt.concatenate(variables, axis=1)


def _length(variable: Variable, axis: int) -> int | Variable:
    """Of an axis: a number where it is known, or symbolic."""
    known: int | None = variable.type.shape[axis]
    return variable.shape[axis] if known is None else known


def _least(lengths: list[int | Variable]) -> int | Variable:
    known = [length for length in lengths if isinstance(length, int)]
    return min(known) if len(known) == len(lengths) else reduce(pt.minimum, lengths)


def _averaged(x: Variable, axis: int, cells: int | Variable) -> Variable:
    """Means over equal parts of an axis of a grid, ``cells`` of them."""
    length = _length(x, axis)
    if isinstance(length, int) and length == cells:
        return x
    # overlap[i, j]: which share of part i old cell j is.
    part, old = pt.arange(cells, dtype="float64")[:, None], pt.arange(length, dtype="float64")
    start = pt.maximum(part / cells, old / length)
    end = pt.minimum((part + 1) / cells, (old + 1) / length)
    overlap = pt.cast(pt.maximum(end - start, np.float64(0)) * cells, x.type.dtype)
    # As one product of matrices, with that axis last.
    last = x if axis == 3 else x.dimshuffle(0, 1, 3, 2)
    flat = last.reshape((-1, length))
    shape = (last.shape[0], _length(last, 1), _length(last, 2), cells)
    means = flat.dot(overlap.T).reshape(shape)
    return means if axis == 3 else means.dimshuffle(0, 1, 3, 2)
