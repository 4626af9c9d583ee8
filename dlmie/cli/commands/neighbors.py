"""``dlmie neighbors``: k nearest neighbors on labeled images, and which k is best."""

from __future__ import annotations

import time
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

import click

from dlmie.cli.console import Console
from dlmie.cli.drawings import CHARTS, PICTURES, claim_drawing
from dlmie.cli.options import whole
from dlmie.cli.verbs import OVERWRITE, OutputOption, verb
from dlmie.text import format_table

if TYPE_CHECKING:
    from dlmie.models.classifiers.distances import Metric


@verb("neighbors")
@click.argument("data", type=click.Path())
@click.option("--k", "ks", default="1,3,5,8,10,12,15,20,50,100", show_default=True,
              help="How many neighbors vote; several with commas are compared.")  # fmt: skip
@click.option("--metric", type=click.Choice(["l2", "l1"]), default="l2", show_default=True,
              help="l2: Euclidean distance; l1: sum of absolute differences.")  # fmt: skip
@click.option("--folds", type=whole(2), default=5, show_default=True,
              help="Folds of the cross-validation on the training images.")  # fmt: skip
@click.option("--limit", type=whole(1), default=5000, show_default=True,
              help="Use only so many training images.")  # fmt: skip
@click.option("--split", default="test", show_default=True, help="The images to classify.")
@click.option("--images", type=whole(1), default=500, show_default=True,
              help="Classify only so many of them.")  # fmt: skip
@click.option("--figure", cls=OutputOption, type=click.Path(),
              help="Draw the cross-validation with error bars: .png, .pdf or .svg.")  # fmt: skip
@click.option("--map", "drawn", cls=OutputOption, type=click.Path(),
              help="Draw the distances of all images as gray levels: .png or .jpg.")  # fmt: skip
@OVERWRITE
def command(
    console: Console,
    data: str,
    ks: str,
    metric: Metric,
    folds: int,
    limit: int,
    split: str,
    images: int,
    figure: str | None,
    drawn: str | None,
) -> None:
    """Classify the labeled images DATA by their nearest neighbors, pixel by pixel.

    There is nothing to train: k is chosen by cross-validation on the training images, whose
    distances are computed once for every k, and then the images of --split are classified.
    """
    chosen = _numbers(ks)
    if figure is not None:
        claim_drawing(console, "--figure", figure, CHARTS)
    if drawn is not None:
        claim_drawing(console, "--map", drawn, PICTURES)
    import numpy as np

    from dlmie.data.labelled.dataset import LabelledImages
    from dlmie.models.classifiers.nearest import KNearest, cross_validate

    with LabelledImages(data) as opened:
        train, asked = opened["train"], opened[split]
        remembered = train.load_images(np.arange(min(limit, len(train))))
        labels = train.labels[: len(remembered)]
        pictures = asked.load_images(np.arange(min(images, len(asked))))
        true = asked.labels[: len(pictures)]
    started = time.perf_counter()
    by_fold = cross_validate(remembered, labels, chosen, folds=folds, metric=metric)
    validated = time.perf_counter()
    knn = KNearest(remembered, labels, metric=metric)
    accuracy = knn.accuracy(pictures, true, chosen)
    ended = time.perf_counter()
    means = {k: fmean(each) for k, each in by_fold.items()}
    best = max(chosen, key=lambda k: (means[k], -k))
    document = {
        "best_k": best,
        "accuracy": accuracy[best],
        "accuracies": {str(k): share for k, share in accuracy.items()},
        "cross_validation": {str(k): each for k, each in by_fold.items()},
        "metric": metric,
        "split": split,
        "remembered": len(remembered),
        "images": len(pictures),
        "seconds": {"cross_validation": validated - started, "classification": ended - validated},
    }
    if figure is not None:
        from dlmie.visualize.figures.charts import error_bars

        document["figure"] = str(error_bars(by_fold).save(figure))
    if drawn is not None:
        from dlmie.visualize.figures.classifiers import distance_map

        document["map"] = str(distance_map(knn.distances(pictures)).save(drawn))
    rows = [
        (f"{k}{' *' if k == best else ''}", f"{means[k]:.4f} ± {pstdev(by_fold[k]):.4f}",
         f"{accuracy[k]:.4f}", f"{round(accuracy[k] * len(pictures))} of {len(pictures)}")
        for k in chosen
    ]  # fmt: skip
    head = ("k", f"{folds} folds", f"accuracy on {split}", "right")
    seconds = f"{validated - started:.1f} s for the folds, {ended - validated:.1f} s for {split}"
    note = f"{len(remembered):,} images remembered; {seconds}; * best by the folds"
    console.result(document, f"{format_table(head, rows)}\n\n{note}")


def _numbers(text: str) -> list[int]:
    try:
        found = [int(number) for number in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise click.UsageError(f"--k {text}: give whole numbers above 0 with commas, as 1,5,10")
    return list(dict.fromkeys(found))
