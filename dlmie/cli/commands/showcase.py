"""``dlmie showcase``: the best and the worst captions of a split on one page."""

from __future__ import annotations

from pathlib import Path

import click

from dlmie.cli.console import Console
from dlmie.cli.decoding import chosen_decoding, decoding_options
from dlmie.cli.encoders import weights_option
from dlmie.cli.options import options_of, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.errors import OutputError
from dlmie.files.outputs import HTML, JSON


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
@click.option("--split", default="dev", show_default=True, help="The images to caption.")
@click.option("--data", type=click.Path(), help="Prepared file.  [default: that of the run]")
@click.option(
    "--features",
    type=click.Path(),
    help="What the encoder makes of the images.  [default: that of the run, if it is there]",
)
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
    options = {**chosen_decoding(), "seed": console.seed}
    if (model is None) == (chosen_list is None):
        raise click.UsageError("name a MODEL, or a list with --list")
    page_path = Path(output or "showcase.html")
    if page_path.suffix.lower() == ".json":
        raise click.UsageError(f"{page_path}: name the page, such as showcase.html")
    from dlmie.captioning.showcase import Showcase, showcase
    from dlmie.data.captions.dataset import Captions

    list_path = None
    if chosen_list is not None:
        chosen = Showcase.load(chosen_list)
        console.outputs.reads(chosen_list)
        images = Captions(data or chosen.data["path"])[chosen.data["split"]]
        console.outputs.reads(images.path)
        console.outputs.writes(page_path, HTML)
    else:
        assert model is not None
        from dlmie import captioning
        from dlmie.cli.captioners import split_names
        from dlmie.cli.commands.evaluate import features_of_run, open_features
        from dlmie.cli.data import data_of

        names = split_names(model)
        source = data or data_of(names[0])
        console.outputs.reads(source, *features_of_run(names[0]))
        console.outputs.writes(page_path, HTML)
        list_path = page_path.with_suffix(".json")
        if list_path.exists() and not console.overwrite:
            raise OutputError(
                f"{list_path} is there, perhaps changed by hand: show its images with --list, "
                "name another page, or replace it with --overwrite"
            )
        console.outputs.writes(list_path, JSON)
        images = Captions(source)[split]
        captioner = captioning.load(names, encoder_weights=encoder_weights)
        kept = open_features(captioner, names[0], images, features)
        chosen = showcase(
            captioner,
            images,
            good=good,
            bad=bad,
            features=kept,
            progress=console.progress,
            **options,
        )
    from dlmie.files import atomic

    atomic.write_text(page_path, chosen.page(images, thumbnail=thumbnail))
    if list_path is not None:
        chosen.save(list_path)
        console.note(f"wrote {page_path}; exchange images in {list_path}")
    else:
        console.note(f"wrote {page_path}")
    result = {"page": page_path, "list": list_path or Path(str(chosen_list))}
    text = [
        f"{heading:4s} {chosen.said[name]['score']:.2f}  {name}: {chosen.said[name]['caption']}"
        for heading, chosen_names in (("good", chosen.good), ("bad", chosen.bad))
        for name in chosen_names
    ]
    console.result({**result, "good": chosen.good, "bad": chosen.bad}, "\n".join(text))
