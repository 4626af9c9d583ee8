"""Write `squeezenet_style.json`: PyTorch's style losses of SqueezeNet 1.1, and their gradients.

Needs torch and the weights of SqueezeNet 1.1 with arrays `conv1.W`, `fire2.squeeze1x1.W`, …:

    python tests/golden/make_squeezenet_style.py squeezenet1_1.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

# The weights of cs231n's preset "starry".
CONTENT, STYLE, VARIATION = 6e-2, {"conv1": 3e5, "fire3": 1e3, "fire4": 15.0, "fire5": 3.0}, 2e-2


def features(w: dict[str, torch.Tensor], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Layers up to fire5; pools of 3 × 3 round their size up, as Caffe's do."""

    def conv(x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        return F.relu(F.conv2d(x, w[f"{name}.W"], w[f"{name}.b"], **options))

    def fire(x: torch.Tensor, name: str) -> torch.Tensor:
        x = conv(x, f"{name}.squeeze1x1")
        parts = [conv(x, f"{name}.expand1x1"), conv(x, f"{name}.expand3x3", padding=1)]
        return torch.cat(parts, dim=1)

    layers = {"conv1": conv(x, "conv1", stride=2)}
    layers["fire2"] = fire(F.max_pool2d(layers["conv1"], 3, 2, ceil_mode=True), "fire2")
    layers["fire3"] = fire(layers["fire2"], "fire3")
    layers["fire4"] = fire(F.max_pool2d(layers["fire3"], 3, 2, ceil_mode=True), "fire4")
    layers["fire5"] = fire(layers["fire4"], "fire5")
    return layers


def gram(x: torch.Tensor) -> torch.Tensor:
    rows = x.flatten(2)[0]
    return rows @ rows.T / rows.numel()


def image(rate: float) -> torch.Tensor:
    return torch.from_numpy(100 * np.sin(rate * np.arange(3 * 64 * 80)).reshape(1, 3, 64, 80))


def main() -> None:
    with np.load(sys.argv[1]) as file:
        weights = {name: torch.from_numpy(file[name].astype(np.float64)) for name in file.files}
    x = image(0.01).requires_grad_()
    now, content, style = (features(weights, z) for z in (x, image(0.013), image(0.37)))
    losses = {
        "content": CONTENT * (now["fire2"] - content["fire2"]).square().sum(),
        "style": sum(
            weight * (gram(now[layer]) - gram(style[layer])).square().sum()
            for layer, weight in STYLE.items()
        ),
        "variation": VARIATION * sum(x.diff(dim=axis).square().sum() for axis in (2, 3)),
    }
    found: dict[str, object] = {"gram": gram(style["fire3"])[0, :5].tolist()}
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        found[name] = {
            "loss": loss.item(),
            "gradient_norm": gradient.norm().item(),
            "gradient": gradient[0, :, 30, 40].tolist(),
        }
    path = Path(__file__).parent / "squeezenet_style.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
