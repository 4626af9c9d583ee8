"""EfficientNet-Lite as PyTorch computes it, straight from a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Stages, counted from 1, whose first block halves the grid; blocks of each stage by their sum.
_HALVING = (2, 3, 4, 6)
_REPEATS = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}


def logits(torch: Any, arrays: Mapping[str, np.ndarray], x: Any) -> Any:
    """Images (n, 3, size, size), preprocessed → logits (n, 1000)."""
    functional = torch.nn.functional
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def convolve(x: Any, weight: str, norm: str, stride: int = 1, capped: bool = True) -> Any:
        w = state[f"{weight}.weight"]
        kernel, groups = w.shape[2], x.shape[1] // w.shape[1]
        pads = []
        for n in (x.shape[3], x.shape[2]):
            total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
            pads += [total // 2, total - total // 2]
        y = functional.conv2d(functional.pad(x, pads), w, stride=stride, groups=groups)
        y = functional.batch_norm(
            y,
            *(state[f"{norm}.{part}"] for part in ("running_mean", "running_var")),
            *(state[f"{norm}.{part}"] for part in ("weight", "bias")),
            eps=1e-3,
        )
        return y.clamp(0, 6) if capped else y

    blocks = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("_blocks"))
    x = convolve(x, "_conv_stem", "_bn0", 2)
    number = 0
    for stage, repeats in enumerate(_REPEATS[blocks], 1):
        for i in range(repeats):
            name = f"_blocks.{number}"
            stride = 2 if i == 0 and stage in _HALVING else 1
            y = x
            if f"{name}._expand_conv.weight" in state:
                y = convolve(y, f"{name}._expand_conv", f"{name}._bn0")
            y = convolve(y, f"{name}._depthwise_conv", f"{name}._bn1", stride)
            y = convolve(y, f"{name}._project_conv", f"{name}._bn2", capped=False)
            x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
            number += 1
    x = convolve(x, "_conv_head", "_bn1").mean(dim=(2, 3))
    return functional.linear(x, state["_fc.weight"], state["_fc.bias"])
