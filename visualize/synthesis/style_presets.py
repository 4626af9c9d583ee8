"""Layers for style transfer by network, and the settings of cs231n's course."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlmie.data.images import gray_level
from dlmie.graph.network import Network

#: Layers for content and for style, by network: Gatys' for VGG, cs231n's for SqueezeNet.
LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "vgg19": ("conv4_2", tuple(f"conv{i}_1" for i in range(1, 6))),
    "vgg16": ("conv4_2", tuple(f"conv{i}_1" for i in range(1, 6))),
    "squeezenet": ("fire2", ("conv1", "fire3", "fire4", "fire5")),
}


@dataclass(frozen=True)
class Preset:
    """A row of cs231n's table for SqueezeNet; its other settings are ``COURSE``.

    Attributes
    ----------
    style_shorter : int
        Shorter side of the style picture.
    content, style, variation : float, one float a style layer, float
        Weights of sums, not of relative distances, for pixels in ``COURSE.unit``.
    """

    style_shorter: int
    content: float
    style: tuple[float, ...]
    variation: float


PRESETS = {
    "composition": Preset(512, 5e-2, (20000, 500, 12, 1), 5e-2),
    "scream": Preset(224, 3e-2, (200000, 800, 12, 1), 2e-2),
    "starry": Preset(192, 6e-2, (300000, 1000, 15, 3), 2e-2),
}


@dataclass(frozen=True)
class Course:
    """What cs231n's presets share; rates and limits for pixels in ``unit``."""

    shorter: int = 192  # side of the content
    steps: int = 200
    rate: float = 3.0
    late: float = 0.9  # fraction of the steps after which the rate is ``late_rate``, without limit
    late_rate: float = 0.1
    limit: float = 1.5
    # Of a gray level: torchvision's SqueezeNet reads pixels divided by their standard deviation.
    unit: float = float(np.mean([1 / (255 * s) for s in (0.229, 0.224, 0.225)]))


COURSE = Course()


def course_scale(network: Network, power: int) -> float:
    """What turns a loss of a power of the features into one in the unit of cs231n's presets.

    But for its biases, a network of convolutions and ReLUs gives features as much larger as its
    pixels are: those of Caffe, which reads gray levels, are some 57 times torchvision's.
    """
    return (COURSE.unit / gray_level(network.preprocessing, "float64")) ** power
