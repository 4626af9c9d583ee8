"""Rows of ``dlmie bench``: one step of gradient ascent on an image, beside the same in PyTorch."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.encoders import Case, TorchLite0, random_images, row, torch_stack
from dlmie.data.images import valid_range
from dlmie.models import VGG16, EfficientNetLite0
from dlmie.visualize import ascend
from dlmie.visualize.ascent.objectives import Objective, channel, unit
from dlmie.visualize.ascent.optimizers import Gradient

LENGTH = 2.0  # of the step


def _step(objective: Objective, module: nn.Module, unit: int) -> Case:
    """A step on one image of 224 × 224 that raises the mean of one unit of ``module``'s output."""
    x = random_images(1)
    low, high = (torch.tensor(a) for a in valid_range(objective.network.preprocessing))
    rule = Gradient(LENGTH)

    def theirs(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        x = x.detach().requires_grad_()
        value = module(x)[:, unit].mean()
        (gradient,) = torch.autograd.grad(value, [x])
        with torch.no_grad():
            x = torch.clamp(x + LENGTH * gradient / gradient.norm(), low, high)
        return [value.detach()[None], x.detach()]

    def ours() -> list[np.ndarray]:
        run = ascend(objective, x, steps=1, optimizer=rule)
        return [run.values[0], run.images]

    return Case(ours, module.eval().requires_grad_(False), x, theirs)


def vgg16() -> Case:
    """For a channel of conv5_3 of VGG-16 (random weights), before its ReLU."""
    net = VGG16(top=False)
    return _step(channel(net["conv5_3"], 17), torch_stack(net)[:29], 17)


def lite0() -> Case:
    """For a class of EfficientNet-Lite0."""
    return _step(unit(EfficientNetLite0()["logits"], 130), TorchLite0(), 130)


ROWS = {
    "vgg16_ascent_step": partial(row, vgg16),
    "efficientnet_lite0_ascent_step": partial(row, lite0),
}
