"""``dlmie showcase``: the best and the worst captions of a split on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.captioners import split_names
from dlmie.cli.console import Console
from dlmie.cli.data import data_of, features_of_run, open_features, split_options
from dlmie.cli.decoding import chosen_decoding, decoding_options
from dlmie.cli.encoders import weights_option
from dlmie.cli.options import flag_of, given, options_of, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.errors import OutputError
from dlmie.files.outputs import HTML, JSON

if TYPE_CHECKING:
    from dlmie.captioning.showcase import Showcase
    from dlmie.data.captions.dataset import Split

# What a command line may name beside a list.
_WITH_LIST = ("chosen_list", "data", "output", "thumbnail", "overwrite")


@verb("showcase")
@click.argument("model", required=False)
@options_of(
    "dlmie.captioning.showcase:showcase",
    good=("Images with the best captions.", whole(0)),
    bad=("Images with the worst.", whole(0)),
)
@click.option(
    "--list",
    "chosen_list",
    type=click.Path(),
    metavar="FILE",
    help="Instead of MODEL: show the images of this list, which was written before.",
)
@split_options
@options_of(
    "dlmie.visualize.figures.showcase_page:build_showcase",
    thumbnail=("Longer side of the photographs in pixels.", whole(16)),
)
@output_option("The page to write, and its list.  [default: showcase.html]", name="output")
@weights_option
@decoding_options
def command(
    console: Console,
    model: str | None,
    good: int,
    bad: int,
    chosen_list: str | None,
    split: str,
    data: str | None,
    features: str | None,
    thumbnail: int,
    output: str | None,
    encoder_weights: str | None,
    **_: object,
) -> None:
    """Show the images that MODEL captions best, and worst, by their CIDEr-D, on one HTML page.

    Beside the page, showcase.json lists them. To show others, exchange their names in this list
    (it holds what was said of every image) and write the page again:

    dlmie showcase --list showcase.json

    MODEL is a run folder, a model file or the name of a captioner that comes with dlmie. The page
    needs no network and no server.
    """
    if (model is None) == (chosen_list is None):
        raise click.UsageError("name a MODEL, or a list with --list")
    page_path = Path(output or "showcase.html")
    if page_path.suffix.lower() == ".json":
        raise click.UsageError(f"{page_path}: name the page, such as showcase.html")
    from dlmie.data.captions.dataset import Captions
    from dlmie.files import atomic

    if model is None:
        assert chosen_list is not None
        list_path = Path(chosen_list)
        chosen = _listed(console, list_path, page_path)
        images = Captions(data or chosen.data.path)[chosen.data.split]
        console.outputs.reads(images.path)
    else:
        list_path = page_path.with_suffix(".json")
        names = split_names(model)
        source = data or data_of(names[0])
        console.outputs.reads(source, *features_of_run(names[0]))
        _claim(console, page_path, list_path)
        images = Captions(source)[split]
        chosen = _choose(console, names, images, features, encoder_weights, good=good, bad=bad)
    atomic.write_text(page_path, chosen.page(images, thumbnail=thumbnail))
    if model is not None:
        chosen.save(list_path)
    console.note(f"wrote {page_path}" + (f"; exchange images in {list_path}" if model else ""))
    groups = {"good": chosen.good, "bad": chosen.bad}
    lines = [
        f"{group:4s} {chosen.captions[name].score:.2f}  {name}: {chosen.captions[name].caption}"
        for group, shown in groups.items()
        for name in shown
    ]
    console.result({"page": page_path, "list": list_path, **groups}, "\n".join(lines))


def _listed(console: Console, list_path: Path, page_path: Path) -> Showcase:
    """What a list chose; the page is claimed."""
    for name in given(click.get_current_context()):
        if name not in _WITH_LIST:
            raise click.UsageError(f"{flag_of(name)} does not go with --list, which says it all")
    from dlmie.captioning.showcase import Showcase

    chosen = Showcase.load(list_path)
    console.outputs.reads(list_path)
    console.outputs.writes(page_path, HTML)
    return chosen


def _claim(console: Console, page_path: Path, list_path: Path) -> None:
    """Claim the page and its list, which may hold a choice made by hand."""
    console.outputs.writes(page_path, HTML)
    if list_path.exists() and not console.overwrite:
        raise OutputError(
            f"{list_path} is there, perhaps changed by hand: show its images with --list, "
            "name another page, or replace it with --overwrite"
        )
    console.outputs.writes(list_path, JSON)


def _choose(
    console: Console,
    names: list[str],
    images: Split,
    features: str | None,
    encoder_weights: str | None,
    *,
    good: int,
    bad: int,
) -> Showcase:
    """Caption the images and choose the best and the worst."""
    from dlmie import captioning
    from dlmie.captioning.showcase import showcase

    captioner = captioning.load(names, encoder_weights=encoder_weights)
    return showcase(
        captioner,
        images,
        good=good,
        bad=bad,
        features=open_features(captioner, names[0], images, features),
        progress=console.progress,
        **{**chosen_decoding(), "seed": console.seed},
    )
