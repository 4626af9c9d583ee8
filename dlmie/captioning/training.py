"""Train and resume captioners; a run is a folder (see :mod:`dlmie.captioning.runs`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.captioning.captioner import ImageCaptioner, Member
from dlmie.captioning.decoding import Decoding
from dlmie.captioning.evaluation import decode_in_batches, loss_per_word, score_captions
from dlmie.captioning.model_files import save_model, versions
from dlmie.captioning.objectives import TrainingStep
from dlmie.captioning.runs import (
    Run,
    check_options,
    encoder_of,
    features_for,
    read_config,
    rebuild_step,
    reopen_features,
    write_json,
)
from dlmie.data.batches import Batches, FirstImages, image_reader
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.data.images import preprocess
from dlmie.errors import DataError, DlmieError
from dlmie.text import suggest
from dlmie.training import loop as training

# Training options that decide which captions come in which batch of an epoch.
_ORDER = {"batch", "captions_per_image", "flip", "crops", "limit", "seed"}


def train(
    step: TrainingStep,
    data: Captions | str | Path,
    *,
    to: str | Path,
    features: Features | str | Path | None = None,
    epochs: int = 20,
    batch: int = 64,
    monitor: str = "bleu_4",
    patience: int | None = None,
    decoding: Mapping[str, Any] | None = None,
    captions_per_image: int | None = None,
    flip: bool = False,
    crops: int = 0,
    limit: int | None = None,
    seed: int = 0,
    checkpoint_every: int = 200,
    embed_encoder: bool = False,
    progress: bool = True,
    meta: Mapping[str, Any] | None = None,
) -> Run:
    """Train a captioner on a prepared data set into a new run folder.

    Parameters
    ----------
    step : TrainingStep
        From :func:`compile`.
    data : Captions or path
        Splits "train" and "dev"; the model must have been made with its vocabulary.
    to : path
        The run folder; it must not hold a run yet.
    features : Features or path, optional
        Cached annotations, or what the step's ``from_layer`` says of the images.  Without, they are
        extracted beside the data file once.
    epochs, batch : int
    monitor : str
        What decides the best epoch: "bleu_1", "bleu_4" or "cider_d" of free-running captions of the
        dev split, "dev_loss" or "perplexity" (teacher-forced, per word); or "loss", of the training
        captions, where there is no dev split.
    patience : int, optional
        Stop after so many epochs without improvement.
    decoding : mapping
        Fields of :class:`~dlmie.captioning.decoding.Decoding` for validation; default: beam 3.
    captions_per_image, flip, crops
        See :class:`~dlmie.data.batches.Batches`.
    limit : int, optional
        Use only so many training images (the overfit self-check).
    seed : int
        Of the order of the captions.
    checkpoint_every : int
        Batches between checkpoints inside an epoch; 0 for none.
    embed_encoder : bool
        Store the encoder's weights in the model file, so that it needs no other.
    progress : bool
        Show a bar, and a line after each epoch.
    meta : mapping, optional
        Noted in the run's configuration: recipe, command line.

    Returns
    -------
    Run

    Raises
    ------
    DlmieError
        The folder holds a run, an option is unknown, the features are of other images or of another
        encoder, the loss became NaN, the disk is full.
    """
    folder = Path(to)
    if (folder / "state.h5").exists() or (folder / "config.json").exists():
        raise DlmieError(
            f"{folder} holds a run already: continue it with dlmie train --resume {folder}, "
            "or name another folder"
        )
    data = Captions(data) if isinstance(data, (str, Path)) else data
    options = {
        "epochs": epochs,
        "batch": batch,
        "monitor": monitor,
        "patience": patience,
        "decoding": dict(decoding or {"beam": 3}),
        "captions_per_image": captions_per_image,
        "flip": flip,
        "crops": crops,
        "limit": limit,
        "seed": seed,
        "checkpoint_every": checkpoint_every,
        "embed_encoder": embed_encoder,
        "block": None,
    }
    check_options(options, data)
    step.model.vocabulary.check_matches(data.vocabulary, str(data.path))
    header = encoder_of(step, features)
    if embed_encoder and step.model.encoder is None:
        raise DlmieError("to embed the encoder, make the model from its layer: net[...]")
    cache = features_for(step, data, features, header, flip=flip, crops=crops, progress=progress)
    if cache is not None and not cache.in_memory:
        # It stays on disk and is read in runs of images, shuffled window by window.  Noted here,
        # for the order must be the same when there is more memory, or less, on resuming.
        options["block"] = 32
    config = {
        "format": "dlmie-run",
        "version": 1,
        "model": {
            "kind": step.model.kind,
            "config": step.model.config,
            "annotation_shape": list(step.model.annotation_shape),
            # Its weights are in no file but the run's own.
            "random_encoder": step.model.encoder is not None and not step.model.encoder.weights,
        },
        "encoder": header,
        **step.to_json(),
        "data": {"path": str(data.path.resolve()), "hash": data.hash},
        "features": None if cache is None else str(Path(cache.path).resolve()),
        "training": options,
        "meta": {**(meta or {}), "versions": versions()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    return _run(step, data, cache, folder, config, progress=progress)


def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    set: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Continue a run from its last checkpoint, as if it had never stopped.

    Parameters
    ----------
    folder : path
        The run folder.
    epochs : int, optional
        New number of epochs; default: as first said.  A learning rate's schedule keeps its length.
    set : mapping, optional
        Explicit changes, logged: ``{"lr": 1e-4}`` or any field of the training section.  New epochs
        or patience begin to count afresh, so do scores when what is measured changes; an epoch
        whose batches change begins anew.
    data : path, optional
        Where the data file is now, if it moved; its hash must be the same.

    Raises
    ------
    DlmieError
        No run there, or its data is gone or changed.
    """
    folder = Path(folder)
    config = read_config(folder)
    options = config["training"]
    wanted = {**(set or {}), **({} if epochs is None else {"epochs": epochs})}
    unknown = [key for key in wanted if key != "lr" and key not in options]
    if unknown:
        raise DlmieError(f"cannot set {unknown[0]!r}{suggest(unknown[0], ['lr', *options])}")
    changes = {k: v for k, v in wanted.items() if k == "lr" or v != options[k]}
    options.update({k: v for k, v in changes.items() if k != "lr"})
    if "lr" in changes and not isinstance(changes["lr"], (int, float)):
        raise DlmieError(f"lr must be a number, not {changes['lr']!r}")
    captions = Captions(data or config["data"]["path"])
    if captions.hash != config["data"]["hash"]:
        raise DataError(
            f"{captions.path} is not the data this run was trained on (its hash differs): "
            "name the right file with --data, or start a new run"
        )
    check_options(options, captions)
    cache = reopen_features(config, captions)
    step = rebuild_step(config, captions)
    step.progress = progress
    return _run(
        step, captions, cache, folder, config, progress=progress, resumed=True, changes=changes
    )


def _run(
    step: TrainingStep,
    data: Captions,
    cache: Features | None,
    folder: Path,
    config: Mapping[str, Any],
    *,
    progress: bool,
    resumed: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    options = config["training"]
    log = training.JsonLog(folder / "log.jsonl")
    encoder = step.model.encoder
    # Weights that no file brings back are part of the state.
    made = () if encoder is None or encoder.weights else encoder.parameters
    state = {str(p.name): p for p in made} | step.state
    checkpoint = training.Checkpoint(
        folder / "state.h5", state, log=log, every=options["checkpoint_every"]
    )
    validation = training.Validation(
        _Measure(step, data, cache, Decoding(**options["decoding"])),
        monitor=options["monitor"],
        patience=options["patience"],
        on_best=partial(_save_best, step, folder / "best.h5", config),
        after=[step.updates.report],
    )
    bar = [training.ProgressBar(options["epochs"])] if progress else []
    loop = training.MainLoop(
        step,
        partial(_batches, step, data["train"], cache, options),
        callbacks=[validation, *bar, log, checkpoint],
    )
    if not resumed:
        checkpoint.save(loop)  # what it begins with may be in no other place
    elif checkpoint.path.exists():
        checkpoint.restore(loop)
    elif (config["meta"].get("settings") or {}).get("start"):
        raise DlmieError(
            f"{folder} was stopped before the weights that it starts with were saved: delete it "
            "and begin again"
        )
    else:
        log.truncate(0)  # stopped before the first checkpoint: everything is done again
    if changes:
        _apply(changes, step, loop.position)
        log.write({"resumed_with": dict(changes), "step": loop.position.step})
        checkpoint.save(loop)
        write_json(folder / "config.json", config)
    finished = loop.position.epoch >= options["epochs"]
    position = loop.run(options["epochs"])
    if finished and loop.stop_reason is None:
        loop.stop(f"its {options['epochs']} epochs are done (more with --epochs)")
    return Run(folder, position, loop.stop_reason)


def _apply(changes: Mapping[str, Any], step: TrainingStep, here: training.Position) -> None:
    """What changed options mean for a run that stands in the middle."""
    changed = set(changes)
    if "lr" in changed:
        step.updates.set_learning_rate(float(changes["lr"]))
    if changed & {"epochs", "patience"}:
        here.stale = 0
    if changed & {"monitor", "decoding"}:  # scores that cannot be compared with earlier ones
        here.best, here.best_epoch, here.stale = None, 0, 0
    if changed & _ORDER:
        here.batch, here.loss_sum, here.word_sum, here.seconds = 0, 0.0, 0, 0.0


def _batches(
    step: TrainingStep,
    split: Any,
    cache: Features | None,
    options: Mapping[str, Any],
    epoch: int,
    position: int,
) -> Batches:
    if cache is None:
        read = image_reader(split, step.model.encoder.preprocessing)
    else:
        read = partial(cache.read, split.name)
    limited = split if options["limit"] is None else FirstImages(split, options["limit"])
    return Batches(
        limited,
        read,
        batch=options["batch"],
        seed=options["seed"],
        epoch=epoch,
        position=position,
        captions_per_image=options["captions_per_image"],
        flip=options["flip"],
        crops=options["crops"],
        block=options.get("block"),
    )


class _Measure:
    """Free-running scores and the teacher-forced loss on the dev split, with averaged weights."""

    def __init__(
        self, step: TrainingStep, data: Captions, cache: Features | None, decoding: Decoding
    ) -> None:
        self.step, self.cache, self.decoding = step, cache, decoding
        self.split = data["dev"] if "dev" in data else None  # noqa: SIM401 - it has no get
        self.captioner = ImageCaptioner([Member(step.model, {}, Path("."), {})])

    def _read(self, index: np.ndarray) -> np.ndarray:
        if self.cache is not None:
            return self.step.annotate(self.cache.read("dev", index))
        assert self.split is not None
        images = self.split.load_images(index)
        return self.step.annotate(preprocess(images, self.step.model.encoder.preprocessing))

    def __call__(self) -> dict[str, float]:
        if self.split is None:
            return {}
        with self.step.updates.averaged():
            # An image that must be encoded is so once, not once for each of its captions.
            block = None if self.step.finetune is None else 32
            losses = dev_loss(self.step.model, self.split, self._read, block=block)
            decoded = decode_in_batches(
                self.captioner, lambda index: [self._read(index)], len(self.split), self.decoding
            )
            said = [image[0] for image in decoded]
        scores = score_captions(self.captioner, self.split, said, self.decoding)
        names = ("bleu_1", "bleu_4", "cider_d")
        looked = scores.pointing.to_json()["pointing"] if scores.pointing else None
        more = {} if looked is None else {"pointing": looked}
        return {**losses, **{name: float(getattr(scores, name)) for name in names}, **more}


def dev_loss(
    model: Any,
    split: Any,
    read: Callable[[np.ndarray], np.ndarray],
    *,
    batch: int = 64,
    block: int | None = None,
) -> dict[str, float]:
    """Teacher-forced loss per word over all captions of a split, and its perplexity.

    Parameters
    ----------
    model : Captioner
    split : dlmie.data.captions.dataset.Split
    read : callable
        Image numbers → annotations.
    batch, block : int
        See :class:`~dlmie.data.batches.Batches`.
    """
    batches = Batches(
        split, lambda index, views: read(index), batch=batch, block=block, window=1
    )  # fmt: skip
    mean = loss_per_word(model, batches)
    return {"dev_loss": mean, "perplexity": float(np.exp(min(mean, 50)))}


def _save_best(step: TrainingStep, path: Path, config: Mapping[str, Any], record: Any) -> None:
    encoder = step.model.encoder
    # Weights that no other file holds, or that shall be with the model's.
    whole = encoder is not None and (config["training"].get("embed_encoder") or not encoder.weights)
    extra = [*step.parameters, *(encoder.parameters if whole else ())]
    changed = {} if step.finetune is None else {"finetuned": step.finetune}
    with step.updates.averaged():
        save_model(
            step.model,
            path,
            encoder={**config["encoder"], **changed},
            extra=extra,
            meta={
                "data": config["data"]["hash"],
                "recipe": config["meta"].get("recipe"),
                "scores": {k: v for k, v in record.items() if isinstance(v, (int, float))},
                "decoding": config["training"]["decoding"],
                "versions": versions(),
            },
        )
