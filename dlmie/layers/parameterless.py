"""Layers without parameters: plain functions of a variable."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.ops.conv import activation
from dlmie.ops.pool.pool import max_pool


def flatten(x: Variable) -> Variable:
    """x (batch, ...) → (batch, features)."""
    return x.flatten(2)


def halve(x: Variable) -> Variable:
    """The largest of each 2 × 2 places; a last odd row or column is left out."""
    return max_pool(x, 2)


def elu(x: Variable) -> Variable:
    """``x`` where it is positive, else ``exp(x) - 1`` (Clevert et al. 2016)."""
    zero, one = (np.asarray(value, x.type.dtype) for value in (0, 1))
    positive = pt.maximum(x, zero)
    # The exponential is of what is not positive, and never infinite.
    return positive + (pt.exp(x - positive) - one)


def leaky_relu(x: Variable, slope: float = 0.01) -> Variable:
    """``x`` where it is positive, else ``slope · x`` (Maas et al. 2013); any derivative of it.

    Raises
    ------
    ValueError
        A slope below 0.
    """
    return activation.leaky_relu(x, slope)
