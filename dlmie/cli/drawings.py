"""Where commands draw to: suffixes, and files that are claimed before the work begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dlmie.cli.console import Console
from dlmie.files import outputs

PICTURES = (".png", ".jpg", ".jpeg")
CHARTS = (".png", ".pdf", ".svg")
FIGURES = (*PICTURES, ".pdf", ".svg")
ANIMATIONS = (".gif",)


def claim_drawing(console: Console, option: str, path: str | Path, suffixes: Sequence[str]) -> Path:
    """The path of something that is drawn, checked and claimed before the work begins.

    Raises
    ------
    click.UsageError
        The suffix does not fit.
    OutputError
        A file would be lost.
    """
    if Path(path).suffix.lower() not in suffixes:
        *others, last = (suffix for suffix in suffixes if suffix != ".jpeg")
        known = f"{', '.join(others)} or {last}" if others else last
        raise click.UsageError(f"{option} {path} must end in {known}")
    kinds = {".pdf": outputs.PDF, ".svg": outputs.SVG}
    return console.outputs.writes(path, kinds.get(Path(path).suffix.lower(), outputs.PICTURE))


def claim_picture(console: Console, option: str, path: str | Path, suffixes: Sequence[str]) -> Path:
    """As :func:`claim_drawing`, for what is saved with a manifest beside it.

    Raises
    ------
    OutputError
        A file would be lost: where the manifest goes, too.
    """
    from dlmie.visualize.figures.manifests import check_place

    claimed = claim_drawing(console, option, path, suffixes)
    check_place(Path(path))
    return claimed
