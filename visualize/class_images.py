"""Class visualisation and activation maximisation: the image that a unit or layer likes best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from dlmie.data.images import deprocess
from dlmie.errors import DlmieError
from dlmie.network import Network, suggest
from dlmie.visualize import objectives
from dlmie.visualize.ascent import ascend
from dlmie.visualize.evaluation import probabilities
from dlmie.visualize.figures import Figure, Panel, tile
from dlmie.visualize.manifests import make_manifest
from dlmie.visualize.objectives import Objective
from dlmie.visualize.parameterisations import Fourier, Parameterisation, Pixels
from dlmie.visualize.pixels import Size, as_pair, pixel_size, resize_planes, valid_range
from dlmie.visualize.regularizers import Blur, ClipContribution, ClipNorm, Decay, Regularizer
from dlmie.visualize.rules import Adam, Gradient, Progress, Rule
from dlmie.visualize.subjects import class_name
from dlmie.visualize.transforms import Affine, Jitter, Transform


@dataclass(frozen=True)
class Recipe:
    """Settings of a class visualisation; lengths and rates in grey levels of 0..255.

    Attributes
    ----------
    start : str
        "fourier" noise, "normal" noise of standard deviation ``sigma`` about the mean colour, or
        "uniform" noise.
    rule : str
        "adam"; "l2" or "rms": the gradient scaled to that length; "plain": times ``rate``;
        "progress".
    """

    steps: int
    start: str
    rule: str
    rate: float
    sigma: float = 10.0
    most: float = 100.0
    jitter: int = 0
    scale: float = 0.0
    rotate: float = 0.0
    blur: float = 0.0
    blur_every: int = 1
    decay: float = 0.0
    clip_norm: float = 0.0
    clip_contribution: float = 0.0
    l2: float = 0.0
    variation: float = 0.0


# Standard deviation of the pixels of ImageNet in grey levels: the unit of cs231n's settings.
_DEVIATION = 57.4

PRESETS = {
    "fourier": Recipe(128, "fourier", "adam", 0.04, jitter=8, scale=0.12, rotate=6, variation=1e-6),
    # Yosinski et al. 2015, table 1.  Its constant rate, 100, suits the gradients of CaffeNet, whose
    # root mean square is about 0.05 a gray level; in other networks it may not move at all.  So
    # the gradient is brought to that size: steps of 5 gray levels.
    "yosinski-1": Recipe(500, "normal", "progress", 2.0, blur=0.5, blur_every=4, clip_norm=50),
    "yosinski-2": Recipe(750, "normal", "rms", 5, decay=0.3, clip_norm=20),
    "yosinski-3": Recipe(1000, "normal", "rms", 5, decay=1e-4, blur=1.0, blur_every=4),
    "yosinski-4": Recipe(
        1000, "normal", "progress", 2.0, most=1e8, blur=0.5, blur_every=4, clip_contribution=90
    ),
    # The assignments of cs231n, for SqueezeNet at 224 pixels and for TinyImageNet at 64.
    "cs231n": Recipe(
        *(100, "uniform", "l2", 25 * _DEVIATION),
        jitter=16,
        blur=0.5,
        blur_every=10,
        l2=1e-3 / _DEVIATION**2,
    ),
    "tiny-imagenet": Recipe(100, "normal", "plain", 1e4, sigma=1.0, jitter=4, blur=0.25, l2=1e-6),
}


def visualize(
    objective: Objective,
    *,
    size: Size = 224,
    preset: str = "fourier",
    steps: int | None = None,
    rate: float | None = None,
    jitter: int | None = None,
    scale: float | None = None,
    rotate: float | None = None,
    blur: float | None = None,
    blur_every: int | None = None,
    decay: float | None = None,
    octaves: int = 1,
    batch: int | None = None,
    frames: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """Find the image that an objective likes best, from noise.

    Parameters
    ----------
    objective : Objective
        As ``unit(net["logits"], "flamingo")`` or ``channel(net["block5"], 17)``; given several
        classes or channels, it makes an image of each.
    size : int or (rows, columns)
        Pixels.
    preset : str
        "fourier": a spectrum with decorrelated colours under random shifts, sizes and turns (Olah
        et al. 2017); "yosinski-1" to "yosinski-4" (Yosinski et al. 2015, table 1); "cs231n" and
        "tiny-imagenet": the course's settings.
    steps, rate, jitter, scale, rotate, blur, blur_every, decay : optional
        In place of the preset's: number and length of steps; random shifts in pixels, sizes
        (``1 ± scale``) and turns (± degrees); Gaussian blur of so many pixels every so many steps;
        L2 decay per step.
    octaves : int
        Sizes to go through, each 1.4 times the one before, ending at ``size``.
    batch : int, optional
        Images to make (default: one, or as many as the objective names).
    frames : int
        Pictures of an animation.
    seed : int
    progress : bool

    Returns
    -------
    Figure
        ``image``: the picture, or all of them as a grid; ``arrays["pixels"]`` (batch, H, W, 3),
        ``arrays["values"]`` (steps, batch).

    Raises
    ------
    DlmieError
        Unknown preset, or an image too small for the network.

    Examples
    --------
    >>> visualize(unit(net["logits"], "flamingo")).save("flamingo.png")       # doctest: +SKIP
    """
    if preset not in PRESETS:
        raise DlmieError(f"there is no preset {preset!r}{suggest(preset, PRESETS)}")
    changes = {
        "steps": steps,
        "rate": rate,
        "jitter": jitter,
        "scale": scale,
        "rotate": rotate,
        "blur": blur,
        "blur_every": blur_every,
        "decay": decay,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    recipe = replace(PRESETS[preset], **given)  # type: ignore[arg-type]
    if octaves < 1:
        raise DlmieError(f"octaves must be at least 1, not {octaves}")
    network = objective.network
    count = max([len(a) for a in objective.data], default=1) if batch is None else batch
    full = complete(objective, recipe, network)

    sizes = _sizes(as_pair(size), octaves)
    each = -(-recipe.steps // octaves)
    images: np.ndarray | None = None
    values, kept = [], []
    for number, shape in enumerate(sizes):
        way, start = _begin(recipe, network, shape, count, seed, images)
        wanted = np.unique(np.linspace(0, each, max(2, frames // octaves)).round().astype(int))
        run = ascend(
            full,
            start,
            steps=each,
            rule=make_rule(recipe, network),
            regularizers=make_regularizers(recipe),
            transforms=make_transforms(recipe),
            parameterisation=way,
            frames=tuple(wanted) if frames else (),
            seed=seed + number,
            progress=progress,
            label="image" if octaves == 1 else f"octave {number + 1} of {octaves}",
        )
        images = run.images
        values.append(run.values)
        kept += [deprocess(frame[0], network.preprocessing) for _, frame in run.frames]
    assert images is not None
    pixels = deprocess(images, network.preprocessing)
    labels, shares = _labels(objective, network, images)
    results = {
        "objective": str(objective),
        "first": np.mean(values[0][:1]),
        "last": np.mean(values[-1][-1:]),
        "labels": labels,
        "probabilities": shares,
    }
    arguments = {
        "objective": objective.to_json(),
        "size": list(as_pair(size)),
        "preset": preset,
        **changes,
        "octaves": octaves,
        "batch": batch,
        "frames": frames,
        "seed": seed,
    }
    titles = [
        label if share is None else f"{label} {share:.0%}"
        for label, share in zip_longest(labels, shares or [])
    ]
    columns = int(np.ceil(np.sqrt(count)))
    return Figure(
        pixels[0] if count == 1 else tile(list(pixels), columns),
        [Panel(image, title) for image, title in zip(pixels, titles, strict=True)],
        columns=min(columns, 6),
        manifest=make_manifest("visualize", objective.model, arguments, results=results),
        arrays={"pixels": pixels, "values": np.concatenate(values), "images": images},
        frames=kept,
    )


def _sizes(size: tuple[int, int], octaves: int) -> list[tuple[int, int]]:
    """From small to ``size``, each 1.4 times the one before."""
    steps = [1.4 ** (i - octaves + 1) for i in range(octaves)]
    return [(max(8, round(size[0] * f)), max(8, round(size[1] * f))) for f in steps]


def _begin(
    recipe: Recipe,
    network: Network,
    shape: tuple[int, int],
    count: int,
    seed: int,
    images: np.ndarray | None,
) -> tuple[Parameterisation, np.ndarray]:
    """The parameterisation, and parameters of noise or of the images of the octave before."""
    rng = np.random.default_rng(seed)
    dtype = network.input.type.dtype
    bigger = None if images is None else resize_planes(images, shape)
    if recipe.start == "fourier":
        way = Fourier(network.preprocessing, shape)
        return way, way.random(count, rng) if bigger is None else way.encode(bigger)
    if bigger is not None:
        return Pixels(), bigger
    low, high = valid_range(network.preprocessing, dtype)
    if recipe.start == "uniform":
        noise = low + (high - low) * rng.random((count, 3, *shape))
    else:
        noise = rng.normal(0, recipe.sigma, (count, 3, *shape))
        noise = noise * pixel_size(network.preprocessing)
    return Pixels(), np.clip(noise, low, high).astype(dtype)


def complete(objective: Objective, recipe: Recipe, network: Network) -> Objective:
    """The objective with the recipe's penalties, which are stated for grey levels."""
    level = float(pixel_size(network.preprocessing).mean())
    if recipe.l2:
        objective = objective - recipe.l2 / level**2 * objectives.alpha_norm(2)
    if recipe.variation:
        objective = objective - recipe.variation / level**2 * objectives.total_variation()
    return objective


def make_rule(recipe: Recipe, network: Network) -> Rule:
    """The recipe's rule of ascent in the network's units."""
    level = float(pixel_size(network.preprocessing).mean())
    if recipe.rule == "adam":
        return Adam(recipe.rate)
    if recipe.rule in ("l2", "rms"):
        return Gradient(recipe.rate * level, recipe.rule)
    # A gradient with respect to grey levels is smaller, and a step in them larger, by `level`.
    if recipe.rule == "plain":
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


def make_transforms(recipe: Recipe) -> Sequence[Transform]:
    """What the image must survive."""
    found: list[Transform] = []
    if recipe.scale or recipe.rotate:
        found.append(Affine(recipe.scale, recipe.rotate))
    if recipe.jitter:
        found.append(Jitter(recipe.jitter))
    return found


def _labels(
    objective: Objective, network: Network, images: np.ndarray
) -> tuple[list[str], list[float] | None]:
    """What to call each image, and for classes how sure the network is."""
    _, term = objective.terms[0]
    if term.kind == "says":
        return [term.options["sentence"]] * len(images), None
    index = term.options.get("index", term.options.get("channel"))
    if index is None:
        return [str(objective)] * len(images), None
    several = np.broadcast_to(np.atleast_1d(index), len(images))
    if term.kind != "unit" or term.options["layer"] != "logits":
        return [f"{term.kind} {i} of {term.options['layer']}" for i in several], None
    names = [class_name(network, int(i)) for i in several]
    try:
        shares = probabilities(network, images)
    except DlmieError:  # another size than the classifier takes
        return names, None
    return names, [float(p[i]) for p, i in zip(shares, several, strict=True)]
