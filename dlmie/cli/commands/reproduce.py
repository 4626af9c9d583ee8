"""``dlmie reproduce``: the same picture again, from its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.console import Console
from dlmie.cli.encoders import weights_option
from dlmie.cli.pictures import one_line_warnings, output_path, picture_options, write_picture
from dlmie.cli.verbs import verb
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.visualize.ascent.models import Model


@verb("reproduce")
@click.argument("manifest", type=click.Path())
@click.option("--image", type=click.Path(), help="The photograph, where it has moved.")
@picture_options("PICTURE-reproduced.png here")
@weights_option
def command(
    console: Console,
    manifest: str,
    image: str | None,
    output: str | None,
    figure: str | None,
    encoder_weights: str | None,
) -> None:
    """Make a picture again from the manifest beside it (MANIFEST, or the picture itself)."""
    from dlmie.visualize.figures.manifests import image_paths, read_manifest
    from dlmie.visualize.reproduction import reproduce

    described = read_manifest(manifest)
    console.outputs.reads(*image_paths(described))
    path = output_path(console, output, manifest, "reproduced", figure=figure)
    if described["picture"] == "attend":
        from dlmie.captioning.figures import reproduce_attention

        with one_line_warnings(console):
            again = reproduce_attention(
                described, image=image, folder=Path(manifest).resolve().parent
            )
        write_picture(console, again, path, figure=figure, text="attend again")
        return
    model = _model_of(manifest, described["network"], encoder_weights)
    with one_line_warnings(console):
        again = reproduce(
            manifest,
            model,
            images=None if image is None else {"image": image},
            progress=console.progress,
        )
    if described.get("overlay"):
        again = again.overlay()
    write_picture(console, again, path, figure=figure, text=f"{described['picture']} again")


def _model_of(manifest: str, described: JsonObject, encoder_weights: str | None) -> Model:
    """The network or captioner that made a picture."""
    from dlmie import captioning, models
    from dlmie.errors import DataError
    from dlmie.models import ENCODERS

    if described.get("name") not in ENCODERS:
        raise DataError(f"{manifest}: does not name a network of dlmie")
    if "captioner" in described:
        sources = [one["source"] for one in described["captioner"]]
        return captioning.load(sources, encoder_weights=encoder_weights)
    options: dict[str, object] = {"size": described.get("size"), **described.get("options", {})}
    weights = encoder_weights or (described.get("weights") or {}).get("path")
    if weights is not None:
        options["weights"] = Path(weights)
    elif described.get("weights") is None:
        options["weights"] = None
    return models.encoder(described["name"], **options)
