"""Losses: symbolic functions of a model's outputs and the targets.

Each gives the loss of every example, in the precision of its first argument; most give their mean
or sum as well.
"""

from dlmie.losses.adversarial import GAMES, Game, critic_loss, generator_loss, gradient_penalty
from dlmie.losses.classification import (
    CLASSIFICATION,
    binary_cross_entropy,
    cross_entropy,
    multiclass_hinge,
)
from dlmie.losses.reduction import Reduction, reduce
from dlmie.losses.regression import huber, squared_error
from dlmie.losses.regularization import sum_of_squares
from dlmie.losses.reinforcement import policy_gradient, q_targets, value_of

__all__ = [
    "CLASSIFICATION",
    "GAMES",
    "Game",
    "Reduction",
    "binary_cross_entropy",
    "critic_loss",
    "cross_entropy",
    "generator_loss",
    "gradient_penalty",
    "huber",
    "multiclass_hinge",
    "policy_gradient",
    "q_targets",
    "reduce",
    "squared_error",
    "sum_of_squares",
    "value_of",
]
