"""Write small VGG weight files of three programs, and what PyTorch computes with these weights.

    python tests/golden/make_vgg.py        # needs torch; writes tests/golden/vgg/

The networks are VGG-16 and VGG-19 with few filters, every number of filters different, so that no
two axes can be exchanged unnoticed.  The files hold the same float32 weights, laid out as

* ``vgg16.pth``, ``vgg19.pth``: torchvision's state dict;
* ``vgg16_keras.h5``: ``vgg16_weights_tf_dim_ordering_tf_kernels.h5`` of Keras;
* ``vgg16.npy``: the pickled dictionary of ``[W, b]``;

and ``expected.npz`` holds PyTorch's answers in float64.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent / "vgg"
STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS, UNITS, CLASSES, GRID = (2, 3, 4, 5, 6), 7, 9, 2
KERAS_TOP = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


class VGG(nn.Module):
    """torchvision's module structure, so that the state dict has torchvision's names."""

    def __init__(self, stages: tuple[int, ...]) -> None:
        super().__init__()
        self.names: dict[str, nn.Module] = {}
        modules: list[nn.Module] = []
        before = 3
        for stage, (count, filters) in enumerate(zip(stages, CHANNELS, strict=True), start=1):
            for i in range(1, count + 1):
                conv = nn.Conv2d(before, filters, 3, padding=1)
                self.names[f"conv{stage}_{i}"] = conv
                modules += [conv, nn.ReLU()]
                before = filters
            modules.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*modules)
        sizes = [before * GRID**2, UNITS, UNITS, CLASSES]
        fc = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.names |= dict(zip(("fc6", "fc7", "fc8"), fc, strict=True))
        self.classifier = nn.Sequential(
            *(fc[0], nn.ReLU(), nn.Dropout(), fc[1], nn.ReLU(), nn.Dropout(), fc[2])
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        """The classifier at every place of a larger image, averaged (the paper's section 3.2)."""
        x = self.features(x)
        for i, (layer, grid) in enumerate(zip(("fc6", "fc7", "fc8"), (GRID, 1, 1), strict=True)):
            linear = self.names[layer]
            weight = linear.weight.reshape(len(linear.weight), -1, grid, grid)
            x = F.conv2d(x, weight, linear.bias)
            x = x if i == 2 else x.relu()
        return x.mean(dim=(2, 3))


def make(name: str, seed: int) -> VGG:
    rng = np.random.default_rng(seed)
    net = VGG(STAGES[name])
    for parameter in net.parameters():
        if parameter.ndim == 1:
            values = 0.1 + 0.2 * rng.standard_normal(parameter.shape)
        else:
            fan_in = math.prod(parameter.shape[1:])
            values = rng.standard_normal(parameter.shape) * math.sqrt(2 / fan_in)
        parameter.data = torch.from_numpy(values.astype("float32"))
    return net.eval()


def image(rows: int, columns: int) -> np.ndarray:
    count = 2 * 3 * rows * columns
    return np.sin(0.37 * np.arange(count) ** 1.1).reshape(2, 3, rows, columns)


def answers(net: VGG) -> dict[str, np.ndarray]:
    net = net.double()
    x = torch.from_numpy(image(64, 64)).requires_grad_()
    logits = net(x)
    logits[:, 4].sum().backward()
    maps = {}
    hidden = x.detach()
    for module in net.features:
        hidden = module(hidden)
        maps[module] = hidden
    modules = list(net.features)
    activations = {
        layer: maps[modules[modules.index(module) + 1]]
        for layer, module in net.names.items()
        if layer.startswith("conv")
    }
    last = max(activations)
    fc6 = net.classifier[1](net.classifier[0](hidden.flatten(1)))
    found = {
        "conv2_1": activations["conv2_1"][:, :, ::8, ::8],
        last: activations[last],
        f"{last}/pre": maps[net.names[last]],
        "fc6": fc6,
        "logits": logits,
        "dense_logits": net.dense(torch.from_numpy(image(96, 128))),
        "gradient": x.grad[:, :, ::8, ::8],
    }
    return {key: value.detach().numpy() for key, value in found.items()}


def channels_last(weight: np.ndarray) -> np.ndarray:
    """(out, in, rows, columns) → (rows, columns, in, out); (out, in) → (in, out)."""
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


def by_layer(net: VGG) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weights as channels-last programs hold them: fc6 reads (row, column, channel)."""
    found = {}
    for layer, module in net.names.items():
        weight = module.weight.detach().numpy()
        if layer == "fc6":
            by_place = weight.reshape(UNITS, CHANNELS[-1], GRID, GRID).transpose(0, 2, 3, 1)
            weight = by_place.reshape(UNITS, -1)
        found[layer] = np.ascontiguousarray(channels_last(weight)), module.bias.detach().numpy()
    return found


def write_keras(path: Path, layers: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    with h5py.File(path, "w") as file:
        names = []
        for layer, arrays in layers.items():
            keras = KERAS_TOP.get(layer) or layer.replace("conv", "block").replace("_", "_conv")
            group = file.create_group(keras)
            weights = [f"{keras}_{part}_1:0" for part in "Wb"]
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in zip(weights, arrays, strict=True):
                group[name] = array
            names.append(keras)
        file.attrs["layer_names"] = [name.encode() for name in names]


def main() -> None:
    HERE.mkdir(exist_ok=True)
    expected = {}
    for seed, name in enumerate(STAGES):
        net = make(name, seed)
        torch.save(net.state_dict(), HERE / f"{name}.pth")
        if name == "vgg16":
            layers = by_layer(net)
            write_keras(HERE / "vgg16_keras.h5", layers)
            lists = {layer: list(arrays) for layer, arrays in layers.items()}
            np.save(HERE / "vgg16.npy", np.array(lists, dtype=object), allow_pickle=True)
        expected |= {f"{name}/{key}": value for key, value in answers(net).items()}
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
