"""Saliency: which pixels a class, or a word of a caption, depends on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dlmie.data.images import ImageSource, resize_planes
from dlmie.deprecation import renamed_arguments
from dlmie.errors import DlmieError
from dlmie.text import suggest
from dlmie.visualize.ascent.inputs import named_objective, network_input
from dlmie.visualize.ascent.models import Model, describe_model
from dlmie.visualize.attention.upsampling import upsample
from dlmie.visualize.attribution import methods
from dlmie.visualize.figures.compositing import colorize, overlay
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import SourceImage

METHODS: dict[str, Callable[..., methods.Attribution]] = {
    "gradient": methods.gradient,
    "gradient-input": methods.gradient_input,
    "smooth": methods.smooth,
    "smooth-squared": methods.smooth_squared,
    "smooth-variance": methods.smooth_variance,
    "integrated": methods.integrated,
    "guided": methods.guided,
    "deconvnet": methods.deconvnet,
    "grad-cam": methods.grad_cam,
    "grad-cam++": methods.grad_cam_plus_plus,
    "guided-grad-cam": methods.guided_grad_cam,
    "occlusion": methods.occlusion,
}


class FlatMapWarning(UserWarning):
    """A saliency map is the same everywhere: the target does not depend on the image."""


def saliency(
    model: Model,
    image: ImageSource,
    target: int | str | None = None,
    *,
    method: str = "smooth-squared",
    layer: str | None = None,
    samples: int = 25,
    noise: float = 0.15,
    steps: int = 128,
    patch: int = 32,
    stride: int = 16,
    batch: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """Show what in a photograph a class, or a word of its caption, depends on.

    Parameters
    ----------
    model : Network or captioner
    image
        Anything that ``load_image`` reads.
    target : int or str, optional
        A class by number or name (default: the most likely one); of a captioner, a word of its
        caption, or a sentence (default: the whole caption).
    method : str
        ``gradient`` (Simonyan et al. 2014), ``gradient-input``, ``smooth`` (SmoothGrad, Smilkov et
        al. 2017), ``smooth-squared``, ``smooth-variance``, ``integrated`` (Sundararajan et al.
        2017), ``guided`` (Springenberg et al. 2015), ``deconvnet`` (Zeiler and Fergus 2014),
        ``grad-cam`` (Selvaraju et al. 2017), ``grad-cam++``, ``guided-grad-cam``, ``occlusion``.
    layer : str, optional
        Of the Grad-CAM methods (default: the last layer of maps).
    samples, noise
        Of the smooth methods: noisy copies, and the noise's standard deviation as a fraction of the
        image's range.
    steps : int
        Of ``integrated``: gradients at most; it ends when the completeness gap is below 0.5 %.
    patch, stride : int
        Of ``occlusion``: pixels of the network's input.
    batch : int
        Images evaluated at once: bounds the memory.
    seed : int
    progress : bool
        Show a bar.

    Returns
    -------
    Figure
        ``image`` is the map in colors; ``overlay()`` lays it over the photograph; ``arrays`` hold
        ``map`` (0 to 1, of the photograph's size) and ``attribution`` (as measured, of the
        network's input size).  ``figure()`` shows photograph, map and overlay, and beside them
        where a captioner that attends looked at that word.

    Raises
    ------
    DlmieError
        Unknown method, class, word or layer; the message lists the known ones.

    Warns
    -----
    FlatMapWarning
        The map is the same everywhere.

    Examples
    --------
    >>> saliency(net, "dog.jpg", target=152).overlay().save("saliency.png")   # doctest: +SKIP
    """
    if method not in METHODS:
        raise DlmieError(f"there is no method {method!r}{suggest(method, METHODS)}")
    source = SourceImage.read(image)
    pixels = source.pixels
    named = named_objective(model, pixels, target)
    x = network_input(named.network, pixels)
    settings = methods.Settings(
        layer=layer,
        samples=samples,
        noise=noise,
        steps=steps,
        patch=patch,
        stride=stride,
        batch=batch,
        seed=seed,
        progress=progress,
    )
    result = METHODS[method](named.objective, x, settings)
    positive = to_unit_range(result.map, f"{method} map for {named.label}")
    shown = np.clip(resize_planes(positive, pixels.shape[:2]), 0, 1)
    arguments: dict[str, object] = {
        "target": named.target if named.network is model else target,
        "method": method,
        "layer": layer,
        "samples": samples,
        "noise": noise,
        "steps": steps,
        "patch": patch,
        "stride": stride,
        "batch": batch,
        "seed": seed,
    }
    results = {"label": named.label, "objective": str(named.objective), **result.results}
    figure = Figure(colorize(shown), arrays={"map": shown, "attribution": result.map}, photo=pixels)
    over = figure.overlay()
    assert over.image is not None
    panels = [
        Panel(pixels, "photograph"),
        Panel(shown, f"{method}: {named.label}", limits=(0, 1)),
        Panel(over.image, "overlay"),
    ]
    if named.attention is not None:
        looked = upsample(named.attention, pixels.shape[:2])
        looked = looked / max(float(looked.max()), 1e-12)
        panels.append(Panel(overlay(pixels, looked), f"attention: {named.label}"))
    manifest = make_manifest(
        "saliency",
        describe_model(model),
        arguments,
        images={"image": source.describe()},
        results=results,
    )
    return replace(figure, panels=panels, columns=len(panels), manifest=manifest)


@renamed_arguments(colours="colors")
def saliency_rows(
    figures: Sequence[Figure], *, titles: Sequence[str] = (), colors: str = "hot"
) -> Figure:
    """Saliency of several photographs in two rows, as the course shows it: each map beneath.

    Parameters
    ----------
    figures : sequence of Figure
        From :func:`saliency`.
    titles : sequence of str
        Of the maps, such as the numbers of the photographs.
    colors : str
        Name of a matplotlib color map.
    """
    if not figures:
        raise DlmieError("saliency_rows needs at least one figure of saliency")
    named = [*map(str, titles), *[""] * len(figures)][: len(figures)]
    above, below = [], []
    for figure, title in zip(figures, named, strict=True):
        assert figure.photo is not None
        above.append(Panel(figure.photo, figure.manifest["results"]["label"]))
        below.append(Panel(figure.arrays["map"], title, colors=colors, limits=(0, 1), scale=False))
    rows = [figure.manifest for figure in figures]
    manifest = make_manifest(
        "saliency_rows", rows[0]["network"], {"rows": rows, "titles": named, "colours": colors}
    )
    return Figure(None, above + below, columns=len(figures), manifest=manifest, side=2.0)


def to_unit_range(attribution: np.ndarray, name: str) -> np.ndarray:
    """Sizes of a map as fractions of its 99.5th percentile, 0..1; a flat map warns and is zero."""
    size = np.abs(np.nan_to_num(attribution.astype(np.float64)))
    low, high = float(size.min()), float(np.percentile(size, 99.5))
    high = high if high > low else float(size.max())
    if not high - low > 1e-12 * max(high, 1e-30):
        warnings.warn(f"the {name} is flat: nothing to show", FlatMapWarning, stacklevel=3)
        return np.zeros_like(size)
    return np.clip(size / high, 0, 1)
