"""Options of the commands that read files of captions: ``prepare`` and ``score``."""

from __future__ import annotations

import click

from dlmie.cli.options import F, section


def reading_options(function: F) -> F:
    """What a file of captions does not say itself: its encoding, and columns of unusual names."""
    return section(
        "Files of captions",
        click.option("--encoding", help="Of the text, such as cp1252.  [default: UTF-8 or UTF-16]"),
        click.option(
            "--image-column",
            metavar="NAME",
            help="Column or key of the image; a number where a table has no header.",
        ),
        click.option(
            "--caption-column",
            metavar="NAME",
            multiple=True,
            help="Column or key of the caption; again for several.",
        ),
    )(function)
