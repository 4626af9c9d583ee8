"""Objectives compiled: values and gradients for batches of images, once per network and size."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from inspect import signature
from typing import TypeAlias, TypeVar

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.graph.network import Network, View
from dlmie.visualize.ascent.objectives import Objective
from dlmie.visualize.ascent.pixels import Size, as_pair, check_size

R = TypeVar("R")
Compiled: TypeAlias = Callable[..., list[np.ndarray]]

_KEPT = 12  # compiled functions a network keeps


def cached(network: Network, key: Hashable, make: Callable[[], R]) -> R:
    """What ``make()`` compiled for this network under this key; the oldest are forgotten."""
    store: dict[Hashable, R] = vars(network).setdefault("_compiled_pictures", {})
    if key not in store:
        if len(store) >= _KEPT:
            del store[next(iter(store))]
        store[key] = make()
    return store[key]


def image_variable(network: Network, size: Size | None) -> Variable:
    """A symbolic batch of images for a network, of known size or any."""
    rows, columns = (None, None) if size is None else as_pair(size)
    return pt.tensor("image", dtype=network.input.type.dtype, shape=(None, 3, rows, columns))


def view_on(network: Network, x: Variable, relu: Callable[[Variable], Variable] | None) -> View:
    """The network on ``x``, with another activation if given.

    Raises
    ------
    DlmieError
        The network takes no other activation.
    """
    if relu is None:
        return network.on(x)
    parameters = signature(network.build).parameters.values()
    if not any(p.name == "relu" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise DlmieError(
            f"{network.name} cannot be built with another activation, which guided backpropagation "
            "and deconvolution need: give its build an argument relu=None, or choose another method"
        )
    return network.on(x, relu=relu)


class Evaluator:
    """An objective and its gradient with respect to the images.

    Parameters
    ----------
    objective : Objective
    size : (rows, columns) or None
        Of the images; None for images of any size, where the network allows it.
    relu : callable, optional
        In place of every ReLU (guided backpropagation, deconvolution).
    progress : bool
        Tell that it compiles.

    Raises
    ------
    DlmieError
        Images of that size are too small for the network.
    """

    def __init__(
        self,
        objective: Objective,
        size: Size | None = None,
        *,
        relu: Callable[[Variable], Variable] | None = None,
        progress: bool = False,
    ) -> None:
        self.network = network = objective.network
        self.data = objective.data
        if size is not None:
            check_size(network, size)
        shape = None if size is None else as_pair(size)

        def compile() -> Compiled:
            x, inputs = image_variable(network, shape), objective.data_inputs()
            values = objective.on(view_on(network, x, relu), inputs)  # (batch,)
            # Images do not touch each other: the gradient of the sum is each image's own.
            gradient = pytensor.grad(values.sum(), x, consider_constant=inputs)
            name = f"{network.name}: picture"
            return function([x, *inputs], [values, gradient], name=name, progress=progress)

        key = ("gradient", objective.key, shape, relu)
        self._run = cached(network, key, compile)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """images (batch, 3, H, W) → values (batch,), gradients (batch, 3, H, W)."""
        check_size(self.network, images.shape[-2:])
        dtype = self.network.input.type.dtype
        values, gradients = self._run(np.ascontiguousarray(images, dtype=dtype), *self.data)
        return values, gradients


def objective_values(objective: Objective, images: np.ndarray) -> np.ndarray:
    """The objective alone, without its gradient, for images (batch, 3, H, W): (batch,)."""
    network, size = objective.network, images.shape[-2:]
    check_size(network, size)

    def compile() -> Callable[..., np.ndarray]:
        x, inputs = image_variable(network, size), objective.data_inputs()
        value = objective.on(network.on(x), inputs)
        return function([x, *inputs], value, name=f"{network.name}: value")

    run = cached(network, ("value", objective.key, size), compile)
    dtype = network.input.type.dtype
    return run(np.ascontiguousarray(images, dtype=dtype), *objective.data)


def layer_values(
    network: Network, layers: Sequence[str], images: np.ndarray, *, any_size: bool = False
) -> list[np.ndarray]:
    """The values of layers for images (batch, 3, H, W), compiled once per size, or for any."""
    check_size(network, images.shape[-2:])
    size = None if any_size else images.shape[-2:]

    def compile() -> Compiled:
        x = image_variable(network, size)
        view = network.on(x)
        return function([x], [view[name] for name in layers], name=f"{network.name}: layers")

    run = cached(network, ("layers", tuple(layers), size), compile)
    result = run(np.ascontiguousarray(images, dtype=network.input.type.dtype))
    return list(result)


def probabilities(network: Network, images: np.ndarray) -> np.ndarray:
    """Class probabilities (batch, classes) of images (batch, 3, H, W)."""
    if "probabilities" not in network:
        raise DlmieError(f"{network.name} was made without its classifier")
    return layer_values(network, ["probabilities"], images)[0]
