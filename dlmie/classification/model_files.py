"""Model files of classifiers: parameters, normalization, classes and configuration in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlmie.data.labelled.normalization import Normalization
from dlmie.files import containers
from dlmie.files.schema import Key
from dlmie.models import registry
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.training.model_files import read_model, write_model
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
        The disk is full, or the class is not registered: nothing could load the file.
    """
    seen = {NORMALIZATION + name: array for name, array in model.normalization.arrays.items()}
    facts: JsonObject = {
        "shape": list(model.shape),
        "classes": model.classes,
        "normalization": model.normalization.to_json(),
    }
    return write_model(model, "classifier", path, facts, arrays=seen, meta=meta)


def load(source: str | Path) -> ImageClassifier:
    """Load a trained classifier: a run folder or a model file.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or not a classifier: one line that says which.
    """
    file = read_model(source, "classifier", _HEADER)
    seen, mine = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for name, array in file.arrays.items():
        if name.startswith(NORMALIZATION):
            seen[name.removeprefix(NORMALIZATION)] = array
        else:
            mine[name] = array
    header = file.header
    with file.described():
        make = registry.model_class(header["kind"], "classifier")
        normalization = Normalization.from_json(header["normalization"], seen)
        model = make(
            header["shape"], header["classes"], normalization=normalization, **header["config"]
        )
    containers.assign(model.parameters, mine, file.path)
    return model
