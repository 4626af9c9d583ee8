"""One step of the loop that makes pictures, dlmie beside PyTorch: the same objective and step.

python -m benchmarks.ascent [NAME ...]
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.encoders import _compare, _images, _Lite0, _stack
from dlmie.models import VGG16, EfficientNetLite0
from dlmie.visualize import ascend
from dlmie.visualize.objectives import Objective, channel, unit
from dlmie.visualize.pixels import valid_range
from dlmie.visualize.rules import Gradient

LENGTH = 2.0  # of a step


def _step_beside(
    name: str, objective: Objective, module: nn.Module, unit: int, goal: float, compiled: bool
) -> dict[str, Any]:
    """Race one step on one image of 224 × 224 towards unit ``unit`` of what ``module`` gives."""
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

    module = module.eval().requires_grad_(False)
    return _compare(name, ours, module, x, theirs, goal=goal, compiled=compiled)


def vgg16_ascent_step(compile: bool = False) -> dict[str, Any]:
    """Towards a channel of conv5_3 of VGG-16 (random weights)."""
    net = VGG16(top=False)
    before_relu = _stack(net)[:29]
    objective = channel(net["conv5_3"], 17)
    return _step_beside("vgg16_ascent_step", objective, before_relu, 17, 1.5, compile)


def efficientnet_lite0_ascent_step(compile: bool = False) -> dict[str, Any]:
    """Towards a class of EfficientNet-Lite0."""
    objective = unit(EfficientNetLite0()["logits"], 130)
    return _step_beside("efficientnet_lite0_ascent_step", objective, _Lite0(), 130, 1.0, compile)


ROWS = {row.__name__: row for row in (vgg16_ascent_step, efficientnet_lite0_ascent_step)}


def main() -> None:
    """Run the rows named on the command line, or all."""
    for name in sys.argv[1:] or ROWS:
        print(json.dumps(ROWS[name]()))


if __name__ == "__main__":
    main()
