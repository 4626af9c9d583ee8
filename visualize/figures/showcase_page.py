"""One self-contained HTML page of captioned images in two groups: those that went well, and not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from dlmie.visualize.figures.html_page import html_page
from dlmie.visualize.figures.report_page import Example, jpeg_of


def build_showcase(
    *,
    title: str,
    subtitle: str,
    groups: Mapping[str, Sequence[Example]],
    ranked_by: str,
    thumbnail: int = 224,
) -> str:
    """Write the page; it loads nothing and needs no JavaScript.

    Parameters
    ----------
    title, subtitle : str
    groups : mapping
        Headings, and the images below each.
    ranked_by : str
        What an example's only score is called.
    thumbnail : int
        Longer side of the photographs in pixels.

    Returns
    -------
    str
        HTML.
    """
    sections = [
        f"<section><h2>{escape(heading)}</h2>"
        f'<div class="cards">{"".join(_card(e, ranked_by, thumbnail) for e in examples)}</div>'
        "</section>\n"
        for heading, examples in groups.items()
        if examples
    ]
    return html_page(title=title, subtitle=subtitle, body=f"<main>\n{''.join(sections)}</main>\n")


def _card(example: Example, ranked_by: str, thumbnail: int) -> str:
    photo, (width, height) = jpeg_of(example, thumbnail)
    caption = " ".join(example.words)
    score = next(iter(example.scores.values()))
    references = "".join(f"<li>{escape(text)}</li>" for text in example.references)
    return (
        '<article class="card"><div class="photo">'
        f'<img src="data:image/jpeg;base64,{photo}" width="{width}" height="{height}" '
        f'alt="{escape(example.name)}"></div>'
        f'<div><p class="caption">{escape(caption)}</p>'
        f'<dl class="numbers"><dt>{escape(ranked_by)}</dt><dd>{score:.2f}</dd></dl></div>'
        f'<ul class="references">{references}</ul><p class="name">{escape(example.name)}</p>'
        "</article>"
    )
