"""What all classifiers of images share: their inputs, classes, parameters and penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter, find_parameters, parameter_table
from dlmie.layers.noise import Noise
from dlmie.layers.sequential import Updates
from dlmie.losses import CLASSIFICATION, sum_of_squares
from dlmie.ops.losses.cross_entropy import softmax

Config = dict[str, int | float | str | list[int] | None]


class ImageClassifier:
    """Base of the classifiers that learn from labeled images.

    A subclass names itself (``kind``) and its loss, creates its layers, implements ``logits`` and
    adds its options to ``config``; ``train`` as well where training is another expression.

    Parameters
    ----------
    shape : (rows, columns, channels)
        Of the images, as a data set has them: ``data.shape``.
    classes : sequence of str
        Names of the classes by label: ``data.classes``.
    normalization : Normalization, optional
        From pixels to ``images``; kept with the model. By default the pixels are taken as they are.
    regularization : float
        Strength of the penalty on the weights; see :meth:`penalty`.
    seed : int
        Of the first values of the parameters.
    dtype : str
        "float32" or "float64".

    Attributes
    ----------
    images : (batch, channels, rows, columns)
        The symbolic input.
    labels : (batch,) int64
        The symbolic true classes.
    """

    #: The name of the task that trains it.
    task: ClassVar[str] = "classification"
    kind: ClassVar[str]
    #: The loss that the model is named for: "cross-entropy" or "hinge".
    loss: ClassVar[str] = "cross-entropy"

    def __init__(
        self,
        shape: Sequence[int],
        classes: Sequence[str],
        *,
        normalization: Normalization | None = None,
        regularization: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        rows, columns, channels = map(int, shape)
        if min(rows, columns, channels) < 1 or len(classes) < 2:
            raise DlmieError(
                f"a classifier needs images with pixels and two classes, not {tuple(shape)} and "
                f"{len(classes)}"
            )
        if regularization < 0:
            raise DlmieError(f"regularization is {regularization}; it must not be negative")
        self.shape, self.classes = (rows, columns, channels), list(classes)
        plain = Normalization("none", self.shape, np.zeros(channels), np.ones(channels))
        self.normalization = normalization or plain
        if self.normalization.shape != self.shape:
            raise DlmieError(
                f"a normalization for images of {self.normalization.shape} does not fit images of "
                f"{self.shape}"
            )
        self.regularization, self.seed, self.dtype = regularization, seed, dtype
        #: Channels, rows and columns of what the model sees: of the images, or 1 × 1 of features.
        self.inputs = self.normalization.inputs
        self.images = pt.tensor("images", dtype=dtype, shape=(None, *self.inputs))
        self.labels = pt.tensor("labels", dtype="int64", shape=(None,))

    # What a subclass provides.

    @property
    def config(self) -> Config:
        """The keyword arguments that make an equal model, but for the normalization.

        A subclass adds its own.
        """
        return {"regularization": self.regularization, "seed": self.seed, "dtype": self.dtype}

    def logits(self, images: Variable) -> Variable:
        """Scores of the classes: images (batch, channels, rows, columns) → (batch, classes)."""
        raise NotImplementedError

    def train(self, images: Variable, noise: Noise) -> tuple[Variable, Updates]:
        """The scores while training, and what each step updates beside the optimizer.

        Parameters
        ----------
        images : (batch, channels, rows, columns)
        noise : Noise
            Where dropout comes from.

        Returns
        -------
        (batch, classes), and pairs (shared variable, new value)
        """
        return self.logits(images), []

    @property
    def templates(self) -> np.ndarray:
        """What the units of the first layer weigh: (units, rows, columns, channels).

        Raises
        ------
        DlmieError
            The first layer does not see pixels.
        """
        raise DlmieError(f"the first layer of {self.kind} has no weights that are images")

    # What every classifier can do.

    @property
    def regularized(self) -> list[Parameter]:
        """The parameters that the penalty is on: the weights, not the biases."""
        return [p for p in self.parameters if "regularizable" in p.roles]

    def penalty(self) -> Variable:
        """``regularization · Σ W²``, a scalar; the gradient of a weight is 2 regularization W."""
        strength = pt.constant(np.asarray(self.regularization, self.dtype))
        return strength * sum_of_squares(self.regularized)

    @cached_property
    def parameters(self) -> list[Parameter]:
        """All parameters by name."""
        return find_parameters(self.logits(self.images))

    @cached_property
    def predict(self) -> Callable[[np.ndarray], np.ndarray]:
        """Compiled: normalized images (batch, channels, rows, columns) → logits."""
        logits = self.logits(self.images)
        compiled: Callable[[np.ndarray], np.ndarray] = function(
            [self.images], logits, name=f"{self.kind} logits"
        )
        return compiled

    @cached_property
    def probabilities(self) -> Callable[[np.ndarray], np.ndarray]:
        """Compiled: normalized images → probabilities of the classes (batch, classes)."""
        made = softmax(self.logits(self.images))
        compiled: Callable[[np.ndarray], np.ndarray] = function(
            [self.images], made, name=f"{self.kind} probabilities"
        )
        return compiled

    @cached_property
    def score(self) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Compiled: normalized images and labels → logits, and the loss summed over the batch."""
        logits = self.logits(self.images)
        summed = CLASSIFICATION[self.loss](logits, self.labels, reduction="sum")
        inputs = [self.images, self.labels]
        compiled: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] = function(
            inputs, [logits, summed], name=f"{self.kind} loss"
        )
        return compiled

    def summary(self) -> str:
        """A table of the parameters."""
        return parameter_table(self.kind, self.parameters)
