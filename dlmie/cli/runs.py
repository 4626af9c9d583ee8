"""New runs: from the settings of a command to a trained run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dlmie.cli.console import Console
from dlmie.training.settings import Settings

if TYPE_CHECKING:
    from dlmie.data.captions.dataset import Captions
    from dlmie.training.runs import Run


def start_run(
    settings: Settings,
    data: Captions | str | Path,
    to: str | Path,
    console: Console,
    features: str | Path | None = None,
) -> Run:
    """Build what the settings describe and train it into the folder ``to``.

    Parameters
    ----------
    settings : Settings
    data : Captions or path
    features : path, optional
        What the encoder makes of the images; computed where it is missing.
    """
    from dlmie.captioning.planning import plan
    from dlmie.data.captions.dataset import Captions
    from dlmie.training.runs import check_new, train

    check_new(Path(to))
    prepared = data if isinstance(data, Captions) else Captions(data)
    made = plan(settings, prepared, seed=console.seed, features=features, note=console.note)
    made.step.progress = console.progress
    return train(
        made.step,
        prepared,
        to=to,
        features=made.features if made.features is not None else features,
        seed=console.seed,
        progress=console.progress,
        meta={
            "recipe": settings.recipe,
            "start": settings.start,
            "command": sys.argv[1:],
        },
        **settings.training,
    )
