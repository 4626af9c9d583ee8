"""How faithful saliency maps are: insertion and deletion curves (Petsiuk et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlmie.data.images import ImageSource, resize_planes
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.visualize.ascent.evaluation import probabilities
from dlmie.visualize.ascent.inputs import class_index, named_objective, network_input
from dlmie.visualize.ascent.models import describe_network
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import SourceImage

KINDS = ("deletion", "insertion")


def faithfulness(
    network: Network,
    image: ImageSource,
    maps: Mapping[str, np.ndarray],
    target: int | str | None = None,
    *,
    cell: int = 16,
    points: int = 24,
    batch: int = 8,
    seed: int = 0,
) -> Figure:
    """Compare saliency maps: hide, or show, the pixels they call important first.

    Deletion replaces pixels by a blurred image, the most important first: the class's probability
    should fall fast (a small area under the curve).  Insertion does the reverse (a large one).  A
    random order is added for comparison.

    Parameters
    ----------
    network : Network
    image
        The photograph the maps were made for.
    maps : dict of (H, W) arrays
        By name; of any size: ``{"smooth": figure.arrays["attribution"]}``.
    target : int or str, optional
        Class (default: the most likely one).
    cell : int
        Squares of so many pixels of the network's input are replaced as a whole: single pixels
        taken out here and there confuse a network by their pattern, whatever they showed.
    points : int
        Of each curve, after the first.
    batch, seed : int

    Returns
    -------
    Figure
        Two panels of curves; ``arrays["deletion"]`` and ``arrays["insertion"]`` are (maps + 1,
        points + 1), the random order last, and ``manifest["results"]`` holds the areas.
    """
    from scipy.ndimage import gaussian_filter

    if not maps:
        raise DlmieError("faithfulness needs at least one map")
    source = SourceImage.read(image)
    named = named_objective(network, source.pixels, target)
    index = class_index(network, named.target)
    x = network_input(network, source.pixels)
    rows, columns = x.shape[2:]
    blurred = gaussian_filter(x, (0, 0, rows / 20, columns / 20), mode="nearest")
    rng = np.random.default_rng(seed)
    every = {**maps, "random": rng.random((rows, columns))}
    curves = {kind: np.zeros((len(every), points + 1)) for kind in KINDS}
    for number, values in enumerate(every.values()):
        rank = _rank(np.abs(np.asarray(values, np.float64)), (rows, columns), cell, rng)
        for kind in KINDS:
            first, then = (x, blurred) if kind == "deletion" else (blurred, x)
            images = np.concatenate(
                [np.where(rank < k / points, then, first) for k in range(points + 1)]
            )
            for start in range(0, points + 1, batch):
                part = np.ascontiguousarray(images[start : start + batch])
                found = probabilities(network, part)[:, index]
                curves[kind][number, start : start + len(part)] = found
    areas = {
        kind: {
            name: float(np.trapezoid(curve) / points)
            for name, curve in zip(every, curves[kind], strict=True)
        }
        for kind in KINDS
    }
    panels = [
        Panel(
            curves[kind],
            f"{kind}: {named.label}",
            labels=tuple(f"{name} {areas[kind][name]:.3f}" for name in every),
            axes=("fraction of the pixels", "probability"),
        )
        for kind in KINDS
    ]
    results = {"label": named.label, "areas": areas}
    arguments = {"target": named.target, "cell": cell, "points": points, "seed": seed}
    manifest = make_manifest(
        "faithfulness",
        describe_network(network),
        arguments,
        images={"image": source.describe()},
        results=results,
    )
    return Figure(None, panels, columns=2, manifest=manifest, arrays=dict(curves))


def _rank(
    values: np.ndarray, size: tuple[int, int], cell: int, rng: np.random.Generator
) -> np.ndarray:
    """The fraction of cells before each pixel's cell in order of importance, (rows, columns)."""
    rows, columns = size
    cells = -(-rows // cell), -(-columns // cell)
    means = resize_planes(resize_planes(values, size), cells)
    # Ties, as in a flat map, are broken at random rather than from the top.
    order = np.lexsort((rng.random(means.size), -means.ravel()))
    rank = np.empty(means.size)
    rank[order] = np.arange(means.size) / means.size
    spread = rank.reshape(cells).repeat(cell, axis=0).repeat(cell, axis=1)
    return spread[:rows, :columns]
