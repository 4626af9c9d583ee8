"""Losses of policies, and what values move toward."""

from __future__ import annotations

import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable

from dlmie.losses.reduction import Reduction, like, reduce
from dlmie.ops.losses.cross_entropy import softmax_cross_entropy


def policy_gradient(
    logits: Variable, actions: Variable, advantages: Variable, *, reduction: Reduction = "mean"
) -> Variable:
    """``-A log π(a | s)``, whose gradient is that of the expected return (Williams 1992).

    Parameters
    ----------
    logits : (batch, actions)
    actions : (batch,) integers
        What was done.
    advantages : (batch,)
        How much better that was than expected; taken as constants.
    reduction : "none", "mean" or "sum"

    Examples
    --------
    >>> import numpy as np
    >>> logits = pt.constant(np.zeros((1, 2)))
    >>> loss = policy_gradient(logits, pt.constant([1]), pt.constant(np.array([2.0])))
    >>> round(float(loss.eval()), 4)
    1.3863
    """
    each = softmax_cross_entropy(logits, actions)
    constant = disconnected_grad(pt.cast(advantages, logits.type.dtype))
    return reduce(constant * each, reduction)


def value_of(scores: Variable, actions: Variable) -> Variable:
    """``Q(s, a)`` of the actions taken: of scores (batch, actions) and actions (batch,)."""
    taken = pt.eq(actions[:, None], pt.arange(scores.shape[1])[None, :])
    return pt.switch(taken, scores, like(scores, 0.0)).sum(axis=1)


def q_targets(
    rewards: Variable,
    terminated: Variable,
    next_scores: Variable,
    chosen_by: Variable | None = None,
    *,
    gamma: float,
) -> Variable:
    """``r + γ (1 - terminated) Q(s', a')``: what Q-learning (Watkins 1989) moves values toward.

    ``a'`` is the best action of ``chosen_by`` at the next state: of the values themselves, or of
    another network (double Q-learning, van Hasselt et al. 2016). Only an end that the environment
    itself makes has no next value; where a time limit cuts an episode off, it has one.

    Parameters
    ----------
    rewards, terminated : (batch,)
    next_scores : (batch, actions)
        Values of the next states.
    chosen_by : (batch, actions), optional
        What chooses the next action; ``next_scores`` by default.
    gamma : float
        Discount of each step.

    Returns
    -------
    (batch,)
    """
    dtype = next_scores.type.dtype
    if chosen_by is None:
        following = next_scores.max(axis=1)
    else:
        following = value_of(next_scores, chosen_by.argmax(axis=1))
    going_on = like(next_scores, 1.0) - pt.cast(terminated, dtype)
    return pt.cast(rewards, dtype) + like(next_scores, gamma) * going_on * following
