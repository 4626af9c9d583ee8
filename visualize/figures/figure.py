"""Figures: pictures as values that can be shown, laid out, saved and made again.

Drawing goes through matplotlib's objects, never through pyplot: nothing global changes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.images import resize_image, save_image
from dlmie.errors import DlmieError
from dlmie.files import atomic
from dlmie.files.outputs import Outputs
from dlmie.visualize.figures.manifests import check_place, image_paths, write_manifest

DRAWN = (".pdf", ".svg")
RASTER = (".png", ".jpg", ".jpeg")
# The pictures whose functions take ``frames``.
_FRAMED = ("fool", "invert", "stylize", "visualize")


@dataclass(frozen=True)
class Panel:
    """One image of a figure.

    Attributes
    ----------
    image : (H, W, 3) uint8, (H, W) float, or (n,) or (k, n) curves
        Pixels as they are; numbers as colours with a scale drawn beside them; curves as lines.
    title : str
    colours : str
        Name of a matplotlib colour map, for numbers.
    limits : (lowest, highest)
        Of the colour scale; default: those of the numbers.
    labels : sequence of str
        Of curves.
    axes : (str, str)
        Names of the axes of curves.
    """

    image: np.ndarray
    title: str = ""
    colours: str = "inferno"
    limits: tuple[float, float] | None = None
    scale: bool = True
    labels: tuple[str, ...] = ()
    axes: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Scale:
    """One colour scale for all panels of a figure.

    Attributes
    ----------
    colours : (n, 3) uint8
        From the lowest to the highest number, as they look in the panels.
    low, high : float
        The numbers at the ends.
    label : str
        What the numbers are.
    """

    colours: np.ndarray
    low: float
    high: float
    label: str = ""


@dataclass
class Figure:
    """A picture, the panels that explain it, and the manifest of how it was made.

    ``save`` writes ``image`` pixel by pixel; ``figure()`` is the drawn figure of all panels.

    Attributes
    ----------
    image : (H, W, 3) uint8 or None
        The picture itself; None where there are only panels.
    panels : list of Panel
    columns : int
        Of the layout of panels.
    manifest : dict
    arrays : dict
        Numbers behind the picture: ``map``, ``values``, …
    frames : list of (H, W, 3) uint8
        Of the animation.
    still : str
        Why there are no frames.
    photo : (H, W, 3) uint8 or None
        The photograph beneath a map.
    title : str
        Above all panels.
    scale : Scale, optional
        Drawn beside the panels: what the colours of all of them mean.
    side : float
        Width of a panel in inches.
    seconds : float
        For which a frame of the animation is shown.
    alpha : (H, W) uint8 or None
        The opacity of ``image``, kept where it is saved as PNG.
    """

    image: np.ndarray | None
    panels: list[Panel] = field(default_factory=list)
    columns: int = 4
    manifest: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    frames: list[np.ndarray] = field(default_factory=list)
    still: str = ""
    photo: np.ndarray | None = None
    title: str = ""
    scale: Scale | None = None
    side: float = 3.0
    seconds: float = 0.08
    alpha: np.ndarray | None = None

    def figure(self) -> Figure:
        """The labelled figure of all panels, to be shown or saved."""
        return replace(self, image=None)

    def overlay(self, strength: float = 0.6) -> Figure:
        """The map over its photograph, as a picture of the photograph's size."""
        if self.photo is None or "map" not in self.arrays:
            raise DlmieError("only a map over a photograph has an overlay")
        laid = overlay(self.photo, self.arrays["map"], strength)
        return replace(self, image=laid, manifest={**self.manifest, "overlay": True})

    def strip(self) -> Figure:
        """All panels with images side by side, without words."""
        images = [p.image for p in self.panels if p.image.ndim == 3]
        return replace(self, image=beside(images), alpha=None)

    def save(self, path: str | Path, *, dpi: int = 150) -> Path:
        """Write the picture, and its manifest beside it (``dream.png``, ``dream.json``).

        Parameters
        ----------
        path
            ``.png`` or ``.jpg``: the picture, pixel by pixel, or the drawn figure where there is
            no one picture; ``.pdf`` or ``.svg``: the drawn figure; ``.gif``: the animation.
        dpi : int
            Of a drawn figure.

        Raises
        ------
        OutputError
            It is the very photograph that the picture was made from.
        DlmieError
            Another suffix, no frames, or the file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind not in (*DRAWN, *RASTER, ".gif"):
            raise DlmieError(
                f"{path}: a picture is saved as .png, .jpg, .pdf, .svg or .gif, not {kind!r}"
            )
        if self.manifest:
            Outputs(image_paths(self.manifest)).refuse_inputs(path)
            check_place(path)
        if kind == ".gif":
            self._animate(path)
        elif kind in DRAWN:
            atomic.write(path, self._draw(kind[1:], dpi))
        else:
            alpha = None if self.image is None else self.alpha
            save_image(path, self.pixels(dpi), alpha)
        if self.manifest:
            write_manifest(path, self.manifest)
        return path

    def pixels(self, dpi: int = 150) -> np.ndarray:
        """The picture (H, W, 3) uint8; the drawn figure where there is no one picture."""
        if self.image is not None:
            return self.image
        import PIL.Image

        return np.asarray(PIL.Image.open(io.BytesIO(self._draw("png", dpi))).convert("RGB"))

    def _repr_png_(self) -> bytes:
        import PIL.Image

        buffer = io.BytesIO()
        PIL.Image.fromarray(self.pixels(100)).save(buffer, format="PNG")
        return buffer.getvalue()

    def _animate(self, path: Path) -> None:
        import PIL.Image

        if len(self.frames) < 2:
            ask = "; ask for them: frames=20" if self.manifest.get("picture") in _FRAMED else ""
            raise DlmieError(f"{path}: {self.still or 'this picture kept no frames' + ask}")
        shape = self.frames[-1].shape[:2]
        frames = [PIL.Image.fromarray(resize_image(frame, shape)) for frame in self.frames]
        content = io.BytesIO()
        frames[0].save(
            content,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 * self.seconds),
            loop=0,
        )
        atomic.write(path, content.getvalue())

    def _draw(self, kind: str, dpi: int) -> bytes:
        if not self.panels and self.image is None:
            raise DlmieError("this figure has no panels")
        panels = self.panels or [Panel(self.image)]  # type: ignore[arg-type]
        return draw(
            panels,
            self.columns,
            kind=kind,
            dpi=dpi,
            title=self.title,
            scale=self.scale,
            side=self.side,
        )


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
        canvas.suptitle(title, parse_math=False)
    if scale is not None:
        _draw_scale(canvas, grid, scale)
    buffer = io.BytesIO()
    # No creation date: the same picture is the same file.
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    canvas.savefig(buffer, format=kind, dpi=dpi, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def _draw_panel(canvas: Any, axes: Any, panel: Panel, small: bool) -> None:
    if panel.title:
        axes.set_title(panel.title, fontsize=5 if small else 9, parse_math=False)
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
        panel.image, cmap=panel.colours, vmin=low, vmax=high, interpolation="nearest"
    )
    if panel.scale and not small:
        bar = canvas.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
        bar.ax.tick_params(labelsize=6)


def _draw_scale(canvas: Any, grid: np.ndarray, scale: Scale) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    mapping = ScalarMappable(Normalize(scale.low, scale.high), ListedColormap(scale.colours / 255))
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


def colour(
    numbers: np.ndarray, colours: str = "inferno", low: float = 0.0, high: float = 1.0
) -> np.ndarray:
    """Numbers (H, W) → colours (H, W, 3) uint8 on the scale from ``low`` to ``high``."""
    from matplotlib import colormaps

    share = (np.asarray(numbers, np.float64) - low) / ((high - low) or 1.0)
    return (colormaps[colours](np.clip(share, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def overlay(photo: np.ndarray, numbers: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """A map in 0..1 over a photograph (H, W, 3): the photograph in grey where the map is low."""
    from scipy.ndimage import gaussian_filter

    from dlmie.visualize.ascent.pixels import resize_planes

    # Single bright pixels would be lost over a photograph: spread them to spots that are seen.
    shares = resize_planes(np.asarray(numbers, np.float64), photo.shape[:2])
    shares = gaussian_filter(shares, max(photo.shape[:2]) / 80)
    shares = np.clip(shares / (shares.max() or 1.0), 0, 1)
    grey = photo.mean(axis=2, keepdims=True) * 0.35 + photo * 0.35 + 0.15 * 255
    weight = strength * shares[..., None] ** 0.7
    mixed = (1 - weight) * grey + weight * colour(shares, "inferno")
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)


def beside(images: Sequence[np.ndarray], gap: int = 4) -> np.ndarray:
    """Images (H, W, 3) in a row, at the height of the first."""
    height = images[0].shape[0]
    parts: list[np.ndarray] = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        parts += [resize_image(image, (height, width)), np.full((height, gap, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def tile(images: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Images (H, W, 3) of one size as a grid with white lines, row by row."""
    rows, columns = -(-len(images) // columns), min(columns, len(images))
    height, width = images[0].shape[:2]
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def stretch(difference: np.ndarray) -> np.ndarray:
    """A difference of pixels in any range → grey where zero, black and white at the extremes."""
    largest = float(np.abs(difference).max()) or 1.0
    return np.clip(127.5 + 127.5 * difference / largest, 0, 255).round().astype(np.uint8)
