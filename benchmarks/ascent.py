"""One step of the loop that makes pictures, dlmie beside PyTorch: the same objective and step.

python -m benchmarks.ascent [NAME ...]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.encoders import Case, _images, _Lite0, _row, _stack
from dlmie.models import VGG16, EfficientNetLite0
from dlmie.visualize import ascend
from dlmie.visualize.ascent.objectives import Objective, channel, unit
from dlmie.visualize.ascent.optimizers import Gradient
from dlmie.visualize.ascent.pixels import valid_range

LENGTH = 2.0  # of a step


def _step(objective: Objective, module: nn.Module, unit: int) -> Case:
    """A step on one image of 224 × 224 towards the mean of one unit of what ``module`` gives."""
    x = _images(1)
    low, high = (torch.tensor(a) for a in valid_range(objective.network.preprocessing))
    rule = Gradient(LENGTH)

    def theirs(module: nn.Module, x: torch.Tensor) -> list[Any]:
        x = x.detach().requires_grad_()
        value = module(x)[:, unit].mean()
        (gradient,) = torch.autograd.grad(value, [x])
        with torch.no_grad():
            x = torch.clamp(x + LENGTH * gradient / gradient.norm(), low, high)
        return [value.detach()[None], x.detach()]

    def ours() -> list[np.ndarray]:
        run = ascend(objective, x, steps=1, rule=rule)
        return [run.values[0], run.images]

    return Case(ours, module.eval().requires_grad_(False), x, theirs)


def vgg16() -> Case:
    """Towards a channel of conv5_3 of VGG-16 (random weights), before its ReLU."""
    net = VGG16(top=False)
    return _step(channel(net["conv5_3"], 17), _stack(net)[:29], 17)


def lite0() -> Case:
    """Towards a class of EfficientNet-Lite0."""
    return _step(unit(EfficientNetLite0()["logits"], 130), _Lite0(), 130)


ROWS = {
    name: partial(_row, name, case)
    for name, case in (("vgg16_ascent_step", vgg16), ("efficientnet_lite0_ascent_step", lite0))
}


def main() -> None:
    """Run the rows named on the command line, or all."""
    for name in sys.argv[1:] or ROWS:
        print(json.dumps(ROWS[name]()))


if __name__ == "__main__":
    main()
