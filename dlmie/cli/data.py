"""The data of runs."""

from __future__ import annotations

from pathlib import Path

import click

from dlmie.errors import DlmieError


def data_of(model: str) -> str:
    """The prepared file that a run was trained on."""
    from dlmie.training.runs import read_config

    if not (Path(model) / "config.json").is_file():
        raise click.UsageError(f"{model} is not a run folder: say what to evaluate on with --data")
    path = read_config(Path(model)).data.path
    if not Path(path).is_file():
        raise DlmieError(f"{path}, the data of {model}, was not found: name its place with --data")
    return path
