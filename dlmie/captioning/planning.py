"""From settings and data to the training step of a new run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dlmie.captioning.captioner import ImageCaptioner
from dlmie.captioning.features import encoder_from_header, encoder_header
from dlmie.captioning.model_files import load
from dlmie.captioning.options import CaptioningOptions
from dlmie.captioning.step import CaptioningStep
from dlmie.captioning.task import TASK
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.feature_cache import Features
from dlmie.data.images import Preprocessing
from dlmie.errors import DlmieError
from dlmie.files import containers
from dlmie.graph import init
from dlmie.graph.network import Network
from dlmie.models.encoders.image_network import ImageNetwork
from dlmie.models.encoders.selection import DEFAULT, select
from dlmie.models.registry import model_class
from dlmie.training.config import DataSource, RunConfig
from dlmie.training.settings import Settings
from dlmie.typing import JsonObject


@dataclass(frozen=True)
class Plan:
    """The step of a new run, and the features it is trained on, where they are there."""

    step: CaptioningStep
    features: Features | None


def plan(
    settings: Settings,
    data: Captions,
    *,
    seed: int = 0,
    features: str | Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Build the step that settings describe.

    Parameters
    ----------
    settings : Settings
    data : Captions
    seed : int
        Of the first weights and of everything that is random in the step.
    features : path, optional
        A feature cache; where it exists, what was said of the encoder must be true of it.
    note : callable
        Told what the user should know.

    Raises
    ------
    DlmieError
        Settings that contradict each other or the data.
    """
    start = None if settings.start is None else load(settings.start)
    encoder = _encoder_settings(settings.encoder, start)
    objective = {"kind": "teacher-forcing", **settings.objective, "seed": seed}
    learned = {} if start is None else _learned_encoder(start, objective, settings)
    if start is not None:
        _note_what_is_left(start, str(settings.start), note)
    cache, tunes = None, objective.get("finetune") is not None
    if features and Path(features).exists():
        cache = _open_features(features, encoder, objective)
    elif features and tunes and "from_layer" not in objective:
        raise DlmieError(f"{features} does not exist; to make it, say of which layer: --from-layer")
    network: Network | None = None
    layer, header = "", None
    if cache is None or tunes:
        network, layer = _network(encoder, settings)
        if start is not None:
            _keep_preprocessing(network, start.header.get("encoder"))
        header = encoder_header(network, layer)  # of the weights that its features are of
        if learned:
            mine = [p for p in network.parameters if str(p.name) in learned]
            containers.assign(mine, learned, str(settings.start))
    elif start is None and model_class(settings.model, "captioner").copies_encoder(settings.config):
        header = _known_encoder(cache)
        network, layer = encoder_from_header(header), header["layer"]
    options = CaptioningOptions.of({**settings.training, "seed": seed})
    TASK.check(options, data)
    config = RunConfig(
        task=TASK.name,
        model=_model(settings, start, seed, network, layer, cache),
        objective=objective,
        optimizer=TASK.chain(settings.optimizer, options, data),
        data=DataSource(str(data.path), data.hash),
        training=options,
        inputs={"encoder": header},
        meta={},
    )
    if start is None:
        return Plan(TASK.build(config, data, network=network), cache)
    start.vocabulary.check_matches(data.vocabulary, str(data.path))
    with init.nothing_drawn():
        step = TASK.build(config, data, network=network)
    own = {str(p.name) for p in step.model.parameters}  # without what serves decoding alone
    values = {
        str(p.name): p.get_value(borrow=True) for p in start.model.parameters if str(p.name) in own
    }
    containers.assign(step.model.parameters, values, str(settings.start))
    return Plan(step, cache)


def _encoder_settings(wanted: JsonObject, start: ImageCaptioner | None) -> JsonObject:
    """What is said of the encoder; the rest is as the captioner that is trained further has it."""
    header = None if start is None else start.header.get("encoder")
    if not header or wanted.get("name", header["name"]) != header["name"]:
        return dict(wanted)
    path = (header["weights"] or {}).get("path")
    seen = {name: header[name] for name in ("name", "layer", "size")} | header.get("options", {})
    return {**seen, **({} if path is None else {"weights": path}), **wanted}


def _open_features(path: str | Path, encoder: JsonObject, objective: JsonObject) -> Features:
    """A feature cache; what was said of the encoder must be true of it.

    With fine-tuning it holds what the encoder goes on from, which need not have been said.
    """
    cache = Features(path)
    wanted = dict(encoder)
    if objective.get("finetune") is not None:
        objective.setdefault("from_layer", cache.header["encoder"]["layer"])
        wanted["layer"] = objective["from_layer"]
    said = {key: wanted[key] for key in ("name", "layer", "size") if wanted.get(key) is not None}
    cache.check_matches({"encoder": said})
    return cache


def _known_encoder(cache: Features) -> JsonObject:
    """The header of the encoder that kept features are of."""
    header = cache.header["encoder"]
    if not isinstance(header, dict):
        raise DlmieError(
            f"{cache.path}: global_head takes weights from the encoder, and these features are of "
            "another program's; leave it out"
        )
    return header


def _learned_encoder(
    start: ImageCaptioner, objective: JsonObject, settings: Settings
) -> dict[str, np.ndarray]:
    """What an encoder learned together with the captioner that is trained further, by name."""
    first = start.members[0].finetuned
    if first is None:
        return {}
    source, kind = settings.start, objective["kind"].replace("-", " ")
    if kind != "teacher forcing":
        raise DlmieError(
            f"{source} was trained together with its encoder and cannot go on by {kind} training: "
            "begin with the captioner that it was made from"
        )
    if objective.get("finetune") != first:
        raise DlmieError(
            f"{source} was trained together with its encoder, from {first} on: train it further "
            f"with --finetune {first}"
        )
    return start.members[0].arrays


def _note_what_is_left(start: ImageCaptioner, source: str, note: Callable[[str], None]) -> None:
    """Say which habits of the captioner are not those of what is made of it."""
    model = start.model
    left = [
        *(["--average-flip"] if start.members[0].average_flip else []),
        *(
            f"--{k.replace('_', '-')} {model.config[k]}"
            for k in model.decoding_only
            if model.config[k]
        ),
        *(f"--{k.replace('_', '-')} {v}" for k, v in (start.header.get("decoding") or {}).items()),
    ]
    if left:
        note(
            f"{source} captions by {' '.join(left)}; what is made of it does not, until dlmie "
            "export is told the same"
        )


def _network(encoder: JsonObject, settings: Settings) -> tuple[ImageNetwork, str]:
    """The network that the captioner sees through, and the layer."""
    attends = settings.model == "show-attend-tell" or settings.config.get("cell") == "attention"
    return select(
        encoder.get("name", DEFAULT),
        layer=encoder.get("layer"),
        size=encoder.get("size"),
        weights=encoder.get("weights"),
        output_stride=encoder.get("output_stride"),
        preprocessing=encoder.get("preprocessing"),
        grid=attends,
    )


def _keep_preprocessing(network: ImageNetwork, header: JsonObject | None) -> None:
    """Let an encoder with the same weights see images as the captioner learned to see them."""
    weights = (header or {}).get("weights") or {}
    if header and weights.get("sha256") == (network.weights or {}).get("sha256"):
        seen = Preprocessing.from_json(header["preprocessing"])
        network.preprocessing = replace(seen, size=network.preprocessing.size, via=())


def _model(
    settings: Settings,
    start: ImageCaptioner | None,
    seed: int,
    network: Network | None,
    layer: str,
    cache: Features | None,
) -> JsonObject:
    """The section ``model`` of the configuration."""
    kind, trained = settings.model, {}
    if start is not None:
        kind, left = start.model.kind, start.model.decoding_only
        trained = {k: value for k, value in start.model.config.items() if k not in left}
        for name in left:
            if settings.config.get(name):
                raise DlmieError(
                    f"training goes without {name}: leave it out, and give it to dlmie export"
                )
    if network is not None:
        shape = [int(n) for n in network[layer].type.shape[1:]]
    else:
        assert cache is not None
        shape = list(cache.shape)
    return {
        "kind": kind,
        "config": {**trained, **settings.config, "seed": seed},
        "annotation_shape": shape,
    }
