"""The methods of saliency, each a function of (objective, image, settings) alone.

They work for any objective and any network: ``x`` is one image (1, 3, H, W) in network units.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytensor
from pytensor.compile.ops import ViewOp
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.data.images import resize_planes, valid_range
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.ops.conv.activation import relu
from dlmie.typing import JsonObject
from dlmie.visualize.ascent.evaluation import Evaluator, cached, image_variable, objective_values
from dlmie.visualize.ascent.objectives import Objective

if TYPE_CHECKING:
    from dlmie.progress import Bar


@dataclass(frozen=True)
class Settings:
    """Options of the methods; see :func:`~dlmie.visualize.attribution.maps.saliency`."""

    layer: str | None = None
    samples: int = 25
    noise: float = 0.15
    steps: int = 128
    patch: int = 32
    stride: int = 16
    batch: int = 8
    seed: int = 0
    progress: bool = False


@dataclass
class Attribution:
    """``map`` (H, W), signed where the method is; ``results`` are numbers for the manifest."""

    map: np.ndarray
    results: JsonObject = field(default_factory=dict)


def _bar(total: int, settings: Settings) -> Bar:
    from dlmie.progress import Bar

    return Bar(
        total=total, disable=not settings.progress, file=sys.stderr, unit="image", leave=False
    )


def largest(gradient: np.ndarray) -> np.ndarray:
    """(3, H, W) → the largest size over the channels (H, W)."""
    return np.abs(gradient).max(axis=0)


def gradient(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """``max_c |∂s/∂x_c|``."""
    _, g = Evaluator(objective, x.shape[2:], progress=settings.progress)(x)
    return Attribution(largest(g[0]))


def gradient_input(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """``Σ_c x_c ∂s/∂x_c``: signed."""
    _, g = Evaluator(objective, x.shape[2:], progress=settings.progress)(x)
    return Attribution((g[0] * x[0]).sum(axis=0))


def _noisy_gradients(
    objective: Objective, x: np.ndarray, settings: Settings
) -> Iterator[np.ndarray]:
    """Gradients (n, 3, H, W) of noisy copies, a batch at a time."""
    if settings.samples < 1:
        raise DlmieError(f"samples must be at least 1, not {settings.samples}")
    evaluate = Evaluator(objective, x.shape[2:], progress=settings.progress)
    sigma = settings.noise * float(x.max() - x.min())
    rng = np.random.default_rng(settings.seed)
    with _bar(settings.samples, settings) as bar:
        for start in range(0, settings.samples, settings.batch):
            count = min(settings.batch, settings.samples - start)
            yield evaluate(x + rng.normal(0, sigma, (count, *x.shape[1:])).astype(x.dtype))[1]
            bar.update(count)


def smooth(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """SmoothGrad: the gradient's mean over noisy copies."""
    total = sum(g.sum(axis=0) for g in _noisy_gradients(objective, x, settings))
    return Attribution(largest(total / settings.samples))


def smooth_squared(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """The mean of the squared gradients of noisy copies."""
    total = sum(np.square(g).sum(axis=0) for g in _noisy_gradients(objective, x, settings))
    return Attribution(largest(total / settings.samples))


def smooth_variance(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """VarGrad: the variance of the gradients of noisy copies."""
    first, second = 0.0, 0.0
    for g in _noisy_gradients(objective, x, settings):
        first, second = first + g.sum(axis=0), second + np.square(g).sum(axis=0)
    mean = first / settings.samples
    return Attribution(largest(second / settings.samples - np.square(mean)))


def integrated(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """Integrated gradients from the mean color to the image, by an adaptive trapezoid rule.

    The integral of the gradient along the straight path must be the rise of the objective
    (completeness).  Both are known between any two points, so those intervals are halved where
    they differ most, until they differ by less than 0.5 % in all or ``steps`` gradients are spent.
    """
    evaluate = Evaluator(objective, x.shape[2:], progress=settings.progress)
    points: dict[float, tuple[float, float]] = {}  # α → objective, slope along the path
    gradients: dict[float, np.ndarray] = {}

    def visit(alphas: list[float]) -> None:
        for start in range(0, len(alphas), settings.batch):
            part = alphas[start : start + settings.batch]
            values, g = evaluate(np.stack([x[0] * x.dtype.type(a) for a in part]))
            for alpha, value, one in zip(part, values, g, strict=True):
                points[alpha] = float(value), float((one * x[0]).sum(dtype=np.float64))
                gradients[alpha] = one
            bar.update(len(part))

    with _bar(settings.steps, settings) as bar:
        visit(list(np.linspace(0, 1, min(17, max(2, settings.steps)))))
        while True:
            order = sorted(points)
            gaps = np.array(
                [
                    points[b][0] - points[a][0] - (b - a) * (points[a][1] + points[b][1]) / 2
                    for a, b in itertools.pairwise(order)
                ]
            )
            rise = points[1.0][0] - points[0.0][0]
            gap = abs(gaps.sum()) / max(abs(rise), 1e-12)
            room = settings.steps - len(order)
            if gap < 0.005 or room < 1:
                break
            worst = np.argsort(-np.abs(gaps), kind="stable")[: min(room, settings.batch)]
            visit([(order[i] + order[i + 1]) / 2 for i in worst])
    total = np.zeros(x.shape[1:], np.float64)
    for a, b in itertools.pairwise(order):
        total += (b - a) / 2 * (gradients[a].astype(np.float64) + gradients[b])
    results = {"completeness_gap": gap, "rise": rise, "gradients": len(order)}
    return Attribution((total * x[0]).sum(axis=0), results)


class PositiveGradient(ViewOp):
    """The identity, whose gradient passes on only what is positive."""

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        return [relu(g) for g in cotangents]


def guided_relu(x: Variable) -> Variable:
    """ReLU whose gradient passes where the input *and* the gradient are positive."""
    return relu(PositiveGradient()(x))


def deconvnet_relu(x: Variable) -> Variable:
    """ReLU whose gradient passes where the gradient is positive, whatever the input was."""
    # x + (relu(x) - x) is exactly relu(x); only the first x has a gradient.
    return PositiveGradient()(x) + disconnected_grad(relu(x) - x)


def _with_relu(
    activation: Callable[[Variable], Variable],
    objective: Objective,
    x: np.ndarray,
    settings: Settings,
) -> np.ndarray:
    run = Evaluator(objective, x.shape[2:], relu=activation, progress=settings.progress)
    gradients: np.ndarray = run(x)[1][0]
    return gradients


def guided(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """Guided backpropagation."""
    return Attribution(largest(_with_relu(guided_relu, objective, x, settings)))


def deconvnet(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """The deconvolutional network."""
    return Attribution(largest(_with_relu(deconvnet_relu, objective, x, settings)))


def last_maps(network: Network) -> str:
    """The last layer of maps of at least 4 × 4 places, pools aside."""
    found = [
        name
        for name, layer in network.variables.items()
        if layer.type.ndim == 4
        and not name.endswith("/pre")
        and not name.startswith("pool")
        and (layer.type.shape[2] or 4) >= 4
    ]
    if not found:
        raise DlmieError(f"{network.name} has no layer of maps")
    return found[-1]


def _maps_and_gradients(
    objective: Objective, x: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray, str]:
    """A layer (C, h, w), the objective's gradient with respect to it, and its name."""
    network = objective.network
    layer = settings.layer or last_maps(network)
    if network[layer].type.ndim != 4:
        raise DlmieError(f"{layer} is not a layer of maps: Grad-CAM needs one")
    size = x.shape[2:]

    def compile() -> Callable[..., list[np.ndarray]]:
        image, data = image_variable(network, size), objective.data_inputs()
        view = network.on(image)
        maps = view[layer]
        g = pytensor.grad(
            objective.on(view, data).sum(),
            maps,
            consider_constant=data,
            disconnected_inputs="ignore",
        )
        return function([image, *data], [maps, g], name=f"{network.name}: {layer}")

    run = cached(network, ("maps", objective.key, layer, size), compile)
    maps, g = run(np.ascontiguousarray(x), *objective.data)
    return maps[0], g[0], layer


def _cam(
    objective: Objective,
    x: np.ndarray,
    settings: Settings,
    weigh: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Attribution:
    """The maps of a layer, weighted by their gradients; of the mirror image, too, if it is seen."""
    parts = []
    for mirrored in (False, True)[: 1 + objective.averages_flip]:
        maps, g, layer = _maps_and_gradients(objective, x[..., ::-1] if mirrored else x, settings)
        weighted = np.maximum(np.tensordot(weigh(maps, g), maps, axes=(0, 0)), 0)
        parts.append(weighted[:, ::-1] if mirrored else weighted)
    together = np.sum(parts, axis=0)
    return Attribution(np.maximum(resize_planes(together, x.shape[2:]), 0), {"layer": layer})


def grad_cam(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """``relu(Σ_k mean(∂s/∂A_k) A_k)`` of a layer's maps A."""
    return _cam(objective, x, settings, lambda maps, g: g.mean(axis=(1, 2)))


def grad_cam_plus_plus(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """Grad-CAM++ (Chattopadhay et al. 2018): places weighted by higher derivatives of exp(s)."""

    def weigh(maps: np.ndarray, g: np.ndarray) -> np.ndarray:
        below = 2 * g**2 + maps.sum(axis=(1, 2), keepdims=True) * g**3
        alpha = np.divide(g**2, below, out=np.zeros_like(g), where=np.abs(below) > 1e-30)
        return (alpha * np.maximum(g, 0)).sum(axis=(1, 2))

    return _cam(objective, x, settings, weigh)


def guided_grad_cam(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """Guided backpropagation times Grad-CAM."""
    fine, coarse = guided(objective, x, settings), grad_cam(objective, x, settings)
    return Attribution(fine.map * coarse.map, coarse.results)


def occlusion(objective: Objective, x: np.ndarray, settings: Settings) -> Attribution:
    """How much the objective falls when a patch is hidden under the mean color, at each place."""
    rows, columns = x.shape[2:]
    patch = min(settings.patch, rows, columns)
    stride = min(settings.stride, patch)  # a larger one would pass over pixels
    if stride < 1:
        raise DlmieError("occlusion: patch and stride must be at least 1")
    (whole,) = objective_values(objective, x)
    tops = [*range(0, rows - patch, stride), rows - patch]
    lefts = [*range(0, columns - patch, stride), columns - patch]
    places = [(top, left) for top in tops for left in lefts]
    low, high = valid_range(objective.network.preprocessing, x.dtype.name)
    total, seen = np.zeros((rows, columns)), np.zeros((rows, columns))
    with _bar(len(places), settings) as bar:
        for start in range(0, len(places), settings.batch):
            part = places[start : start + settings.batch]
            hidden = np.repeat(x, len(part), axis=0)
            for one, (top, left) in zip(hidden, part, strict=True):
                one[:, top : top + patch, left : left + patch] = (low + high) / 2
            for value, (top, left) in zip(objective_values(objective, hidden), part, strict=True):
                area = slice(top, top + patch), slice(left, left + patch)
                total[area] += whole - value
                seen[area] += 1
            bar.update(len(part))
    return Attribution(np.maximum(total / seen, 0))
