"""Networks of affine layers: two of them, or any number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.labelled.normalization import Normalization
from dlmie.layers import Dropout, Linear, Sequential
from dlmie.layers.parameterless import flatten
from dlmie.models.classifiers.image_classifier import Config
from dlmie.models.classifiers.network import (
    NetworkClassifier,
    first_weights,
    norm_layers,
    sizes_of,
)
from dlmie.ops.conv.activation import relu


class FullyConnected(NetworkClassifier):
    """Hidden layers, each affine – normalization – ReLU – dropout, and an affine layer of scores.

    Parameters
    ----------
    shape, classes, normalization, regularization, seed, dtype
        See :class:`~dlmie.models.classifiers.image_classifier.ImageClassifier`; the penalty is on
        the weights, not on biases, scales and shifts.
    sizes : sequence of int, or text
        Units of each hidden layer: ``(100, 100)`` or ``"100,100"``.
    norm : str
        Of the hidden layers: "none", "batch" or "layer".
    keep : float
        Probability by which dropout keeps a hidden unit; 1 for no dropout.
    weight_scale : float, optional
        Standard deviation of the first weights; by default √(2 / inputs), which suits ReLU (He et
        al. 2015).

    Raises
    ------
    DlmieError
        An option out of its range.

    Examples
    --------
    >>> model = FullyConnected((32, 32, 3), ["cat", "dog"], sizes=(50, 20), norm="batch")
    >>> [str(p.name) for p in model.parameters][:3]
    ['/layer1/W', '/layer1/b', '/layer1/norm/beta']
    """

    kind = "fully-connected"

    def __init__(
        self,
        shape: Sequence[int],
        classes: Sequence[str],
        *,
        normalization: Normalization | None = None,
        sizes: Sequence[int] | str = (100, 100),
        norm: str = "none",
        keep: float = 1.0,
        weight_scale: float | None = None,
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
        self.sizes = sizes_of("sizes", sizes)
        self.norm, self.keep, self.weight_scale = norm, keep, weight_scale
        rng = np.random.default_rng(seed)
        layers: list[Callable[[Variable], Variable]] = [flatten]
        before = math.prod(self.inputs)
        for number, after in enumerate([*self.sizes, len(self.classes)], 1):
            name = f"/layer{number}"
            W = first_weights(weight_scale)
            layers.append(Linear(name, before, after, rng=rng, W=W, dtype=dtype))
            if number <= len(self.sizes):
                layers += [*norm_layers(norm, f"{name}/norm", after, dtype), relu, Dropout(keep)]
            before = after
        self.layers = Sequential(*layers)

    @property
    def config(self) -> Config:
        return {
            "sizes": self.sizes,
            "norm": self.norm,
            "keep": self.keep,
            "weight_scale": self.weight_scale,
            **super().config,
        }


class TwoLayerNet(FullyConnected):
    """One hidden layer: affine – ReLU – affine.

    Parameters
    ----------
    shape, classes, normalization, regularization, seed, dtype
        See :class:`~dlmie.models.classifiers.image_classifier.ImageClassifier`.
    hidden : int
        Units of the hidden layer.
    weight_scale : float, optional
        Standard deviation of the first weights; by default √(2 / inputs).

    Examples
    --------
    >>> model = TwoLayerNet((32, 32, 3), ["cat", "dog"], hidden=50)
    >>> print(model.summary())
    two-layer       shape  parameters
    /layer1/W  (3072, 50)     153,600
    /layer1/b       (50,)          50
    /layer2/W     (50, 2)         100
    /layer2/b        (2,)           2
    total                     153,752
    """

    kind = "two-layer"

    def __init__(
        self,
        shape: Sequence[int],
        classes: Sequence[str],
        *,
        normalization: Normalization | None = None,
        hidden: int = 50,
        weight_scale: float | None = None,
        regularization: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            shape,
            classes,
            normalization=normalization,
            sizes=(hidden,),
            weight_scale=weight_scale,
            regularization=regularization,
            seed=seed,
            dtype=dtype,
        )

    @property
    def config(self) -> Config:
        config = super().config
        (hidden,) = self.sizes
        rest = {name: config[name] for name in config if name not in ("sizes", "norm", "keep")}
        return {"hidden": hidden, **rest}
