"""``dlmie features``: run an encoder over a data set once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.encoders import encoder_options, make_network
from dlmie.cli.options import flag_of, given, options_of, section, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.files.outputs import FEATURES
from dlmie.text import bytes_text

if TYPE_CHECKING:
    from dlmie.data.captions.dataset import Captions
    from dlmie.data.captions.extraction import ExtractionOptions
    from dlmie.data.captions.feature_cache import Features


# Options of features that another program made.
_KEPT = ("source", "names", "called", "layout", "dtype", "overwrite")


@verb("features", backends=True)
@click.argument("data", type=click.Path())
@encoder_options
@output_option(
    "The file to write.  [default: beside DATA, named after encoder, layer and size]",
    overwrite=False,
)
@options_of(
    "dlmie.data.captions.extraction:extract_features",
    flip="Keep the features of the mirrored images, too.",
    crops=("Keep those of so many random crops of each training image, too.", whole(0)),
    dtype=("Precision they are kept in.", click.Choice(["float16", "float32"])),
    batch=("Images encoded at a time.", whole(1)),
    overwrite="Replace a file that holds something else.",
)
@section(
    "Features of another program",
    click.option(
        "--from",
        "source",
        type=click.Path(),
        metavar="FILE",
        help="Keep these instead of encoding: .npz by names of images, or .npy with --names.",
    ),
    click.option(
        "--names", type=click.Path(), help="Image names of the rows of .npy, one per line."
    ),
    click.option("--called", help="The encoder that made them, such as 'clip ViT-B/32'."),
    click.option(
        "--layout",
        type=click.Choice(["channels-first", "channels-last"]),
        help="Order of the axes of grids: (channels, rows, columns), or channels last.",
    ),
)
def command(
    console: Console,
    data: str,
    encoder: str,
    layer: str | None,
    image_size: int | None,
    output_stride: int | None,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    to: str | None,
    source: str | None,
    names: str | None,
    called: str | None,
    layout: str | None,
    **options: Unpack[ExtractionOptions],
) -> None:
    """Keep the output of a layer of an encoder for every image of the prepared file DATA.

    Training finds a file with the default name by itself. An interrupted run resumes
    where it stopped; a file of other features is never mixed with these.
    """
    from dlmie.captioning.features import encoder_header, feature_path, make_features
    from dlmie.data.captions.dataset import Captions

    captions = Captions(data)
    if to is not None:
        console.outputs.writes(to, FEATURES)
    if source is not None:
        _keep(console, captions, source, names, called, layout, to, **options)
        return
    if names or called or layout:
        raise click.UsageError("--names, --called and --layout describe features given with --from")
    network, layer = make_network(
        encoder,
        layer,
        image_size,
        encoder_weights,
        output_stride=output_stride,
        preprocessing=encoder_preprocessing,
    )
    if to is None:
        to = str(feature_path(captions, encoder_header(network, layer)))
    features = make_features(captions, network, layer, to=to, progress=console.progress, **options)
    _report(console, features)


def _keep(
    console: Console,
    captions: Captions,
    source: str,
    names: str | None,
    called: str | None,
    layout: str | None,
    to: str | None,
    **options: Unpack[ExtractionOptions],
) -> None:
    """Features that another program made."""
    for name in given(click.get_current_context()):
        if name not in ("data", "to", *_KEPT):
            raise click.UsageError(f"{flag_of(name)} does not go with --from")
    from dlmie.data.captions.given_features import features_from_arrays, named_arrays

    if called is None or to is None:
        raise click.UsageError("say what made the features, and where they go: --called and --to")
    arrays = named_arrays(Path(source), None if names is None else Path(names))
    features = features_from_arrays(
        captions,
        arrays,
        encoder=called,
        to=to,
        layout=layout,
        dtype=options["dtype"],
        overwrite=options["overwrite"],
    )
    _report(console, features)


def _report(console: Console, features: Features) -> None:
    document = {
        "path": features.path,
        "shape": features.shape,
        "splits": features.splits,
        "bytes": features.path.stat().st_size,
        "header": features.header,
    }
    size = bytes_text(features.path.stat().st_size)
    console.result(document, f"{features!r}: {features.path}, {size}")
