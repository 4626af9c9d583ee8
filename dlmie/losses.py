"""Losses: symbolic functions of a model's outputs and the targets.

Each gives the loss of every example, their mean or their sum, in the precision of its first
argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad
from pytensor.graph.basic import Variable
from pytensor.raise_op import Assert

from dlmie.errors import DlmieError
from dlmie.ops.losses.cross_entropy import softmax_cross_entropy

Reduction = Literal["none", "mean", "sum"]


def cross_entropy(
    logits: Variable,
    labels: Variable,
    *,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Variable:
    """Negative log-likelihood of the true class under a softmax.

    ``log Σ_j e^{s_j} - s_y``; with smoothing as in
    :func:`~dlmie.ops.losses.cross_entropy.softmax_cross_entropy`.

    Parameters
    ----------
    logits : (batch, classes)
    labels : (batch,) integers
        True classes; others than 0..classes - 1 are an error of the compiled function.
    label_smoothing : float
        Share of the probability that is spread over all classes.
    reduction : "none", "mean" or "sum"

    Returns
    -------
    scalar, or (batch,) with "none"
        In nats.

    Examples
    --------
    >>> logits = pt.constant(np.zeros((2, 4), "float32"))
    >>> round(float(cross_entropy(logits, pt.constant([0, 3])).eval()), 4)
    1.3863
    """
    each = softmax_cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return reduce(each, reduction)


def multiclass_hinge(
    scores: Variable,
    labels: Variable,
    *,
    margin: float = 1.0,
    reduction: Reduction = "mean",
) -> Variable:
    """How far wrong classes come within a margin of the true one's score.

    ``Σ_{j≠y} max(0, s_j - s_y + margin)``: the support vector machine of Weston and Watkins (1999),
    as in cs231n. At the hinge itself the gradient is 0.

    Parameters
    ----------
    scores : (batch, classes)
    labels : (batch,) integers
        True classes; others than 0..classes - 1 are an error of the compiled function.
    margin : float
    reduction : "none", "mean" or "sum"

    Returns
    -------
    scalar, or (batch,) with "none"

    Examples
    --------
    >>> scores = pt.constant(np.array([[3.0, 2.5, 0.0]]))
    >>> float(multiclass_hinge(scores, pt.constant([0])).eval())
    0.5
    """
    classes = scores.shape[1]
    in_range = pt.all(pt.ge(labels, 0) & pt.lt(labels, classes))
    labels = Assert("a label is not the number of a class")(labels, in_range)
    true = pt.eq(labels[:, None], pt.arange(classes)[None, :])
    zero, gap = _like(scores, 0.0), _like(scores, margin)
    own = pt.switch(true, scores, zero).sum(axis=1, keepdims=True)
    excess = scores - own + gap
    # Not pt.maximum: its gradient at the hinge is not 0.
    each = pt.switch(pt.gt(excess, zero) & pt.invert(true), excess, zero).sum(axis=1)
    return reduce(each, reduction)


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
    >>> p, t = pt.constant(np.array([1.0, 2.0])), pt.constant(np.array([1.0, 5.0]))
    >>> float(squared_error(p, t).eval())
    4.5
    """
    return reduce(pt.sqr(predictions - pt.cast(targets, predictions.type.dtype)), reduction)


def binary_cross_entropy(
    logits: Variable, targets: Variable, *, reduction: Reduction = "mean"
) -> Variable:
    """Negative log-likelihood of yes or no under a sigmoid (logistic regression).

    ``-t log σ(x) - (1 - t) log(1 - σ(x))``, computed as ``t softplus(-x) + (1 - t) softplus(x)``,
    which neither overflows nor rounds to 0 for logits of any size.

    Parameters
    ----------
    logits : any shape
    targets : equal shape
        In [0, 1].
    reduction : "none", "mean" or "sum"
        Over all elements.

    Examples
    --------
    >>> logits = pt.constant(np.array([0.0, 1000.0]))
    >>> binary_cross_entropy(logits, pt.constant([1, 1]), reduction="none").eval().round(4).tolist()
    [0.6931, 0.0]
    """
    targets = pt.cast(targets, logits.type.dtype)
    one = _like(logits, 1.0)
    each = targets * pt.softplus(-logits) + (one - targets) * pt.softplus(logits)
    return reduce(each, reduction)


def huber(predictions: Variable, targets: Variable, *, reduction: Reduction = "mean") -> Variable:
    """``½ e²`` of errors up to 1, ``|e| - ½`` of larger ones (Huber 1964), element by element.

    Parameters
    ----------
    predictions, targets : equal shapes
    reduction : "none", "mean" or "sum"
        Over all elements.

    Examples
    --------
    >>> p, t = pt.constant(np.array([0.5, 3.0])), pt.constant(np.array([0.0, 0.0]))
    >>> huber(p, t, reduction="none").eval().tolist()
    [0.125, 2.5]
    """
    size = pt.abs(predictions - pt.cast(targets, predictions.type.dtype))
    half, one = _like(size, 0.5), _like(size, 1.0)
    return reduce(pt.switch(size <= one, half * pt.sqr(size), size - half), reduction)


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
    >>> logits = pt.constant(np.zeros((1, 2)))
    >>> loss = policy_gradient(logits, pt.constant([1]), pt.constant(np.array([2.0])))
    >>> round(float(loss.eval()), 4)
    1.3863
    """
    each = softmax_cross_entropy(logits, actions)
    return reduce(pt.cast(advantages, logits.type.dtype) * each, reduction)


def value_of(scores: Variable, actions: Variable) -> Variable:
    """``Q(s, a)`` of the actions taken: of scores (batch, actions) and actions (batch,)."""
    taken = pt.eq(actions[:, None], pt.arange(scores.shape[1])[None, :])
    return pt.switch(taken, scores, _like(scores, 0.0)).sum(axis=1)


def q_targets(
    rewards: Variable,
    terminated: Variable,
    next_scores: Variable,
    chosen_by: Variable | None = None,
    *,
    gamma: float,
) -> Variable:
    """``r + γ (1 - terminated) Q(s', a')``: what Q-learning (Watkins 1989) moves values towards.

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
    going_on = _like(next_scores, 1.0) - pt.cast(terminated, dtype)
    return pt.cast(rewards, dtype) + _like(next_scores, gamma) * going_on * following


def critic_loss(kind: str, real: Variable, fake: Variable) -> Variable:
    """The loss of the critic in an adversarial game, example by example.

    "vanilla": ``-log σ(real) - log(1 - σ(fake))`` (Goodfellow et al. 2014); "least-squares":
    ``½ (real - 1)² + ½ fake²`` (Mao et al. 2017); "wasserstein": ``fake - real`` (Arjovsky et al.
    2017).

    Parameters
    ----------
    kind : str
    real, fake : (batch,)
        The critic's scores of real and of generated images.

    Returns
    -------
    (batch,)

    Raises
    ------
    DlmieError
        Another kind.
    """
    half, one = _like(real, 0.5), _like(real, 1.0)
    if kind == "vanilla":
        return pt.softplus(-real) + pt.softplus(fake)
    if kind == "least-squares":
        return half * pt.sqr(real - one) + half * pt.sqr(fake)
    _check_game(kind)
    return fake - real


def generator_loss(kind: str, fake: Variable) -> Variable:
    """The loss of the generator in an adversarial game, example by example.

    "vanilla": ``-log σ(fake)``, the form whose gradient does not vanish; "least-squares":
    ``½ (fake - 1)²``; "wasserstein": ``-fake``.

    Parameters
    ----------
    kind : str
    fake : (batch,)
        The critic's scores of generated images.

    Raises
    ------
    DlmieError
        Another kind.
    """
    if kind == "vanilla":
        return pt.softplus(-fake)
    if kind == "least-squares":
        return _like(fake, 0.5) * pt.sqr(fake - _like(fake, 1.0))
    _check_game(kind)
    return -fake


def _check_game(kind: str) -> None:
    if kind != "wasserstein":
        raise DlmieError(f"a game is vanilla, least-squares or wasserstein, not {kind!r}")


def gradient_penalty(
    critic: Callable[[Variable], Variable], real: Variable, fake: Variable, epsilon: Variable
) -> Variable:
    """``(‖∇f(x̂)‖ - 1)²``, example by example (Gulrajani et al. 2017, equation 3).

    ``x̂ = ε real + (1 - ε) fake``; the norm is over all elements of an example. The critic must
    score each example by itself: it has no batch norm.

    Parameters
    ----------
    critic : callable
        From examples to scores (batch,).
    real, fake : (batch, ...)
    epsilon : (batch,)
        Uniform in [0, 1).

    Returns
    -------
    (batch,)
    """
    epsilon = epsilon.dimshuffle(0, *["x"] * (real.type.ndim - 1))
    between = epsilon * real + (_like(real, 1.0) - epsilon) * fake
    gradient = grad(critic(between).sum(), between)
    squares = pt.sqr(gradient).flatten(2).sum(axis=1)
    # A critic that is flat somewhere has a norm of 0, whose own derivative is not finite.
    return pt.sqr(pt.sqrt(squares + _like(squares, 1e-30)) - _like(squares, 1.0))


#: The losses of scores and true classes, by the names that models and runs have for them.
CLASSIFICATION: Mapping[str, Callable[..., Variable]] = {
    "cross-entropy": cross_entropy,
    "hinge": multiclass_hinge,
}


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


def _like(variable: Variable, value: float) -> Variable:
    """A number in the precision of a variable."""
    return pt.constant(np.asarray(value, variable.type.dtype))
