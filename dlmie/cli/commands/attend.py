"""``dlmie attend``: where a captioner looks at each word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.captioners import captioner_and_images
from dlmie.cli.console import Console
from dlmie.cli.decoding import chosen_decoding, decoding_options
from dlmie.cli.drawings import ANIMATIONS, FIGURES, claim_picture
from dlmie.cli.encoders import weights_option
from dlmie.cli.images import stem_of
from dlmie.cli.options import options_of, real, section, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.data.images import ImageBytes
from dlmie.errors import DlmieError
from dlmie.files.rows import Row

if TYPE_CHECKING:
    from dlmie.captioning.captioner import ImageCaptioner

FORMATS = ("png", "jpg", "pdf", "svg", "gif")


@verb("attend", backends=True)
@click.argument("words", nargs=-1, required=True, metavar="[MODEL] IMAGES...")
@options_of(
    "dlmie.captioning.figures:attend_images",
    say="Look while saying this sentence.  [default: the caption that is found]",
    batch=("Images at a time.", whole(1)),
)
@click.option("--strict", is_flag=True, help="Exit code 1 if any image cannot be read.")
@output_option(
    "The figure, for one image; else the folder for them.  [default: IMAGE-attention.png here]",
    name="output",
)
@section(
    "The figure",
    click.option(
        "--format",
        "kind",
        type=click.Choice(FORMATS),
        help="Of figures in a folder; gif: word after word.  [default: png]",
    ),
    options_of(
        "dlmie.visualize.attention.maps:attend",
        layout=("A grid of panels, or one row.", click.Choice(["grid", "strip"])),
        columns=("Of the grid.  [default: for a figure about square]", whole(1)),
        upsampling=("From cells to pixels.", click.Choice(["smooth", "block"])),
        strength=("Of the colors over the photograph.", real(0, 1)),
        limit=("Where colors end; lower shows faint maps.  [default: highest weight]", real(0)),
        pixels=("Longer side of a panel.", whole(16)),
    ),
)
@weights_option
@decoding_options
def command(
    console: Console,
    words: tuple[str, ...],
    say: str | None,
    batch: int,
    strict: bool,
    output: str | None,
    kind: str | None,
    layout: str,
    columns: int | None,
    upsampling: str,
    strength: float,
    limit: float | None,
    pixels: int,
    encoder_weights: str | None,
    **_: object,
) -> None:
    """Draw where MODEL looks in IMAGES at each word: files, and folders with all images in them;
    - is an image on standard input.

    MODEL is a run folder, a model file or the name of a captioner that comes with dlmie (by default
    flickr8k-coco); several with commas between them decide together. It must attend
    (show-attend-tell).

    A figure shows the photograph and a panel for each word, on one scale. Its numbers are in the
    JSON file beside it.
    """
    chosen = {**chosen_decoding(), "seed": console.seed}
    from dlmie import captioning
    from dlmie.captioning.figures import attend_images
    from dlmie.cli.output import ImageRun, open_writer
    from dlmie.cli.pictures import one_line_warnings
    from dlmie.progress import Bar

    names, images = captioner_and_images(words)
    run = ImageRun(console, images, strict)
    paths = figure_paths(run.images, output, kind)
    for path in paths:
        claim_picture(console, "--output", path, (*FIGURES, *ANIMATIONS))
    captioner = captioning.load(names, encoder_weights=encoder_weights)
    decoding = captioner.decoding(**chosen)
    if say is not None:
        _warn_of_unknown(console, captioner, say)
    figures = attend_images(
        captioner,
        run.images,
        decoding,
        say=say,
        batch=batch,
        layout=layout,
        columns=columns,
        upsampling=upsampling,
        strength=strength,
        limit=limit,
        pixels=pixels,
    )
    bar = Bar(total=len(run.images), unit="image", leave=False,
              disable=not console.progress or len(run.images) == 1)  # fmt: skip
    with open_writer(console, "json" if console.json else "text", (), None) as writer, bar:
        for path in paths:
            with one_line_warnings(console, f"{path}: "):
                image, figure = next(figures)
            if isinstance(figure, Exception):
                run.fault(image, figure, writer)
            elif figure.still and path.suffix == ".gif":
                run.fault(image, DlmieError(f"{image}: {figure.still}"), writer)
            else:
                if figure.still:
                    console.warn(f"{image}: {figure.still}")
                saved = figure.save(path)
                results = figure.manifest["results"]
                with bar.external_write_mode():
                    item = {"image": str(image), "figure": saved, **results}
                    text = f"{image}: {results['caption']}  → {saved}"
                    writer.add(Row(str(image), item, text, ()))
            bar.update()
    run.finish()


def figure_paths(
    images: Sequence[Path | ImageBytes], output: str | None, kind: str | None
) -> list[Path]:
    """Where the figure of each image goes; no two to the same place."""
    suffix = Path(output).suffix.lower().replace(".jpeg", ".jpg") if output else ""
    if suffix[1:] in FORMATS:
        if len(images) > 1:
            raise click.UsageError(
                f"--output {output} names one figure, but there are {len(images):,} images: name "
                "a folder"
            )
        if kind is not None and suffix != f".{kind}":
            raise click.UsageError(f"--output {output} and --format {kind} do not agree")
        return [Path(output or "")]
    folder, taken, paths = Path(output or "."), set(), []
    for image in images:
        stem, number = f"{stem_of(image)}-attention", 1
        while (name := stem if number == 1 else f"{stem}-{number}") in taken:
            number += 1
        taken.add(name)
        paths.append(folder / f"{name}.{kind or 'png'}")
    return paths


def _warn_of_unknown(console: Console, captioner: ImageCaptioner, sentence: str) -> None:
    known = captioner.vocabulary
    unknown = [word for word in known.tokenize(sentence) if word not in known]
    if unknown:
        console.warn(f"the captioner does not know: {', '.join(unknown)} (said as <unk>)")
