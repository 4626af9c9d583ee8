"""Losses of numbers and what they should be."""

from __future__ import annotations

import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.losses.reduction import Reduction, like, reduce


def squared_error(
    predictions: Variable, targets: Variable, *, reduction: Reduction = "mean"
) -> Variable:
    """``(p - t)²``, element by element.

    Parameters
    ----------
    predictions, targets : equal shapes
    reduction : "none", "mean" or "sum"
        Over all elements.

    Examples
    --------
    >>> import numpy as np
    >>> p, t = pt.constant(np.array([1.0, 2.0])), pt.constant(np.array([1.0, 5.0]))
    >>> float(squared_error(p, t).eval())
    4.5
    """
    return reduce(pt.sqr(predictions - pt.cast(targets, predictions.type.dtype)), reduction)


def huber(predictions: Variable, targets: Variable, *, reduction: Reduction = "mean") -> Variable:
    """``½ e²`` of errors up to 1, ``|e| - ½`` of larger ones (Huber 1964), element by element.

    Parameters
    ----------
    predictions, targets : equal shapes
    reduction : "none", "mean" or "sum"
        Over all elements.

    Examples
    --------
    >>> import numpy as np
    >>> p, t = pt.constant(np.array([0.5, 3.0])), pt.constant(np.array([0.0, 0.0]))
    >>> huber(p, t, reduction="none").eval().tolist()
    [0.125, 2.5]
    """
    size = pt.abs(predictions - pt.cast(targets, predictions.type.dtype))
    half, one = like(size, 0.5), like(size, 1.0)
    return reduce(pt.switch(size <= one, half * pt.sqr(size), size - half), reduction)
