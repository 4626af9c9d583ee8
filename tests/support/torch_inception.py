"""Inception-v3 as PyTorch computes it, with weights under torchvision's names.

Written from the paper's figures 5 to 7 and torchvision's published names and shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: The last entries of a unit's weights.
NORM = ("weight", "bias", "running_mean", "running_var")


class Drawn:
    """Random weights, drawn when a unit is first met; ``order`` lists the units."""

    def __init__(self, seed: int, *, scaled: bool) -> None:
        self.rng, self.scaled = np.random.default_rng(seed), scaled
        self.state: dict[str, np.ndarray] = {}
        self.order: list[str] = []

    def unit(self, name: str, shape: tuple[int, ...]) -> list[np.ndarray]:
        if f"{name}.conv.weight" not in self.state:
            self.order.append(name)
            n, draw = shape[0], self.rng.standard_normal
            made = {
                "conv.weight": draw(shape) * np.sqrt(2 / np.prod(shape[1:])),
                "bn.weight": 1 + 0.1 * draw(n) if self.scaled else np.ones(n),
                "bn.bias": 0.1 * draw(n),
                "bn.running_mean": 0.1 * draw(n),
                "bn.running_var": np.exp(0.2 * draw(n)),
            }
            self.state |= {f"{name}.{part}": a.astype("float32") for part, a in made.items()}
        names = (f"{name}.conv.weight", *(f"{name}.bn.{part}" for part in NORM))
        return [self.state[each] for each in names]

    def top(self, classes: int, features: int) -> list[np.ndarray]:
        if "fc.weight" not in self.state:
            self.state["fc.weight"] = self.rng.standard_normal((classes, features)) * 0.1
            self.state["fc.bias"] = self.rng.standard_normal(classes)
            for name in ("fc.weight", "fc.bias"):
                self.state[name] = self.state[name].astype("float32")
        return [self.state["fc.weight"], self.state["fc.bias"]]


def inception(
    torch: Any, weights: Drawn, x: Any, *, width: float, classes: int, count_include_pad: bool
) -> dict[str, Any]:
    """Images (n, 3, rows, columns) in -1..1 → outputs of the blocks, pooled features, logits."""
    f = torch.nn.functional

    def conv(
        name: str,
        x: Any,
        filters: int,
        size: tuple[int, int] = (1, 1),
        stride: int = 1,
        pad: tuple[int, int] | None = None,
    ) -> Any:
        shape = (max(1, round(width * filters)), x.shape[1], *size)
        w, gamma, beta, mean, variance = map(torch.from_numpy, weights.unit(name, shape))
        padding = (size[0] // 2, size[1] // 2) if pad is None else pad
        y = f.conv2d(x, w, stride=stride, padding=padding)
        return torch.relu(f.batch_norm(y, mean, variance, gamma, beta, eps=1e-3))

    def chain(block: str, branch: str, x: Any, *parts: Any) -> Any:
        for i, part in enumerate(parts, 1):
            x = conv(f"{block}.{branch}_{i}", x, *part)
        return x

    def averaged(x: Any) -> Any:
        return f.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=count_include_pad)

    none, out = (0, 0), {}
    x = conv("Conv2d_1a_3x3", x, 32, (3, 3), 2, none)
    x = conv("Conv2d_2a_3x3", x, 32, (3, 3), 1, none)
    x = f.max_pool2d(conv("Conv2d_2b_3x3", x, 64, (3, 3)), 3, 2)
    x = conv("Conv2d_3b_1x1", x, 80)
    x = f.max_pool2d(conv("Conv2d_4a_3x3", x, 192, (3, 3), 1, none), 3, 2)
    for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
        b = f"Mixed_5{letter}"
        parts = [
            conv(f"{b}.branch1x1", x, 64),
            chain(b, "branch5x5", x, (48,), (64, (5, 5))),
            chain(b, "branch3x3dbl", x, (64,), (96, (3, 3)), (96, (3, 3))),
            conv(f"{b}.branch_pool", averaged(x), pooled),
        ]
        x = out[b] = torch.cat(parts, 1)
    parts = [
        conv("Mixed_6a.branch3x3", x, 384, (3, 3), 2, none),
        chain("Mixed_6a", "branch3x3dbl", x, (64,), (96, (3, 3)), (96, (3, 3), 2, none)),
        f.max_pool2d(x, 3, 2),
    ]
    x = out["Mixed_6a"] = torch.cat(parts, 1)
    for letter, q in zip("bcde", (128, 160, 160, 192), strict=True):
        b, wide, high = f"Mixed_6{letter}", (1, 7), (7, 1)
        parts = [
            conv(f"{b}.branch1x1", x, 192),
            chain(b, "branch7x7", x, (q,), (q, wide), (192, high)),
            chain(b, "branch7x7dbl", x, (q,), (q, high), (q, wide), (q, high), (192, wide)),
            conv(f"{b}.branch_pool", averaged(x), 192),
        ]
        x = out[b] = torch.cat(parts, 1)
    seven = ((192,), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2, none))
    parts = [
        chain("Mixed_7a", "branch3x3", x, (192,), (320, (3, 3), 2, none)),
        chain("Mixed_7a", "branch7x7x3", x, *seven),
        f.max_pool2d(x, 3, 2),
    ]
    x = out["Mixed_7a"] = torch.cat(parts, 1)
    for letter in "bc":
        b = f"Mixed_7{letter}"
        one = conv(f"{b}.branch1x1", x, 320)
        three = conv(f"{b}.branch3x3_1", x, 384)
        threes = [
            conv(f"{b}.branch3x3_2a", three, 384, (1, 3)),
            conv(f"{b}.branch3x3_2b", three, 384, (3, 1)),
        ]
        double = chain(b, "branch3x3dbl", x, (448,), (384, (3, 3)))
        doubles = [
            conv(f"{b}.branch3x3dbl_3a", double, 384, (1, 3)),
            conv(f"{b}.branch3x3dbl_3b", double, 384, (3, 1)),
        ]
        pool = conv(f"{b}.branch_pool", averaged(x), 192)
        x = out[b] = torch.cat([one, *threes, *doubles, pool], 1)
    out["pool"] = x.mean(dim=(2, 3))
    w, bias = map(torch.from_numpy, weights.top(classes, x.shape[1]))
    out["logits"] = f.linear(out["pool"], w, bias)
    return out
