"""New runs: from the settings of a command to a trained run folder."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlmie.cli.console import Console
from dlmie.models.registry import task_of
from dlmie.parallel import world
from dlmie.training.settings import Settings

if TYPE_CHECKING:
    from dlmie.training.runs import Run
    from dlmie.training.task import Data


def start_run(
    settings: Settings,
    data: Data | str | Path,
    to: str | Path,
    console: Console,
    features: str | Path | None = None,
) -> Run:
    """Build what the settings describe and train it into the folder ``to``.

    Parameters
    ----------
    settings : Settings
    data : Captions, LabelledImages or path
    features : path, optional
        What the encoder makes of the images; computed where it is missing.
    """
    from dlmie.training import registry
    from dlmie.training.runs import check_new, train

    world().on_first(partial(check_new, Path(to)))
    name = task_of(settings.model)
    prepared = registry.task(name).open(data) if isinstance(data, (str, Path)) else data
    plan = registry.planner(name)
    made = plan(settings, prepared, seed=console.seed, features=features, note=console.note)
    made.step.progress = console.progress
    seen = features if made.features is None else made.features
    inputs = {} if seen is None else {"features": seen}
    return train(
        made.step,
        prepared,
        to=to,
        seed=console.seed,
        progress=console.progress,
        meta={
            "recipe": settings.recipe,
            "start": settings.start,
            "command": sys.argv[1:],
        },
        **inputs,
        **settings.training,
    )
