"""SqueezeNet 1.1 (Iandola et al., 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.images import Preprocessing
from dlmie.layers import Conv2D
from dlmie.layers.options import WeightOptions
from dlmie.models.encoders.image_network import (
    Activation,
    ImageNetwork,
    Weights,
    check_images,
    first_values,
)
from dlmie.models.encoders.layouts import Layout, Shape, same
from dlmie.models.encoders.preprocessings import caffe, torchvision
from dlmie.ops.conv.activation import relu as default_relu
from dlmie.ops.losses.cross_entropy import softmax
from dlmie.ops.pool.pool import global_average_pool, max_pool

# Channels in, squeezed, and of each of the two expansions.
FIRES = {
    "fire2": (64, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
EXPANSIONS = ("expand1x1", "expand3x3")
POOLS = {"fire3": "pool3", "fire5": "pool5"}  # after which module
# The numbers of the modules in torchvision's list.
TORCHVISION = dict(zip(FIRES, (3, 4, 6, 7, 9, 10, 11, 12), strict=True))


class Fire:
    """Squeeze to few channels, then expand by 1 × 1 and by 3 × 3 filters side by side."""

    def __init__(
        self,
        prefix: str,
        channels: int,
        squeezed: int,
        expanded: int,
        **options: Unpack[WeightOptions],
    ) -> None:
        self.squeeze = Conv2D(f"{prefix}/squeeze", channels, squeezed, 1, **options)
        self.expand1x1 = Conv2D(f"{prefix}/expand1x1", squeezed, expanded, 1, **options)
        self.expand3x3 = Conv2D(f"{prefix}/expand3x3", squeezed, expanded, 3, padding=1, **options)

    def build(self, name: str, x: Variable, relu: Activation) -> dict[str, Variable]:
        before = self.squeeze(x)
        squeezed = relu(before)
        expanded = [self.expand1x1(squeezed), self.expand3x3(squeezed)]
        return {
            f"{name}/squeeze/pre": before,
            f"{name}/squeeze": squeezed,
            f"{name}/pre": pt.concatenate(expanded, axis=1),
            # Not relu of the line above: an activation right after its convolution is free.
            name: pt.concatenate([relu(y) for y in expanded], axis=1),
        }


class SqueezeNet(ImageNetwork):
    """SqueezeNet 1.1: AlexNet's accuracy with 1.2 million parameters.

    Layers: ``conv1`` (batch, 64, 113, 113), ``pool1``, ``fire2``, ``fire3`` (128, 56, 56),
    ``pool3``, ``fire4``, ``fire5`` (256, 28, 28), ``pool5``, ``fire6`` … ``fire9`` (512, 14, 14),
    ``conv10`` (1000, 14, 14), ``logits``, ``probabilities``; ``fire4/squeeze``; ``NAME/pre`` before
    a ReLU.

    Parameters
    ----------
    weights : path or None
        A file with arrays ``conv1.W``, ``fire2.squeeze1x1.W`` … (networks of Caffe: BGR), a file in
        torchvision's layout (RGB) or in dlmie's; None for random weights.
    seed : int
        Of random weights.
    size : int or None
        Height and width of the images of ``net.input``; None for any.
    classes : int
    dtype : str
    preprocessing : str, optional
        What the weights expect of images, such as "caffe": see :class:`ImageNetwork`.

    Attributes
    ----------
    features : tuple of str
        The layers in the order by which the style transfer of cs231n numbers them.

    Raises
    ------
    WeightsError
        The file does not fit; lists every mismatch.
    """

    name = "squeezenet"
    minimum = 25  # fewer pixels leave a 3 × 3 pool without a whole window
    known_layouts = "conv1.W, fire2.squeeze1x1.W …; torchvision: features.0.weight …"
    features = (
        *("conv1/pre", "conv1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5"),
        *("fire6", "fire7", "fire8", "fire9"),
    )

    def __init__(
        self,
        weights: Weights = None,
        *,
        seed: int = 0,
        size: int | None = 227,
        classes: int = 1000,
        dtype: str = "float32",
        preprocessing: str | None = None,
    ) -> None:
        start = first_values(weights, seed, dtype)
        self.preprocessing = self._caffe(size or 227)
        self.conv1 = Conv2D("/squeezenet/conv1", 3, 64, 3, stride=2, padding="valid", **start)
        self.fires = {
            name: Fire(f"/squeezenet/{name}", *sizes, **start) for name, sizes in FIRES.items()
        }
        self.conv10 = Conv2D("/squeezenet/conv10", 512, classes, 1, **start)
        super().__init__(
            weights, size=size, classes=classes, dtype=dtype, preprocessing=preprocessing
        )

    def build(self, x: Variable, *, relu: Activation | None = None) -> dict[str, Variable]:
        """Layers by name on images x (batch, 3, rows, columns), from input to output."""
        check_images(x, self.minimum, self.name)
        relu = relu or default_relu
        layers = {"conv1/pre": self.conv1(x)}
        layers["conv1"] = relu(layers["conv1/pre"])
        x = layers["pool1"] = max_pool(layers["conv1"], 3, 2, ceil_mode=True)
        for name, fire in self.fires.items():
            layers |= fire.build(name, x, relu)
            x = layers[name]
            if name in POOLS:
                x = layers[POOLS[name]] = max_pool(x, 3, 2, ceil_mode=True)
        layers["conv10/pre"] = self.conv10(x)
        layers["conv10"] = relu(layers["conv10/pre"])
        layers["logits"] = global_average_pool(layers["conv10"])
        layers["probabilities"] = softmax(layers["logits"])
        return layers

    @staticmethod
    def _caffe(size: int) -> Preprocessing:
        return caffe(size, mean=(104.0, 117.0, 123.0))

    def layout(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Layout | None:
        modules = {"conv1": "conv1", "conv10": "conv10"}
        if "conv1.W" in stored:
            parts, preprocessing = {"W": "W", "b": "b"}, self._caffe(self.preprocessing.size)
            modules |= {f"{fire}/squeeze": f"{fire}.squeeze1x1" for fire in FIRES}
            modules |= {f"{fire}/{e}": f"{fire}.{e}" for fire in FIRES for e in EXPANSIONS}
        elif any(name.startswith("features.") for name in stored):
            parts = {"W": "weight", "b": "bias"}
            preprocessing = torchvision(self.preprocessing.size)
            modules = {"conv1": "features.0", "conv10": "classifier.1"}
            for fire, number in TORCHVISION.items():
                for part in ("squeeze", *EXPANSIONS):
                    modules[f"{fire}/{part}"] = f"features.{number}.{part}"
        else:
            return None
        rules = []
        for layer, module in modules.items():
            for ours, theirs in parts.items():
                name = f"/squeezenet/{layer}/{ours}"
                rules.append(same(f"{module}.{theirs}", name, shapes[name]))
        return Layout(rules, preprocessing, ambiguous="conv1.W" not in stored)
