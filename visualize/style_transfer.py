"""Style transfer (Gatys et al. 2016): the content of one picture in the style of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, deprocess, resize_image
from dlmie.errors import DlmieError
from dlmie.network import Network, suggest
from dlmie.visualize.ascent import ascend
from dlmie.visualize.evaluation import layer_values
from dlmie.visualize.figures import Figure, Panel
from dlmie.visualize.layers import each_scale, last_at
from dlmie.visualize.manifests import make_manifest
from dlmie.visualize.objectives import Objective, feature_match, style_match, total_variation
from dlmie.visualize.pixels import (
    as_pair,
    check_size,
    load_pixels,
    pixel_size,
    resize_planes,
    to_network,
    valid_range,
)
from dlmie.visualize.rules import LBFGS, Adam, Rule

#: Layers for content and for style, by network: Gatys' for VGG, cs231n's for SqueezeNet.
LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "vgg19": ("conv4_2", tuple(f"conv{i}_1" for i in range(1, 6))),
    "vgg16": ("conv4_2", tuple(f"conv{i}_1" for i in range(1, 6))),
    "squeezenet": ("fire2", ("conv1", "fire3", "fire4", "fire5")),
}


@dataclass(frozen=True)
class Preset:
    """Weights for SqueezeNet by cs231n: absolute, unlike the defaults of ``stylize``."""

    style_size: int
    content: float
    style: tuple[float, ...]
    variation: float


PRESETS = {
    "composition": Preset(512, 5e-2, (20000, 500, 12, 1), 5e-2),
    "scream": Preset(224, 3e-2, (200000, 800, 12, 1), 2e-2),
    "starry": Preset(192, 6e-2, (300000, 1000, 15, 3), 2e-2),
}
_DEVIATION = 57.4  # grey levels: the unit of pixels in cs231n's weights


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
    longer: int = 384,
    style_longer: int | None = None,
    octaves: int = 2,
    steps: int = 120,
    rate: float = 5.0,
    method: str = "adam",
    start: str | None = None,
    original_colours: bool = False,
    frames: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """Paint a photograph in the style of one or several pictures.

    It minimises ``content_weight · C + style_weight · S + variation · TV``: C is the relative
    distance of the content layer's features, S the mean over style layers of the relative distance
    of Gram matrices ``Σ (G - A)² / Σ A²``, TV the mean square of differences of neighbours, black
    to white counted as one.  So the weights mean the same in every network.

    Parameters
    ----------
    network : Network
        VGG-19 where its weights are at hand; EfficientNet-Lite0 and SqueezeNet do it too.
    content
        The photograph; None makes a texture, of ``longer`` × ``longer`` pixels.
    style
        A picture or several.
    style_weights : sequence of float, optional
        Shares of several styles (default: equal).
    content_layer, style_layers : optional
        Default: those of the literature for the network, else one of each scale.
    preset : str, optional
        "composition", "scream" or "starry": cs231n's weights, made for SqueezeNet.
    longer : int
        Longer side of the picture, in pixels.
    style_longer : int, optional
        Longer side of the style pictures (default: ``longer``): smaller strokes when smaller.
    octaves : int
        Sizes to go through, each twice the one before, ending at ``longer``.
    steps : int
        In each octave.
    rate : float
        Of Adam, in grey levels; falls to a tenth.
    method : "adam" or "lbfgs"
    start : "content" or "noise", optional
        Default: "content"; of a texture, "noise".
    original_colours : bool
        Keep the photograph's colours: only lightness is painted.
    frames : int
        Pictures of an animation.
    seed : int
    progress : bool

    Returns
    -------
    Figure
        ``manifest["results"]``: content, style and total-variation losses at the end, as weighted.

    Examples
    --------
    >>> stylize(net, "dog.jpg", "starry.jpg").save("styled.png")              # doctest: +SKIP
    """
    if method not in ("adam", "lbfgs"):
        raise DlmieError(f"there is no method {method!r}{suggest(method, ('adam', 'lbfgs'))}")
    if preset is not None and preset not in PRESETS:
        raise DlmieError(f"there is no preset {preset!r}{suggest(preset, PRESETS)}")
    chosen = PRESETS[preset] if preset else None
    styles: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
    shares = np.ones(len(styles)) if style_weights is None else np.asarray(style_weights, float)
    if len(shares) != len(styles) or not len(styles) or shares.sum() <= 0:
        raise DlmieError(f"{len(styles)} styles need as many positive weights, not {len(shares)}")
    shares = shares / shares.sum()
    default = LAYERS.get(network.name) or (last_at(network, 8), tuple(each_scale(network)))
    body, strokes = content_layer or default[0], list(style_layers or default[1])
    start = start or ("noise" if content is None else "content")
    if start not in ("content", "noise") or (start == "content" and content is None):
        raise DlmieError(f"stylize cannot start from {start!r}")
    if content is None:
        photo = np.full((longer, longer, 3), 128, np.uint8)
    else:
        photo = load_pixels(content, longer=longer)
    rng = np.random.default_rng(seed)
    images: np.ndarray | None = None
    values, kept = [], []
    for octave in range(octaves):
        factor = 2.0 ** (octave - octaves + 1)
        small = reduced(photo, round(longer * factor), network)
        check_size(network, as_pair(small.shape[:2]))
        x = to_network(small, network)[None]
        losses = _losses(
            network, None if content is None else x, styles, shares, body, strokes, chosen,
            content_weight, style_weight, variation,
            round((style_longer or (chosen.style_size if chosen else longer)) * factor), x.size,
        )  # fmt: skip
        low, high = valid_range(network.preprocessing, x.dtype.name)
        if images is not None:
            begin = np.clip(resize_planes(images, x.shape[2:]), low, high)
        elif start == "content":
            begin = x
        else:
            begin = (low + (high - low) * rng.random(x.shape)).astype(x.dtype)
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        wanted = np.unique(np.linspace(0, steps, max(2, frames // octaves)).round().astype(int))
        run = ascend(
            -total,
            begin,
            steps=steps,
            rule=_rule(method, steps, rate * float(pixel_size(network.preprocessing).mean())),
            any_size=True,
            frames=tuple(wanted) if frames else (),
            progress=progress,
            label=f"style, size {octave + 1} of {octaves}",
        )
        images = run.images
        values.append(-run.values[:, 0])
        kept += [deprocess(frame[0], network.preprocessing) for _, frame in run.frames]
    assert images is not None
    picture = deprocess(images[0], network.preprocessing)
    if original_colours and content is not None:
        picture = keep_colours(picture, photo)
    arguments: dict[str, Any] = {
        "style_weights": shares.tolist(),
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
        "original_colours": original_colours,
        "frames": frames,
        "seed": seed,
    }
    results = {"first_loss": values[0][0], "last_loss": values[-1][-1]}
    sources: dict[str, Any] = {"style": styles}
    if content is not None:
        sources["content"] = content
    panels = [] if content is None else [Panel(photo, "content")]
    panels += [Panel(load_pixels(s, longer=longer), "style") for s in styles]
    panels.append(Panel(picture, "result"))
    return Figure(
        picture,
        panels,
        columns=len(panels),
        manifest=make_manifest("stylize", network, arguments, images=sources, results=results),
        arrays={"values": np.concatenate(values)},
        frames=kept,
        photo=photo,
    )


def texture(network: Network, style: ImageSource | Sequence[ImageSource], **options: Any) -> Figure:
    """A texture in the style of pictures: ``stylize`` without content, from noise."""
    return stylize(network, None, style, **options)


def _losses(
    network: Network,
    content: np.ndarray | None,
    styles: Sequence[ImageSource],
    shares: np.ndarray,
    body: str,
    strokes: Sequence[str],
    preset: Preset | None,
    content_weight: float,
    style_weight: float,
    variation: float,
    style_longer: int,
    size: int,
) -> list[Objective]:
    """Content, style and smoothness as weighted penalties, for one size."""
    low, high = valid_range(network.preprocessing)
    span, relative = float((high - low).mean()), preset is None
    each = [style_weight / len(strokes)] * len(strokes) if preset is None else list(preset.style)
    if len(each) != len(strokes):
        raise DlmieError(f"this preset is for {len(each)} style layers, not {len(strokes)}")
    losses = []
    weight = content_weight if preset is None else preset.content
    if content is not None and weight:
        (target,) = layer_values(network, [body], content, any_size=True)
        losses.append(weight * feature_match(network[body], target, relative=relative))
    for image, share in zip(styles, shares, strict=True):
        x = to_network(reduced(load_pixels(image), style_longer, network), network)[None]
        grams = [gram_of(f) for f in layer_values(network, strokes, x, any_size=True)]
        for layer, target, one in zip(strokes, grams, each, strict=True):
            if one:
                match = style_match(network[layer], target, relative=relative)
                losses.append(float(share) * one * match)
    if preset is None:
        losses.append(variation / (size * span**2) * total_variation())
    else:
        level = float(pixel_size(network.preprocessing).mean())
        losses.append(preset.variation / (level * _DEVIATION) ** 2 * total_variation())
    return losses


def reduced(pixels: np.ndarray, longer: int, network: Network) -> np.ndarray:
    """Pixels with a longer side of at most ``longer``, yet not too small for the network."""
    rows, columns = pixels.shape[:2]
    least = getattr(network, "minimum", 1)
    factor = min(1.0, max(longer / max(rows, columns), least / min(rows, columns)))
    return resize_image(pixels, (max(1, round(rows * factor)), max(1, round(columns * factor))))


def gram_of(features: np.ndarray) -> np.ndarray:
    """``F Fᵀ / (H·W·C)`` of features (batch, C, H, W), in NumPy."""
    rows = features.reshape(*features.shape[:2], -1)
    result: np.ndarray = rows @ rows.transpose(0, 2, 1) / (rows.shape[1] * rows.shape[2])
    return result


def _rule(method: str, steps: int, rate: float) -> Rule | LBFGS:
    if method == "lbfgs":
        return LBFGS()

    def falling(step: int) -> float:
        return rate * 10.0 ** (-step / max(steps, 1))

    return Adam(falling)


def keep_colours(picture: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The lightness of a picture with the colours of a photograph of its size."""
    weights = np.array([0.299, 0.587, 0.114])
    colours = photo.astype(np.float64)
    lightness = (picture @ weights - colours @ weights)[..., None]
    return np.clip((colours + lightness).round(), 0, 255).astype(np.uint8)
