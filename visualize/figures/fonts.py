"""Installed fonts that have the letters of a text, whatever its script; a warning if none has."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path


class FontWarning(UserWarning):
    """Letters are drawn as boxes, because no installed font has them."""


@cache
def default_font() -> Path:
    """DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


def fonts_for(text: str) -> list[Path]:
    """Font files that have the letters of a text between them; the default font comes first.

    Warns
    -----
    FontWarning
        Names the scripts of letters that no installed font has.
    """
    missing = {letter for letter in text if _is_drawn(letter)} - _letters(default_font())
    chosen = [default_font()]
    while missing:
        best = max(_installed(), key=lambda path: len(missing & _letters(path)), default=None)
        if best is None or not missing & _letters(best):
            warnings.warn(_what_is_missing(missing), FontWarning, stacklevel=2)
            break
        chosen.append(best)
        missing -= _letters(best)
    return chosen


def font_families(texts: Iterable[str]) -> list[str]:
    """The same for matplotlib, which wants names: each letter is taken from the first that has it.

    Warns
    -----
    FontWarning
        As :func:`fonts_for`.
    """
    from matplotlib.font_manager import FontProperties, fontManager

    names = []
    for path in fonts_for("".join(texts)):
        fontManager.addfont(path)
        names.append(FontProperties(fname=path).get_name())
    return names


def _is_drawn(letter: str) -> bool:
    """Whether a character looks like something: no blank, control, joiner or variation selector."""
    kind = unicodedata.category(letter)
    return kind[0] not in "CZ" and not 0xFE00 <= ord(letter) <= 0xFE0F


@cache
def _installed() -> tuple[Path, ...]:
    from matplotlib.font_manager import findSystemFonts

    return tuple(sorted(map(Path, findSystemFonts())))


@cache
def _letters(path: Path) -> frozenset[str]:
    """The characters that a font has; none where it cannot be drawn with, as color fonts."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(path))
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (RuntimeError, OSError):
        return frozenset()


def _what_is_missing(letters: Iterable[str]) -> str:
    scripts = dict.fromkeys(_scripts(sorted(letters)))
    return (
        f"no installed font has the {' and '.join(scripts)} characters of this text, which are "
        "drawn as boxes: install one that has them (Debian/Ubuntu: apt install fonts-noto "
        "fonts-noto-cjk fonts-symbola)"
    )


def _scripts(letters: Iterable[str]) -> Iterator[str]:
    """The script of each letter, by the first word of its name: ``CJK``, ``Devanagari``; symbol."""
    for letter in letters:
        word = unicodedata.name(letter, "unknown").split()[0].split("-")[0]
        if unicodedata.category(letter)[0] == "S":  # whose name says what it shows
            yield "symbol"
        else:
            yield word if word == "CJK" else word.capitalize()
