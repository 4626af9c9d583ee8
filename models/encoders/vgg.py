"""VGG-16 and VGG-19 (Simonyan and Zisserman, 2015), configurations D and E."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.images import Preprocessing
from dlmie.errors import DlmieError
from dlmie.layers import Conv2D, Linear
from dlmie.models.encoders.image_network import (
    Activation,
    ImageNetwork,
    Weights,
    check_images,
    first_values,
)
from dlmie.models.encoders.layouts import Layout, Rule, Shape, permuted, same
from dlmie.models.encoders.preprocessings import caffe, torchvision
from dlmie.ops.conv.activation import relu as default_relu
from dlmie.ops.conv.conv import conv2d
from dlmie.ops.losses.cross_entropy import softmax
from dlmie.ops.pool.pool import max_pool
from dlmie.typing import Json

FULLY_CONNECTED = ("fc6", "fc7", "fc8")


class _VGG(ImageNetwork):
    """3 × 3 convolutions in five stages, each ended by a 2 × 2 max pool; three large layers on top.

    Layers: ``conv1_1`` … ``conv5_3`` (``conv5_4``), ``pool1`` … ``pool5``, ``fc6``, ``fc7``,
    ``fc8`` = ``logits``, ``probabilities``; ``NAME/pre`` before a ReLU.  On images larger than the
    top was made for, the top is evaluated densely, as in section 3.2 of the paper: ``fc6``, ``fc7``
    and ``fc8`` then are maps (batch, units, rows, columns), and the logits the mean of ``fc8``.  On
    smaller ones the top is left out.

    Parameters
    ----------
    weights : path or None
        A file in the layout of torchvision, of Keras, of ``vgg16.npy``, or of dlmie; None for
        random weights.  ``preprocessing`` follows the layout: torchvision's networks take RGB,
        the others BGR.
    seed : int
        Of random weights.
    size : int or None
        Height and width of the images of ``net.input``; None for any.
    top : bool, optional
        Whether to have fc6, fc7 and fc8; by default, unless the weight file lacks them.
    channels : sequence of 5 int
        Filters in each stage.
    units, classes : int
        Outputs of fc6 and fc7, and of fc8.
    grid : int
        Rows and columns of pool5 that fc6 was made for: 7 for images of 224 pixels.
    dtype : str
    preprocessing : str, optional
        What the weights expect of images, such as "caffe": see :class:`ImageNetwork`.

    Raises
    ------
    WeightsError
        The file does not fit; lists every mismatch.
    DlmieError
        ``size`` is too small.
    """

    convolutions: tuple[int, ...]  # in each stage
    minimum = 32
    known_layouts = (
        "torchvision: features.0.weight …; Keras: block1_conv1/kernel …; vgg16.npy: conv1_1/0 …"
    )

    def __init__(
        self,
        weights: Weights = None,
        *,
        seed: int = 0,
        size: int | None = 224,
        top: bool | None = None,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        units: int = 4096,
        classes: int = 1000,
        grid: int = 7,
        dtype: str = "float32",
        preprocessing: str | None = None,
    ) -> None:
        reach = 32 * grid  # the smallest image that fills the grid of fc6
        if top and size is not None and self.minimum <= size < reach:
            raise DlmieError(
                f"fc6 of {self.name} needs images of at least {reach} × {reach} pixels, not "
                f"{size} × {size}: pass top=False to do without fc6, fc7 and fc8"
            )
        self.grid, self.nominal = grid, size or reach
        self.top = self.nominal >= reach if top is None else top
        self.adaptable = top is None
        start = first_values(weights, seed, dtype)
        self.preprocessing = caffe(self.nominal)
        self.stages: list[dict[str, Conv2D]] = []
        before = 3
        for stage, (count, filters) in enumerate(
            zip(self.convolutions, channels, strict=True), start=1
        ):
            self.stages.append({})
            for i in range(1, count + 1):
                layer = f"conv{stage}_{i}"
                self.stages[-1][layer] = Conv2D(
                    f"/{self.name}/{layer}", before, filters, 3, padding=1, **start
                )
                before = filters
        sizes = [before * grid**2, units, units, classes]
        self.fc = {
            layer: Linear(f"/{self.name}/{layer}", sizes[i], sizes[i + 1], **start)
            for i, layer in enumerate(FULLY_CONNECTED if self.top else ())
        }
        super().__init__(
            weights, size=size, classes=classes, dtype=dtype, preprocessing=preprocessing
        )
        self.adaptable = False

    def build(self, x: Variable, *, relu: Activation | None = None) -> dict[str, Variable]:
        """Layers by name on images x (batch, 3, rows, columns), from input to output."""
        check_images(x, self.minimum, self.name)
        relu = relu or default_relu
        layers: dict[str, Variable] = {}
        for stage, convolutions in enumerate(self.stages, start=1):
            for layer, convolution in convolutions.items():
                layers[f"{layer}/pre"] = convolution(x)
                x = layers[layer] = relu(layers[f"{layer}/pre"])
            x = layers[f"pool{stage}"] = max_pool(x, 2)
        sides = x.type.shape[2:]
        if not self.top or any(side is not None and side < self.grid for side in sides):
            return layers
        exact = sides == (self.grid, self.grid)
        if exact:
            x = x.flatten(2)
        for layer, linear in self.fc.items():
            y = linear(x) if exact else self._dense(linear, x, self.grid if layer == "fc6" else 1)
            if layer == "fc8":
                layers[layer] = y
            else:
                layers[f"{layer}/pre"] = y
                x = layers[layer] = relu(y)
        logits = layers["logits"] = y if exact else y.mean(axis=(2, 3))
        layers["probabilities"] = softmax(logits)
        return layers

    @staticmethod
    def _dense(linear: Linear, x: Variable, grid: int) -> Variable:
        """A fully connected layer at every place of x that is ``grid`` × ``grid`` large."""
        channels = linear.inputs // grid**2
        filters = linear.W.T.reshape((linear.outputs, channels, grid, grid))
        return conv2d(x, filters, linear.b)

    # Weights

    def adapt(self, stored: Collection[str], header: Mapping[str, Json]) -> None:
        if self.adaptable and self.top and not any(_TOP.fullmatch(name) for name in stored):
            self.top, self.fc = False, {}
            kept = [layer for layer in self.variables if layer.startswith(("conv", "pool"))]
            self.variables = {layer: self.variables[layer] for layer in kept}

    def omits(self, name: str) -> bool:
        return not self.top and _TOP.fullmatch(name) is not None

    def layout(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Layout | None:
        if any(name.startswith("features.") for name in stored):
            return self._layout(self._torchvision(shapes), stored, torchvision)
        if any(_BARE.fullmatch(name) for name in stored):  # the state dict of ``vgg.features``
            return self._layout(self._torchvision(shapes, ""), stored, torchvision)
        for pattern, usual in ((_KERAS, _keras_name), (_NPY, _npy_name)):
            found = {_meaning(m): m[0] for name in stored if (m := pattern.fullmatch(name))}
            if ("conv1_1", "W") in found:
                theirs = {key: found.get(key, usual(*key)) for key in self._arrays()}
                return self._layout(self._keras(theirs, stored, shapes), stored, caffe)
        numbered = self._numbered(stored)
        if numbered:
            theirs = {key: numbered.get(key, "/".join(key)) for key in self._arrays()}
            return self._layout(self._keras(theirs, stored, shapes), stored, caffe)
        return None

    def _numbered(self, stored: Collection[str]) -> dict[tuple[str, str], str]:
        """Names in a file of Keras 3, which numbers the layers of each kind, by our own."""
        kinds = {
            "conv2d": [layer for stage in self.stages for layer in stage],
            "dense": list(FULLY_CONNECTED),
        }
        found = {}
        for match in filter(None, map(_KERAS_3.fullmatch, stored)):
            kind, number, part = match[1], int(match[2] or 0), "Wb"[int(match[3])]
            if number < len(kinds[kind]):
                found[kinds[kind][number], part] = match[0]
        return found

    def _arrays(self) -> list[tuple[str, str]]:
        layers = [layer for stage in self.stages for layer in stage] + list(self.fc)
        return [(layer, part) for layer in layers for part in "Wb"]

    def _layout(
        self,
        rules: list[Rule],
        stored: Collection[str],
        preprocessing: Callable[[int], Preprocessing],
    ) -> Layout:
        has_top = any(_TOP.fullmatch(name) for name in stored)
        advice = "pass top=False to do without fc6, fc7 and fc8" if self.top and not has_top else ""
        return Layout(
            rules,
            preprocessing(self.nominal),
            ambiguous=preprocessing is torchvision,
            ignored=self.omits,
            advice=advice,
        )

    def _torchvision(self, shapes: Mapping[str, Shape], prefix: str = "features.") -> list[Rule]:
        """Modules are numbered, activations and pools included."""
        modules, position = {}, 0
        for convolutions in self.stages:
            for layer in convolutions:
                modules[layer] = f"{prefix}{position}"
                position += 2  # and its ReLU
            position += 1  # the pool
        modules |= {layer: f"classifier.{3 * i}" for i, layer in enumerate(self.fc)}
        rules = []
        for layer, part in self._arrays():
            theirs, ours = f"{modules[layer]}.{_TORCH[part]}", f"/{self.name}/{layer}/{part}"
            if layer in self.fc and part == "W":
                rules.append(permuted(theirs, ours, shapes[ours], (1, 0)))
            else:
                rules.append(same(theirs, ours, shapes[ours]))
        return rules

    def _keras(
        self,
        theirs: Mapping[tuple[str, str], str],
        stored: Mapping[str, Shape],
        shapes: Mapping[str, Shape],
    ) -> list[Rule]:
        """Filters are (rows, columns, in, out), and fc6 reads (row, column, channel).

        In files of "th" dimension ordering both are as here.
        """
        kernels = {
            name: shapes[f"/{self.name}/{layer}/W"]
            for (layer, part), name in theirs.items()
            if part == "W" and layer not in self.fc
        }
        as_here = any(
            stored.get(name) == shape != (*shape[2:], *shape[1::-1])
            for name, shape in kernels.items()
        )
        rules = []
        for (layer, part), name in theirs.items():
            ours = f"/{self.name}/{layer}/{part}"
            if as_here:
                rules.append(same(name, ours, shapes[ours]))
            elif (layer, part) == ("fc6", "W"):
                rules.append(Rule({name: shapes[ours]}, (ours,), self._channels_first))
            elif layer not in self.fc and part == "W":
                rules.append(permuted(name, ours, shapes[ours], (3, 2, 0, 1)))
            else:
                rules.append(same(name, ours, shapes[ours]))
        return rules

    def _channels_first(self, W: np.ndarray) -> list[np.ndarray]:
        inputs, units = W.shape
        by_place = W.reshape(self.grid, self.grid, inputs // self.grid**2, units)
        return [by_place.transpose(2, 0, 1, 3).reshape(inputs, units)]


# Arrays by name: Keras's (any version) and those of the dictionary in vgg16.npy.
_KERAS = re.compile(
    r"(?:.*/)?(block\d_conv\d|fc1|fc2|predictions)/"
    r"(?:(?:.*[/_])?(kernel|W|bias|b)(?:_\d+)?(?::0)?|vars/([01]))"
)
# The fully connected layers by any name: torchvision's, Keras's, those of vgg16.npy and ours.
_TOP = re.compile(
    r"classifier\..*|(?:.*/)?(?:fc[12678]|predictions)/.*|(?:.*/)?dense(?:_\d+)?/vars/.*"
)
_NPY = re.compile(r"(conv\d_\d|fc[678])/([01])")
_BARE = re.compile(r"\d+\.(?:weight|bias)")
_KERAS_3 = re.compile(r"(?:.*/)?(conv2d|dense)(?:_(\d+))?/vars/([01])")
_TORCH = {"W": "weight", "b": "bias"}
_KERAS_TOP = {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}


def _meaning(match: re.Match[str]) -> tuple[str, str]:
    """Our layer and ``"W"`` or ``"b"``, from a name in a file."""
    layer, *parts = match.groups()
    part = next(part for part in parts if part is not None)
    layer = _KERAS_TOP.get(layer, layer.replace("block", "conv").replace("_conv", "_"))
    return layer, "W" if part in ("kernel", "W", "0") else "b"


def _keras_name(layer: str, part: str) -> str:
    keras = {ours: theirs for theirs, ours in _KERAS_TOP.items()}
    name = keras.get(layer) or layer.replace("conv", "block").replace("_", "_conv")
    return f"{name}/{'kernel' if part == 'W' else 'bias'}"


def _npy_name(layer: str, part: str) -> str:
    return f"{layer}/{'Wb'.index(part)}"


class VGG16(_VGG):
    __doc__ = _VGG.__doc__
    name = "vgg16"
    convolutions = (2, 2, 3, 3, 3)


class VGG19(_VGG):
    __doc__ = _VGG.__doc__
    name = "vgg19"
    convolutions = (2, 2, 4, 4, 4)
