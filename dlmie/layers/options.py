"""What layers are made with, as keyword arguments that several of them share."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from dlmie.graph import init


class LayerOptions(TypedDict):
    """Where first values are drawn from, and their type: of every layer with parameters."""

    rng: np.random.Generator
    dtype: str


class WeightOptions(LayerOptions):
    """The same, and how weights begin; None: as is usual for the layer."""

    W: init.Initializer | float | None
