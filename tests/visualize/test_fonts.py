"""Text of others in figures: any script, and no mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dlmie.visualize.figures import fonts
from dlmie.visualize.figures.charts import Chart, Plot, training_curves
from dlmie.visualize.figures.contact_sheet import contact_sheet
from dlmie.visualize.figures.drawing import draw
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.fonts import FontWarning, default_font, fonts_for
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.text_rendering import sentence_line

GRAY = np.full((8, 8, 3), 128, np.uint8)


@pytest.fixture(autouse=True)
def _fonts_anew() -> Iterator[None]:
    yield
    fonts._installed.cache_clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make these font files all that are installed."""

    def install(*paths: Path) -> None:
        fonts._installed.cache_clear()
        found = [str(path) for path in paths]
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: found)

    return install


def font_of(letters: str, path: Path) -> Path:
    """A font with a black square for each letter."""
    letters = "".join(sorted(set(letters)))
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for place, point in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if place else pen.moveTo)(point)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    names = [f"u{ord(letter):04X}" for letter in letters]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, letters), names, strict=True)))
    builder.setupGlyf({".notdef": empty, **dict.fromkeys(names, square)})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (900, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_usual_text_needs_no_other_font(install: Callable[..., None]) -> None:
    install()
    assert fonts_for("naïve Ελλάδα русский عربي costs $5 \u200d\ufe0f\n") == [default_font()]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("一只狗", "CJK"),
        ("कुत्ता", "Devanagari"),
        ("สุนัข", "Thai"),
        ("개", "Hangul"),
        ("🐕", "symbol"),
    ],
)
def test_an_installed_font_is_taken_else_the_script_is_named(
    text: str, script: str, install: Callable[..., None], tmp_path: Path
) -> None:
    install()
    with pytest.warns(FontWarning) as caught:
        draw([Panel(GRAY, text)], 1, title=text)
    assert [str(w.message).partition(" characters")[0] for w in caught] == [
        f"no installed font has the {script}"
    ]
    other = font_of("xyz", tmp_path / "Latin.ttf")
    install(other, font_of(text, tmp_path / f"Made{script}.ttf"))
    assert fonts_for(text) == [default_font(), tmp_path / f"Made{script}.ttf"]


def test_letters_are_drawn_everywhere(install: Callable[..., None], tmp_path: Path) -> None:
    install()
    with pytest.warns(FontWarning):
        boxes = draw([Panel(GRAY, "狗")], 1), sentence_line(["a", "狗"], 1, 200)
    install(font_of("狗", tmp_path / "Dog.ttf"))
    letters = draw([Panel(GRAY, "狗")], 1), sentence_line(["a", "狗"], 1, 200)
    assert boxes[0] != letters[0]
    assert not np.array_equal(boxes[1], letters[1])
    contact_sheet([GRAY], ["狗 a"]).save(tmp_path / "sheet.png")
    Figure(None, [Panel(GRAY, "狗")]).save(tmp_path / "figure.pdf")


@pytest.mark.parametrize("text", ["costs $5 and $6", r"$\frac{1}{0$", "a_$x^2$_b", "100% \\alpha"])
@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_text_of_others_is_no_mathematics(text: str, kind: str, tmp_path: Path) -> None:
    curves = Panel(np.array([[1, 2, 3.0]]), text, labels=(text,), axes=(text, text))
    draw([Panel(GRAY, text), curves], 2, kind=kind, title=text)
    path = contact_sheet([GRAY], [text], title=text).save(tmp_path / f"sheet.{kind}")
    assert path.stat().st_size > 1000
    runs = {text: [{"epoch": 1, text: 2.0}], "b": [{"epoch": 1, text: 1.0}]}
    training_curves(runs).save(tmp_path / f"curves.{kind}")


def test_dollars_look_like_dollars(tmp_path: Path) -> None:
    drawn = contact_sheet([GRAY], ["$x$"]).save(tmp_path / "sheet.svg").read_bytes()
    assert b"DejaVuSans-" in drawn
    assert b"Oblique" not in drawn  # in which mathematics is set
    lines = {name: ([1e-3, 1.0], [1.0, 2.0]) for name in ("$x$", "b")}
    chart = Chart([Plot(lines=lines, logarithmic=("x",))])
    drawn = chart.save(tmp_path / "chart.svg").read_bytes()
    assert b"Oblique" not in drawn
