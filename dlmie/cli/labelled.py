"""What ``dlmie prepare``, ``inspect`` and ``evaluate`` do with labeled images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.console import Console, fields
from dlmie.cli.data import data_of
from dlmie.cli.drawings import FIGURES, claim_drawing
from dlmie.cli.options import flag_of
from dlmie.cli.scores import print_scores
from dlmie.files.outputs import DATA
from dlmie.parallel import world
from dlmie.text import bytes_text, format_table
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.classification.evaluation import ClassScores
    from dlmie.data.labelled.dataset import LabelledImages, LabelledSplit

_OPTIONS = ("size", "splits", "strict", "overwrite", "workers")  # of `prepare`
_SCENE_OPTIONS = ("labels", "size", "train", "dev", "test", "overwrite")
_OWN = ("source", "to", "check")


def is_labelled(source: tuple[str, ...], labels: str | None) -> bool:
    """Whether a command line asks for labeled images: a folder, an archive, or labels."""
    from dlmie.data.labelled.sources import holds_labels

    return labels is not None or any(holds_labels(Path(path)) for path in source)


def prepare_labelled(console: Console, source: tuple[str, ...], chosen: JsonObject) -> None:
    """Write labeled images as one file, or with ``--check`` list their problems.

    Parameters
    ----------
    chosen
        The options that stand on the command line.
    """
    scenes = source == ("scenes",)
    known = _SCENE_OPTIONS if scenes else _OPTIONS
    for name in chosen:
        if name not in (*known, *_OWN):
            what = "labeled scenes" if scenes else "labeled images"
            raise click.UsageError(f"{flag_of(name)} does not apply to {what}")
    if len(source) != 1:
        raise click.UsageError("labeled images come from one folder or archive")
    options = {name: chosen[name] for name in known if name in chosen}
    for split, count in (options.get("splits") or {}).items():
        if not isinstance(count, int):
            raise click.UsageError(
                f"--splits {split}={count}: of labeled images it is a number, such as {split}=1000"
            )
    to = chosen.get("to")
    if chosen.get("check"):
        _check(console, source[0], options)
    elif to is None:
        raise click.UsageError("say where to write it: --to FILE, or --check to write nothing")
    else:
        console.outputs.writes(str(to), DATA)
        _report(console, _prepared(console, source[0], str(to), options, scenes=scenes))


def _prepared(
    console: Console, source: str, to: str, options: JsonObject, *, scenes: bool
) -> LabelledImages:
    from dlmie.data.labelled import dataset

    if scenes:
        return dataset.prepare_labelled_scenes(
            to, seed=console.seed, progress=console.progress, **options
        )
    return dataset.prepare(source, to=to, progress=console.progress, **options)


def _check(console: Console, source: str, options: JsonObject) -> None:
    from dlmie.data.labelled.dataset import check

    wanted = {name: options[name] for name in ("size", "splits", "workers") if name in options}
    problems = check(source, progress=console.progress, **wanted)
    console.problems(problems)


def _report(console: Console, data: LabelledImages) -> None:
    header = data.header
    more = f"dlmie inspect --json {data.path} lists all"
    console.warn_all(f"images left out: {len(header['skipped']):,}", header["skipped"], more)
    console.warn_all(f"problems: {len(header['problems']):,}", header["problems"], more)
    document = {
        "path": data.path,
        "hash": data.hash,
        "shape": data.shape,
        "classes": data.classes,
        "splits": {name: {"images": n["images"]} for name, n in header["splits"].items()},
        "skipped": header["skipped"],
        "problems": header["problems"],
    }
    console.result(document, repr(data))


def evaluate_classifiers(
    console: Console, models: Sequence[str], split: str, data: str | None, errors: str | None
) -> None:
    """Print how good classifiers are on a split; side by side where they are several.

    ``errors`` is where a figure of what one classifier mistakes goes, if anywhere.
    """
    if errors is not None:
        if len(models) > 1:
            raise click.UsageError("--errors shows what one classifier mistakes: evaluate one")
        claim_drawing(console, "--errors", errors, FIGURES)
    from dlmie.classification import evaluate
    from dlmie.data.labelled.dataset import LabelledImages

    with LabelledImages(data or data_of(models[0])) as opened:
        scores = [evaluate(model, opened[split]) for model in models]
        if errors is not None:
            _draw_errors(scores[0], opened[split], errors, console.seed)
    rows = [
        (model, f"{each.accuracy:.4f}", f"{each.loss:.4f}")
        for model, each in zip(models, scores, strict=True)
    ]
    comparison = format_table(("model", "accuracy", "loss"), rows)
    more = {} if errors is None else {"errors": errors}
    print_scores(console, models, scores, comparison, more)


def _draw_errors(scores: ClassScores, split: LabelledSplit, path: str, seed: int) -> None:
    from dlmie.visualize.figures.classifiers import misclassified

    figure = misclassified(split.images, split.labels, scores.predicted, scores.classes, seed=seed)
    world().on_first(partial(figure.save, path))


def describe_labelled(path: Path) -> tuple[dict[str, object], str]:
    """What a file of labeled images holds, as JSON and as text."""
    from dlmie.data.labelled.dataset import LabelledImages

    with LabelledImages(path) as data:
        header = data.header
        means = data.channel_mean.tolist(), data.channel_std.tolist()
    splits: dict[str, dict[str, list[int]]] = header["splits"]
    document = {"type": "labelled", **header, "channel_mean": means[0], "channel_std": means[1]}
    rows, columns, channels = header["shape"]
    pairs = [
        ("labeled images", path),
        *((f"split {name}", f"{split['images']:,} images") for name, split in splits.items()),
        ("images", f"{rows} × {columns} pixels, {channels} channel{'s' if channels > 1 else ''}"),
        ("mean of train", " ".join(f"{value:.2f}" for value in means[0])),
        ("deviation", " ".join(f"{value:.2f}" for value in means[1])),
        ("source", ", ".join(f"{name} {value}" for name, value in header["source"].items())),
        ("images left out", f"{len(header['skipped']):,}" if header["skipped"] else None),
        ("problems", f"{len(header['problems']):,}" if header["problems"] else None),
        ("hash", header["hash"]),
        ("size", bytes_text(path.stat().st_size)),
    ]
    table = format_table(
        ("class", *splits),
        (
            (name, *(f"{split['per_class'][label]:,}" for split in splits.values()))
            for label, name in enumerate(header["classes"])
        ),
    )
    return document, f"{fields(pairs)}\n\n{table}"


def draw_samples(path: Path, to: str, seed: int) -> None:
    """Draw seven training images of each of up to ten classes, the name of each above them."""
    import numpy as np

    from dlmie.data.labelled.dataset import LabelledImages
    from dlmie.visualize.figures.contact_sheet import class_samples

    with LabelledImages(path) as data:
        split = data["train"] if "train" in data else data[data.splits[0]]
        present, counts = np.unique(split.labels, return_counts=True)
        class_samples(
            split.images,
            split.labels,
            data.classes,
            classes=min(10, len(present)),
            each=min(7, int(np.sort(counts)[-min(10, len(present))])),
            seed=seed,
        ).save(to)
