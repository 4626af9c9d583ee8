"""DeepDream: whatever a layer sees in a photograph, more of it, at every scale."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.images import ImageSource, deprocess, gray_level, resize_image, resize_planes
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.visualize.ascent.ascend import ascend
from dlmie.visualize.ascent.evaluation import Evaluator, layer_values
from dlmie.visualize.ascent.inputs import network_input
from dlmie.visualize.ascent.layers import as_layer
from dlmie.visualize.ascent.models import describe_network
from dlmie.visualize.ascent.objectives import Objective, energy, guided_similarity
from dlmie.visualize.ascent.optimizers import Gradient
from dlmie.visualize.ascent.pixels import check_size, to_network
from dlmie.visualize.ascent.transforms import Jitter
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import SourceImage


class Tiles:
    """An objective evaluated tile by tile, so that memory does not grow with the image.

    Each step rolls the image by another random amount (:class:`Jitter`), so that the borders of
    tiles fall elsewhere each time and no seam can grow.
    """

    def __init__(
        self,
        objective: Objective,
        tile: int,
        *,
        smooth: Sequence[float] = (),
        progress: bool = False,
    ) -> None:
        self.evaluate = Evaluator(objective, None, progress=progress)
        self.tile, self.smooth = tile, smooth

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """images (batch, 3, H, W) → mean of the tiles' values (batch,), gradients."""
        gradient = np.empty_like(images)
        values, area = np.zeros(len(images), np.float64), images.shape[2] * images.shape[3]
        for top, bottom in self.borders(images.shape[2]):
            for left, right in self.borders(images.shape[3]):
                part = images[:, :, top:bottom, left:right]
                value, gradient[:, :, top:bottom, left:right] = self.evaluate(part)
                values += value * ((bottom - top) * (right - left) / area)
        return values, self.across_scales(gradient)

    def across_scales(self, gradient: np.ndarray) -> np.ndarray:
        """The gradient plus blurred copies of equal size: coarse forms, not the finest alone."""
        from scipy.ndimage import gaussian_filter

        total = gradient.copy()
        size = float(gradient.std()) or 1.0
        for sigma in self.smooth:
            blurred = gaussian_filter(gradient, (0, 0, sigma, sigma), mode="wrap")
            total += blurred * (size / (float(blurred.std()) or 1.0))
        return total

    def borders(self, length: int) -> list[tuple[int, int]]:
        """Equal parts of at most ``tile`` pixels."""
        count = -(-length // self.tile)
        edges = [round(length * i / count) for i in range(count + 1)]
        return list(itertools.pairwise(edges))


def dream(
    objective: Objective | Variable | Network,
    image: ImageSource,
    *,
    guide: ImageSource | None = None,
    octaves: int = 5,
    scale: float = 1.4,
    steps: int = 15,
    rate: float = 1.5,
    smooth: Sequence[float] = (2.0, 5.0),
    jitter: int = 32,
    longer: int | None = 640,
    tile: int = 384,
    zoom: int = 0,
    zoom_by: float = 1.05,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """Let a network dream on a photograph.

    Parameters
    ----------
    objective : Objective, net["block10"], or a network
        What to have more of; of a layer its energy; of a network the energy of a good layer.
    image
        Anything that ``load_image`` reads.
    guide : image, optional
        Another image whose features are to appear (then ``objective`` is a layer or a network).
    octaves, scale : int, float
        Sizes to go through, each ``scale`` times the one before, ending at the image's.
    steps : int
        In each octave.
    rate : float
        Gray levels a step adds on average.
    smooth : sequence of float
        Copies of the gradient, blurred by so many pixels, are added to it: forms, not stripes.
    jitter : int
        Random shift in pixels.
    longer : int or None
        Larger images are reduced to this length of their longer side; None keeps any size.
    tile : int
        Side of the tiles that bound the memory, in pixels: with EfficientNet-Lite0 a dream of 2048
        × 1536 pixels takes 0.8 GB in all, without tiles 3.9 GB.
    zoom : int
        Frames of an animation that dreams on while it moves into the picture.
    zoom_by : float
        How much larger from frame to frame.
    seed : int
    progress : bool

    Returns
    -------
    Figure
        Of the photograph's size (at most ``longer``), as transparent as it.

    Examples
    --------
    >>> dream(net, "sky.jpg").save("dream.png")                               # doctest: +SKIP
    """
    if octaves < 1 or scale <= 1 or tile < 64:
        raise DlmieError("dream: octaves must be at least 1, scale above 1 and tile at least 64")
    guide_source = None if guide is None else SourceImage.read(guide)
    target, network = _objective(objective, guide_source)
    source = SourceImage.read(image)
    pixels = source.within(longer)
    check_size(network, pixels.shape[:2])
    rng = np.random.default_rng(seed)
    dreaming = _Dream(
        target,
        Tiles(target, tile, smooth=smooth, progress=progress),
        Gradient(rate * gray_level(network.preprocessing), "mean"),
        octaves,
        scale,
        steps,
        jitter,
        progress,
    )
    first, values = dreaming.on(pixels, rng)
    frames = [pixels, first] if zoom else []
    picture = first
    shorter = replace(dreaming, octaves=min(2, octaves), steps=max(2, steps // 3), progress=False)
    for _ in range(zoom):
        picture, _ = shorter.on(enlarge(picture, zoom_by), rng)
        frames.append(picture)
    arguments = {
        "objective": target.to_json() if guide is None else None,
        "layer": target.terms[0][1].options.get("layer") if guide is not None else None,
        "octaves": octaves,
        "scale": scale,
        "steps": steps,
        "rate": rate,
        "smooth": list(smooth),
        "jitter": jitter,
        "longer": longer,
        "tile": tile,
        "zoom": zoom,
        "zoom_by": zoom_by,
        "seed": seed,
    }
    images = {"image": source.describe()}
    if guide_source is not None:
        images["guide"] = guide_source.describe()
    results = {"objective": str(target), "first": values[0], "last": values[-1]}
    return Figure(
        first,
        [Panel(pixels, "photograph"), Panel(first, f"dream: {target}")],
        columns=2,
        manifest=make_manifest(
            "dream", describe_network(network), arguments, images=images, results=results
        ),
        arrays={"values": np.array(values)},
        frames=frames,
        photo=pixels,
        alpha=source.opacity(first.shape[:2]),
    )


def _objective(
    thing: Objective | Variable | Network, guide: SourceImage | None
) -> tuple[Objective, Network]:
    """The objective that a user means, and its network."""
    if isinstance(thing, Objective):
        if guide is not None:
            raise DlmieError("a guided dream needs a layer, such as net['block10']")
        return thing, thing.network
    network, name = as_layer(thing, 16)
    if guide is None:
        return energy(network[name]), network
    x = network_input(network, guide.pixels)
    return guided_similarity(network[name], layer_values(network, [name], x)[0][0]), network


@dataclass(frozen=True)
class _Dream:
    """What is dreamt of, and how."""

    objective: Objective
    tiles: Tiles
    optimizer: Gradient
    octaves: int
    scale: float
    steps: int
    jitter: int
    progress: bool

    def on(self, pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[float]]:
        """Dream at growing sizes; what was added is carried from one to the next, not the image.

        Parameters
        ----------
        pixels : (H, W, 3) uint8
        rng : numpy.random.Generator

        Returns
        -------
        tuple
            The picture (H, W, 3) uint8, and the objective at each step.
        """
        network = self.objective.network
        height, width = pixels.shape[:2]
        least = getattr(network, "minimum", 8)
        detail: np.ndarray | None = None
        values: list[float] = []
        for number in range(self.octaves):
            factor = self.scale ** (number - self.octaves + 1)
            shape = (max(least, round(height * factor)), max(least, round(width * factor)))
            base = to_network(resize_image(pixels, shape), network)[None]
            start = base if detail is None else base + resize_planes(detail, shape)
            shift = self.jitter if max(shape) <= self.tiles.tile else max(shape)
            run = ascend(
                self.objective,
                start.astype(base.dtype),
                steps=self.steps,
                optimizer=self.optimizer,
                evaluator=self.tiles,
                transforms=[Jitter(shift)] if shift else [],
                seed=int(rng.integers(2**31)),
                progress=self.progress,
                label=f"octave {number + 1} of {self.octaves}",
            )
            detail = run.images - base
            values += [float(v) for v in run.values.mean(axis=1)]
        return deprocess(run.images[0], network.preprocessing), values


def enlarge(pixels: np.ndarray, factor: float) -> np.ndarray:
    """The middle of a picture, enlarged to the picture's size."""
    height, width = pixels.shape[:2]
    rows, columns = round(height / factor), round(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    return resize_image(pixels[top : top + rows, left : left + columns], (height, width))
