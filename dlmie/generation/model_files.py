"""Model files of generators: generator, critic and configuration in one file."""

from __future__ import annotations

from pathlib import Path

from dlmie.files import containers
from dlmie.files.schema import Key
from dlmie.models import registry
from dlmie.models.generators.gan import GAN
from dlmie.training.model_files import read_model, write_model
from dlmie.typing import JsonObject

_HEADER = {
    "shape": Key(list, length=3, each=Key(int, low=1, high=100_000)),
    "config": Key(dict),
}


def save_model(model: GAN, path: str | Path, *, meta: JsonObject | None = None) -> Path:
    """Write a generator and its critic as one file.

    Parameters
    ----------
    model : GAN
    path : path
    meta : mapping, optional
        What else the file says of itself: any JSON values.

    Raises
    ------
    DlmieError
        The disk is full, or the class is not registered: nothing could load the file.
    """
    return write_model(model, "generator", path, {"shape": list(model.shape)}, meta=meta)


def load(source: str | Path) -> GAN:
    """Load a trained generator: a run folder or a model file.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or not a generator: one line that says which.
    """
    file = read_model(source, "generator", _HEADER)
    with file.described():
        make = registry.model_class(file.header["kind"], "generator")
        model = make(file.header["shape"], **file.header["config"])
    containers.assign(model.parameters, file.arrays, file.path)
    return model
