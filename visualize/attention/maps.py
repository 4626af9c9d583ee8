"""Where a captioner looked: one panel per word, with its attention over the photograph.

The attention grid lies over the squashed photograph that the encoder saw, so it is stretched back
over the photograph's own aspect.  All words of a figure share one color scale, which is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from dlmie.data.images import ImageSource, resize_image
from dlmie.errors import DlmieError
from dlmie.typing import JsonObject
from dlmie.visualize.attention.flatness import entropy, warn_if_flat
from dlmie.visualize.attention.upsampling import UPSAMPLINGS, check_choice, upsample
from dlmie.visualize.figures.compositing import colorize
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel, Scale
from dlmie.visualize.figures.sources import SourceImage
from dlmie.visualize.figures.text_rendering import scale_line, sentence_line

if TYPE_CHECKING:  # drawing needs no compiler
    from dlmie.visualize.ascent.models import Caption

LAYOUTS = ("grid", "strip")
_SECONDS = 0.9  # for which a word is shown in the animation
_GRAY = 128  # beneath the colors of the drawn scale


class Drawing(TypedDict, total=False):
    """Options of :func:`attend` that decide how a figure looks, not what it shows."""

    layout: str
    columns: int | None
    upsampling: str
    strength: float
    limit: float | None
    pixels: int


def attend(
    caption: Caption,
    image: ImageSource,
    *,
    layout: str = "grid",
    columns: int | None = None,
    upsampling: str = "smooth",
    strength: float = 0.6,
    limit: float | None = None,
    pixels: int = 320,
    made_by: Mapping[str, object] | None = None,
) -> Figure:
    """Draw where a captioner looked at each word.

    Parameters
    ----------
    caption : Caption
        With ``text`` and ``alphas`` (words, rows, columns), one map for each word of the text, from
        the beam that found them; ``gates`` (words,) are written beside the words.
    image
        The photograph, as :func:`~dlmie.data.images.load_image` takes it; of any aspect.
    layout : str
        ``"grid"``, or ``"strip"``: one row.
    columns : int, optional
        Of the grid; default: so many that the figure is about square.
    upsampling : str
        From cells to pixels, see :func:`upsample`.
    strength : float
        Of the colors over the gray photograph, from 0 to 1.
    limit : float, optional
        The weight of a cell at which the color scale ends; default: the highest of the caption.
        Give it to compare figures.
    pixels : int
        Longer side of a panel.
    made_by : mapping, optional
        What made the caption, for the manifest: captioner, decoding.

    Returns
    -------
    Figure
        ``.save("a.png")``, ``.pdf``, ``.svg``; ``.gif``: word after word. ``arrays["alphas"]`` are
        the maps; the manifest holds each word's entropy.

    Raises
    ------
    DlmieError
        The caption has no maps, or not one per word; an unknown layout or upsampling.

    Warns
    -----
    FlatAttention
        The maps are nearly even, or nearly the same for all words.

    Examples
    --------
    >>> best = dlmie.load("runs/sat")("dog.jpg")[0]                     # doctest: +SKIP
    >>> attend(best, "dog.jpg").save("dog-attention.png")               # doctest: +SKIP
    """
    check_choice("layout", layout, LAYOUTS)
    check_choice("upsampling", upsampling, UPSAMPLINGS)
    words, alphas = _maps_of(caption)
    gates = getattr(caption, "gates", None)
    warn_if_flat(alphas)
    source = SourceImage.read(image)
    photo = _fit(source.pixels, pixels)
    highest = float(alphas.max(initial=0)) if limit is None else float(limit)
    gray = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    maps = upsample(alphas, photo.shape[:2], upsampling) / max(highest, 1e-12)
    shown = [_blend(gray, each, strength) for each in maps]
    titles = [
        word if gates is None else f"{word}  β {float(gate):.2f}"
        for word, gate in zip(words, words if gates is None else gates, strict=True)
    ]
    if layout == "strip":
        columns = len(words) + 1
    panels = [Panel(photo), *(Panel(x, title) for x, title in zip(shown, titles, strict=True))]
    about_square, side = _layout(len(panels), photo.shape[:2])
    ramp = np.linspace(0, 1, 256)[None]
    scale = Scale(
        _blend(np.full((1, 256, 3), _GRAY), ramp, strength)[0], 0.0, highest, "attention on a cell"
    )
    return Figure(
        None,
        panels,
        columns=columns or about_square,
        manifest=make_manifest(
            "attend",
            made_by or {},
            {
                "layout": layout,
                "columns": columns,
                "upsampling": upsampling,
                "strength": strength,
                "limit": limit,
                "pixels": pixels,
            },
            images={"image": source.describe()},
            results=_results(caption, words, alphas, gates, highest),
        ),
        arrays={"alphas": alphas},
        frames=_frames(photo, shown, words, scale),
        still="" if words else "the caption is empty: there is no word to show",
        seconds=_SECONDS,
        photo=photo,
        scale=scale if words else None,
        side=side,
    )


def _maps_of(caption: Caption) -> tuple[Sequence[str], np.ndarray]:
    words, alphas = caption.labels, caption.alphas
    if alphas is None:
        raise DlmieError(
            "the caption has no attention: only captioners that attend have, such as "
            "show-attend-tell"
        )
    if alphas.ndim != 3 or len(alphas) != len(words):
        raise DlmieError(
            f"attention is one map (rows, columns) per word: {len(words)} words, but maps of shape "
            f"{alphas.shape}"
        )
    return words, alphas


def _fit(photo: np.ndarray, longer: int) -> np.ndarray:
    factor = longer / max(photo.shape[:2])
    height, width = (max(1, round(side * factor)) for side in photo.shape[:2])
    return resize_image(photo, (height, width))


def _layout(panels: int, size: tuple[int, int]) -> tuple[int, float]:
    """Columns and the width of a panel in inches, for a figure about as wide as high."""
    aspect = min(size[0] / size[1], 3)  # height by width
    side = float(np.clip(2.3 / aspect, 1.3, 1.9))  # a word needs its place, however slim the photo
    return max(1, round((panels * (aspect + 0.35 / side)) ** 0.5)), side


def _blend(gray: np.ndarray, places: np.ndarray, strength: float) -> np.ndarray:
    """Places (H, W) on the scale, 0 to 1, as colors over a gray photograph (H, W, 3), clipped.

    The colors are equally strong everywhere: what is not attended to becomes dark, so the
    brightest place is the one looked at, whatever the photograph shows.
    """
    mixed = (1 - strength) * gray + strength * colorize(places, "inferno")
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)


def _results(
    caption: Caption,
    words: Sequence[str],
    alphas: np.ndarray,
    gates: np.ndarray | None,
    highest: float,
) -> JsonObject:
    rows = []
    for number, (word, alpha) in enumerate(zip(words, alphas, strict=True)):
        row, column = np.unravel_index(int(alpha.argmax()), alpha.shape)
        rows.append(
            {
                "word": word,
                "entropy": round(float(entropy(alpha)), 4),
                "highest": round(float(alpha.max()), 6),
                "cell": [int(row), int(column)],
                **({} if gates is None else {"gate": round(float(gates[number]), 4)}),
            }
        )
    return {
        "caption": caption.text,
        "log_probability": getattr(caption, "log_probability", None),
        "grid": list(alphas.shape[1:]),
        "entropy_if_even": round(float(np.log(alphas.shape[1] * alphas.shape[2])), 4),
        "scale": [0.0, round(highest, 6)],
        "words": rows,
    }


def _frames(
    photo: np.ndarray, shown: Sequence[np.ndarray], words: Sequence[str], scale: Scale
) -> list[np.ndarray]:
    """Of the animation: the photograph, then each word's map, the sentence above it."""
    below = scale_line(scale, photo.shape[1])
    return [
        np.concatenate([sentence_line(words, number, photo.shape[1]), picture, below])
        for number, picture in enumerate([photo, *shown], start=-1)
    ]
