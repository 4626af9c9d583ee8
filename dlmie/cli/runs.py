"""From the settings of a run to the run: its data, features, model, optimiser and step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dlmie.cli import optimizer as optimiser
from dlmie.cli.console import Console
from dlmie.cli.encoders import DEFAULT, make_network
from dlmie.cli.signatures import parameters
from dlmie.errors import DataError, DlmieError


def start_run(
    settings: dict[str, Any],
    data: Any,
    to: str | Path,
    console: Console,
    *,
    features: str | Path | None = None,
) -> Any:
    """Build what the settings describe and train it into the folder ``to``.

    Parameters
    ----------
    settings : dict
        Of :func:`dlmie.cli.settings.make_settings`.
    data : Captions or path
    features : path, optional
        The encoder's answers; those that are missing are computed.
    """
    from dlmie.captioning.training import train

    step, data, cache = build_step(settings, data, console, features)
    return train(
        step,
        data,
        to=to,
        features=cache if cache is not None else features,
        seed=console.seed,
        progress=console.progress,
        meta={"recipe": settings.get("recipe"), "command": sys.argv[1:], "settings": settings},
        **settings["training"],
    )


def build_step(
    settings: dict[str, Any], data: Any, console: Console, features: str | Path | None
) -> tuple[Any, Any, Any]:
    """The training step that settings describe, its data and, where they are there, features."""
    from dlmie import captioning as hub
    from dlmie.captioning.runs import make_step
    from dlmie.data.captions.dataset import Captions
    from dlmie.files import containers as storage

    if not isinstance(data, Captions):
        data = Captions(data)
    start = None if settings["start"] is None else hub.load(settings["start"])
    wanted = _encoder(settings["encoder"], start)
    objective = {**settings["objective"], "seed": console.seed}
    learned = None if start is None else _tuned_encoder(start, objective, settings)
    if start is not None:
        _note_what_is_left(start, settings["start"], console)
    cache, tunes = None, objective.get("finetune") is not None
    if features and Path(features).exists():
        cache = _open_features(features, wanted, objective)
    elif features and tunes and "from_layer" not in objective:
        raise DlmieError(f"{features} does not exist; to make it, say of which layer: --from-layer")
    annotations = _layer(wanted, settings) if cache is None or tunes else cache.shape
    if learned:
        network = annotations.tag.network
        mine = [p for p in network.parameters if str(p.name) in learned]
        storage.assign(mine, learned, settings["start"])
    model = _make_model(settings, annotations, data, console.seed, start)
    step = make_step(settings["step"], model, _make_optimiser(settings, data), data, objective)
    step.progress = console.progress
    return step, data, cache


def _encoder(wanted: dict[str, Any], start: Any) -> dict[str, Any]:
    """What is said of the encoder; the rest is as the captioner that is trained further has it."""
    header = None if start is None else start.header.get("encoder")
    if not header or wanted.get("name", header["name"]) != header["name"]:
        return wanted
    path = (header["weights"] or {}).get("path")
    seen = {name: header[name] for name in ("name", "layer", "size")}
    return {**seen, **({} if path is None else {"weights": path}), **wanted}


def _open_features(path: str | Path, wanted: dict[str, Any], objective: dict[str, Any]) -> Any:
    """A feature cache; what was said of the encoder must be true of it.

    With fine-tuning it holds what the encoder goes on from, which need not have been said.
    """
    from dlmie.data.captions.extraction import Features

    cache = Features(path)
    if objective.get("finetune") is not None:
        objective.setdefault("from_layer", cache.header["encoder"]["layer"])
        wanted = {**wanted, "layer": objective["from_layer"]}
    said = {key: wanted[key] for key in ("name", "layer", "size") if wanted.get(key) is not None}
    cache.check_matches({"encoder": said})
    return cache


def _tuned_encoder(
    start: Any, objective: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """What an encoder learned together with the captioner that is trained further, by name."""
    first = start.members[0].finetuned
    if first is None:
        return {}
    source, step = settings["start"], settings["step"].replace("-", " ")
    if step != "teacher forcing":
        raise DlmieError(
            f"{source} was trained together with its encoder and cannot go on by {step} training: "
            "begin with the captioner that it was made from"
        )
    if objective.get("finetune") != first:
        raise DlmieError(
            f"{source} was trained together with its encoder, from {first} on: train it further "
            f"with --finetune {first}"
        )
    learned: dict[str, Any] = start.members[0].arrays
    return learned


def _note_what_is_left(start: Any, source: Any, console: Console) -> None:
    """Say which habits of the captioner are not those of what is made of it."""
    left = [
        *(["--average-flip"] if start.members[0].average_flip else []),
        *(f"--{k.replace('_', '-')} {v}" for k, v in (start.header.get("decoding") or {}).items()),
    ]
    if left:
        console.note(
            f"{source} captions by {' '.join(left)}; what is made of it does not, until dlmie "
            "export is told the same"
        )


def _layer(wanted: dict[str, Any], settings: dict[str, Any]) -> Any:
    """The layer of a network that the captioner sees through."""
    network, layer = make_network(
        wanted.get("name", DEFAULT),
        wanted.get("layer"),
        wanted.get("size"),
        wanted.get("weights"),
        grid=settings["model"] == "show-attend-tell"
        or settings["config"].get("cell") == "attention",
    )
    return network[layer]


def _make_model(
    settings: dict[str, Any], annotations: Any, data: Any, seed: int, start: Any
) -> Any:
    """A fresh model, or with ``start`` one that goes on from a trained captioner's weights."""
    from dlmie import captioning as hub
    from dlmie.files import containers as storage
    from dlmie.graph import init

    if start is None:
        make = hub.captioner_class(settings["model"])
        return make(annotations, data.vocabulary, seed=seed, **settings["config"])
    trained = start.model
    trained.vocabulary.check_matches(data.vocabulary, str(data.path))
    config = {**trained.config, **settings["config"], "seed": seed}
    with init.nothing_drawn():
        model = type(trained)(annotations, data.vocabulary, **config)
    values = {str(p.name): p.get_value(borrow=True) for p in trained.parameters}
    storage.assign(model.parameters, values, settings["start"])
    return model


def _make_optimiser(settings: dict[str, Any], data: Any) -> Any:
    from dlmie.data.batches import Batches, FirstImages

    def option(name: str) -> Any:
        return settings["training"].get(name, known[name].default)

    known = parameters("dlmie.captioning.training:train")
    split = data["train"]
    if option("limit") is not None:
        split = FirstImages(split, option("limit"))
    # Only to count them: schedules are as long as the run.
    batches = Batches(
        split,
        lambda index, views: index,
        batch=option("batch"),
        captions_per_image=option("captions_per_image"),
    )
    try:
        return optimiser.build(
            settings["optimiser"],
            steps_per_epoch=len(batches),
            epochs=option("epochs"),
            monitor=option("monitor"),
        )
    except DataError:
        raise
    except DlmieError as error:
        raise click.UsageError(str(error)) from None
