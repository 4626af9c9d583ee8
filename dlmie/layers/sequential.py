"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from pytensor.graph.basic import Variable

from dlmie.layers.noise import Noise

#: (shared variable, new value): what goes with a training step beside the optimizer's updates.
Updates = list[tuple[Variable, Variable]]


@runtime_checkable
class TrainedLayer(Protocol):
    """A layer that is another expression while training: batch norm, dropout."""

    def __call__(self, x: Variable, /) -> Variable: ...

    def train(self, x: Variable, noise: Noise, /) -> tuple[Variable, Updates]: ...


class Sequential:
    """Layers one after the other, which is again a layer.

    Parameters
    ----------
    *layers : callable
        From a variable to a variable; those that have a method ``train(x, noise)`` as well, such
        as :class:`~dlmie.layers.normalization.BatchNorm`, give ``(y, updates)`` in training.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from dlmie.layers import Dropout
    >>> x = pt.matrix("x")
    >>> Sequential(Dropout(0.5), pt.exp)(x).eval({x: [[0.0, 0.0]]}).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, *layers: Callable[[Any], Variable]) -> None:
        self.layers = list(layers)

    def __call__(self, x: Variable) -> Variable:
        """The test expression."""
        for layer in self.layers:
            x = layer(x)
        return x

    def train(self, x: Variable, noise: Noise) -> tuple[Variable, Updates]:
        """The training expression, and what is to be updated with every step."""
        updates: Updates = []
        for layer in self.layers:
            if isinstance(layer, TrainedLayer):
                x, more = layer.train(x, noise)
                updates += more
            else:
                x = layer(x)
        return x, updates
