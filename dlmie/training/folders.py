"""What lies in the folder of a run, told without what trains."""

from __future__ import annotations

from pathlib import Path

from dlmie.errors import WeightsError

CONFIG, LOG, STATE, BEST = "config.json", "log.jsonl", "state.h5", "best.h5"
EPOCHS = "epochs"  # a folder


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, or at least its model."""
    return any((folder / name).is_file() for name in (BEST, CONFIG))


def best_model(folder: Path) -> Path:
    """The model file of a run.

    Raises
    ------
    WeightsError
        It has none yet, or it is another folder.
    """
    best = folder / BEST
    if not holds_run(folder):
        raise WeightsError(f"{folder} is not a run folder: it has no {CONFIG} or {BEST}")
    if not best.is_file():
        raise WeightsError(
            f"{folder} holds no trained model yet ({BEST}): train at least one epoch, or continue "
            f"with dlmie train --resume {folder}"
        )
    return best
