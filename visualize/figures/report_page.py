"""One self-contained HTML page about a captioner: scores, curves and a gallery.

The page loads nothing: photographs are small JPEGs inside it, attention is a few bytes per word
that its script draws over the photograph when the word is pointed at. ``report.html`` and
``report.js`` beside this file are its body and its script.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

import numpy as np

from dlmie.data.images import resize_image
from dlmie.typing import JsonObject
from dlmie.visualize.figures.html_page import FOLDER, html_page
from dlmie.visualize.figures.line_chart import line_chart

LABELS = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "bleu_4_method2": "BLEU-4 (smoothed)",
    "log_probability": "log p",
    "pointing": "pointing",
    "naming": "named things that are there",
    "truth": "truth",
    "truth_claims": "true claims",
}
# What the pointing score is to be compared with.
_POINTING = {
    "pointing_chance": "chance",
    "pointing_shuffled": "other words' maps",
    "pointing_ceiling": "at most",
    "pointing_brightest": "brightest cell on the thing",
    "attention_entropy": "entropy, 1 if even",
}
_CURVES = (
    ("Loss per word", {"loss": "training", "dev_loss": "dev"}),
    (
        "Scores of dev",
        {n: LABELS[n] for n in ("bleu_1", "bleu_4", "cider_d", "pointing", "truth")},
    ),
)
_QUALITY = 80  # of the JPEGs


@dataclass(frozen=True)
class Example:
    """One captioned image of the gallery.

    Attributes
    ----------
    name : str
    image : (H, W, 3) uint8
        Or a function that gives it, called once: then no more than one is in memory.
    words : sequence of str
        The caption.
    references : sequence of str
    scores : mapping
        Numbers of this image by name, the same names for all examples.
    alphas : (words, rows, columns), optional
    gates : (words,), optional
    """

    name: str
    image: np.ndarray | Callable[[], np.ndarray]
    words: Sequence[str]
    references: Sequence[str]
    scores: Mapping[str, float]
    alphas: np.ndarray | None = None
    gates: np.ndarray | None = None


def build_page(
    *,
    title: str,
    subtitle: str,
    scores: JsonObject,
    protocol_line: str,
    examples: Sequence[Example],
    rank_by: str,
    records: Sequence[JsonObject] = (),
    facts: Mapping[str, object] | None = None,
    extremes: int = 10,
    thumbnail: int = 160,
) -> str:
    """Write the page.

    Parameters
    ----------
    title, subtitle : str
    scores : mapping
        Of the whole, as :meth:`dlmie.captioning.metrics.Scores.to_json` gives them.
    protocol_line : str
        How they came about.
    examples : sequence of Example
        What the gallery shows.
    rank_by : str
        Which score of an example makes it one of the best or worst; the others decide ties.
    records : sequence of mapping
        The log of the training: the learning curves.
    facts : mapping, optional
        What the page was made from, shown at its end.
    extremes : int
        How many examples are shown as the best, and as the worst.
    thumbnail : int
        Longer side of the photographs in pixels.

    Returns
    -------
    str
        HTML.
    """
    names = list(examples[0].scores) if examples else [rank_by]
    order = sorted(range(len(examples)), key=lambda i: _rank(examples[i], rank_by), reverse=True)
    colors = _ramp() if any(e.alphas is not None for e in examples) else None
    data = {
        "columns": [[name, LABELS.get(name, name)] for name in names],
        "colors": colors,
        "items": [_item(example, names, thumbnail) for example in examples],
        "best": order[:extremes],
        "worst": order[::-1][:extremes],
    }
    curves = _curves(records)
    template = Template((FOLDER / "report.html").read_text(encoding="utf-8"))
    parts = {
        "scores": _scores(scores, protocol_line),
        "curves": curves,
        "hint": _hint(colors, LABELS.get(rank_by, rank_by)),
        "script": (FOLDER / "report.js").read_text(encoding="utf-8"),
        "data": _json(data),
    }

    def page(size: str) -> str:
        return html_page(
            title=title,
            subtitle=subtitle,
            navigation=_navigation(bool(curves)),
            body=template.substitute(parts, footer=_facts(facts or {}, size)),
            scripts=True,
        )

    # What the number itself adds does not show in one decimal.
    return page(f"{len(page('').encode()) / 1e6:.1f} MB")


def _navigation(curves: bool) -> str:
    places = {"scores": "Scores", "curves": "Learning curves", "best": "Best", "worst": "Worst"}
    links = [
        f'<a href="#{name}-title">{text}</a>\n'
        for name, text in {**places, "all": "All images"}.items()
        if curves or name != "curves"
    ]
    return f'<nav aria-label="On this page">\n{"".join(links)}</nav>\n'


def _rank(example: Example, first: str) -> tuple[float, ...]:
    return (example.scores[first], *example.scores.values())


def _json(data: JsonObject) -> str:
    """JSON that no text inside can end: ``</script>`` and ``<!--`` lose their bracket."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def jpeg_of(example: Example, longer: int) -> tuple[str, tuple[int, int]]:
    """An example's image as a JPEG in base64, its longer side so long; its width and height."""
    pixels = example.image() if callable(example.image) else example.image
    factor = min(1, longer / max(pixels.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return _jpeg(resize_image(pixels, (height, width))), (width, height)


def _item(example: Example, names: Sequence[str], thumbnail: int) -> JsonObject:
    photo, size = jpeg_of(example, thumbnail)
    item: JsonObject = {
        "name": example.name,
        "words": list(example.words),
        "references": list(example.references),
        "scores": [round(float(example.scores[name]), 4) for name in names],
        "photo": photo,
        "size": list(size),
    }
    if example.alphas is not None and len(example.alphas):
        peak = float(example.alphas.max())
        levels = np.rint(example.alphas * (255 / max(peak, 1e-12))).astype(np.uint8)
        item["alphas"] = base64.b64encode(levels.tobytes()).decode()  # row by row
        item["grid"] = list(levels.shape[1:])
        item["peak"] = round(peak, 5)
        if example.gates is not None:
            item["gates"] = [round(float(gate), 3) for gate in example.gates]
    return item


def _jpeg(image: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _ramp() -> str:
    """256 colors, three bytes each, of what attention is drawn in."""
    from matplotlib import colormaps

    colors = colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(np.ascontiguousarray(colors).tobytes()).decode()


def _hint(colors: str | None, ranked: str) -> str:
    lines = [f"Best and worst by {escape(ranked)} of the single image."]
    if colors:
        ramp = base64.b64decode(colors)
        stops = ", ".join(f"#{ramp[3 * i : 3 * i + 3].hex()}" for i in range(0, 256, 17))
        lines.append(
            "Point at a word, or move with Tab and the arrow keys, to see where the captioner "
            "looked at that word. All words of a caption share one scale: "
            f'0 <span class="ramp" style="background: linear-gradient(to right, {stops})"></span> '
            "the highest weight of a cell in that caption."
        )
    return f'<p class="hint">{" ".join(lines)}</p>'


def _scores(scores: JsonObject, protocol_line: str) -> str:
    tiles = [
        f"<div><dt>{label}</dt><dd>{scores[name]:.4f}{_note(scores, name)}</dd></div>"
        for name, label in LABELS.items()
        if scores.get(name) is not None
    ]
    return (
        f'<dl class="scores">{"".join(tiles)}</dl>'
        f'<p class="protocol">{escape(protocol_line)}</p>'
        f"<details><summary>Protocol in full</summary>{_list(scores['protocol'])}</details>"
    )


def _note(scores: JsonObject, name: str) -> str:
    """What stands small beneath a score: its interval, or its points of reference."""
    lines = []
    if ends := scores.get(f"{name}_interval"):
        lines.append(f"{ends[0]:.4f} to {ends[1]:.4f}")
    if name == "pointing":
        lines += [f"{label} {scores[key]:.4f}" for key, label in _POINTING.items()
                  if scores.get(key) is not None]  # fmt: skip
    return "".join(f"<small>{line}</small>" for line in lines)


def _list(pairs: Mapping[str, object]) -> str:
    rows = [
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in pairs.items()
        if value is not None
    ]
    return f'<dl class="list">{"".join(rows)}</dl>'


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _curves(records: Sequence[JsonObject]) -> str:
    epochs = [record for record in records if "epoch" in record]
    charts = []
    for title, labels in _CURVES:
        series = {
            label: [(r["epoch"], r[name]) for r in epochs if r.get(name) is not None]
            for name, label in labels.items()
        }
        series = {label: points for label, points in series.items() if points}
        if series:
            charts.append(
                f"<figure><figcaption>{title}</figcaption>"
                f"{line_chart(series, x_label='epoch', description=title)}</figure>"
            )
    if not charts:
        return ""
    return (
        '<section aria-labelledby="curves-title"><h2 id="curves-title">Learning curves</h2>'
        f'<div class="charts">{"".join(charts)}</div></section>'
    )


def _facts(facts: Mapping[str, object], size: str) -> str:
    return f"<p>This page is {size} large and loads nothing.</p>{_list(facts)}"
