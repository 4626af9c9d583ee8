"""Rows of ``dlmie bench``: single convolutions and pools, beside PyTorch on the same numbers.

Whole networks are in ``encoders.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pytensor
import pytensor.tensor as pt
import torch
import torch.nn.functional as F

from benchmarks.agreement import Tolerance
from benchmarks.limits import Work, counted, nbytes
from benchmarks.timing import Entry, race, using_threads
from dlmie.compilation import function
from dlmie.ops.conv.conv import conv2d
from dlmie.ops.pool.pool import max_pool

Run = Callable[[], np.ndarray]
Pass = Literal["forward", "input_gradient", "weight_gradient"]

TOLERANCE = Tolerance(element=1e-3, norm=1e-4)


@dataclass(frozen=True)
class Layer:
    """A convolution with bias and ReLU: batch of images, channels, filters, side, and options."""

    batch: int
    channels: int
    filters: int
    side: int
    size: int = 3
    stride: int = 1
    groups: int = 1

    def arrays(self) -> list[np.ndarray]:
        """x, w, b and a gradient of the output."""
        rng = np.random.default_rng(0)
        out = (self.side - 1) // self.stride + 1
        shapes = (
            (self.batch, self.channels, self.side, self.side),
            (self.filters, self.channels // self.groups, self.size, self.size),
            (self.filters,),
            (self.batch, self.filters, out, out),
        )
        fan_in = self.channels // self.groups * self.size**2
        scales = (1, fan_in**-0.5, 1, 1)
        drawn = (rng.standard_normal(shape, dtype="float32") for shape in shapes)
        return [np.float32(scale) * a for scale, a in zip(scales, drawn, strict=True)]

    def ours(self, work: Pass) -> Run:
        x, w, b, g = self.arrays()
        inputs = [pt.tensor(dtype="float32", shape=a.shape) for a in (x, w, b, g)]
        options: Any = {"stride": self.stride, "padding": self.size // 2, "groups": self.groups}
        if work == "forward":
            output = conv2d(*inputs[:3], **options, activation="relu")
            run = function(inputs[:3], output)
            return lambda: run(x, w, b)
        wrt = inputs[0] if work == "input_gradient" else inputs[1]
        y = conv2d(inputs[0], inputs[1], **options)
        gradient = pytensor.grad(None, wrt, known_grads={y: inputs[3]})
        run = function([inputs[0], inputs[1], inputs[3]], gradient)
        return lambda: run(x, w, g)

    def theirs(self, work: Pass, memory_format: torch.memory_format) -> Run:
        tensors = (torch.from_numpy(a) for a in self.arrays())
        x, w, b, g = (
            t.contiguous(memory_format=memory_format) if t.ndim == 4 else t for t in tensors
        )
        pad = self.size // 2
        if work == "forward":
            options: Any = {"stride": self.stride, "padding": pad, "groups": self.groups}

            def run() -> np.ndarray:
                with torch.inference_mode():
                    return F.relu_(F.conv2d(x, w, b, **options)).numpy()

            return run
        wanted = [work == "input_gradient", work == "weight_gradient", False]

        def run_backward() -> np.ndarray:
            gradients = torch.ops.aten.convolution_backward(
                *(g, x, w, None, [self.stride] * 2, [pad] * 2, [1, 1], False, [0, 0], self.groups),
                wanted,
            )
            return gradients[wanted.index(True)].numpy()

        return run_backward


def compare(layer: Layer, work: Pass = "forward") -> Entry:
    """One row: a layer, or one of its gradients."""
    with using_threads():
        theirs = layer.theirs(work, torch.contiguous_format)
        x, w, _, y = layer.arrays()
        return race(
            layer.ours(work),
            theirs,
            channels_last=layer.theirs(work, torch.channels_last),
            tolerance=TOLERANCE,
            work=counted(theirs, bytes=nbytes(x, w, y)),
        )


def pool_2x2(gradient: bool = False) -> Entry:
    """Max pool of 8 × 64 × 224 × 224, or its gradient."""
    x = np.random.default_rng(0).standard_normal((8, 64, 224, 224), dtype="float32")
    v = pt.tensor(dtype="float32", shape=x.shape)
    y = max_pool(v, 2)
    output = pytensor.grad(y.sum(dtype="float32"), v) if gradient else y
    run = function([v], output)

    def theirs(memory_format: torch.memory_format) -> np.ndarray:
        t = tensors[memory_format]
        pooled = F.max_pool2d(t, 2)
        if not gradient:
            return pooled.detach().numpy()
        return torch.autograd.grad(pooled.sum(), [t])[0].numpy()

    formats = (torch.contiguous_format, torch.channels_last)
    tensors = {
        f: torch.from_numpy(x).contiguous(memory_format=f).requires_grad_(gradient) for f in formats
    }
    eager, last = (partial(theirs, f) for f in formats)
    # The gradient reads x to find the maxima, and writes as much.
    work = Work(bytes=x.nbytes * (2.25 if gradient else 1.25))
    with using_threads():
        return race(lambda: run(x), eager, channels_last=last, tolerance=TOLERANCE, work=work)


LAYERS: dict[str, Layer] = {
    "conv_first_layer": Layer(8, 3, 64, 224),
    "conv_3x3_64": Layer(8, 64, 64, 224),
    "conv_3x3_256": Layer(8, 256, 256, 56),
    "conv_3x3_512": Layer(8, 512, 512, 14),
    "conv_3x3_512_batch_1": Layer(1, 512, 512, 14),
    "conv_3x3_256_batch_64": Layer(64, 256, 256, 14),
    "conv_1x1_expand": Layer(32, 24, 144, 56, size=1),
    "conv_1x1_project": Layer(32, 480, 112, 14, size=1),
    "conv_1x1_small": Layer(32, 192, 1152, 7, size=1),
    "conv_depthwise_3x3": Layer(32, 144, 144, 56, groups=144),
    "conv_depthwise_5x5": Layer(32, 480, 480, 14, size=5, groups=480),
    "conv_depthwise_strided": Layer(32, 96, 96, 112, stride=2, groups=96),
    "conv_strided": Layer(32, 3, 32, 224, stride=2),
    "conv_7x7_strided": Layer(8, 3, 64, 224, size=7, stride=2),
}
WITH_GRADIENTS = ("conv_first_layer", "conv_3x3_64", "conv_3x3_512", "conv_1x1_project")

ROWS: dict[str, Callable[[], Entry]] = {
    **{name: partial(compare, layer) for name, layer in LAYERS.items()},
    **{
        f"{name}_{work}": partial(compare, LAYERS[name], work)
        for name in WITH_GRADIENTS
        for work in ("input_gradient", "weight_gradient")
    },
    "pool_2x2": pool_2x2,
    "pool_2x2_gradient": partial(pool_2x2, gradient=True),
}
