"""Networks for images, dlmie beside PyTorch on the same weights.

    python -m benchmarks.encoders [NAME ...]

Every row compares the results before it times anything.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
import torch
from torch import nn

from benchmarks.timing import race
from dlmie.compilation import function, get_threads
from dlmie.models import VGG16, EfficientNetLite0
from dlmie.weights import packaged_efficientnet_lite0, read

Run = Callable[[], Any]

# Blocks, size and stride of the depthwise filters, expansion, filters.
LITE0 = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)


class _Unit(nn.Sequential):
    """Convolution with TensorFlow's "same" padding, batch norm, and mostly ReLU6."""

    def __init__(
        self, channels: int, filters: int, size: int, stride: int = 1, groups: int = 1
    ) -> None:
        # At stride 2 and even sizes TensorFlow pads one row fewer before than after.
        before, after = (size - stride) // 2, (size - stride + 1) // 2
        uneven = before != after
        padding: list[nn.Module] = [nn.ZeroPad2d((before, after) * 2)] if uneven else []
        conv = nn.Conv2d(
            *(channels, filters, size, stride),
            padding=0 if uneven else before,
            groups=groups,
            bias=False,
        )
        super().__init__(*padding, conv, nn.BatchNorm2d(filters, eps=1e-3))


class _Block(nn.Module):
    def __init__(self, channels: int, size: int, stride: int, expansion: int, filters: int) -> None:
        super().__init__()
        inner = channels * expansion
        expand = [_Unit(channels, inner, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            *(_Unit(inner, inner, size, stride, groups=inner), nn.ReLU6(inplace=True)),
            _Unit(inner, filters, 1),
        )
        self.residual = stride == 1 and channels == filters

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class _Lite0(nn.Module):
    """EfficientNet-Lite0 as PyTorch users run it, with the weights of the package."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 32
        for count, size, stride, expansion, filters in LITE0:
            for i in range(count):
                step = stride if i == 0 else 1
                blocks.append(_Block(channels, size, step, expansion, filters))
                channels = filters
        self.features = nn.Sequential(
            *(_Unit(3, 32, 3, 2), nn.ReLU6(inplace=True)),
            *blocks,
            *(_Unit(channels, 1280, 1), nn.ReLU6(inplace=True)),
        )
        self.fc = nn.Linear(1280, 1000)
        # The package's arrays have other names, but the same order.
        arrays = read(packaged_efficientnet_lite0()).values()
        tensors = [torch.tensor(np.array(array)) for array in arrays]
        self.load_state_dict(dict(zip(self.state_dict(), tensors, strict=True)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def _stack(net: VGG16) -> nn.Module:
    """The convolutions and pools of our network in PyTorch."""
    modules: list[nn.Module] = []
    for stage in net.stages:
        for layer in stage.values():
            weight, bias = (torch.tensor(p.get_value()) for p in (layer.W, layer.b))
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            conv.weight.data, conv.bias.data = weight, bias
            modules += [conv, nn.ReLU()]
        modules.append(nn.MaxPool2d(2))
    return nn.Sequential(*modules)


def _images(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, 224, 224)).astype("float32")


def _compare(
    name: str,
    ours: Run,
    module: nn.Module,
    x: np.ndarray,
    work: Callable[[nn.Module, torch.Tensor], Any],
    *,
    goal: float,
    compiled: bool,
) -> dict[str, Any]:
    """Race ``ours()`` against ``work(module, images)``; both return lists of arrays."""
    torch.set_num_threads(get_threads())
    images = torch.from_numpy(x)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    images_last = images.contiguous(memory_format=torch.channels_last)
    runs = {"channels_last": lambda: work(last, images_last)}
    if compiled:
        fast = torch.compile(last)
        runs["compiled"] = lambda: work(fast, images_last)
    expected = work(module, images)
    for result in (ours(), *(run() for run in runs.values())):
        for value, wanted in zip(result, expected, strict=True):
            wanted = np.asarray(wanted)
            error = np.abs(np.asarray(value) - wanted).max() / np.abs(wanted).max()
            if not error < 1e-3:
                raise AssertionError(f"{name}: results differ by {error:.1e} of the largest")
    return race(name, ours, lambda: work(module, images), goal=goal, **runs)


def _forward(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [module(x)]


def _input_gradient(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x).square().sum(), [x])
    return [gradient]


def _training_gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(module(x).square().mean(), list(module.parameters())))


def efficientnet_lite0_forward(compile: bool = True) -> dict[str, Any]:
    """Logits of 32 images of 224 × 224."""
    net, x = EfficientNetLite0(), _images(32)
    run = function([net.input], [net["logits"]])
    return _compare(
        "efficientnet_lite0_forward",
        *(lambda: run(x), _Lite0().eval(), x, _forward),
        goal=1.0,
        compiled=compile,
    )


def _vgg() -> tuple[VGG16, nn.Module]:
    net = VGG16(top=False)
    return net, _stack(net).eval()


def vgg16_forward(compile: bool = False) -> dict[str, Any]:
    """The convolutions of VGG-16 on 8 images of 224 × 224."""
    (net, module), x = _vgg(), _images(8)
    run = function([net.input], [net["pool5"]])
    return _compare(
        "vgg16_forward", lambda: run(x), module, x, _forward, goal=1.7, compiled=compile
    )


def vgg16_input_gradient(compile: bool = False) -> dict[str, Any]:
    """The gradient with respect to one image: a step of a dream, of saliency or of style."""
    (net, module), x = _vgg(), _images(1)
    module.requires_grad_(False)
    run = function([net.input], [pt.grad((net["pool5"] ** 2).sum(dtype="float32"), net.input)])
    return _compare(
        "vgg16_input_gradient",
        *(lambda: run(x), module, x, _input_gradient),
        goal=1.5,
        compiled=compile,
    )


def vgg16_training(compile: bool = False) -> dict[str, Any]:
    """All gradients of the convolutions of VGG-16, 8 images."""
    (net, module), x = _vgg(), _images(8)
    parameters = [p for stage in net.stages for layer in stage.values() for p in (layer.W, layer.b)]
    run = function([net.input], pt.grad((net["pool5"] ** 2).mean(dtype="float32"), parameters))
    return _compare(
        "vgg16_training",
        *(lambda: run(x), module, x, _training_gradients),
        goal=1.4,
        compiled=compile,
    )


ROWS = {
    row.__name__: row
    for row in (vgg16_forward, vgg16_input_gradient, vgg16_training, efficientnet_lite0_forward)
}


def main() -> None:
    """Run the rows named on the command line, or all."""
    for name in sys.argv[1:] or ROWS:
        print(json.dumps(ROWS[name]()))


if __name__ == "__main__":
    main()
