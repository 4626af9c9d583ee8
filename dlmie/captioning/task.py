"""Captioning as training sees it: data, steps, scores, and the model that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from pytensor.graph.basic import Variable

from dlmie import optim
from dlmie.backends.choice import length_step
from dlmie.captioning.captioner import ImageCaptioner, Member
from dlmie.captioning.decoding import Decoding
from dlmie.captioning.evaluation import (
    decode_in_batches,
    mean_of_sums,
    score_captions,
    summed_loss,
)
from dlmie.captioning.feature_caches import encoder_of, reopened_features, training_features
from dlmie.captioning.features import encoder_from_header, learned_from
from dlmie.captioning.model_files import save_model
from dlmie.captioning.options import CaptioningOptions
from dlmie.captioning.step import CaptioningStep, compile, make_step
from dlmie.data.batches import Batches, FirstImages, image_reader
from dlmie.data.captions.attention_targets import AttentionTargets
from dlmie.data.captions.dataset import Captions, Split
from dlmie.data.captions.feature_cache import Features
from dlmie.data.images import preprocess
from dlmie.data.prefetch import prefetch
from dlmie.errors import DlmieError
from dlmie.files.schema import Key, check_document
from dlmie.graph.network import Network
from dlmie.models import registry as models
from dlmie.models.captioners.captioner import Captioner, current_config
from dlmie.parallel import in_turns, world
from dlmie.training.config import DataSource, RunConfig, TrainingOptions
from dlmie.training.loop import EpochBatches, Record
from dlmie.training.metric import LOSS, Metric
from dlmie.training.task import Session, Task, model_meta
from dlmie.training.versions import versions
from dlmie.typing import JsonObject


class Captioning(Task[Captions, CaptioningStep]):
    """Captioners trained on prepared captions."""

    name: ClassVar[str] = "captioning"
    options: ClassVar[type[TrainingOptions]] = CaptioningOptions
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("bleu_1"),
        Metric("bleu_4"),
        Metric("cider_d"),
        Metric("dev_loss", higher_is_better=False),
        Metric("perplexity", higher_is_better=False),
        LOSS,
    )
    parallel: ClassVar[bool] = True
    tie_breaker: ClassVar[Metric] = metrics[3]  # the dev loss

    def compile(
        self,
        model: Captioner,
        optimizer: optim.Chain | optim.Transform | None = None,
        *,
        targets: AttentionTargets | None = None,
        seed: int = 0,
        **options: object,
    ) -> CaptioningStep:
        return compile(model, optimizer, targets=targets, seed=seed, **options)

    def open(self, path: str | Path) -> Captions:
        return Captions(path)

    def check(self, options: TrainingOptions, data: Captions) -> None:
        super().check(options, data)
        assert isinstance(options, CaptioningOptions)
        try:
            Decoding(**options.decoding)
        except TypeError as error:
            raise DlmieError(f"decoding: {error}") from None
        scenes = data["train"].source.get("format") == "scenes"
        if (options.flip or options.crops) and scenes:
            raise DlmieError("do not mirror or crop scenes: their captions say left and right")

    def configure(
        self,
        step: CaptioningStep,
        data: Captions,
        meta: JsonObject,
        *,
        progress: bool,
        features: Features | str | Path | None = None,
        **options: object,
    ) -> tuple[RunConfig, Session]:
        """As :meth:`Task.configure`; ``features`` are kept annotations, made where there are none.

        With ``from_layer`` they hold what the encoder goes on from.
        """
        chosen = CaptioningOptions.of(options)
        self.check(chosen, data)
        models.check_registered(step.model, "captioner")
        step.model.vocabulary.check_matches(data.vocabulary, str(data.path))
        header = learned_from(encoder_of(step, features), data.size)
        if chosen.embed_encoder and step.model.encoder is None:
            raise DlmieError("to embed the encoder, make the model from its layer: net[...]")
        copied = step.model.copied
        if copied and not any(p.get_value(borrow=True).any() for p in copied):
            raise DlmieError(
                "global_head takes weights of the encoder: make the model from its layer: net[...]"
            )
        cache = training_features(step, data, features, header, chosen, progress=progress)
        if cache is not None and not world().of_first(cache.in_memory):
            # It stays on disk and is read in runs of images, shuffled window by window.  Noted in
            # the configuration, for the order must be the same on resuming, however much memory
            # there is then.
            chosen = replace(chosen, block=32)
        config = RunConfig(
            task=self.name,
            model=describe_model(step.model),
            objective=step.describe(),
            optimizer=step.optimizer.to_json(),
            data=DataSource(str(data.path.resolve()), data.hash),
            training=chosen,
            inputs={
                "encoder": header,
                "features": None if cache is None else str(Path(cache.path).resolve()),
            },
            meta={**meta, "versions": versions()},
        )
        step.model.measure(partial(sample_annotations, step, data["train"], cache))
        return config, self._session(config, step, data, cache)

    def steps_per_epoch(self, options: TrainingOptions, data: Captions) -> int:
        assert isinstance(options, CaptioningOptions)
        split = data["train"]
        batches = Batches(
            split if options.limit is None else FirstImages(split, options.limit),
            lambda index, views: index,
            batch=options.batch,
            captions_per_image=options.captions_per_image,
        )
        return len(batches)

    def build(
        self, config: RunConfig, data: Captions, *, network: Network | None = None
    ) -> CaptioningStep:
        """As :meth:`Task.build`; ``network`` is the encoder, where there is one already."""
        described, options = config.model, config.training
        annotations: Variable | Sequence[int] = tuple(described["annotation_shape"])
        needed = (
            config.objective.get("finetune"),
            getattr(options, "embed_encoder", False),
            described.get("random_encoder"),
        )
        if network is None and any(needed):
            network = encoder_from_header(config.inputs["encoder"])
        if network is not None:
            annotations = network[config.inputs["encoder"]["layer"]]
        make = models.model_class(described["kind"], "captioner")
        model = make(annotations, data.vocabulary, **described["config"])
        return make_step(config.objective, model, optim.from_json(config.optimizer), data)

    def session(
        self, config: RunConfig, step: CaptioningStep, data: Captions, *, progress: bool
    ) -> Session:
        assert isinstance(config.training, CaptioningOptions)
        cache = reopened_features(config, config.training, data)
        return self._session(config, step, data, cache)

    def _session(
        self, config: RunConfig, step: CaptioningStep, data: Captions, cache: Features | None
    ) -> Session:
        options = config.training
        assert isinstance(options, CaptioningOptions)
        return Session(
            batches=partial(training_batches, step, data["train"], cache, options),
            measure=_Measure(step, data, cache, Decoding(**options.decoding)),
            save_best=partial(save_best, step, config),
            state=step.unsaved,
        )

    def upgraded(self, document: JsonObject) -> JsonObject:
        """The configuration of a run of version 0.1 in today's form."""
        if document["version"] >= RunConfig.VERSION:
            return document
        check_document(document, _VERSION_1, "config.json", DlmieError)
        new = {k: v for k, v in document.items() if k not in ("step", "optimiser")}
        new["task"] = self.name
        described = document.get("model")
        if isinstance(described, dict) and isinstance(described.get("config"), dict):
            new["model"] = {**described, "config": current_config(described["config"])}
        new["optimizer"] = document.get("optimiser")
        new["objective"] = {"kind": document.get("step"), **document.get("objective", {})}
        settings = document.get("meta", {}).get("settings") or {}
        new["meta"] = {**document.get("meta", {}), "start": settings.get("start")}
        return new


# What a configuration of version 0.1 must be for it to be understood; the rest is checked after.
_VERSION_1 = {
    "objective": Key(dict, required=False),
    "meta": Key(dict, required=False, keys={"settings": Key(dict, required=False, null=True)}),
}

TASK = Captioning()


def describe_model(model: Captioner) -> JsonObject:
    """The section ``model`` of a run's configuration."""
    return {
        "kind": model.kind,
        "config": model.config,
        "annotation_shape": list(model.annotation_shape),
        # Its weights are in no file but the run's own.
        "random_encoder": model.encoder is not None and not model.encoder.weights,
    }


def training_batches(
    step: CaptioningStep,
    split: Split,
    cache: Features | None,
    options: CaptioningOptions,
    epoch: int,
    position: int,
) -> EpochBatches:
    """The batches of an epoch from a position on: kept features, or images."""
    if cache is None:
        read = image_reader(split, step.annotations.encoder.preprocessing)
    else:
        read = partial(cache.read, split.name)
    return Batches(
        split if options.limit is None else FirstImages(split, options.limit),
        read,
        batch=options.batch,
        seed=options.seed,
        epoch=epoch,
        position=position,
        captions_per_image=options.captions_per_image,
        flip=options.flip,
        crops=options.crops,
        block=options.block,
        shards=step.shards,
        length_step=length_step(),
    )


def read_annotations(
    step: CaptioningStep, split: Split, cache: Features | None, index: np.ndarray
) -> np.ndarray:
    """What the model sees of some images, through the encoder as it is now."""
    annotations = step.annotations
    if cache is not None:
        return annotations.annotate(cache.read(split.name, index))
    images = split.load_images(index)
    return annotations.annotate(preprocess(images, annotations.encoder.preprocessing))


def sample_annotations(
    step: CaptioningStep, split: Split, cache: Features | None, images: int = 256, batch: int = 32
) -> np.ndarray:
    """The annotations of images from all over a split."""
    chosen = np.unique(np.linspace(0, len(split) - 1, images).astype(np.int64))
    parts = np.array_split(chosen, -(-len(chosen) // batch))
    return np.concatenate([read_annotations(step, split, cache, part) for part in parts])


class _Measure:
    """Free-running scores and the teacher-forced loss on the dev split, with averaged weights."""

    def __init__(
        self, step: CaptioningStep, data: Captions, cache: Features | None, decoding: Decoding
    ) -> None:
        self.step, self.decoding = step, decoding
        self.split = data["dev"] if "dev" in data else None  # noqa: SIM401 - it has no get
        if self.split is not None:
            self._read = partial(read_annotations, step, self.split, cache)
        self.captioner = ImageCaptioner([Member(step.model, {}, Path("."), {})])

    def __call__(self) -> dict[str, float]:
        if self.split is None:
            return {}
        with self.step.averaged():
            # An image that must be encoded is so once, not once for each of its captions.
            block = None if self.step.annotations.finetune is None else 32
            losses = dev_loss(self.step.model, self.split, self._read, block=block)
            decoded = decode_in_batches(
                self.captioner, lambda index: [self._read(index)], len(self.split), self.decoding
            )
            best = [image[0] for image in decoded]
        if not world().is_first:
            return {}  # one rank scores the captions of all
        scores = score_captions(self.captioner, self.split, best, self.decoding)
        names = ("bleu_1", "bleu_4", "cider_d")
        looked = scores.pointing.to_json()["pointing"] if scores.pointing else None
        more = {} if looked is None else {"pointing": looked}
        if scores.truth is not None:
            more |= scores.truth.to_json()
        # A score that is not defined, as CIDEr-D of a single image, chooses no epoch.
        values = {name: float(getattr(scores, name) or 0.0) for name in names}
        return {**losses, **values, **more}


def dev_loss(
    model: Captioner,
    split: Split,
    read: Callable[[np.ndarray], np.ndarray],
    *,
    batch: int = 64,
    block: int | None = None,
) -> dict[str, float]:
    """Teacher-forced loss per word over all captions of a split, and its perplexity.

    Several ranks compute some batches each, and all of them get the bits of one.

    Parameters
    ----------
    model : Captioner
    split : Split
    read : callable
        Image numbers → annotations.
    batch, block : int
        See :class:`~dlmie.data.batches.Batches`.
    """
    batches = Batches(
        split,
        lambda index, views: read(index),
        batch=batch,
        block=block,
        window=1,
        length_step=length_step(),
    )
    views = batches.views(epoch=0)

    def work(loads: Iterator[list[np.ndarray]]) -> Iterator[list[tuple[float, float]]]:
        with closing(prefetch((list(batches.load(load, views)) for load in loads), 1)) as ready:
            for load in ready:
                yield [summed_loss(model, each) for each in load]

    loads = in_turns(batches.loads(epoch=0), work, world())
    mean = mean_of_sums(each for _, sums in loads for each in sums)
    return {"dev_loss": mean, "perplexity": float(np.exp(min(mean, 50)))}


def save_best(step: CaptioningStep, config: RunConfig, path: Path, record: Record) -> None:
    """Write the model as it is now, with averaged weights where the optimizer keeps some."""
    options = config.training
    assert isinstance(options, CaptioningOptions)
    encoder = step.model.encoder
    # Weights that no other file holds, or that shall be with the model's.
    whole = encoder is not None and (options.embed_encoder or not encoder.weights)
    extra = [*step.parameters, *(encoder.parameters if encoder is not None and whole else ())]
    finetuned = step.annotations.finetune
    changed = {} if finetuned is None else {"finetuned": finetuned}
    with step.averaged():
        save_model(
            step.model,
            path,
            encoder={**config.inputs["encoder"], **changed},
            extra=extra,
            meta={**model_meta(config, record), "decoding": dict(options.decoding)},
        )
