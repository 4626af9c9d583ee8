"""The frame of the HTML pages: one file that loads nothing."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parent


def html_page(
    *, title: str, subtitle: str, body: str, navigation: str = "", scripts: bool = False
) -> str:
    """A whole page, in the style of ``report.css``.

    Parameters
    ----------
    title, subtitle : str
        Plain text.
    body, navigation : str
        HTML: what follows the header, and what ends it.
    scripts : bool
        Whether the body has scripts; else the page allows none.
    """
    return Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        navigation=navigation,
        body=body,
        scripts="; script-src 'unsafe-inline'" if scripts else "",
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
    )
