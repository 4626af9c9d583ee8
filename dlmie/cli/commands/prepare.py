"""``dlmie prepare``: a data set of captioned or labeled images → one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.labelled import is_labelled, prepare_labelled
from dlmie.cli.options import flag_of, given, options_of, section, whole
from dlmie.cli.tables import reading_options
from dlmie.cli.verbs import output_option, verb
from dlmie.data.captions.tokenizers import TOKENIZERS
from dlmie.data.splits import SHARES
from dlmie.files.outputs import DATA
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.data.captions.dataset import Captions
    from dlmie.data.captions.vocabulary import Vocabulary

_WORDS = ("min_count", "max_size", "tokenizer")
_SCENES_ONLY = ("train", "dev", "test")
_SOURCE_ONLY = (
    *("images", "boxes", "splits", "split_of", "shares", "groups", "format", "encoding"),
    *("image_column", "caption_column", "group_column", "tokenizer", "store", "strict"),
    *("workers", "min_count", "max_size", "vocabulary", "check"),
)


def _split_lists(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, str | int] | None:
    """``train=FILE`` words → {split: file}; ``train=49000,dev=1000`` → {split: number}."""
    lists: dict[str, str | int] = {}
    for word in value:
        if re.fullmatch(r"[\w-]+=\d+(,[\w-]+=\d+)*", word):
            pairs = (pair.split("=") for pair in word.split(","))
            lists |= {name: int(count) for name, count in pairs}
            continue
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise click.BadParameter(
                f"{word!r} should be SPLIT=FILE, such as dev=devImages.txt, or SPLIT=N"
            )
        lists[name] = path
    return lists or None


def _split_of(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, str] | None:
    """``FILE=train`` words → {file: split}."""
    return _pairs(value, "FILE=SPLIT, such as captions_a.json=train", last=True)


def _pairs(words: tuple[str, ...], form: str, last: bool = False) -> dict[str, str] | None:
    """``a=b`` words → {a: b}; with ``last`` the last sign counts, for names that hold one."""
    pairs = {}
    for word in words:
        first, equals, second = word.rpartition("=") if last else word.partition("=")
        if not equals or not first or not second:
            raise click.BadParameter(f"{word!r} should be {form}")
        if first in pairs:
            raise click.BadParameter(f"{first!r} is named twice")
        pairs[first] = second
    return pairs or None


def _shares(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """``80/10/10`` → (80.0, 10.0, 10.0)."""
    if value is None:
        return None
    from dlmie.data.splits import parse_shares
    from dlmie.errors import DataError

    try:
        return parse_shares([float(word) for word in value.replace(",", "/").split("/")])
    except (ValueError, DataError):
        raise click.BadParameter(f"{value!r} should be TRAIN/DEV/TEST, such as 80/10/10") from None


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    images: str | None
    size: int
    min_count: int
    max_size: int | None
    split_of: dict[str, str] | None
    groups: str | None
    group_column: str | None
    format: str | None
    encoding: str | None
    image_column: str | None
    boxes: tuple[str, ...]
    tokenizer: str
    store: str
    strict: bool
    overwrite: bool
    workers: int | None


@verb("prepare")
@click.argument("source", nargs=-1, required=True)
@output_option("The file to write.", overwrite=False)
@click.option("--check", is_flag=True, help="List every problem; write nothing.")
@options_of(
    "dlmie.data.captions.dataset:prepare",
    images=("Folder or zip archive of the images.  [default: beside SOURCE]", click.Path()),
    size=("Height and width in pixels (scenes: 64).", whole(1)),
    min_count=("Rarer words become <unk>.", whole(1)),
    max_size=("Words in the vocabulary at most.", whole(5)),
    format=(
        "Of SOURCE, where it is not recognized.",
        click.Choice(["flickr", "coco", "karpathy", "csv", "list", "mapping"]),
    ),
    tokenizer=("How captions are split into words.", click.Choice(TOKENIZERS)),
    store=("Keep pixels, or only where the images are.", click.Choice(["pixels", "paths"])),
    strict="Fail at the first image or caption that cannot be used.",
    overwrite="Replace a file that holds something else.",
    workers=("Threads that read images.  [default: one per processor]", whole(1)),
)
@click.option(
    "--boxes",
    multiple=True,
    type=click.Path(),
    help="Boxes of things in the images, as COCO's instances_*.json; again for each file.",
)
@click.option(
    "--vocabulary",
    metavar="MODEL|FILE",
    help="Use the words of this captioner or prepared file: to train a captioner further.",
)
@section(
    "Splits",
    click.option(
        "--splits",
        multiple=True,
        metavar="SPLIT=FILE",
        callback=_split_lists,
        help="A list of the images of a split; again for each. Of labeled images a number: "
        "train=49000,dev=1000,test=1000.",
    ),
    click.option(
        "--split-of",
        multiple=True,
        metavar="FILE=SPLIT",
        callback=_split_of,
        help="The split of all images of a SOURCE; again for each. FILE=shares: not by its name.",
    ),
    click.option(
        "--shares",
        metavar="TRAIN/DEV/TEST",
        callback=_shares,
        help="Where nothing names a split; --seed draws.  [default: 80/10/10]",
    ),
    click.option(
        "--groups",
        metavar="REGEX",
        help="Images for whose names this finds the same text stay in one split.",
    ),
    click.option(
        "--group-column",
        metavar="NAME",
        help="Column or key of a group: its images stay in one split.",
    ),
)
@reading_options
@section(
    "Scenes",
    options_of(
        "dlmie.data.scenes:prepare_scenes",
        train=("How many to learn from.", whole(1)),
        dev=("How many to choose by.", whole(0)),
        test=("How many to test with.", whole(0)),
    ),
    click.option(
        "--labels",
        type=click.Choice(["shape", "color", "count"]),
        help="Write labeled images of 32 pixels instead of captions; say what to tell apart.",
    ),
)
@click.pass_context
def command(
    ctx: click.Context,
    console: Console,
    source: tuple[str, ...],
    to: str | None,
    check: bool,
    splits: dict[str, str | int] | None,
    shares: tuple[float, ...] | None,
    caption_column: tuple[str, ...],
    vocabulary: str | None,
    train: int,
    dev: int,
    test: int,
    labels: str | None,
    **options: Unpack[_Options],
) -> None:
    """Read captioned or labeled images from SOURCE and write them as one file for training.

    SOURCE is a Flickr8k or Flickr30k .token.txt, a COCO captions_*.json, a Karpathy
    dataset_*.json, a table (CSV, TSV), a JSON list or JSON lines of objects (BLIP, Hugging Face),
    or {image: [captions]} as JSON; several files are joined. The word scenes stands for the
    embedded data set of drawn scenes.

    A split is what a column or list names, else what the name of the file holds as a whole word
    (captions_val2017.json, train.csv); the table of files shows what became of each.

    Labeled images come as CIFAR-10 (its folder, or its .tar.gz), as the folder of MNIST or of
    Tiny-ImageNet, or in a folder for each class: train/cat/1.png, or cat/1.png without splits.

    An interrupted run resumes where it stopped. Images and captions that cannot be used are left
    out and listed.
    """
    chosen = given(ctx)
    if is_labelled(source, labels):
        prepare_labelled(console, source, chosen)
        return
    if source == ("scenes",):
        _prepare_scenes(console, chosen, to, train=train, dev=dev, test=test)
        return
    _refuse(chosen, _SCENES_ONLY, "is for scenes")
    words = _vocabulary(vocabulary, chosen)
    lists: dict[str, str] = {}
    for split, listed in (splits or {}).items():
        if isinstance(listed, int):
            raise click.UsageError(f"--splits {split}={listed}: of captions it is a list's file")
        lists[split] = listed
    paths = [Path(path) for path in source]
    if check:
        _check(
            console,
            paths,
            splits=lists or None,
            shares=shares or SHARES,
            caption_columns=caption_column,
            vocabulary=words,
            options=options,
        )
        return
    if to is None:
        raise click.UsageError("say where to write it: --to FILE, or --check to write nothing")
    console.outputs.writes(to, DATA)
    from dlmie.data.captions.dataset import Captions

    data = Captions.prepare(
        paths,
        to=to,
        splits=lists or None,
        shares=shares or SHARES,
        seed=console.seed,
        caption_columns=caption_column,
        vocabulary=words,
        progress=console.progress,
        **options,
    )
    _report(console, data)


def _vocabulary(name: str | None, chosen: JsonObject) -> Vocabulary | None:
    """The words of a captioner, by what names one, or of a prepared file."""
    if name is None:
        return None
    _refuse(chosen, _WORDS, "does not go with --vocabulary, which decides the words")
    from dlmie import captioning
    from dlmie.data.captions.dataset import Captions
    from dlmie.files.outputs import kind_of

    if Path(name).is_file() and kind_of(name) == DATA:
        return Captions(name).vocabulary
    return captioning.load(name).vocabulary


def _prepare_scenes(console: Console, chosen: JsonObject, to: str | None, **counts: int) -> None:
    _refuse(chosen, _SOURCE_ONLY, "does not apply to scenes")
    from dlmie.data.scenes import prepare_scenes

    if to is None:
        raise click.UsageError("say where to write it: --to scenes.h5")
    console.outputs.writes(to, DATA)
    if "size" in chosen:  # the default of photographs does not apply
        counts["size"] = chosen["size"]
    overwrite = bool(chosen.get("overwrite"))
    data = prepare_scenes(
        to, seed=console.seed, overwrite=overwrite, progress=console.progress, **counts
    )
    _report(console, data)


def _refuse(chosen: JsonObject, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if chosen.get(name):
            raise click.UsageError(f"{flag_of(name)} {why}")


def _check(
    console: Console,
    source: list[Path],
    *,
    splits: dict[str, str] | None,
    shares: Sequence[float],
    caption_columns: tuple[str, ...],
    vocabulary: Vocabulary | None,
    options: _Options,
) -> None:
    from dlmie.data.captions.checking import survey
    from dlmie.data.captions.dataset import Reading

    findings = survey(
        source,
        reading=Reading(
            options["encoding"],
            options["image_column"],
            caption_columns,
            options["group_column"],
        ),
        images=options["images"],
        splits=splits,
        split_of=options["split_of"],
        shares=shares,
        seed=console.seed,
        groups=options["groups"],
        format=options["format"],
        boxes=options["boxes"],
        tokenizer=options["tokenizer"],
        min_count=options["min_count"],
        max_size=options["max_size"],
        vocabulary=vocabulary,
        workers=options["workers"],
        progress=console.progress,
    )
    words = _words(options["min_count"], given=vocabulary is not None)
    _say(console, findings.source, findings.notes, findings.left_out, words)
    console.problems(findings.problems, {"notes": findings.notes, **findings.source})


def _report(console: Console, data: Captions) -> None:
    header = data.header
    left_out = header["vocabulary"].get("left_out")
    words = _words(header["min_count"], given="vocabulary_hash" in header)
    _say(console, header["source"], header.get("notes", []), left_out, words)
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
        "files": header["source"].get("files", []),
        "unknown_words": left_out,
        "notes": header.get("notes", []),
        "skipped": header["skipped"],
        "problems": header["problems"],
    }
    console.result(document, repr(data))


def _words(min_count: int, *, given: bool) -> str:
    """Why a word is not in the vocabulary."""
    return "--vocabulary" if given else f"--min-count {min_count}"


def _say(
    console: Console,
    source: JsonObject,
    notes: list[str],
    left_out: dict[str, int] | None,
    words: str,
) -> None:
    """What became of each file and of the rare words; notes are said even with ``--quiet``."""
    from dlmie.text import format_table

    if files := source.get("files"):
        rows = [
            (
                file["file"],
                ", ".join(f"{name} {count:,}" for name, count in file["splits"].items()) or "-",
                f"by {file['by']}",
            )
            for file in files
        ]
        console.note(format_table(("file", "images by split", ""), rows))
    for note in notes:
        console.warn(note)
    if left_out and left_out["types"]:
        share = 100 * left_out["tokens"] / left_out["of_tokens"]
        console.note(
            f"{words}: {left_out['types']:,} of {left_out['of_types']:,} different "
            f"words of the training captions are read as <unk>, {share:.1f} % of all their words"
        )
