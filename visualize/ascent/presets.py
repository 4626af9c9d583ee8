"""Settings under which pictures are made from noise: ours, and those of the papers.

Lengths and rates are in gray levels of 0..255, as the papers state them; what a network reads may
have another unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dlmie.data.images import gray_level, pixel_size, resize_planes, valid_range
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.text import suggest
from dlmie.typing import Json, JsonObject
from dlmie.visualize.ascent import objectives
from dlmie.visualize.ascent.objectives import Objective
from dlmie.visualize.ascent.optimizers import Adam, Gradient, Optimizer, Progress
from dlmie.visualize.ascent.parameterizations import Fourier, Parameterization, Pixels
from dlmie.visualize.ascent.regularizers import Blur, ClipContribution, ClipNorm, Decay, Regularizer
from dlmie.visualize.ascent.transforms import Affine, Jitter, Noise, Transform


@dataclass(frozen=True)
class Recipe:
    """Settings of a picture made from noise; lengths and rates in gray levels of 0..255.

    Attributes
    ----------
    start : str
        "fourier" noise, "normal" noise of standard deviation ``sigma`` about the mean color, or
        "uniform" noise.
    spectrum : float
        Of "fourier": the power of the wavelength by which waves grow, 1 as in photographs.
    optimizer : str
        "adam"; "l2": the gradient scaled to that length; "plain": times ``rate``; "progress".
    best : bool
        Take the best image on the way, not the last one.
    stretch : bool
        Show it with its contrast stretched, as those who made the recipe show theirs.
    """

    steps: int
    start: str
    optimizer: str
    rate: float
    sigma: float = 10.0
    spectrum: float = 1.0
    most: float = 100.0
    jitter: int = 0
    scale: float = 0.0
    rotate: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    blur_every: int = 1
    decay: float = 0.0
    clip_norm: float = 0.0
    clip_contribution: float = 0.0
    l2: float = 0.0
    variation: float = 0.0
    best: bool = False
    stretch: bool = False

    def to_json(self) -> JsonObject:
        """The fields as manifests name them."""
        former = {now: then for then, now in _FORMER_FIELDS.items()}
        return {former.get(name, name): value for name, value in asdict(self).items()}


# Fields whose names in manifests, those of version 0.1, are other than here.
_FORMER_FIELDS = {"rule": "optimizer"}


def _yosinski(steps: int, optimizer: str, rate: float, **options: float) -> Recipe:
    # His images differ little from gray and wander: his tool keeps the best, and stretches it.
    return Recipe(steps, "normal", optimizer, rate, best=True, stretch=True, **options)  # type: ignore[arg-type]


# Standard deviation of the pixels of ImageNet in gray levels: the unit of cs231n's settings.
_DEVIATION = 57.4

PRESETS = {
    # What a network recognizes under shifts, scales, rotations and noise, others do as well.
    "fourier": Recipe(
        *(160, "fourier", "adam", 0.03),
        spectrum=1.15,
        jitter=24,
        scale=0.25,
        rotate=10,
        noise=20,
        variation=1e-6,
    ),
    # Yosinski et al. 2015, table 1.
    "yosinski-1": _yosinski(500, "progress", 2.0, blur=0.5, blur_every=4, clip_norm=50),
    "yosinski-2": _yosinski(750, "plain", 100, decay=0.3, clip_norm=20),
    "yosinski-3": _yosinski(1000, "plain", 100, decay=1e-4, blur=1.0, blur_every=4),
    "yosinski-4": _yosinski(
        1000, "progress", 2.0, most=1e8, blur=0.5, blur_every=4, clip_contribution=90
    ),
    # The assignments of cs231n, for SqueezeNet at 224 pixels and for TinyImageNet at 64.
    "cs231n": Recipe(
        *(100, "uniform", "l2", 25 * _DEVIATION),
        jitter=16,
        blur=0.5,
        blur_every=10,
        l2=1e-3 / _DEVIATION**2,
    ),
    # Its blur is the kernel (1 2 1; 2 188 2; 1 2 1) / 200, which leaves 96 % of a row in place: so
    # does this Gaussian.
    "tiny-imagenet": Recipe(100, "normal", "plain", 1e4, sigma=1.0, jitter=4, blur=0.36, l2=1e-6),
}


def find_recipe(preset: str | Mapping[str, Json]) -> Recipe:
    """The recipe of a name in :data:`PRESETS`, or of its fields.

    Raises
    ------
    DlmieError
        There is none of that name, or a field is not known.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise DlmieError(f"there is no preset {preset!r}{suggest(preset, PRESETS)}")
        return PRESETS[preset]
    fields: JsonObject = {_FORMER_FIELDS.get(k, k): value for k, value in preset.items()}
    try:
        return Recipe(**fields)
    except TypeError as error:
        raise DlmieError(f"these are not settings of a picture from noise: {error}") from None


def begin(
    recipe: Recipe,
    network: Network,
    shape: tuple[int, int],
    count: int,
    seed: int,
    images: np.ndarray | None = None,
) -> tuple[Parameterization, np.ndarray]:
    """The parameterization, and parameters of noise or of images of any size."""
    rng = np.random.default_rng(seed)
    dtype = network.input.type.dtype
    bigger = None if images is None else resize_planes(images, shape)
    if recipe.start == "fourier":
        fourier = Fourier(network.preprocessing, shape, recipe.spectrum)
        return fourier, fourier.random(count, rng) if bigger is None else fourier.encode(bigger)
    if bigger is not None:
        return Pixels(), bigger
    low, high = valid_range(network.preprocessing, dtype)
    if recipe.start == "uniform":
        noise = low + (high - low) * rng.random((count, 3, *shape))
    else:
        noise = rng.normal(0, recipe.sigma, (count, 3, *shape))
        noise = noise * pixel_size(network.preprocessing)
    return Pixels(), np.clip(noise, low, high).astype(dtype)


def complete(objective: Objective, recipe: Recipe) -> Objective:
    """The objective with the recipe's penalties."""
    level = gray_level(objective.network.preprocessing)
    if recipe.l2:
        objective = objective - recipe.l2 / level**2 * objectives.alpha_norm(2)
    if recipe.variation:
        objective = objective - recipe.variation / level**2 * objectives.total_variation()
    return objective


def make_optimizer(recipe: Recipe, network: Network) -> Optimizer:
    """The recipe's optimizer in the network's units."""
    level = gray_level(network.preprocessing)
    if recipe.optimizer == "adam":
        return Adam(recipe.rate)
    if recipe.optimizer == "l2":
        return Gradient(recipe.rate * level, "l2")
    # A gradient with respect to gray levels is smaller, and a step in them larger, by `level`.
    if recipe.optimizer == "plain":
        return Gradient(recipe.rate * level**2, None)
    return Progress(recipe.rate, recipe.most * level**2)


def make_regularizers(recipe: Recipe) -> Sequence[Regularizer]:
    """The steps on the image after each step of ascent, in the paper's order."""
    found: list[Regularizer] = []
    if recipe.decay:
        found.append(Decay(recipe.decay))
    if recipe.blur:
        found.append(Blur(recipe.blur, recipe.blur_every))
    if recipe.clip_norm:
        found.append(ClipNorm(recipe.clip_norm))
    if recipe.clip_contribution:
        found.append(ClipContribution(recipe.clip_contribution))
    return found


def make_transforms(recipe: Recipe, network: Network) -> Sequence[Transform]:
    """What the image must survive."""
    found: list[Transform] = []
    if recipe.scale or recipe.rotate:
        found.append(Affine(recipe.scale, recipe.rotate))
    if recipe.jitter:
        found.append(Jitter(recipe.jitter))
    if recipe.noise:
        found.append(Noise(recipe.noise * gray_level(network.preprocessing)))
    return found
