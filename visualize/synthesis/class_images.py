"""Class visualization and activation maximization: the image that a unit or layer likes best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np

from dlmie.data.images import deprocess, valid_range
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.typing import Json, JsonObject
from dlmie.visualize.ascent.ascend import ascend, frame_steps
from dlmie.visualize.ascent.evaluation import objective_values, probabilities
from dlmie.visualize.ascent.inputs import class_name
from dlmie.visualize.ascent.models import describe_model, with_preprocessing
from dlmie.visualize.ascent.objectives import Objective
from dlmie.visualize.ascent.objectives.terms import check_objective
from dlmie.visualize.ascent.pixels import Size, as_pair, to_network
from dlmie.visualize.ascent.presets import (
    Recipe,
    begin,
    complete,
    find_recipe,
    make_optimizer,
    make_regularizers,
    make_transforms,
)
from dlmie.visualize.figures.compositing import tile
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel


def visualize(
    objective: Objective,
    *,
    size: Size | None = None,
    preset: str | Mapping[str, Json] = "fourier",
    steps: int | None = None,
    rate: float | None = None,
    jitter: int | None = None,
    scale: float | None = None,
    rotate: float | None = None,
    noise: float | None = None,
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
    size : int or (rows, columns), optional
        Pixels; by default as many as the network was trained with.
    preset : str or mapping
        "fourier": a spectrum with decorrelated colors under random shifts, scales, rotations
        (Olah et al. 2017) and noise; "yosinski-1" to "yosinski-4" (Yosinski et al. 2015, table 1),
        whose faint images are shown with stretched contrast; "cs231n" and "tiny-imagenet": the
        course's settings.  Or the fields of a
        :class:`~dlmie.visualize.ascent.presets.Recipe`, as manifests hold.
    steps, rate, jitter, scale, rotate, noise, blur, blur_every, decay : optional
        In place of the preset's: number and length of steps; random shifts in pixels, scales
        (``1 ± scale``), rotations (± degrees) and noise (gray levels); Gaussian blur of so many
        pixels every so many steps; L2 decay per step.
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
        ``arrays["values"]`` (steps, batch).  ``figure()`` shows the pictures, or where frames were
        asked for, the way to the one.  ``manifest["results"]``: the objective of the ``first`` and
        of the ``last`` images; of classes, their ``probabilities`` for the pictures as saved.

    Raises
    ------
    DlmieError
        Unknown preset, or an image too small for the network.

    Examples
    --------
    >>> visualize(unit(net["logits"], "flamingo")).save("flamingo.png")       # doctest: +SKIP
    """
    changes = {
        "steps": steps,
        "rate": rate,
        "jitter": jitter,
        "scale": scale,
        "rotate": rotate,
        "noise": noise,
        "blur": blur,
        "blur_every": blur_every,
        "decay": decay,
    }
    given: JsonObject = {k: value for k, value in changes.items() if value is not None}
    recipe = replace(find_recipe(preset), **given)
    if octaves < 1:
        raise DlmieError(f"octaves must be at least 1, not {octaves}")
    network = check_objective(objective).network
    count = max([len(a) for a in objective.data], default=1) if batch is None else batch
    shape = as_pair(with_preprocessing(network).preprocessing.size if size is None else size)
    run = _climb(objective, recipe, _sizes(shape, octaves), count, frames, seed, progress)
    pixels = _shown(run.images, network, recipe)
    labels, found = _labels(objective, network, pixels)
    results = {
        "objective": str(objective),
        "first": run.first,
        "last": run.last,
        "labels": labels,
        "probabilities": found,
    }
    arguments = {
        "objective": objective.to_json(),
        "size": list(shape),
        "preset": recipe.to_json(),  # not its name: presets of a later version may differ
        "octaves": octaves,
        "batch": batch,
        "frames": frames,
        "seed": seed,
    }
    titles = [
        label if probability is None else f"{label} {probability:.0%}"
        for label, probability in zip_longest(labels, found or [])
    ]
    columns = int(np.ceil(np.sqrt(count)))
    panels = [Panel(image, title) for image, title in zip(pixels, titles, strict=True)]
    film = [_shown(frame[:1], network, recipe)[0] for _, frame in run.frames]
    if count == 1 and film:  # the way there, as the course shows it
        chosen = frame_steps(len(film) - 1, 5)
        total = run.frames[-1][0]
        panels = [
            Panel(film[i], f"{labels[0]}\nIteration {run.frames[i][0]} / {total}") for i in chosen
        ]
        columns = 5
    return Figure(
        pixels[0] if count == 1 else tile(list(pixels), columns),
        panels,
        columns=min(columns, 6),
        manifest=make_manifest(
            "visualize", describe_model(objective.model), arguments, results=results
        ),
        arrays={"pixels": pixels, "values": np.concatenate(run.values), "images": run.images},
        frames=film,
    )


@dataclass
class _Climb:
    """Images (batch, 3, H, W), the objective on the way, and of the first and the last images."""

    images: np.ndarray
    values: list[np.ndarray] = field(default_factory=list)
    frames: list[tuple[int, np.ndarray]] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0


def _climb(
    objective: Objective,
    recipe: Recipe,
    sizes: list[tuple[int, int]],
    count: int,
    frames: int,
    seed: int,
    progress: bool,
) -> _Climb:
    """From noise through all sizes, each beginning with the images of the one before."""
    network, full = objective.network, complete(objective, recipe)
    each = -(-recipe.steps // len(sizes))
    wanted = frame_steps(each, max(2, frames // len(sizes))) if frames else ()
    made: _Climb | None = None
    for number, shape in enumerate(sizes):
        before = None if made is None else made.images
        parameterization, start = begin(recipe, network, shape, count, seed, before)
        if made is None:
            made = _Climb(parameterization.decode(start))
            made.first = float(objective_values(objective, made.images).mean())
        run = ascend(
            full,
            start,
            steps=each,
            optimizer=make_optimizer(recipe, network),
            regularizers=make_regularizers(recipe),
            transforms=make_transforms(recipe, network),
            parameterization=parameterization,
            best=recipe.best,
            frames=wanted,
            seed=seed + number,
            progress=progress,
            label="image" if len(sizes) == 1 else f"octave {number + 1} of {len(sizes)}",
        )
        made.images = run.images
        made.values.append(run.values)
        made.frames += [(number * each + step, image) for step, image in run.frames]
    assert made is not None
    made.last = float(objective_values(objective, made.images).mean())
    return made


def _shown(images: np.ndarray, network: Network, recipe: Recipe) -> np.ndarray:
    """Images (batch, 3, H, W) in network units → pixels (batch, H, W, 3)."""
    if recipe.stretch:
        low, high = (limit[None] for limit in valid_range(network.preprocessing))
        largest = np.percentile(np.abs(images), 99.5, axis=(1, 2, 3), keepdims=True)
        middle = (low + high) / 2
        images = np.clip(middle + (high - middle) * images / (largest + 1e-12), low, high)
    return deprocess(images, network.preprocessing)


def _sizes(size: tuple[int, int], octaves: int) -> list[tuple[int, int]]:
    """From small to ``size``, each 1.4 times the one before."""
    steps = [1.4 ** (i - octaves + 1) for i in range(octaves)]
    return [(max(8, round(size[0] * f)), max(8, round(size[1] * f))) for f in steps]


def _labels(
    objective: Objective, network: Network, pixels: np.ndarray
) -> tuple[list[str], list[float] | None]:
    """What to call each image, and for classes how sure the network is of it as it is saved."""
    _, term = objective.terms[0]
    if term.kind == "sentence_log_likelihood":
        return [term.options["sentence"]] * len(pixels), None
    index = term.options.get("index", term.options.get("channel"))
    if index is None:
        return [str(objective)] * len(pixels), None
    several = np.broadcast_to(np.atleast_1d(index), len(pixels))
    if term.kind != "unit" or term.options["layer"] != "logits":
        return [f"{term.kind} {i} of {term.options['layer']}" for i in several], None
    names = [class_name(network, int(i)) for i in several]
    try:
        found = probabilities(network, to_network(pixels, network))
    except DlmieError:  # another size than the classifier takes
        return names, None
    return names, [float(p[i]) for p, i in zip(found, several, strict=True)]
