"""Feature inversion: what a photograph looks like from inside a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.images import ImageSource, deprocess, pixel_size, valid_range
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.text import suggest
from dlmie.visualize.ascent.ascend import ascend, frame_steps
from dlmie.visualize.ascent.evaluation import layer_values
from dlmie.visualize.ascent.inputs import network_input
from dlmie.visualize.ascent.layers import as_layer
from dlmie.visualize.ascent.models import describe_network
from dlmie.visualize.ascent.objectives import Objective, alpha_norm, feature_match, total_variation
from dlmie.visualize.ascent.optimizers import LBFGS, Adam, Gradient, Optimizer, schedule
from dlmie.visualize.ascent.parameterizations import Fourier, Parameterization, Pixels
from dlmie.visualize.figures.compositing import beside
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import SourceImage

METHODS = ("lbfgs", "adam", "mahendran")


def invert(
    layer: Variable | Network | Sequence[Variable],
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

    It minimizes ``‖φ(x) - φ₀‖² / ‖φ₀‖² + variation · TV(x)`` from noise, where TV is the mean
    square of differences of neighbors, black to white counted as one (Mahendran and Vedaldi 2015).

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
    settings = _Settings(
        list(channels) if channels is not None else None,
        repeats,
        method,
        steps,
        rate,
        variation,
        frames,
        seed,
    )
    source = SourceImage.read(image)
    if isinstance(layer, (list, tuple)):
        return _strip(layer, source, settings, progress)
    return _invert(layer, source, settings, progress)


@dataclass(frozen=True)
class _Settings:
    """The options of :func:`invert`, as a manifest holds them."""

    channels: list[int] | None
    repeats: int
    method: str
    steps: int
    rate: float
    variation: float
    frames: int
    seed: int


def _invert(
    layer: Variable | Network, source: SourceImage, settings: _Settings, progress: bool
) -> Figure:
    """Images with the features of one layer."""
    network, name = as_layer(layer, 8)
    if settings.channels is not None and f"{name}/pre" in network:
        name = f"{name}/pre"  # a filter that is silent at the start would have no gradient
    x = network_input(network, source.pixels)
    (target,) = layer_values(network, [name], x)
    match = feature_match(network[name], target, channels=settings.channels)
    low, high = valid_range(network.preprocessing, x.dtype.name)
    parameterization, start = _noise(network, x, settings)
    wanted = frame_steps(settings.steps, settings.frames) if settings.frames else ()
    objective, optimizer = _recipe(match, settings, float((high - low).mean()), x.size)
    run = ascend(
        objective,
        start,
        steps=settings.steps,
        optimizer=optimizer,
        parameterization=parameterization,
        frames=wanted,
        progress=progress,
        label=f"inverting {name}",
    )
    (found,) = layer_values(network, [name], run.images)
    errors = relative_errors(found, target, settings.channels)
    best = int(np.argmin(errors))
    pixels = deprocess(run.images, network.preprocessing)
    original = deprocess(x[0], network.preprocessing)
    panels = [Panel(original, "photograph")]
    panels += [
        Panel(picture, f"{name}, error {error:.3f}")
        for picture, error in zip(pixels, errors, strict=True)
    ]
    trace = _trace([*-run.values.T], [f"from noise {i + 1}" for i in range(settings.repeats)])
    return Figure(
        pixels[best],
        [*panels, trace],
        columns=min(len(panels) + 1, 6),
        manifest=make_manifest(
            "invert",
            describe_network(network),
            {"layer": name, **asdict(settings)},
            images={"image": source.describe()},
            results={
                "layer": name,
                "errors": errors.tolist(),
                "final_loss": (-run.values[-1]).tolist(),
            },
        ),
        arrays={"values": -run.values, "pixels": pixels, "errors": errors},
        frames=[deprocess(i[best], network.preprocessing) for _, i in run.frames],
        photo=original,
    )


def _noise(
    network: Network, x: np.ndarray, settings: _Settings
) -> tuple[Parameterization, np.ndarray]:
    """The parameterization, and the parameters to start from."""
    rng = np.random.default_rng(settings.seed)
    if settings.method != "mahendran":
        fourier = Fourier(network.preprocessing, x.shape[2:])
        return fourier, fourier.random(settings.repeats, rng)
    low, high = valid_range(network.preprocessing, x.dtype.name)
    noise = rng.normal(0, 10, (settings.repeats, *x.shape[1:])) * pixel_size(network.preprocessing)
    return Pixels(), np.clip(noise, low, high).astype(x.dtype)


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
    match: Objective, settings: _Settings, span: float, size: int
) -> tuple[Objective, Optimizer | LBFGS]:
    """What to increase, and how; ``span`` is from black to white in the network's units."""
    if settings.method == "mahendran":
        # λ and σ are stated for pixels of standard deviation σ; α = 6, β = 2.
        sigma = span / 255 * 57.4
        energy = match + 1 / (size * sigma**2) * (0.5 * total_variation(2))
        energy = energy + 4e-9 / sigma**6 * alpha_norm(6)
        stages = [(800, 1.0), (500, 0.1), (500, 0.01), (200, 0.001), (100, 0.0001)]
        scaled = [(max(1, length * settings.steps // 2100), factor) for length, factor in stages]
        return -energy, Gradient(schedule(0.02 * span, scaled), "rms", momentum=0.9)
    energy = match + settings.variation / (size * span**2) * total_variation(2)
    if settings.method == "lbfgs":
        return -energy, LBFGS()

    def falling(step: int) -> float:
        return settings.rate * 20.0 ** (-step / max(settings.steps, 1))

    return -energy, Adam(falling)


def _trace(curves: Sequence[np.ndarray], labels: Sequence[str]) -> Panel:
    """Losses while they fall; L-BFGS may end before its steps are spent."""
    steps = np.linspace(0, 1, max(map(len, curves)))
    same = [np.interp(steps, np.linspace(0, 1, len(curve)), curve) for curve in curves]
    return Panel(
        np.array(same), "loss", labels=tuple(labels), axes=("fraction of the steps", "loss")
    )


def _strip(
    layers: Sequence[Variable], source: SourceImage, settings: _Settings, progress: bool
) -> Figure:
    """One inversion for each layer, side by side after the photograph."""
    if not layers:
        raise DlmieError("invert needs at least one layer")
    figures = [_invert(layer, source, settings, progress) for layer in layers]
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
    manifest = make_manifest(
        "invert",
        describe_network(network),
        {"layer": results["layers"], **asdict(settings)},
        images={"image": source.describe()},
        results=results,
    )
    return replace(
        figures[0],
        image=beside([p.image for p in panels[:-1]]),
        panels=panels,
        columns=min(len(panels), 4),
        manifest=manifest,
        arrays={"pixels": np.stack(pictures)},
        frames=[],
    )
