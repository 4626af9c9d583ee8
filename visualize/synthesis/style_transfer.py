"""Style transfer (Gatys et al. 2016): the content of one picture in the style of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, deprocess, resize_image
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.text import suggest
from dlmie.visualize.ascent.ascend import ascend
from dlmie.visualize.ascent.evaluation import layer_values
from dlmie.visualize.ascent.layers import each_scale, last_at
from dlmie.visualize.ascent.objectives import Objective, feature_match, style_match, total_variation
from dlmie.visualize.ascent.optimizers import LBFGS, Adam, Rule, schedule
from dlmie.visualize.ascent.pixels import (
    as_pair,
    check_size,
    load_opacity,
    load_pixels,
    pixel_size,
    resize_planes,
    to_network,
    valid_range,
)
from dlmie.visualize.figures.figure import Figure, Panel
from dlmie.visualize.figures.manifests import make_manifest

#: Layers for content and for style, by network: Gatys' for VGG, cs231n's for SqueezeNet.
LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "vgg19": ("conv4_2", tuple(f"conv{i}_1" for i in range(1, 6))),
    "vgg16": ("conv4_2", tuple(f"conv{i}_1" for i in range(1, 6))),
    "squeezenet": ("fire2", ("conv1", "fire3", "fire4", "fire5")),
}


@dataclass(frozen=True)
class Preset:
    """A row of cs231n's table for SqueezeNet; its other settings are ``COURSE``.

    Attributes
    ----------
    style_shorter : int
        Shorter side of the style picture.
    content, style, variation : float, one float a style layer, float
        Weights of sums, not of relative distances, for pixels in ``COURSE.unit``.
    """

    style_shorter: int
    content: float
    style: tuple[float, ...]
    variation: float


PRESETS = {
    "composition": Preset(512, 5e-2, (20000, 500, 12, 1), 5e-2),
    "scream": Preset(224, 3e-2, (200000, 800, 12, 1), 2e-2),
    "starry": Preset(192, 6e-2, (300000, 1000, 15, 3), 2e-2),
}


@dataclass(frozen=True)
class Course:
    """What cs231n's presets share; rates and limits for pixels in ``unit``."""

    shorter: int = 192  # side of the content
    steps: int = 200
    rate: float = 3.0
    late: float = 0.9  # share of the steps after which the rate is ``late_rate``, without limit
    late_rate: float = 0.1
    limit: float = 1.5
    # Of a grey level: torchvision's SqueezeNet reads pixels divided by their standard deviation.
    unit: float = float(np.mean([1 / (255 * s) for s in (0.229, 0.224, 0.225)]))


COURSE = Course()


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
        A picture or several; none where ``style_weight`` is 0.
    style_weights : sequence of float, optional
        Shares of several styles (default: equal).
    content_layer, style_layers : optional
        Default: those of the literature for the network, else one of each scale.
    content_weight, style_weight, variation : float
        A weight of 0 leaves its loss out: with ``style_weight=0`` and ``start="noise"`` the content
        layer is inverted.  A preset has weights of its own, and heeds only which are 0.
    preset : str, optional
        "composition", "scream" or "starry": the weights, sizes, steps and rates of cs231n, made for
        SqueezeNet with torchvision's weights, and scaled to the pixels of others; sizes, steps and
        rates that are given go before.
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
        Of Adam, in grey levels; falls to a tenth (default: 5; of a preset its own course).
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
    styles: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
    shares = _shares(styles, style_weights, needed=style_weight > 0)
    default = LAYERS.get(network.name) or (last_at(network, 8), tuple(each_scale(network)))
    body, strokes = content_layer or default[0], list(style_layers or default[1])
    start = start or ("noise" if content is None else "content")
    if start not in ("content", "noise") or (start == "content" and content is None):
        raise DlmieError(f"stylize cannot start from {start!r}")
    octaves = octaves or (1 if chosen else 2)
    steps = steps or (COURSE.steps if chosen else 120)
    photo = _photograph(content, longer, chosen)
    weights = _Weights(content_weight, style_weight, variation, chosen)
    rng = np.random.default_rng(seed)
    images: np.ndarray | None = None
    values, kept = [], []
    for octave in range(octaves):
        factor = 2.0 ** (octave - octaves + 1)
        small = reduced(photo, round(max(photo.shape[:2]) * factor), network)
        check_size(network, as_pair(small.shape[:2]))
        x = to_network(small, network)[None]
        losses = [] if content is None else weights.content_loss(network, body, x)
        for one, share in zip(styles, shares, strict=True):
            pixels = _style(one, style_longer or max(photo.shape[:2]), chosen)
            pixels = reduced(pixels, round(max(pixels.shape[:2]) * factor), network)
            losses += weights.style_losses(network, strokes, to_network(pixels, network), share)
        losses += weights.variation_loss(network, x.size)
        low, high = valid_range(network.preprocessing, x.dtype.name)
        if images is not None:
            begin = np.clip(resize_planes(images, x.shape[2:]), low, high)
        elif start == "content":
            begin = x
        else:
            # Of the full range, some of the noise would stay to the end.
            noise = 0.5 + (1.0 if chosen else 0.2) * (rng.random(x.shape) - 0.5)
            begin = (low + (high - low) * noise).astype(x.dtype)
        total = sum(losses[1:], losses[0])
        wanted = np.unique(np.linspace(0, steps, max(2, frames // octaves)).round().astype(int))
        run = ascend(
            -total,
            begin,
            steps=steps,
            rule=_rule(method, steps, rate, _level(network), chosen),
            regularizers=[_Limit(network, steps)] if chosen and rate is None else [],
            any_size=True,
            frames=tuple(wanted) if frames else (),
            progress=progress,
            label="style" if octaves == 1 else f"style, size {octave + 1} of {octaves}",
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
    results = {
        "first_loss": values[0][0],
        "last_loss": values[-1][-1],
        **_each_loss(network, losses, images),
    }
    sources: dict[str, Any] = {"style": styles}
    if content is not None:
        sources["content"] = content
    panels = [] if content is None else [Panel(photo, "content")]
    panels += [Panel(load_pixels(s, longer=max(photo.shape[:2])), "style") for s in styles]
    panels.append(Panel(picture, "result"))
    return Figure(
        picture,
        panels,
        columns=len(panels),
        manifest=make_manifest("stylize", network, arguments, images=sources, results=results),
        arrays={"values": np.concatenate(values)},
        frames=kept,
        photo=photo,
        alpha=None if content is None else load_opacity(content, picture.shape[:2]),
    )


def texture(network: Network, style: ImageSource | Sequence[ImageSource], **options: Any) -> Figure:
    """A texture in the style of pictures: ``stylize`` without content, from noise."""
    return stylize(network, None, style, **options)


def _shares(styles: list[Any], weights: Sequence[float] | None, *, needed: bool) -> np.ndarray:
    """What each style counts; together 1."""
    shares = np.ones(len(styles)) if weights is None else np.asarray(weights, float)
    if not styles and not needed:
        return shares
    if not styles:
        raise DlmieError("a style is missing: give a picture, or style_weight=0 to do without")
    if len(shares) != len(styles) or shares.sum() <= 0:
        raise DlmieError(f"{len(styles)} styles need as many positive weights, not {len(shares)}")
    return shares / shares.sum()


def _photograph(
    content: ImageSource | None, longer: int | None, preset: Preset | None
) -> np.ndarray:
    """The content's pixels at the size of the result; grey for a texture."""
    if content is None:
        side = longer or (COURSE.shorter if preset else 384)
        return np.full((side, side, 3), 128, np.uint8)
    if preset and longer is None:
        return shorter_side(load_pixels(content), COURSE.shorter)
    return load_pixels(content, longer=longer or 384)


def _style(style: ImageSource, longer: int, preset: Preset | None) -> np.ndarray:
    """A style's pixels at the size that sets the scale of its strokes."""
    if preset:
        return shorter_side(load_pixels(style), preset.style_shorter)
    return load_pixels(style, longer=longer)


def shorter_side(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pixels with a shorter side of ``side``, larger or smaller than it was."""
    factor = side / min(pixels.shape[:2])
    rows, columns = (round(n * factor) for n in pixels.shape[:2])
    return resize_image(pixels, (rows, columns))


@dataclass(frozen=True)
class _Weights:
    """Content, style and smoothness as weighted penalties; those of weight 0 are left out."""

    content: float
    style: float
    variation: float
    preset: Preset | None

    def content_loss(self, network: Network, layer: str, x: np.ndarray) -> list[Objective]:
        if not self.content:
            return []
        weight = self.preset.content * _course(network, 2) if self.preset else self.content
        (target,) = layer_values(network, [layer], x, any_size=True)
        relative = self.preset is None
        return [weight * feature_match(network[layer], target, relative=relative)]

    def style_losses(
        self, network: Network, layers: Sequence[str], x: np.ndarray, share: float
    ) -> list[Objective]:
        if not self.style:
            return []
        each = (self.style / len(layers),) * len(layers)
        if self.preset:
            each = tuple(weight * _course(network, 4) for weight in self.preset.style)
        if len(each) != len(layers):
            raise DlmieError(f"this preset is for {len(each)} style layers, not {len(layers)}")
        features = layer_values(network, layers, x[None], any_size=True)
        return [
            float(share)
            * weight
            * style_match(network[layer], gram_of(one), relative=self.preset is None)
            for layer, one, weight in zip(layers, features, each, strict=True)
        ]

    def variation_loss(self, network: Network, size: int) -> list[Objective]:
        """``size``: numbers of the image."""
        if not self.variation:
            return []
        low, high = valid_range(network.preprocessing)
        if self.preset:
            weight = self.preset.variation * _course(network, 2)
        else:
            weight = self.variation / (size * float((high - low).mean()) ** 2)
        return [weight * total_variation()]


def _each_loss(
    network: Network, losses: Sequence[Objective], images: np.ndarray
) -> dict[str, float]:
    """The weighted losses of an image (1, 3, H, W) by kind, in NumPy."""
    kinds = {"feature_match": "content", "style_match": "style", "total_variation": "variation"}
    result = dict.fromkeys(kinds.values(), 0.0)
    terms = [term for loss in losses for term in loss.terms]
    layers = list(dict.fromkeys(t.options["layer"] for _, t in terms if "layer" in t.options))
    found = dict(zip(layers, layer_values(network, layers, images, any_size=True), strict=True))
    for weight, term in terms:
        if term.kind == "total_variation":
            value = sum(float(np.square(np.diff(images, axis=axis)).sum()) for axis in (2, 3))
        else:
            features = found[term.options["layer"]]
            shown = gram_of(features) if term.kind == "style_match" else features
            target, scale = term.data
            value = float(np.square(shown - target).sum() * scale[0])
        result[kinds[term.kind]] += weight * value
    return result


def _level(network: Network) -> float:
    """A grey level in the network's units."""
    return float(pixel_size(network.preprocessing, "float64").mean())


def _course(network: Network, power: int) -> float:
    """What turns a loss of a power of the features into one in the unit of cs231n's presets.

    But for its biases, a network of convolutions and ReLUs gives features as much larger as its
    pixels are: those of Caffe, which reads grey levels, are some 57 times torchvision's.
    """
    return (COURSE.unit / _level(network)) ** power


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


def _rule(
    method: str, steps: int, rate: float | None, level: float, preset: Preset | None
) -> Rule | LBFGS:
    """``level``: a grey level in the network's units."""
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
    """Pixels no further from grey than cs231n lets them be while the rate is high."""

    def __init__(self, network: Network, steps: int) -> None:
        self.limit = COURSE.limit / _course(network, 1)
        self.until = round(COURSE.late * steps)

    def __call__(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        return np.clip(image, -self.limit, self.limit) if step < self.until else image


def keep_colours(picture: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The lightness of a picture with the colours of a photograph of its size."""
    weights = np.array([0.299, 0.587, 0.114])
    colours = photo.astype(np.float64)
    lightness = (picture @ weights - colours @ weights)[..., None]
    return np.clip((colours + lightness).round(), 0, 255).astype(np.uint8)
