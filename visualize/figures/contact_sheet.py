"""Contact sheets: pictures with their captions, on one page."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlmie.errors import DlmieError
from dlmie.files import atomic
from dlmie.visualize.figures.drawing import file_of
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.panels import Panel


@dataclass(frozen=True)
class ContactSheet:
    """Pictures in rows, each above its text; made by :func:`contact_sheet`.

    Attributes
    ----------
    images : sequence of (H, W, 3) uint8
    texts : sequence of str
    columns : int
    title : str
    """

    images: Sequence[np.ndarray] = field(repr=False)
    texts: Sequence[str]
    columns: int
    title: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sheet as PNG, PDF or SVG, by the suffix; it appears complete or not at all."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas

        rows = math.ceil(len(self.images) / self.columns)
        figure = Canvas(figsize=(2.6 * self.columns, 3.1 * rows + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, self.columns, squeeze=False).ravel()
        for axis in axes:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, image, text in zip(axes, self.images, self.texts, strict=False):
            axis.imshow(image, interpolation="nearest")
            axis.set_xlabel(textwrap.fill(text, 28), fontsize=9)
        if self.title:
            figure.suptitle(self.title, fontsize=11)
        path = Path(path)
        kind = path.suffix[1:].lower()
        if kind not in ("png", "jpg", "jpeg", "pdf", "svg"):
            raise DlmieError(f"{path}: a sheet is saved as .png, .jpg, .pdf or .svg")
        return atomic.write(path, file_of(figure, kind=kind, dpi=110))


def class_samples(
    images: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    classes: int = 7,
    each: int = 5,
    seed: int = 0,
) -> Figure:
    """Random images of random classes, one class per column, its name above (cs231n).

    Parameters
    ----------
    images : (images, H, W, 3) or (images, H, W, 1) uint8, or (images, 3, H, W) in 0..255
    labels : (images,) int
    names : sequence of str
        Of the classes, by label.
    classes, each, seed : int

    Examples
    --------
    >>> data = TinyImageNet.read("tiny-imagenet-100-A", subtract_mean=False)  # doctest: +SKIP
    >>> names = [names[0] for names in data.class_names]                      # doctest: +SKIP
    >>> class_samples(data.X_train, data.y_train, names).save("samples.png")  # doctest: +SKIP
    """
    rng, labels = np.random.default_rng(seed), np.asarray(labels)
    found, counts = np.unique(labels, return_counts=True)
    fitting = found[counts >= each]
    if len(fitting) < classes:
        raise DlmieError(
            f"{len(fitting)} classes have {each} images, not {classes}: ask for fewer of either"
        )
    columns = []
    for label in np.sort(rng.choice(fitting, classes, replace=False)):
        chosen = rng.choice(np.flatnonzero(labels == label), each, replace=False)
        columns.append([(images[i], names[label]) for i in chosen])
    panels = []
    for row, places in enumerate(zip(*columns, strict=True)):
        for image, name in places:
            pixels = image if image.shape[-1] in (1, 3) else np.moveaxis(image, 0, -1)
            pixels = pixels.repeat(3 // pixels.shape[-1], axis=-1)
            pixels = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
            panels.append(Panel(pixels, name if row == 0 else ""))
    return Figure(None, panels, columns=classes, side=1.1)


def contact_sheet(
    images: Sequence[np.ndarray], texts: Sequence[str], *, columns: int = 4, title: str = ""
) -> ContactSheet:
    """Lay out pictures with a text under each.

    Parameters
    ----------
    images : sequence of (H, W, 3) uint8
    texts : sequence of str
        One per picture; long ones are wrapped.
    columns : int
        Pictures side by side at most.
    title : str
        Above all of them.

    Returns
    -------
    ContactSheet
        ``.save("sheet.png")`` writes it.

    Examples
    --------
    >>> contact_sheet([np.zeros((8, 8, 3), np.uint8)], ["night"]).columns
    1
    """
    if len(images) != len(texts) or not len(images):
        raise DlmieError(f"a contact sheet needs one text per picture, not {len(texts)} "
                         f"for {len(images)}")  # fmt: skip
    return ContactSheet(list(images), list(texts), min(columns, len(images)), title)
