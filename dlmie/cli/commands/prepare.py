"""``dlmie prepare``: a data set of captioned images → one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlmie.cli.console import Console, given, options_of, output_option, section, verb, whole

_SCENES_ONLY = ("train", "dev", "test")
_SOURCE_ONLY = (
    *(
        "images",
        "boxes",
        "splits",
        "format",
        "tokenizer",
        "store",
        "strict",
        "overwrite",
        "workers",
    ),
    *("min_count", "max_size", "check"),
)


def _split_lists(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> Any:
    """``train=FILE`` words → {split: file}."""
    lists = {}
    for word in value:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise click.BadParameter(f"{word!r} should be SPLIT=FILE, such as dev=devImages.txt")
        lists[name] = path
    return lists or None


@verb("prepare")
@click.argument("source", nargs=-1, required=True)
@output_option("The file to write.")
@click.option("--check", is_flag=True, help="List every problem; write nothing.")
@options_of(
    "dlmie.data.captions.dataset:prepare",
    images=("Folder of the images.  [default: beside SOURCE]", click.Path()),
    size=("Height and width in pixels (scenes: 64).", whole(1)),
    min_count=("Rarer words become <unk>.", whole(1)),
    max_size=("Words in the vocabulary at most.", whole(5)),
    format=(
        "Of SOURCE, where it is not recognized.",
        click.Choice(["flickr", "coco", "karpathy", "csv", "mapping"]),
    ),
    tokenizer=("How captions are split into words.", click.Choice(["words", "whitespace"])),
    store=("Keep pixels, or only where the images are.", click.Choice(["pixels", "paths"])),
    strict="Fail at the first image or caption that cannot be used.",
    overwrite="Replace a file that holds something else.",
    workers=("Threads that read images.  [default: one a processor]", whole(1)),
)
@click.option(
    "--boxes",
    multiple=True,
    type=click.Path(),
    help="Boxes of things in the images, as COCO's instances_*.json; again for each file.",
)
@click.option(
    "--splits",
    multiple=True,
    metavar="SPLIT=FILE",
    callback=_split_lists,
    help="A list of the images of a split; again for each.",
)
@section(
    "Scenes",
    options_of(
        "dlmie.data.scenes:prepare_scenes",
        train=("How many to learn from.", whole(1)),
        dev=("How many to choose by.", whole(0)),
        test=("How many to test with.", whole(0)),
    ),
)
@click.pass_context
def command(ctx: click.Context, console: Console, source: tuple[str, ...], **options: Any) -> None:
    """Read captioned images from SOURCE and write them as one file, ready for training.

    SOURCE is a Flickr8k or Flickr30k .token.txt, a COCO captions_*.json, a Karpathy
    dataset_*.json, a CSV file or {image: [captions]} as JSON; several files are joined. The word
    scenes stands for the embedded data set of drawn scenes.

    An interrupted run goes on where it stopped. Images and captions that cannot be used are left
    out and listed.
    """
    chosen = given(ctx)
    if source == ("scenes",):
        _prepare_scenes(console, chosen)
        return
    _refuse(chosen, _SCENES_ONLY, "is for scenes")
    options = {name: value for name, value in options.items() if name not in _SCENES_ONLY}
    to, check = options.pop("to"), options.pop("check")
    if check:
        _check(console, source, options)
        return
    if to is None:
        raise click.UsageError("say where to write it: --to FILE, or --check to write nothing")
    from dlmie.data.captions.dataset import Captions

    data = Captions.prepare(
        [Path(path) for path in source], to=to, progress=console.progress, **options
    )
    _report(console, data)


def _prepare_scenes(console: Console, chosen: dict[str, Any]) -> None:
    _refuse(chosen, _SOURCE_ONLY, "does not apply to scenes")
    from dlmie.data.scenes import prepare_scenes

    if chosen.get("to") is None:
        raise click.UsageError("say where to write it: --to scenes.h5")
    options = {name: chosen[name] for name in ("to", "size", *_SCENES_ONLY) if name in chosen}
    _report(console, prepare_scenes(seed=console.seed, progress=console.progress, **options))


def _refuse(chosen: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if chosen.get(name):
            raise click.UsageError(f"--{name.replace('_', '-')} {why}")


def _check(console: Console, source: tuple[str, ...], options: dict[str, Any]) -> None:
    from dlmie.data.captions.dataset import check

    wanted = {
        name: options[name]
        for name in ("images", "splits", "format", "boxes", "tokenizer", "workers")
    }
    problems = check([Path(path) for path in source], progress=console.progress, **wanted)
    count = f"{len(problems):,} problem{'s' if len(problems) != 1 else ''}"
    console.result(
        {"problems": problems}, "\n".join([*problems, count]) if problems else "no problems"
    )
    if problems:
        click.get_current_context().exit(1)


def _report(console: Console, data: Any) -> None:
    header = data.header
    skipped = [entry["reason"] for entry in header["skipped"]]
    more = f"dlmie inspect --json {data.path} lists all"
    console.warn_all(f"images left out: {len(skipped):,}", skipped, more)
    console.warn_all(f"problems: {len(header['problems']):,}", header["problems"], more)
    document = {
        "path": data.path,
        "hash": data.hash,
        "size": data.size,
        "words": len(data.vocabulary),
        "splits": {
            name: {"images": split["images"], "captions": split["captions"]}
            for name, split in header["splits"].items()
        },
        "skipped": header["skipped"],
        "problems": header["problems"],
    }
    console.result(document, repr(data))
