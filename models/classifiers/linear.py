"""Linear classifiers: one score per class is a weighted sum of the pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DlmieError
from dlmie.graph import init
from dlmie.graph.network import Parameter
from dlmie.layers import Linear
from dlmie.models.classifiers.image_classifier import Config, ImageClassifier


def as_images(model: ImageClassifier, weights: Parameter) -> np.ndarray:
    """Weights of flattened images (pixels, units) → (units, rows, columns, channels).

    Raises
    ------
    DlmieError
        The model sees features, not pixels.
    """
    if model.inputs[1:] == (1, 1) != model.shape[:2]:
        raise DlmieError(
            f"this {model.kind} sees {model.normalization.kind}, not pixels: its weights are not "
            "images"
        )
    return weights.get_value().T.reshape(-1, *model.inputs).transpose(0, 2, 3, 1)


class LinearClassifier(ImageClassifier):
    """One linear map from flattened pixels to scores: ``s = x W + b``.

    ``W`` has one column per class; :attr:`templates` shows them as images.

    Parameters
    ----------
    shape, classes, normalization, seed, dtype
        See :class:`~dlmie.models.classifiers.image_classifier.ImageClassifier`.
    weight_scale : float
        Standard deviation of the first weights; 0 begins with equal scores.
    regularization : float
        Strength of the penalty ``Σ W² + Σ b²``. The bias is regularized as well: it stands for the
        weights of one more pixel that is always 1 (the "bias trick" of cs231n).

    Examples
    --------
    >>> model = Softmax((32, 32, 3), ["cat", "dog"])
    >>> print(model.summary())
    softmax        shape  parameters
    /linear/W  (3072, 2)       6,144
    /linear/b       (2,)           2
    total                      6,146
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: Sequence[str],
        *,
        normalization: Normalization | None = None,
        weight_scale: float = 1e-3,
        regularization: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            shape,
            classes,
            normalization=normalization,
            regularization=regularization,
            seed=seed,
            dtype=dtype,
        )
        self.weight_scale = weight_scale
        self.linear = Linear(
            "/linear",
            math.prod(self.inputs),
            len(self.classes),
            rng=np.random.default_rng(seed),
            W=init.normal(weight_scale),
            dtype=dtype,
        )

    @property
    def config(self) -> Config:
        return {"weight_scale": self.weight_scale, **super().config}

    def logits(self, images: Variable) -> Variable:
        return self.linear(images.flatten(2))

    @property
    def regularized(self) -> list[Parameter]:
        return self.parameters

    @property
    def templates(self) -> np.ndarray:
        """The weights of each class as an image: (classes, rows, columns, channels)."""
        return as_images(self, self.linear.W)


class Softmax(LinearClassifier):
    """Softmax regression: a linear classifier that learns by cross-entropy."""

    kind = "softmax"
    loss = "cross-entropy"


class LinearSVM(LinearClassifier):
    """A multiclass support vector machine: a linear classifier that learns by the hinge loss."""

    kind = "linear-svm"
    loss = "hinge"
