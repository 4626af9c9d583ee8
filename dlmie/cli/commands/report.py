"""``dlmie report``: one HTML page about a captioner."""

from __future__ import annotations

import shlex
import sys
from functools import partial

import click

from dlmie.cli.captioners import split_names
from dlmie.cli.console import Console
from dlmie.cli.data import data_of, features_of_run, open_features, split_options
from dlmie.cli.decoding import chosen_decoding, decoding_options
from dlmie.cli.encoders import weights_option
from dlmie.cli.options import options_of, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.files.outputs import HTML
from dlmie.parallel import world
from dlmie.text import bytes_text


@verb("report")
@click.argument("model")
@split_options
@options_of(
    "dlmie.captioning.reports:report",
    gallery=("Show so many images, from the best to the worst.  [default: all]", whole(1)),
    extremes=("Images shown as the best, and as the worst.", whole(0)),
    thumbnail=("Longer side of the photographs in pixels.", whole(16)),
    bootstrap=("Resamplings for 95 % confidence intervals; 0: none.", whole(0)),
)
@output_option("The page to write.  [default: report.html]", name="output")
@weights_option
@decoding_options
def command(
    console: Console,
    model: str,
    split: str,
    data: str | None,
    features: str | None,
    gallery: int | None,
    extremes: int,
    thumbnail: int,
    bootstrap: int,
    output: str | None,
    encoder_weights: str | None,
    **_: object,
) -> None:
    """Write one HTML page about MODEL: scores, learning curves, and what it says of each image.

    MODEL is a run folder, a model file or the name of a captioner that comes with dlmie; several
    with commas between them decide together. The page needs no network and no server. It shows
    where the captioner looked when a word is pointed at, if it attends.
    """
    chosen = {**chosen_decoding(), "seed": console.seed}
    from dlmie import captioning
    from dlmie.captioning.reports import report
    from dlmie.data.captions.dataset import Captions

    names = split_names(model)
    source = data or data_of(names[0])
    console.outputs.reads(source, *features_of_run(names[0]))
    page_path = console.outputs.writes(output or "report.html", HTML)
    images = Captions(source)[split]
    captioner = captioning.load(names, encoder_weights=encoder_weights)
    page = report(
        captioner,
        images,
        features=open_features(captioner, names[0], images, features),
        bootstrap=bootstrap,
        gallery=gallery,
        extremes=extremes,
        thumbnail=thumbnail,
        facts={"command": shlex.join(["dlmie", *sys.argv[1:]])},
        progress=console.progress,
        **chosen,
    )
    path = world().on_first(partial(page.save, page_path))
    size = path.stat().st_size
    console.note(f"wrote {path} ({bytes_text(size)})")
    result = {"report": path, "bytes": size, **page.scores.to_json()}
    console.result(result, str(page.scores))
