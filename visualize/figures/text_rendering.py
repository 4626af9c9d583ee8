"""Text and color scales rendered as pixels, for the frames of animations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlmie.visualize.figures.fonts import default_font, fonts_for
from dlmie.visualize.figures.panels import Scale

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_MARGIN = 6  # pixels around the text
_INK, _SOFT, _MARK = (20, 20, 20), (110, 110, 110), (163, 68, 0)


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


def _font_of(word: str, size: int) -> ImageFont.FreeTypeFont:
    """A font for a word: where the default one lacks a letter, the one that has most of those."""
    return _font(fonts_for(word)[:2][-1], size)


def _canvas(height: int, width: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), "white")
    return image, ImageDraw.Draw(image)


def sentence_line(words: Sequence[str], marked: int, width: int, size: int = 14) -> np.ndarray:
    """A sentence on white, in as many lines as it takes, one of its words marked.

    Parameters
    ----------
    words : sequence of str
    marked : int
        Number of the marked word; -1: none.
    width, size : int
        Of the picture and of the letters, in pixels.

    Returns
    -------
    numpy.ndarray
        (height, width, 3) uint8; the height does not depend on ``marked``.
    """
    fonts = [_font_of(word, size) for word in words]
    blank, line = _font(default_font(), size).getlength(" "), int(size * 1.5)
    places = []
    x, y = float(_MARGIN), _MARGIN
    for word, font in zip(words, fonts, strict=True):
        length = font.getlength(word)
        if x > _MARGIN and x + length > width - _MARGIN:
            x, y = float(_MARGIN), y + line
        places.append((x, y, length))
        x += length + blank
    image, draw = _canvas(y + line, width)
    for number, (word, font, (x, y, length)) in enumerate(zip(words, fonts, places, strict=True)):
        is_marked = number == marked
        draw.text((x, y), word, font=font, fill=_MARK if is_marked else _INK)
        if is_marked:
            under = y + int(size * 1.25)
            draw.rectangle((x, under, x + length, under + 1), fill=_MARK)
    return np.asarray(image)


def scale_line(scale: Scale, width: int, size: int = 11) -> np.ndarray:
    """A color scale on white with its ends and what it shows: (height, width, 3) uint8."""
    font = _font(default_font(), size)
    image, draw = _canvas(size + 8, width)
    ends = [f"{scale.low:g}", f"{scale.high:.3g}"]
    label = f" {scale.label}"
    x = _MARGIN
    draw.text((x, 2), ends[0], font=font, fill=_SOFT)
    x += int(font.getlength(ends[0])) + 4
    rest = int(font.getlength(ends[1] + label)) + 4
    bar = max(width - x - rest - _MARGIN, 20)
    ramp = scale.colors[np.linspace(0, len(scale.colors) - 1, bar).round().astype(int)]
    draw.text((x + bar + 4, 2), ends[1] + label, font=font, fill=_SOFT)
    pixels = np.array(image)
    shown = max(0, min(bar, width - x))
    pixels[4 : size + 4, x : x + shown] = ramp[:shown]
    return pixels
