"""Penalties of the image itself: positive numbers, to be subtracted."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph.network import View
from dlmie.visualize.ascent.objectives.terms import Objective, Term, single


def total_variation(beta: float = 2.0) -> Objective:
    """Penalty ``Σ_c Σ_ij ((x_{i,j+1} - x_ij)² + (x_{i+1,j} - x_ij)²)^{β/2}`` of the input.

    Differences across the border count as zero, so that β = 2 is the plain sum of all squared
    differences of neighbors.
    """
    if beta <= 0:
        raise DlmieError(f"total_variation: beta must be positive, not {beta}")

    def build(view: View, data: list[Variable]) -> Variable:
        x = view.input
        down = pt.sqr(x[:, :, 1:, :] - x[:, :, :-1, :])
        right = pt.sqr(x[:, :, :, 1:] - x[:, :, :, :-1])
        if beta == 2:
            return down.sum(axis=(1, 2, 3)) + right.sum(axis=(1, 2, 3))
        total = pt.zeros_like(x)
        total = pt.inc_subtensor(total[:, :, :-1, :], down)
        total = pt.inc_subtensor(total[:, :, :, :-1], right)
        tiny = np.asarray(1e-8, x.type.dtype)  # the root has no derivative at 0
        return ((total + tiny) ** np.asarray(beta / 2, x.type.dtype)).sum(axis=(1, 2, 3))

    return single(Term("total_variation", {"beta": beta}, build, compiled={"beta": beta}))


def alpha_norm(alpha: float = 6.0) -> Objective:
    """Penalty ``Σ |x|^α`` of the input, whose zero is the mean color."""

    def build(view: View, data: list[Variable]) -> Variable:
        x = view.input
        power = pt.sqr(x) if alpha == 2 else abs(x) ** np.asarray(alpha, x.type.dtype)
        return power.sum(axis=(1, 2, 3))

    return single(Term("alpha_norm", {"alpha": alpha}, build, compiled={"alpha": alpha}))
