"""What all losses share: reduction of a batch, and numbers in their precision."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError

Reduction = Literal["none", "mean", "sum"]


def reduce(losses: Variable, reduction: Reduction) -> Variable:
    """Losses as they are, their mean or their sum.

    Raises
    ------
    DlmieError
        An unknown reduction.
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.mean()
    raise DlmieError(f"a reduction is 'none', 'mean' or 'sum', not {reduction!r}")


def like(variable: Variable, value: float) -> Variable:
    """A number in the precision of a variable."""
    return pt.constant(np.asarray(value, variable.type.dtype))
