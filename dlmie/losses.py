"""Losses: symbolic functions of a model's outputs and the targets.

Each gives the loss of every example, their mean or their sum, in the precision of its first
argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
import pytensor.tensor as pt
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
