"""Model files: what writing and loading one have in common, whatever the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers
from dlmie.files.schema import Key, check_document
from dlmie.graph import init
from dlmie.models import registry
from dlmie.models.registry import Role
from dlmie.training.folders import best_model
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.models.agents.agent import Agent
    from dlmie.models.classifiers.image_classifier import ImageClassifier
    from dlmie.models.generators.gan import GAN


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


def write_model(
    model: ImageClassifier | GAN | Agent,
    role: Role,
    path: str | Path,
    facts: JsonObject,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    meta: JsonObject | None = None,
) -> Path:
    """Write a model's kind, configuration and parameters, with more facts and arrays of its task.

    ``meta`` is what else the file says of itself: any JSON values.

    Raises
    ------
    DlmieError
        The disk is full, or the class is not registered: nothing could load the file.
    """
    registry.check_registered(model, role)
    own = {str(p.name): p.get_value(borrow=True) for p in model.parameters}
    header = {"kind": model.kind, "config": model.config, **facts, "meta": dict(meta or {})}
    return containers.save(path, {**own, **(arrays or {})}, header)


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
