"""Which features a run is trained on: found, checked, or made."""

from __future__ import annotations

from pathlib import Path

from dlmie.captioning.features import encoder_header, feature_path, features_of, make_features
from dlmie.captioning.options import CaptioningOptions
from dlmie.captioning.step import CaptioningStep
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.feature_cache import Features, FeatureSource
from dlmie.errors import DataError, DlmieError
from dlmie.parallel import world
from dlmie.training.config import RunConfig
from dlmie.typing import JsonObject


def encoder_of(step: CaptioningStep, features: FeatureSource | None) -> JsonObject:
    """The header of the encoder that a step's model sees through, or whose features it is given."""
    if step.model.encoder is not None:
        return encoder_header(step.model.encoder, step.annotations.layer)
    if features is not None:
        cache = features if isinstance(features, Features) else Features(features)
        header: JsonObject = cache.header["encoder"]
        return header
    raise DlmieError("the model was made from a bare shape: give features=, or use net[layer]")


def of_layer(header: JsonObject, layer: str | None) -> JsonObject:
    """The header of an encoder at another layer; None: at its own."""
    return {**header, **({} if layer is None else {"layer": layer})}


def training_features(
    step: CaptioningStep,
    data: Captions,
    features: FeatureSource | None,
    header: JsonObject,
    options: CaptioningOptions,
    *,
    progress: bool,
) -> Features | None:
    """The feature cache of a new run, made now if there is none; None where it takes images."""
    if step.annotations.takes_images:
        return None
    header = of_layer(header, step.annotations.from_layer)
    if isinstance(features, Features):
        cache = features
    else:
        path = feature_path(data, header) if features is None else Path(features)
        if not world().on_first(path.exists):
            network = step.model.encoder
            if network is None:
                return Features(path)  # which says that it does not exist
            return make_features(
                data,
                network,
                header["layer"],
                to=path,
                flip=options.flip,
                crops=options.crops,
                progress=progress,
            )
        cache = Features(path)
    _check(cache, data, header, options)
    return cache


def reopened_features(
    config: RunConfig, options: CaptioningOptions, data: Captions
) -> Features | None:
    """The features that a run was trained on, where they were or beside the data."""
    kept = config.inputs.get("features")
    if kept is None:
        return None
    header = of_layer(config.inputs["encoder"], config.objective.get("from_layer"))
    path, beside = Path(kept), feature_path(data, header)
    if not path.exists() and not beside.exists():
        raise DataError(
            f"{path}, the features this run was trained on, was not found: put it there or to "
            f"{beside}, or make it again with dlmie features"
        )
    cache = Features(path if path.exists() else beside)
    _check(cache, data, header, options)
    return cache


def _check(cache: Features, data: Captions, header: JsonObject, options: CaptioningOptions) -> None:
    cache.check_matches(features_of(header, data.hash, data.size))
    if options.flip and not cache.header["flip"]:
        raise DataError(
            f"{cache.path} holds no features of mirrored images: make them with dlmie features "
            "--flip, or train without flip"
        )
    there = cache.header.get("crops", 0)
    if options.crops > there:
        raise DataError(
            f"{cache.path} holds {there} random crops of each image, not {options.crops}: make it "
            f"again with dlmie features --crops {options.crops} --overwrite and what else it was "
            "made with, or train with fewer"
        )
