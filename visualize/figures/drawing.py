"""Panels drawn by matplotlib as PNG, PDF or SVG.

Drawing goes through matplotlib's objects, never through pyplot: nothing global changes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlmie.visualize.figures.fonts import font_families
from dlmie.visualize.figures.panels import Panel, Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def draw(
    panels: Sequence[Panel],
    columns: int,
    *,
    kind: str = "png",
    dpi: int = 150,
    title: str = "",
    scale: Scale | None = None,
    side: float = 3.0,
) -> bytes:
    """Lay panels out in rows of ``columns`` and draw them as an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns)
    small = len(panels) > 24
    side = 0.7 if small else side
    shapes = [p.image.shape for p in panels if p.image.ndim >= 2 and not p.labels]
    aspect = float(np.clip(np.median([s[0] / s[1] for s in shapes]), 0.15, 3)) if shapes else 0.75
    heading = 0.0 if small and not any(p.title for p in panels) else 0.35
    beside_panels = 0.3 if scale is None else 0.85
    canvas = Canvas(
        figsize=(columns * side + beside_panels, rows * (side * aspect + heading) + 0.3),
        layout="constrained",
    )
    FigureCanvasAgg(canvas)
    grid = canvas.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(canvas, axes, panel, small)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if title:
        canvas.suptitle(title)
    if scale is not None:
        _draw_scale(canvas, grid, scale)
    return file_of(canvas, kind=kind, dpi=dpi)


def file_of(canvas: Canvas, *, kind: str, dpi: int) -> bytes:
    """A canvas as an image file; text is drawn as it is, in any script, never as mathematics."""
    from matplotlib.text import Text

    ticks = [
        text
        for axes in canvas.axes
        for axis in (axes.xaxis, axes.yaxis)
        for text in (*axis.get_ticklabels(which="both"), axis.get_offset_text())
    ]
    texts = [text for text in canvas.findobj(Text) if text not in ticks]
    families = font_families(text.get_text() for text in texts)
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(families)
    buffer = io.BytesIO()
    # No creation date: the same picture is the same file.
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with warnings.catch_warnings():  # `font_families` has warned already
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        canvas.savefig(buffer, format=kind, dpi=dpi, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def _draw_panel(canvas: Canvas, axes: Axes, panel: Panel, small: bool) -> None:
    if panel.title:
        axes.set_title(panel.title, fontsize=5 if small else 9)
    if panel.labels:
        for curve, label in zip(np.atleast_2d(panel.image), panel.labels, strict=True):
            axes.plot(np.linspace(0, 1, len(curve)), curve, label=label, linewidth=1.2)
        axes.set_xlabel(panel.axes[0], fontsize=8)
        axes.set_ylabel(panel.axes[1], fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7)
        return
    axes.set_axis_off()
    if panel.image.ndim == 3:
        axes.imshow(panel.image, interpolation="antialiased")
        return
    low, high = panel.limits or (float(panel.image.min()), float(panel.image.max()))
    shown = axes.imshow(
        panel.image, cmap=panel.colors, vmin=low, vmax=high, interpolation="nearest"
    )
    if panel.scale and not small:
        bar = canvas.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
        bar.ax.tick_params(labelsize=6)


def _draw_scale(canvas: Canvas, grid: np.ndarray, scale: Scale) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    mapping = ScalarMappable(Normalize(scale.low, scale.high), ListedColormap(scale.colors / 255))
    width, height = canvas.get_size_inches()
    bar = canvas.colorbar(
        mapping,
        ax=list(grid),
        fraction=0.16 / width,  # of 0.16 inches, however many panels there are
        aspect=max(height / 0.16 * 0.8, 4),
        pad=0.01,
    )
    bar.ax.tick_params(labelsize=6)
    bar.set_label(scale.label, fontsize=7)
    bar.outline.set_linewidth(0.4)
