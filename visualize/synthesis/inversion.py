"""Feature inversion: what a photograph looks like from inside a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, deprocess
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.text import suggest
from dlmie.visualize.ascent.ascend import ascend
from dlmie.visualize.ascent.evaluation import layer_values
from dlmie.visualize.ascent.inputs import read_image
from dlmie.visualize.ascent.layers import as_layer
from dlmie.visualize.ascent.objectives import Objective, alpha_norm, feature_match, total_variation
from dlmie.visualize.ascent.optimizers import LBFGS, Adam, Gradient, Rule, schedule
from dlmie.visualize.ascent.parameterizations import Fourier, Parameterisation, Pixels
from dlmie.visualize.ascent.pixels import pixel_size, valid_range
from dlmie.visualize.figures.figure import Figure, Panel, beside
from dlmie.visualize.figures.manifests import make_manifest

METHODS = ("lbfgs", "adam", "mahendran")


def invert(
    layer: Any,
    image: ImageSource,
    *,
    channels: Sequence[int] | None = None,
    repeats: int = 1,
    method: str = "lbfgs",
    steps: int = 150,
    rate: float = 0.06,
    variation: float = 0.05,
    frames: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """Find an image with the same features as a photograph.

    It minimises ``‖φ(x) - φ₀‖² / ‖φ₀‖² + variation · TV(x)`` from noise, where TV is the mean
    square of differences of neighbours, black to white counted as one (Mahendran and Vedaldi 2015).

    Parameters
    ----------
    layer : net["block5"], a list of layers, or a network
        Whose features; a list makes a strip, from shallow to deep, with the best of the repeats of
        each; of a network, a middle layer.
    image
        Anything that ``load_image`` reads.
    channels : sequence of int, optional
        Match only these channels (single filters), before a ReLU.
    repeats : int
        Images from different noise; the best is ``image``.
    method : str
        "lbfgs" (in float64) or "adam", on a Fourier spectrum; "mahendran": the paper's energy
        with the α-norm, its rate schedule and momentum, on pixels.
    steps : int
    rate : float
        Of "adam", falling to a twentieth.
    variation : float
        Weight of the total variation: more is smoother.
    frames : int
        Pictures of an animation.
    seed : int
    progress : bool

    Returns
    -------
    Figure
        ``arrays["values"]`` is the loss (steps, repeats); ``manifest["results"]["errors"]`` holds
        the final relative errors ``‖φ - φ₀‖² / ‖φ₀‖²``.

    Examples
    --------
    >>> invert(net["block5"], "dog.jpg", repeats=4).save("inverted.png")      # doctest: +SKIP
    """
    if method not in METHODS:
        raise DlmieError(f"there is no method {method!r}{suggest(method, METHODS)}")
    if repeats < 1:
        raise DlmieError(f"repeats must be at least 1, not {repeats}")
    options: dict[str, Any] = {
        "channels": channels,
        "repeats": repeats,
        "method": method,
        "steps": steps,
        "rate": rate,
        "variation": variation,
        "frames": frames,
        "seed": seed,
    }
    if isinstance(layer, (list, tuple)):
        return _strip(layer, image, options, progress)
    network, name = as_layer(layer, 8)
    if channels is not None and f"{name}/pre" in network:
        name = f"{name}/pre"  # a filter that is silent at the start would have no gradient
    _, x = read_image(network, image)
    (target,) = layer_values(network, [name], x)
    match = feature_match(network[name], target, channels=channels)
    dtype = x.dtype.name
    low, high = valid_range(network.preprocessing, dtype)
    rng = np.random.default_rng(seed)
    way: Parameterisation
    if method != "mahendran":
        way = Fourier(network.preprocessing, x.shape[2:])
        start = way.random(repeats, rng)
    else:
        way = Pixels()
        noise = rng.normal(0, 10, (repeats, *x.shape[1:])) * pixel_size(network.preprocessing)
        start = np.clip(noise, low, high).astype(dtype)
    wanted = np.unique(np.linspace(0, steps, frames).round().astype(int)) if frames else ()
    span = float((high - low).mean())
    objective, rule = _recipe(match, method, steps, rate, variation, span, x.size)
    run = ascend(
        objective,
        start,
        steps=steps,
        rule=rule,
        parameterisation=way,
        frames=tuple(wanted),
        progress=progress,
        label=f"inverting {name}",
    )
    (found,) = layer_values(network, [name], run.images)
    errors = relative_errors(found, target, channels)
    best = int(np.argmin(errors))
    pixels = deprocess(run.images, network.preprocessing)
    original = deprocess(x[0], network.preprocessing)
    results = {"layer": name, "errors": errors.tolist(), "final_loss": (-run.values[-1]).tolist()}
    panels = [Panel(original, "photograph")]
    panels += [
        Panel(picture, f"{name}, error {error:.3f}")
        for picture, error in zip(pixels, errors, strict=True)
    ]
    trace = _trace([*-run.values.T], [f"from noise {i + 1}" for i in range(repeats)])
    arguments = {"layer": name, **options}
    return Figure(
        pixels[best],
        [*panels, trace],
        columns=min(len(panels) + 1, 6),
        manifest=make_manifest(
            "invert", network, arguments, images={"image": image}, results=results
        ),
        arrays={"values": -run.values, "pixels": pixels, "errors": errors},
        frames=[deprocess(i[best], network.preprocessing) for _, i in run.frames],
        photo=original,
    )


def relative_errors(
    found: np.ndarray, target: np.ndarray, channels: Sequence[int] | None = None
) -> np.ndarray:
    """``‖φ - φ₀‖² / ‖φ₀‖²`` of each image, (batch,)."""
    if channels is not None:
        found, target = found[:, list(channels)], target[:, list(channels)]
    axes = tuple(range(1, found.ndim))
    distance = np.square(found - target, dtype=np.float64).sum(axis=axes)
    result: np.ndarray = distance / max(float(np.square(target, dtype=np.float64).sum()), 1e-30)
    return result


def _recipe(
    match: Objective,
    method: str,
    steps: int,
    rate: float,
    variation: float,
    span: float,
    size: int,
) -> tuple[Objective, Rule | LBFGS]:
    """What to increase, and how; ``span`` is from black to white in the network's units."""
    if method == "mahendran":
        # λ and σ are stated for pixels of standard deviation σ; α = 6, β = 2.
        sigma = span / 255 * 57.4
        energy = match + 1 / (size * sigma**2) * (0.5 * total_variation(2))
        energy = energy + 4e-9 / sigma**6 * alpha_norm(6)
        stages = [(800, 1.0), (500, 0.1), (500, 0.01), (200, 0.001), (100, 0.0001)]
        scaled = [(max(1, length * steps // 2100), factor) for length, factor in stages]
        return -energy, Gradient(schedule(0.02 * span, scaled), "rms", momentum=0.9)
    energy = match + variation / (size * span**2) * total_variation(2)
    if method == "lbfgs":
        return -energy, LBFGS()

    def falling(step: int) -> float:
        return rate * 20.0 ** (-step / max(steps, 1))

    return -energy, Adam(falling)


def _trace(curves: Sequence[np.ndarray], labels: Sequence[str]) -> Panel:
    """Losses while they fall; L-BFGS may end before its steps are spent."""
    steps = np.linspace(0, 1, max(map(len, curves)))
    same = [np.interp(steps, np.linspace(0, 1, len(curve)), curve) for curve in curves]
    return Panel(np.array(same), "loss", labels=tuple(labels), axes=("share of the steps", "loss"))


def _strip(
    layers: Sequence[Any], image: ImageSource, options: dict[str, Any], progress: bool
) -> Figure:
    """One inversion for each layer, side by side after the photograph."""
    if not layers:
        raise DlmieError("invert needs at least one layer")
    figures = [invert(layer, image, progress=progress, **options) for layer in layers]
    network: Network = as_layer(layers[0], 8)[0]
    results = {
        "layers": [f.manifest["results"]["layer"] for f in figures],
        "errors": [min(f.manifest["results"]["errors"]) for f in figures],
    }
    pictures = [f.image for f in figures if f.image is not None]
    panels = [figures[0].panels[0]]
    panels += [
        Panel(picture, f"{name}, error {error:.3f}")
        for picture, name, error in zip(pictures, results["layers"], results["errors"], strict=True)
    ]
    best = [f.arrays["values"][:, np.argmin(f.arrays["errors"])] for f in figures]
    panels.append(_trace(best, results["layers"]))
    arguments = {"layer": results["layers"], **options}
    manifest = make_manifest("invert", network, arguments, images={"image": image}, results=results)
    return replace(
        figures[0],
        image=beside([p.image for p in panels[:-1]]),
        panels=panels,
        columns=min(len(panels), 4),
        manifest=manifest,
        arrays={"pixels": np.stack(pictures)},
        frames=[],
    )
