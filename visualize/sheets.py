"""Contact sheets: pictures with what was said about them, on one page."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlmie.errors import DlmieError


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

    images: Sequence[np.ndarray]
    texts: Sequence[str]
    columns: int
    title: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sheet as PNG, PDF or SVG, by the suffix; it appears complete or not at all."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows = math.ceil(len(self.images) / self.columns)
        figure = Figure(figsize=(2.6 * self.columns, 3.1 * rows + 0.4), layout="constrained")
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
        part = path.with_name(f"{path.stem}.part{path.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(part, dpi=110)
            os.replace(part, path)
        except OSError as error:
            raise DlmieError(f"{path}: cannot be written ({error.strerror or error})") from None
        finally:
            part.unlink(missing_ok=True)
        return path


def contact_sheet(
    images: Sequence[np.ndarray], texts: Sequence[str], *, columns: int = 4, title: str = ""
) -> ContactSheet:
    """Lay out pictures with a text under each.

    Parameters
    ----------
    images : sequence of (H, W, 3) uint8
    texts : sequence of str
        One a picture; long ones are wrapped.
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
        raise DlmieError(f"a contact sheet needs one text a picture, not {len(texts)} "
                         f"for {len(images)}")  # fmt: skip
    return ContactSheet(list(images), list(texts), min(columns, len(images)), title)
