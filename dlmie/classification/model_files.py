"""Model files of classifiers: parameters, normalization, classes and configuration in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers
from dlmie.files.schema import Key, check_document
from dlmie.graph import init
from dlmie.models import registry
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.training.runs import best_model
from dlmie.typing import JsonObject

#: Where the arrays of a normalization stand in model files and checkpoints.
NORMALIZATION = "/normalization/"


_HEADER = {
    "shape": Key(list, length=3, each=Key(int, low=1, high=100_000)),
    "classes": Key(list, each=Key(str)),
    "config": Key(dict),
    "normalization": Key(dict),
}


def save_model(model: ImageClassifier, path: str | Path, *, meta: JsonObject | None = None) -> Path:
    """Write a classifier as one file; all that using it needs.

    Parameters
    ----------
    model : ImageClassifier
    path : path
    meta : mapping, optional
        What else the file says of itself: any JSON values.

    Raises
    ------
    DlmieError
        The disk is full.
    """
    arrays = {str(p.name): p.get_value(borrow=True) for p in model.parameters}
    seen = {NORMALIZATION + name: array for name, array in model.normalization.arrays.items()}
    header = {
        "kind": model.kind,
        "config": model.config,
        "shape": list(model.shape),
        "classes": model.classes,
        "normalization": model.normalization.to_json(),
        "meta": dict(meta or {}),
    }
    return containers.save(path, {**arrays, **seen}, header)


def load(source: str | Path) -> ImageClassifier:
    """Load a trained classifier: a run folder or a model file.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or not a classifier: one line that says which.
    """
    path = Path(source)
    path = best_model(path) if path.is_dir() else path
    header, arrays = containers.load(path)
    model = _described(path, header, arrays)
    mine = {name: a for name, a in arrays.items() if not name.startswith(NORMALIZATION)}
    containers.assign(model.parameters, mine, path)
    return model


def _described(path: Path, header: JsonObject, arrays: Mapping[str, np.ndarray]) -> ImageClassifier:
    """The model that a header describes, before it has its weights."""
    kind = header.get("kind")
    if kind not in registry.names("classifier"):
        raise WeightsError(f"{path} is not a classifier but a {kind}")
    check_document(header, _HEADER, path, WeightsError)
    seen = {
        name.removeprefix(NORMALIZATION): array
        for name, array in arrays.items()
        if name.startswith(NORMALIZATION)
    }
    try:
        normalization = Normalization.from_json(header["normalization"], seen)
        make = registry.model_class(kind, "classifier")
        with init.nothing_drawn():
            model = make(
                header["shape"],
                header["classes"],
                normalization=normalization,
                **header["config"],
            )
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        MemoryError,
        DlmieError,
    ) as error:
        raise WeightsError(f"{path} has a damaged description ({error})") from error
    return model
