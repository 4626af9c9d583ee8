"""What a run folder says: its configuration, how to rebuild its step, which features it needs.

runs/NAME/config.json   everything that decides the run's course
runs/NAME/log.jsonl     what was measured, a JSON object a line
runs/NAME/state.h5      the last checkpoint: resuming continues bit for bit
runs/NAME/best.h5       the best model so far; all that captioning needs
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlmie import optim
from dlmie.captioning.captioner import captioner_class
from dlmie.captioning.decoding import Decoding
from dlmie.captioning.evaluation import reference_words
from dlmie.captioning.features import (
    encoder_from_header,
    encoder_header,
    feature_path,
    features_of,
    make_features,
)
from dlmie.captioning.model_files import find_model, load
from dlmie.captioning.objectives import DistillationStep, SelfCriticalStep, TrainingStep
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.errors import DataError, DlmieError
from dlmie.files import containers as storage
from dlmie.text import suggest
from dlmie.training import loop as training
from dlmie.weights import sha256

# What decides the best epoch: measured on dev, but for the loss of the training captions.
MONITORS = ("bleu_1", "bleu_4", "cider_d", "dev_loss", "perplexity", "loss")


@dataclass
class Run:
    """A finished or interrupted training run."""

    folder: Path
    position: training.Position
    stop_reason: str | None

    @property
    def log(self) -> list[dict[str, Any]]:
        """The records of ``log.jsonl``."""
        return read_log(self.folder)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's log; none where there is no log yet."""
    path = folder / "log.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # A line without its end is still being written, or its writer was killed.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run."""
    path = folder / "config.json"
    if not path.is_file():
        raise DlmieError(f"{folder} is not a run folder: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DlmieError(f"{path} is damaged: {error}") from error
    if config.get("format") != "dlmie-run":
        raise DlmieError(f"{path} is not the configuration of a dlmie run")
    if config["version"] > 1:
        raise DlmieError(
            f"{path} is of a later version of dlmie: upgrade with pip install -U dlmie"
        )
    config["training"].setdefault("crops", 0)  # a run from before there were crops
    return config


def rebuild_step(config: Mapping[str, Any], data: Captions) -> TrainingStep:
    """The training step that a run's configuration describes."""
    described = config["model"]
    annotations: Any = tuple(described["annotation_shape"])
    needed = (
        config["objective"].get("finetune"),
        config["training"].get("embed_encoder"),
        described.get("random_encoder"),
    )
    if any(needed):
        annotations = encoder_from_header(config["encoder"])[config["encoder"]["layer"]]
    model = captioner_class(described["kind"])(annotations, data.vocabulary, **described["config"])
    optimiser = optim.from_json(config["optimiser"])
    return make_step(config["step"], model, optimiser, data, config["objective"])


def make_step(
    kind: str, model: Any, optimiser: Any, data: Captions, objective: Mapping[str, Any]
) -> TrainingStep:
    """A training step by the name of its kind, as a run's configuration has it.

    ``objective`` holds the options of the step's class; the teachers of distillation are named
    there, by what :func:`dlmie.load` takes or as ``{"path", "sha256"}``.
    """
    options = dict(objective)
    if kind == SelfCriticalStep.kind:
        options["references"] = reference_words(data["train"], data.vocabulary)
        return SelfCriticalStep(model, optimiser, **options)
    if kind == DistillationStep.kind:
        opened = [_open_teacher(source) for source in options.pop("teachers")]
        options["teachers"] = [teacher for teacher, _ in opened]
        options["origins"] = [origin for _, origin in opened]
        return DistillationStep(model, optimiser, **options)
    return TrainingStep(model, optimiser, **options)


def _open_teacher(source: str | Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """A trained model to learn from, and what it is known by from now on."""
    known = source if isinstance(source, Mapping) else {"path": source}
    path = find_model(known["path"])
    found = sha256(path)
    if known.get("sha256", found) != found:
        raise DataError(
            f"{path}, a teacher of this run, is not the file it was (its SHA-256 differs): put "
            "the old one back, or start a new run"
        )
    captioner = load(path)
    if captioner.members[0].finetuned:
        raise DlmieError(
            f"{path} was trained together with its encoder and cannot teach one that sees through "
            "another: name a teacher that was trained on features"
        )
    return captioner.model, {"path": str(path.resolve()), "sha256": found}


def encoder_of(step: TrainingStep, features: Any) -> dict[str, Any]:
    """The header of the encoder that a step's model sees through, or whose features it is given."""
    if step.model.encoder is not None:
        return encoder_header(step.model.encoder, step.model.layer)
    if features is not None:
        cache = features if isinstance(features, Features) else Features(features)
        return cache.header["encoder"]
    raise DlmieError("the model was made from a bare shape: give features=, or use net[layer]")


def of_layer(header: Mapping[str, Any], layer: str | None) -> dict[str, Any]:
    """The header of an encoder at another layer; None: at its own."""
    return {**header, **({} if layer is None else {"layer": layer})}


def features_for(
    step: TrainingStep,
    data: Captions,
    features: Any,
    header: Mapping[str, Any],
    *,
    flip: bool,
    crops: int,
    progress: bool,
) -> Features | None:
    """The feature cache of the data, extracted now if there is none; None for images."""
    if step.finetune is not None and step.from_layer is None:
        return None
    header = of_layer(header, step.from_layer)
    if isinstance(features, Features):
        cache = features
    else:
        path = feature_path(data, header) if features is None else Path(features)
        if not path.exists():
            network, layer = step.model.encoder, header["layer"]
            views = {"flip": flip, "crops": crops}
            return make_features(data, network, layer, to=path, progress=progress, **views)
        cache = Features(path)
    _check_features(cache, data, header, flip=flip, crops=crops)
    return cache


def reopen_features(config: Mapping[str, Any], data: Captions) -> Features | None:
    """The features that a run was trained on, where they were or beside the data."""
    if config["features"] is None:
        return None
    header = of_layer(config["encoder"], config["objective"].get("from_layer"))
    path, beside = Path(config["features"]), feature_path(data, header)
    if not path.exists() and not beside.exists():
        raise DataError(
            f"{path}, the features this run was trained on, is gone: put it there or to {beside}, "
            "or make it again with dlmie features"
        )
    cache = Features(path if path.exists() else beside)
    views = {name: config["training"][name] for name in ("flip", "crops")}
    _check_features(cache, data, header, **views)
    return cache


def _check_features(
    cache: Features, data: Captions, header: Mapping[str, Any], *, flip: bool, crops: int
) -> None:
    cache.check_matches(features_of(header, data.hash))
    if flip and not cache.header["flip"]:
        raise DataError(
            f"{cache.path} holds no features of mirrored images: make them with dlmie features "
            "--flip, or train without flip"
        )
    if crops > cache.header.get("crops", 0):
        raise DataError(
            f"{cache.path} holds {cache.header.get('crops', 0)} random crops of each image, not "
            f"{crops}: make it again with dlmie features --crops {crops} --overwrite and what else "
            "it was made with, or train with fewer"
        )


def check_options(options: Mapping[str, Any], data: Captions) -> None:
    """Refuse what would otherwise fail after an epoch of training."""
    monitor = options["monitor"]
    if monitor not in MONITORS:
        raise DlmieError(f"cannot monitor {monitor!r}{suggest(str(monitor), MONITORS)}")
    if "dev" not in data and monitor != "loss":
        raise DataError(f"{data.path} has no split dev to measure {monitor}: monitor loss instead")
    required = {"epochs": 1, "batch": 1, "checkpoint_every": 0, "crops": 0}
    optional = {"patience": 1, "limit": 1, "captions_per_image": 1}
    for name, least in (required | optional).items():
        value = options[name]
        whole = type(value) is int and value >= least
        if not whole and not (value is None and name in optional):
            raise DlmieError(f"{name} must be a whole number, at least {least}, not {value!r}")
    try:
        Decoding(**options["decoding"])
    except TypeError as error:
        raise DlmieError(f"decoding: {error}") from None
    if (options["flip"] or options["crops"]) and data["train"].objects is not None:
        raise DlmieError("do not mirror or crop scenes: their captions say left and right")


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is there whole or not at all."""
    storage.write(path, (json.dumps(value, indent=2) + "\n").encode())
