"""Model files: what loading one has in common, whatever the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers
from dlmie.files.schema import Key, check_document
from dlmie.graph import init
from dlmie.models import registry
from dlmie.models.registry import Role
from dlmie.training.folders import best_model
from dlmie.typing import JsonObject


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model file that was read.

    Attributes
    ----------
    path : Path
    header : dict
        Its description; ``kind`` is a model of the registry.
    arrays : dict
    """

    path: Path
    header: JsonObject
    arrays: dict[str, np.ndarray]

    @contextmanager
    def described(self) -> Iterator[None]:
        """Within, the model is made by the header; what the header makes fail is its damage.

        Nothing is drawn at random: the file has all values.
        """
        try:
            with init.nothing_drawn():
                yield
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            MemoryError,
            DlmieError,
        ) as error:
            raise WeightsError(f"{self.path} has a damaged description ({error})") from error


def read_model(source: str | Path, role: Role, keys: Mapping[str, Key]) -> ModelFile:
    """Read the file of a trained model: of a run folder, or a file itself.

    Parameters
    ----------
    source : path
    role : str
        "classifier", "generator" or "agent".
    keys : mapping
        What its header must hold.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or a model of another role: one line that says
        which.
    """
    path = Path(source)
    path = best_model(path) if path.is_dir() else path
    header, arrays = containers.load(path)
    kind = header.get("kind")
    if kind not in registry.names(role):
        article = "an" if role[0] in "aeiou" else "a"
        other = f"a {kind}" if kind else "another kind of file"
        raise WeightsError(f"{path} is not {article} {role} but {other}")
    check_document(header, keys, path, WeightsError)
    return ModelFile(path, header, arrays)
