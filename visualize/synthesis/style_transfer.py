"""Style transfer (Gatys et al. 2016): the content of one picture in the style of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlmie.data.images import (
    ImageSource,
    deprocess,
    gray_level,
    resize_image,
    resize_planes,
    valid_range,
)
from dlmie.deprecation import renamed_arguments
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.text import suggest
from dlmie.visualize.ascent.ascend import ascend, frame_steps
from dlmie.visualize.ascent.layers import each_scale, last_at
from dlmie.visualize.ascent.models import describe_network
from dlmie.visualize.ascent.objectives import Objective
from dlmie.visualize.ascent.optimizers import LBFGS, Adam, Optimizer, schedule
from dlmie.visualize.ascent.pixels import as_pair, check_size, to_network
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import ImageDescription, SourceImage
from dlmie.visualize.synthesis.style_losses import StyleWeights, each_loss
from dlmie.visualize.synthesis.style_presets import (
    COURSE,
    LAYERS,
    PRESETS,
    Preset,
    course_scale,
)


@renamed_arguments(original_colours="original_colors")
def stylize(
    network: Network,
    content: ImageSource | None,
    style: ImageSource | Sequence[ImageSource],
    *,
    style_weights: Sequence[float] | None = None,
    content_layer: str | None = None,
    style_layers: Sequence[str] | None = None,
    content_weight: float = 1.0,
    style_weight: float = 30.0,
    variation: float = 6.0,
    preset: str | None = None,
    longer: int | None = None,
    style_longer: int | None = None,
    octaves: int | None = None,
    steps: int | None = None,
    rate: float | None = None,
    method: str = "adam",
    start: str | None = None,
    original_colors: bool = False,
    frames: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """Paint a photograph in the style of one or several pictures.

    It minimizes ``content_weight · C + style_weight · S + variation · TV``: C is the relative
    distance of the content layer's features, S the mean over style layers of the relative distance
    of Gram matrices ``Σ (G - A)² / Σ A²``, TV the mean square of differences of neighbors, black
    to white counted as one.  So the weights mean the same in every network.

    Parameters
    ----------
    network : Network
        VGG-19 where its weights are at hand; EfficientNet-Lite0 and SqueezeNet do it too.
    content
        The photograph; None makes a texture, of ``longer`` × ``longer`` pixels.
    style
        A picture or several; none where ``style_weight`` is 0.
    style_weights : sequence of float, optional
        How much each of several styles counts (default: all the same).
    content_layer, style_layers : optional
        Default: those of the literature for the network, else one of each scale.
    content_weight, style_weight, variation : float
        A weight of 0 leaves its loss out: with ``style_weight=0`` and ``start="noise"`` the content
        layer is inverted.  A preset has weights of its own; only which of these are 0 matters.
    preset : str, optional
        "composition", "scream" or "starry": the weights, sizes, steps and rates of cs231n, made for
        SqueezeNet with torchvision's weights, and scaled to the pixels of others; sizes, steps and
        rates that are given override it.
    longer : int, optional
        Longer side of the picture, in pixels (default: 384).
    style_longer : int, optional
        Longer side of the style pictures (default: ``longer``): smaller strokes when smaller.
    octaves : int, optional
        Sizes to go through, each twice the one before, ending at ``longer`` (default: 2; of a
        preset 1).  128 → 256 → 512 are ``longer=512, octaves=3``.
    steps : int, optional
        In each octave (default: 120; of a preset 200).
    rate : float, optional
        Of Adam, in gray levels; falls to a tenth (default: 5; of a preset its own course).
    method : "adam" or "lbfgs"
    start : "content" or "noise", optional
        Default: "content"; of a texture, "noise".
    original_colors : bool
        Keep the photograph's colors: only lightness is painted.
    frames : int
        Pictures of an animation.
    seed : int
    progress : bool

    Returns
    -------
    Figure
        As transparent as the content.  ``manifest["results"]``: the ``first_loss`` (of the smallest
        size), the ``last_loss``, and of what the latter consists: ``content``, ``style`` and
        ``variation``, as weighted.

    Examples
    --------
    >>> stylize(net, "dog.jpg", "starry.jpg").save("styled.png")              # doctest: +SKIP
    """
    if method not in ("adam", "lbfgs"):
        raise DlmieError(f"there is no method {method!r}{suggest(method, ('adam', 'lbfgs'))}")
    if preset is not None and preset not in PRESETS:
        raise DlmieError(f"there is no preset {preset!r}{suggest(preset, PRESETS)}")
    chosen = PRESETS[preset] if preset else None
    styles = _read_all(style)
    source = None if content is None else SourceImage.read(content)
    multipliers = _multipliers(styles, style_weights, needed=style_weight > 0)
    default = LAYERS.get(network.name) or (last_at(network, 8), tuple(each_scale(network)))
    body, strokes = content_layer or default[0], list(style_layers or default[1])
    start = start or ("noise" if content is None else "content")
    if start not in ("content", "noise") or (start == "content" and content is None):
        raise DlmieError(f"stylize cannot start from {start!r}")
    octaves = octaves or (1 if chosen else 2)
    steps = steps or (COURSE.steps if chosen else 120)
    photo = _photograph(source, longer, chosen)
    painting = _Painting(
        network,
        StyleWeights(content_weight, style_weight, variation, chosen),
        body if source is not None else None,
        strokes,
        list(zip(styles, multipliers.tolist(), strict=True)),
        style_longer or max(photo.shape[:2]),
    )
    rng = np.random.default_rng(seed)
    limited = chosen is not None and rate is None and method != "lbfgs"  # of cs231n's Adam
    images: np.ndarray | None = None
    values, kept = [], []
    for octave in range(octaves):
        x, losses = painting.losses(photo, 2.0 ** (octave - octaves + 1))
        if images is not None:
            low, high = valid_range(network.preprocessing, x.dtype.name)
            begin = np.clip(resize_planes(images, x.shape[2:]), low, high)
        else:
            begin = x if start == "content" else _noise(network, x, rng, 1.0 if chosen else 0.2)
        run = ascend(
            -sum(losses[1:], losses[0]),
            begin,
            steps=steps,
            optimizer=_optimizer(
                method, steps, rate, gray_level(network.preprocessing, "float64"), chosen
            ),
            regularizers=[_Limit(network, steps)] if limited else [],
            any_size=True,
            frames=frame_steps(steps, max(2, frames // octaves)) if frames else (),
            progress=progress,
            label="style" if octaves == 1 else f"style, size {octave + 1} of {octaves}",
        )
        images = run.images
        values.append(-run.values[:, 0])
        kept += [deprocess(frame[0], network.preprocessing) for _, frame in run.frames]
    assert images is not None
    picture = deprocess(images[0], network.preprocessing)
    if original_colors and source is not None:
        picture = keep_colors(picture, photo)
    arguments: dict[str, object] = {
        "style_weights": multipliers.tolist(),
        "content_layer": body,
        "style_layers": strokes,
        "content_weight": content_weight,
        "style_weight": style_weight,
        "variation": variation,
        "preset": preset,
        "longer": longer,
        "style_longer": style_longer,
        "octaves": octaves,
        "steps": steps,
        "rate": rate,
        "method": method,
        "start": start,
        "original_colours": original_colors,  # the name of version 0.1
        "frames": frames,
        "seed": seed,
    }
    results = {
        "first_loss": values[0][0],
        "last_loss": values[-1][-1],
        **each_loss(network, losses, images),
    }
    described: dict[str, ImageDescription | list[ImageDescription]] = {
        "style": [one.describe() for one in styles]
    }
    if source is not None:
        described["content"] = source.describe()
    panels = [] if content is None else [Panel(photo, "content")]
    panels += [Panel(one.within(max(photo.shape[:2])), "style") for one in styles]
    panels.append(Panel(picture, "result"))
    return Figure(
        picture,
        panels,
        columns=len(panels),
        manifest=make_manifest(
            "stylize",
            describe_network(network),
            arguments,
            images=described,
            results=results,
        ),
        arrays={"values": np.concatenate(values)},
        frames=kept,
        photo=photo,
        alpha=None if source is None else source.opacity(picture.shape[:2]),
    )


def texture(network: Network, style: ImageSource | Sequence[ImageSource], **options: Any) -> Figure:
    """A texture in the style of pictures: ``stylize`` without content, from noise."""
    return stylize(network, None, style, **options)


@dataclass(frozen=True)
class _Painting:
    """What a picture is to look like: its content, and the styles with their multipliers."""

    network: Network
    weights: StyleWeights
    content_layer: str | None
    style_layers: Sequence[str]
    styles: Sequence[tuple[SourceImage, float]]
    style_longer: int

    def losses(self, photo: np.ndarray, factor: float) -> tuple[np.ndarray, list[Objective]]:
        """The photograph at a size, in network units (1, 3, h, w), and the losses there."""
        network, preset = self.network, self.weights.preset
        small = reduced(photo, round(max(photo.shape[:2]) * factor), network)
        check_size(network, as_pair(small.shape[:2]))
        x = to_network(small, network)[None]
        losses = []
        if self.content_layer is not None:
            losses += self.weights.content_loss(network, self.content_layer, x)
        for style, multiplier in self.styles:
            pixels = _style(style, self.style_longer, preset)
            pixels = reduced(pixels, round(max(pixels.shape[:2]) * factor), network)
            shown = to_network(pixels, network)
            losses += self.weights.style_losses(network, self.style_layers, shown, multiplier)
        return x, losses + self.weights.variation_loss(network, x.size)


def _noise(network: Network, x: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Uniform noise about gray like ``x``; of the full range, some would stay to the end."""
    low, high = valid_range(network.preprocessing, x.dtype.name)
    noise = 0.5 + amount * (rng.random(x.shape) - 0.5)
    return (low + (high - low) * noise).astype(x.dtype)


def _read_all(images: ImageSource | Sequence[ImageSource]) -> list[SourceImage]:
    if isinstance(images, (list, tuple)):
        return [SourceImage.read(one) for one in images]
    return [SourceImage.read(images)]  # type: ignore[arg-type]


def _multipliers(
    styles: Sequence[SourceImage], weights: Sequence[float] | None, *, needed: bool
) -> np.ndarray:
    """How much each style counts; together 1."""
    multipliers = np.ones(len(styles)) if weights is None else np.asarray(weights, float)
    if not styles and not needed:
        return multipliers
    if not styles:
        raise DlmieError("a style is missing: give a picture, or style_weight=0 to do without")
    if len(multipliers) != len(styles) or multipliers.sum() <= 0:
        raise DlmieError(
            f"{len(styles)} styles need as many positive weights, not {len(multipliers)}"
        )
    return multipliers / multipliers.sum()


def _photograph(
    content: SourceImage | None, longer: int | None, preset: Preset | None
) -> np.ndarray:
    """The content's pixels at the size of the result; gray for a texture."""
    if content is None:
        side = longer or (COURSE.shorter if preset else 384)
        return np.full((side, side, 3), 128, np.uint8)
    if preset and longer is None:
        return shorter_side(content.pixels, COURSE.shorter)
    return content.within(longer or 384)


def _style(style: SourceImage, longer: int, preset: Preset | None) -> np.ndarray:
    """A style's pixels at the size that sets the scale of its strokes."""
    if preset:
        return shorter_side(style.pixels, preset.style_shorter)
    return style.within(longer)


def shorter_side(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pixels with a shorter side of ``side``, larger or smaller than it was."""
    factor = side / min(pixels.shape[:2])
    rows, columns = (round(n * factor) for n in pixels.shape[:2])
    return resize_image(pixels, (rows, columns))


def reduced(pixels: np.ndarray, longer: int, network: Network) -> np.ndarray:
    """Pixels with a longer side of at most ``longer``, yet not too small for the network."""
    rows, columns = pixels.shape[:2]
    least = getattr(network, "minimum", 1)
    factor = min(1.0, max(longer / max(rows, columns), least / min(rows, columns)))
    return resize_image(pixels, (max(1, round(rows * factor)), max(1, round(columns * factor))))


def _optimizer(
    method: str, steps: int, rate: float | None, level: float, preset: Preset | None
) -> Optimizer | LBFGS:
    """``level``: a gray level in the network's units."""
    if method == "lbfgs":
        return LBFGS()
    if preset and rate is None:
        first = round(COURSE.late * steps)
        stages = [(first, 1.0), (steps - first, COURSE.late_rate / COURSE.rate)]
        return Adam(schedule(COURSE.rate * level / COURSE.unit, stages))
    base = (rate or 5.0) * level

    def falling(step: int) -> float:
        return base * 10.0 ** (-step / max(steps, 1))

    return Adam(falling)


class _Limit:
    """Pixels no further from gray than cs231n lets them be while the rate is high."""

    def __init__(self, network: Network, steps: int) -> None:
        self.limit = COURSE.limit / course_scale(network, 1)
        self.until = round(COURSE.late * steps)

    def __call__(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        return np.clip(image, -self.limit, self.limit) if step < self.until else image


def keep_colors(picture: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The lightness of a picture with the colors of a photograph of its size."""
    weights = np.array([0.299, 0.587, 0.114])
    colors = photo.astype(np.float64)
    lightness = (picture @ weights - colors @ weights)[..., None]
    return np.clip((colors + lightness).round(), 0, 255).astype(np.uint8)
