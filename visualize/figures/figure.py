"""Figures: pictures as values that can be shown, laid out, saved and reproduced."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dlmie.data.images import resize_image, save_image
from dlmie.errors import DlmieError
from dlmie.files import atomic
from dlmie.files.outputs import Outputs
from dlmie.typing import JsonObject
from dlmie.visualize.figures.compositing import beside, overlay
from dlmie.visualize.figures.drawing import draw
from dlmie.visualize.figures.manifests import check_place, image_paths, write_manifest
from dlmie.visualize.figures.panels import Panel, Scale

DRAWN = (".pdf", ".svg")
RASTER = (".png", ".jpg", ".jpeg")
# The pictures whose functions take ``frames``.
_FRAMED = ("fool", "invert", "stylize", "visualize")


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
        Drawn beside the panels: what the colors of all of them mean.
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
    manifest: JsonObject = field(default_factory=dict)
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
        """The labeled figure of all panels, to be shown or saved."""
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

    def __repr__(self) -> str:
        made = [str(self.manifest["picture"])] if "picture" in self.manifest else []
        if self.image is not None:
            made.append("×".join(map(str, self.image.shape[:2])))
        if self.panels:
            made.append(f"{len(self.panels)} panel{'s' if len(self.panels) > 1 else ''}")
        if self.frames:
            made.append(f"{len(self.frames)} frames")
        return f"Figure({', '.join(made)})"

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
