"""Generation as training sees it: data, steps, scores, and the model that is kept."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from dlmie import optim
from dlmie.data.labelled.batches import LabelledBatches
from dlmie.data.labelled.dataset import LabelledImages
from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import CollapseWarning, DlmieError
from dlmie.generation.album import Album
from dlmie.generation.evaluation import Scorer, check_fits, opened_classifier
from dlmie.generation.model_files import save_model
from dlmie.generation.options import GenerationOptions
from dlmie.generation.step import GenerationStep, compile
from dlmie.models import registry as models
from dlmie.models.generators.gan import GAN
from dlmie.training.config import DataSource, RunConfig, TrainingOptions
from dlmie.training.loop import EpochBatches, Record
from dlmie.training.metric import LOSS, Metric
from dlmie.training.task import Session, Task, model_meta
from dlmie.training.versions import versions
from dlmie.typing import JsonObject

_OF_CLASSIFIER = ("frechet", "confidence", "classes")


class Generation(Task[LabelledImages, GenerationStep]):
    """Generators trained on prepared images; their labels are not looked at."""

    name: ClassVar[str] = "generation"
    options: ClassVar[type[TrainingOptions]] = GenerationOptions
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("pixel_frechet", higher_is_better=False),
        Metric("diversity"),
        Metric("frechet", higher_is_better=False),
        Metric("confidence"),
        Metric("classes"),
        LOSS,
    )

    def compile(
        self,
        model: GAN,
        optimizer: optim.Chain | optim.Transform | None = None,
        *,
        objective: str | None = None,
        seed: int = 0,
        **options: object,
    ) -> GenerationStep:
        return compile(model, optimizer, objective=objective, seed=seed, **options)

    def open(self, path: str | Path) -> LabelledImages:
        return LabelledImages(path)

    def check(self, options: TrainingOptions, data: LabelledImages) -> None:
        """As :meth:`Task.check`."""
        super().check(options, data)
        assert isinstance(options, GenerationOptions)
        if options.monitor in _OF_CLASSIFIER and options.classifier is None:
            raise DlmieError(
                f"{options.monitor} is measured by a classifier: name a trained one by --classifier"
            )

    def configure(
        self,
        step: GenerationStep,
        data: LabelledImages,
        meta: JsonObject,
        *,
        progress: bool,
        **options: object,
    ) -> tuple[RunConfig, Session]:
        """As :meth:`Task.configure`."""
        chosen = GenerationOptions.of(options)
        self.check(chosen, data)
        if chosen.classifier is not None:  # the run may be continued from another folder
            chosen = chosen.changed({"classifier": str(Path(chosen.classifier).resolve())})
        models.check_registered(step.model, "generator")
        check_fits(step.model, data["train"])
        config = RunConfig(
            task=self.name,
            model={"kind": step.model.kind, "config": step.model.config},
            objective=step.describe(),
            optimizer=step.optimizer.to_json(),
            data=DataSource(str(data.path.resolve()), data.hash),
            training=chosen,
            inputs={},
            meta={**meta, "versions": versions()},
        )
        return config, self.session(config, step, data, progress=progress)

    def steps_per_epoch(self, options: TrainingOptions, data: LabelledImages) -> int:
        scaled = _to_tanh(data)
        return len(LabelledBatches(data["train"], scaled, batch=options.batch, limit=options.limit))

    def build(self, config: RunConfig, data: LabelledImages) -> GenerationStep:
        make = models.model_class(config.model["kind"], "generator")
        model = make(data.shape, **config.model["config"])
        optimizer = optim.from_json(config.optimizer)
        return self.compile(model, optimizer, **config.objective_arguments)

    def session(
        self, config: RunConfig, step: GenerationStep, data: LabelledImages, *, progress: bool
    ) -> Session:
        options = config.training
        assert isinstance(options, GenerationOptions)
        step.album = Album(step.model, every=options.picture_every, seed=options.seed)
        return Session(
            batches=partial(training_batches, step.model, data, options),
            measure=partial(_measure, step, _scorer(data, options), options.seed),
            save_best=partial(_save_best, step, config),
            state=step.album.state,
        )


TASK = Generation()


def training_batches(
    model: GAN, data: LabelledImages, options: GenerationOptions, epoch: int, position: int
) -> EpochBatches:
    """The batches of an epoch from a position on, in [-1, 1]."""
    return LabelledBatches(
        data["train"],
        _to_tanh(data),
        batch=options.batch,
        seed=options.seed,
        epoch=epoch,
        position=position,
        limit=options.limit,
        dtype=model.dtype,
    )


def _to_tanh(data: LabelledImages) -> Normalization:
    """From pixels to [-1, 1], which tanh gives."""
    middle = np.full(data.shape[2], 127.5)
    return Normalization("none", data.shape, middle, middle)


def _scorer(data: LabelledImages, options: GenerationOptions) -> Scorer | None:
    """What scores images after each epoch of a run; None where there is no dev split."""
    if "dev" not in data:
        return None
    classifier = opened_classifier(options.classifier)
    return Scorer(data["dev"], classifier, images=options.scored_images)


def _measure(step: GenerationStep, scorer: Scorer | None, seed: int) -> dict[str, float]:
    """Scores of new images beside those of the dev split, with averaged weights."""
    if scorer is None:
        return {}
    with step.averaged():
        scores = scorer(step.model, seed=seed)
    for line in scores.warnings:
        warnings.warn(line, CollapseWarning, stacklevel=2)
    names = ("pixel_frechet", "diversity", *_OF_CLASSIFIER)
    found = {name: getattr(scores, name) for name in names}
    return {name: float(value) for name, value in found.items() if value is not None}


def _save_best(step: GenerationStep, config: RunConfig, path: Path, record: Record) -> None:
    """Write the model as it is now, with averaged weights where the optimizer keeps some."""
    with step.averaged():
        save_model(step.model, path, meta=model_meta(config, record))
