"""Model files of generators: generator, critic and configuration in one file."""

from __future__ import annotations

from pathlib import Path

from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers
from dlmie.graph import init
from dlmie.models import registry
from dlmie.models.generators.gan import GAN
from dlmie.training.runs import best_model
from dlmie.typing import JsonObject


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
        The disk is full.
    """
    arrays = {str(p.name): p.get_value(borrow=True) for p in model.parameters}
    header = {
        "kind": model.kind,
        "config": model.config,
        "shape": list(model.shape),
        "meta": dict(meta or {}),
    }
    return containers.save(path, arrays, header)


def load(source: str | Path) -> GAN:
    """Load a trained generator: a run folder or a model file.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or not a generator: one line that says which.
    """
    path = Path(source)
    path = best_model(path) if path.is_dir() else path
    header, arrays = containers.load(path)
    model = _described(path, header)
    containers.assign(model.parameters, arrays, path)
    return model


def _described(path: Path, header: JsonObject) -> GAN:
    """The model that a header describes, before it has its weights."""
    kind = header.get("kind")
    if kind not in registry.names("generator"):
        raise WeightsError(f"{path} is not a generator but a {kind}")
    try:
        make = registry.model_class(kind, "generator")
        with init.nothing_drawn():
            model = make(header["shape"], **header["config"])
    except (KeyError, TypeError, ValueError, AttributeError, MemoryError, DlmieError) as error:
        raise WeightsError(f"{path} has a damaged description ({error})") from error
    return model
