"""Penalties on weights."""

from __future__ import annotations

from collections.abc import Iterable

import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError


def sum_of_squares(parameters: Iterable[Variable]) -> Variable:
    """``Σ θ²`` over all elements: what L2 regularization multiplies by its strength.

    Raises
    ------
    DlmieError
        There are no parameters.
    """
    squares = [pt.sqr(parameter).sum() for parameter in parameters]
    if not squares:
        raise DlmieError("there are no parameters to regularize")
    return sum(squares[1:], squares[0])
