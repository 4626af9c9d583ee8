"""Losses of scores and true classes, or of logits and yes or no."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.raise_op import Assert

from dlmie.losses.reduction import Reduction, like, reduce
from dlmie.ops.losses.cross_entropy import softmax_cross_entropy


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
    >>> import numpy as np
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
    >>> import numpy as np
    >>> scores = pt.constant(np.array([[3.0, 2.5, 0.0]]))
    >>> float(multiclass_hinge(scores, pt.constant([0])).eval())
    0.5
    """
    classes = scores.shape[1]
    in_range = pt.all(pt.ge(labels, 0) & pt.lt(labels, classes))
    labels = Assert("a label is not the number of a class")(labels, in_range)
    true = pt.eq(labels[:, None], pt.arange(classes)[None, :])
    zero, gap = like(scores, 0.0), like(scores, margin)
    own = pt.switch(true, scores, zero).sum(axis=1, keepdims=True)
    excess = scores - own + gap
    # Not pt.maximum: its gradient at the hinge is not 0.
    each = pt.switch(pt.gt(excess, zero) & pt.invert(true), excess, zero).sum(axis=1)
    return reduce(each, reduction)


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
    >>> import numpy as np
    >>> logits = pt.constant(np.array([0.0, 1000.0]))
    >>> binary_cross_entropy(logits, pt.constant([1, 1]), reduction="none").eval().round(4).tolist()
    [0.6931, 0.0]
    """
    targets = pt.cast(targets, logits.type.dtype)
    one = like(logits, 1.0)
    each = targets * pt.softplus(-logits) + (one - targets) * pt.softplus(logits)
    return reduce(each, reduction)


#: The losses of scores and true classes, by the names that models and runs have for them.
CLASSIFICATION: Mapping[str, Callable[..., Variable]] = {
    "cross-entropy": cross_entropy,
    "hinge": multiclass_hinge,
}
