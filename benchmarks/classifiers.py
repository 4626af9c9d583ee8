"""Rows of ``dlmie bench``: training steps of small classifiers, beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.agreement import Tolerance
from benchmarks.timing import Entry, Run, race, using_threads
from dlmie import optim
from dlmie.classification.step import compile
from dlmie.models import ConvNet, ThreeLayerConvNet
from dlmie.models.classifiers.network import NetworkClassifier

_SHAPE, _CLASSES = (32, 32, 3), [str(label) for label in range(10)]
_RATE, _MOMENTUM = 1e-2, 0.9
# As THROUGH_MAX_POOLS, but of some arrays the elements are few and sums of many that cancel: of 32
# shifts of a batch norm, PyTorch's own two memory layouts agreed in 27 to 1 %.
_TOLERANCE = Tolerance(element=2e-2, norm=2e-2, share=0.85)
# What learns, in PyTorch's order.
_THREE_LAYERS = [f"/{layer}/{name}" for layer in ("conv", "hidden", "scores") for name in "Wb"]
_STAGES = [
    *(
        f"/conv{number}{part}/{name}"
        for number in (1, 2, 3)
        for part in "ab"
        for name in ("W", "norm/gamma", "norm/beta")
    ),
    *("/scores/W", "/scores/b"),
]


def _torch_three_layers() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 7, padding=3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32 * 16 * 16, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


def _torch_stages() -> nn.Sequential:
    modules: list[nn.Module] = []
    channels = 3
    for filters in (32, 64, 128):
        for _ in "ab":
            modules += [
                nn.Conv2d(channels, filters, 3, padding=1, bias=False),
                *(nn.BatchNorm2d(filters), nn.ReLU()),
            ]
            channels = filters
        modules.append(nn.MaxPool2d(2))
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(channels * 4 * 4, 10))


def _stored(array: np.ndarray) -> np.ndarray:
    """A weight as the other library stores it: those of affine layers are transposed."""
    return np.ascontiguousarray(array.T) if array.ndim == 2 else array


def _ours(
    model: NetworkClassifier, names: list[str], images: np.ndarray, labels: np.ndarray
) -> Run:
    """A step; the first one gives the loss and how far each parameter went, later ones the loss."""
    step = compile(model, optim.momentum(_RATE, momentum=_MOMENTUM))
    step.progress = False
    named = {p.name: p for p in model.parameters}
    parameters, first = [named[name] for name in names], True

    def run() -> list[np.ndarray]:
        nonlocal first
        before = [p.get_value() for p in parameters] if first else []
        result = step({"images": images, "labels": labels})
        moved = [
            _stored(p.get_value() - start) for p, start in zip(parameters, before, strict=False)
        ]
        first = False
        return [np.array(result.sums["loss"] / result.weight), *moved]

    return run


def _theirs(
    module: nn.Module,
    weights: list[np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    memory_format: torch.memory_format,
) -> Run:
    learned = list(module.parameters())
    with torch.no_grad():
        for parameter, weight in zip(learned, weights, strict=True):
            parameter.copy_(torch.from_numpy(_stored(weight)))
    module.to(memory_format=memory_format)
    x = torch.from_numpy(images).contiguous(memory_format=memory_format)
    y, first = torch.from_numpy(labels), True
    optimizer = torch.optim.SGD(learned, lr=_RATE, momentum=_MOMENTUM, foreach=True)

    def run() -> list[np.ndarray]:
        nonlocal first
        before = [p.detach().clone() for p in learned] if first else []
        loss = nn.functional.cross_entropy(module(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        moved = [(p.detach() - start).numpy() for p, start in zip(learned, before, strict=False)]
        first = False
        return [np.array(loss.item()), *moved]

    return run


def _compare(
    build: Callable[[], NetworkClassifier],
    module: Callable[[], nn.Module],
    names: list[str],
    batch: int,
) -> Entry:
    """Forward, backward and momentum, of images of CIFAR-10's size."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 3, 32, 32)).astype("float32")
    labels = rng.integers(0, 10, batch)
    model = build()
    named = {p.name: p.get_value() for p in model.parameters}
    weights = [named[name] for name in names]
    with using_threads():
        plain, last = (
            _theirs(module(), weights, images, labels, memory_format)
            for memory_format in (torch.contiguous_format, torch.channels_last)
        )
        entry = race(
            _ours(model, names, images, labels),
            plain,
            channels_last=last,
            tolerance=_TOLERANCE,
        )
    return {**entry, "images_per_s": batch / entry["dlmie_s"]}


ROWS: dict[str, Callable[[], Entry]] = {
    "three_layer_convnet_step": partial(
        _compare,
        partial(ThreeLayerConvNet, _SHAPE, _CLASSES),
        _torch_three_layers,
        _THREE_LAYERS,
        50,
    ),
    "convnet_step": partial(
        _compare, partial(ConvNet, _SHAPE, _CLASSES), _torch_stages, _STAGES, 128
    ),
}
