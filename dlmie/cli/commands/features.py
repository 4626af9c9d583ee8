"""``dlmie features``: run an encoder over a data set once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.encoders import encoder_options, make_network
from dlmie.cli.options import options_of, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.files.outputs import FEATURES
from dlmie.text import bytes_text

if TYPE_CHECKING:
    from dlmie.data.captions.extraction import ExtractionOptions


@verb("features")
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
    document = {
        "path": features.path,
        "shape": features.shape,
        "splits": features.splits,
        "bytes": features.path.stat().st_size,
        "header": features.header,
    }
    size = bytes_text(features.path.stat().st_size)
    console.result(document, f"{features!r}: {features.path}, {size}")
