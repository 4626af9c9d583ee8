"""Where the file of a captioner is: a run's, a user's, or one that comes with dlmie."""

from __future__ import annotations

from pathlib import Path

from dlmie.errors import WeightsError
from dlmie.training.folders import best_model, holds_run

# Captioners that are installed with the package, by name.
SHIPPED = {"flickr8k-coco": "flickr8k-coco.h5", "flickr8k": "flickr8k.h5"}
#: The one that commands use where none is named.
DEFAULT = "flickr8k-coco"


def find_model(source: str | Path) -> Path:
    """The model file that a run folder, a file or the name of a shipped captioner stands for.

    A folder of that name hides a shipped captioner only if it holds a run.
    """
    path = Path(source)
    if path.is_file():
        return path
    if str(source) in SHIPPED and not holds_run(path):
        shipped = shipped_path(SHIPPED[str(source)])
        if shipped.is_file():
            return shipped
    if path.is_dir():
        return best_model(path)
    if "," in str(source):
        raise WeightsError(
            f"there is no run folder or model file {str(source)!r}: captioners with commas between "
            "them decide together in dlmie caption, attend, evaluate, report and showcase; here "
            "one is named"
        )
    raise WeightsError(
        f"there is no run folder, model file or shipped captioner {str(source)!r} "
        f"(shipped: {', '.join(SHIPPED)})"
    )


def shipped_path(file: str) -> Path:
    """Where a file of a captioner that comes with dlmie is."""
    from dlmie import models

    return Path(models.__path__[0]) / "pretrained" / file
