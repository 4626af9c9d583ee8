"""Figures of classifiers: their weights, their mistakes, distances between images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlmie.errors import DlmieError
from dlmie.visualize.figures.compositing import tile
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.panels import Panel

_LABELED = 24  # panels at most that have a title


def weight_images(
    weights: np.ndarray, names: Sequence[str] = (), *, columns: int | None = None, side: int = 48
) -> Figure:
    """Weights as images, each from black, its smallest weight, to white, its largest (cs231n).

    Templates of a linear classifier, filters of a first convolution, weights of hidden units.

    Parameters
    ----------
    weights : (units, rows, columns, channels)
        ``model.templates``.
    names : sequence of str
        Of the units: the classes of a linear classifier.
    columns : int, optional
        By default 5 with names, else as many as rows.
    side : int
        Least side of a unit in the picture, in pixels; each weight is a square of them.

    Raises
    ------
    DlmieError
        Weights of other channels than 1 or 3, or another number of names.
    """
    units, rows, across, channels = weights.shape
    if channels not in (1, 3):
        raise DlmieError(f"weights of {channels} channels are not images")
    if names and len(names) != units:
        raise DlmieError(f"{len(names)} names for {units} units")
    low = weights.min(axis=(1, 2, 3), keepdims=True)
    span = weights.max(axis=(1, 2, 3), keepdims=True) - low
    pixels = (255 * (weights - low) / np.where(span > 0, span, 1)).round().astype(np.uint8)
    factor = max(1, math.ceil(side / max(rows, across)))
    large = np.repeat(pixels, factor, axis=1).repeat(factor, axis=2).repeat(3 // channels, axis=3)
    if columns is None:
        columns = min(5, units) if names else math.ceil(math.sqrt(units))
    titles = names if names and units <= _LABELED else [""] * units
    panels = [Panel(image, title) for image, title in zip(large, titles, strict=True)]
    if names:
        return Figure(None, panels, columns=columns, side=1.3)
    return Figure(tile(list(large), columns), panels, columns=columns, side=0.8)


def misclassified(
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    *,
    each: int = 8,
    seed: int = 0,
) -> Figure:
    """Images that were taken for something else: a column for each class that they were taken for.

    Parameters
    ----------
    images : (images, rows, columns, channels) uint8
    labels, predicted : (images,) int
        What they are, and what they were taken for.
    classes : sequence of str
        By label.
    each : int
        Images of each column, drawn at random.
    seed : int

    Raises
    ------
    DlmieError
        Nothing was wrong.
    """
    rng = np.random.default_rng(seed)
    wrong = labels != predicted
    if not wrong.any():
        raise DlmieError("no image was taken for something else: there is nothing to show")
    blank = np.full((*images.shape[1:3], 3), 255, np.uint8)
    columns = []
    for label, name in enumerate(classes):
        mine = np.flatnonzero(wrong & (predicted == label))
        chosen = rng.choice(mine, min(each, len(mine)), replace=False)
        column = [Panel(_colored(images[i]), classes[labels[i]]) for i in chosen]
        column += [Panel(blank)] * (each - len(column))
        columns.append([Panel(p.image, f"“{name}”\n{p.title}") for p in column[:1]] + column[1:])
    panels = [column[row] for row in range(each) for column in columns]
    return Figure(
        None,
        panels,
        columns=len(classes),
        title="taken for the class above; below it, what each is",
    )


def _colored(image: np.ndarray) -> np.ndarray:
    return image if image.shape[2] == 3 else image.repeat(3, axis=2)


def distance_map(distances: np.ndarray) -> Figure:
    """Distances as gray levels, black where images are near: a row for each image asked about.

    Parameters
    ----------
    distances : (asked, remembered)
        Of :meth:`dlmie.models.KNearest.distances`.
    """
    low, high = float(distances.min()), float(distances.max())
    levels = 255 * (distances - low) / ((high - low) or 1.0)
    picture = np.repeat(levels.round().astype(np.uint8)[:, :, None], 3, axis=2)
    return Figure(picture, [Panel(distances, "distances", colors="gray")], columns=1, side=8.0)
