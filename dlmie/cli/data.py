"""The data of runs, and what a captioner is asked to caption."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.options import F
from dlmie.errors import DlmieError

if TYPE_CHECKING:
    from dlmie.captioning.captioner import ImageCaptioner
    from dlmie.data.captions.dataset import Split
    from dlmie.data.captions.feature_cache import Features


def split_options(function: F) -> F:
    """``--split``, ``--data`` and ``--features``: the images that a captioner captions."""
    split = click.option("--split", default="dev", show_default=True, help="The images to caption.")
    data = click.option(
        "--data", type=click.Path(), help="Prepared file.  [default: that of the run]"
    )
    features = click.option(
        "--features",
        type=click.Path(),
        help="What the encoder makes of the images.  [default: that of the run, if it is there]",
    )
    return split(data(features(function)))


def data_of(model: str) -> str:
    """The prepared file that a run was trained on."""
    from dlmie.training.runs import read_config

    if not (Path(model) / "config.json").is_file():
        raise click.UsageError(f"{model} is not a run folder: say what to evaluate on with --data")
    path = read_config(Path(model)).data.path
    if not Path(path).is_file():
        raise DlmieError(f"{path}, the data of {model}, was not found: name its place with --data")
    return path


def features_of_run(model: str) -> list[str]:
    """The feature cache that a run was trained on, where MODEL is one and has one."""
    from dlmie.training.runs import read_config

    if not (Path(model) / "config.json").is_file():
        return []
    path = read_config(Path(model)).inputs.get("features")
    return [] if path is None else [path]


def open_features(
    captioner: ImageCaptioner, source: str, images: Split, named: str | None
) -> Features | None:
    """The feature cache that is named; else that of the run, if it is there and fits."""
    from dlmie.captioning import check_features
    from dlmie.data.captions.feature_cache import Features

    if named is not None:
        return Features(named)
    known = [path for path in features_of_run(source) if Path(path).is_file()]
    if not known:
        return None
    try:
        cache = Features(known[0])
        for member in captioner.members:
            check_features(cache, member, images)
    except DlmieError:  # other data, or another encoder in the ensemble: encode the images
        return None
    return cache if images.name in cache.splits else None
