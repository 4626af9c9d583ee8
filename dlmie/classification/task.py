"""Classification as training sees it: data, steps, scores, and the model that is kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from dlmie import optim
from dlmie.classification.evaluation import evaluate
from dlmie.classification.model_files import save_model
from dlmie.classification.options import ClassificationOptions
from dlmie.classification.step import ClassificationStep, compile
from dlmie.data.labelled.batches import LabelledBatches
from dlmie.data.labelled.dataset import LabelledImages, LabelledSplit
from dlmie.data.labelled.folding import fold
from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DataError
from dlmie.models import registry as models
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.training.config import DataSource, RunConfig, TrainingOptions
from dlmie.training.loop import EpochBatches, Record
from dlmie.training.metric import LOSS, Metric
from dlmie.training.task import Session, Task, model_meta
from dlmie.training.versions import versions
from dlmie.typing import JsonObject


class Classification(Task[LabelledImages, ClassificationStep]):
    """Classifiers trained on prepared labeled images."""

    name: ClassVar[str] = "classification"
    options: ClassVar[type[TrainingOptions]] = ClassificationOptions
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy"),
        Metric("dev_loss", higher_is_better=False),
        LOSS,
    )
    parallel: ClassVar[bool] = True
    tie_breaker: ClassVar[Metric] = metrics[1]  # the dev loss

    def compile(
        self,
        model: ImageClassifier,
        optimizer: optim.Chain | optim.Transform | None = None,
        *,
        objective: str | None = None,
        seed: int = 0,
        **options: object,
    ) -> ClassificationStep:
        return compile(model, optimizer, objective=objective, seed=seed, **options)

    def open(self, path: str | Path) -> LabelledImages:
        return LabelledImages(path)

    def configure(
        self,
        step: ClassificationStep,
        data: LabelledImages,
        meta: JsonObject,
        *,
        progress: bool,
        **options: object,
    ) -> tuple[RunConfig, Session]:
        """As :meth:`Task.configure`."""
        chosen = ClassificationOptions.of(options)
        self.check(chosen, data)
        models.check_registered(step.model, "classifier")
        check_fits(step.model, data)
        config = RunConfig(
            task=self.name,
            model={"kind": step.model.kind, "config": step.model.config},
            objective=step.describe(),
            optimizer=step.optimizer.to_json(),
            data=DataSource(str(data.path.resolve()), data.hash),
            training=chosen,
            inputs={"normalization": step.model.normalization.kind},
            meta={**meta, "versions": versions()},
        )
        return config, self.session(config, step, data, progress=progress)

    def has_dev(self, options: TrainingOptions, data: LabelledImages) -> bool:
        """As :meth:`Task.has_dev`; with folds dev is a part of train."""
        assert isinstance(options, ClassificationOptions)
        return splits(data, options)[1] is not None

    def steps_per_epoch(self, options: TrainingOptions, data: LabelledImages) -> int:
        assert isinstance(options, ClassificationOptions)
        split, plain = splits(data, options)[0], Normalization.of(data, "none")
        return len(LabelledBatches(split, plain, batch=options.batch, limit=options.limit))

    def build(self, config: RunConfig, data: LabelledImages) -> ClassificationStep:
        """As :meth:`Task.build`; a checkpoint puts back what the model saw through."""
        make = models.model_class(config.model["kind"], "classifier")
        model = make(
            data.shape,
            data.classes,
            normalization=Normalization.of(data, config.inputs.get("normalization", "none")),
            **config.model["config"],
        )
        optimizer = optim.from_json(config.optimizer)
        return self.compile(model, optimizer, **config.objective_arguments)

    def session(
        self, config: RunConfig, step: ClassificationStep, data: LabelledImages, *, progress: bool
    ) -> Session:
        options = config.training
        assert isinstance(options, ClassificationOptions)
        return Session(
            batches=partial(training_batches, step, data, options),
            measure=partial(_measure, step, data, options),
            save_best=partial(_save_best, step, config),
            state=step.unsaved,
        )


TASK = Classification()


def check_fits(model: ImageClassifier, data: LabelledImages) -> None:
    """Refuse data of other classes or images than a model was made for.

    Raises
    ------
    DataError
        Says what differs.
    """
    if model.classes != data.classes:
        raise DataError(
            f"{data.path} has {len(data.classes)} classes ({', '.join(data.classes)}), the model "
            f"{len(model.classes)} ({', '.join(model.classes)})"
        )
    if model.shape != data.shape:
        raise DataError(f"{data.path} has images of {data.shape}, the model takes {model.shape}")


def splits(
    data: LabelledImages, options: ClassificationOptions
) -> tuple[LabelledSplit, LabelledSplit | None]:
    """What is trained on, and what is measured on, if anything is."""
    if options.folds is not None:
        return fold(data["train"], options.folds, options.fold)
    dev = data["dev"] if "dev" in data else None  # noqa: SIM401 - it is no dict
    return data["train"], dev


def training_batches(
    step: ClassificationStep,
    data: LabelledImages,
    options: ClassificationOptions,
    epoch: int,
    position: int,
) -> EpochBatches:
    """The batches of an epoch from a position on."""
    return LabelledBatches(
        splits(data, options)[0],
        step.model.normalization,
        epoch=epoch,
        position=position,
        dtype=step.model.dtype,
        shards=step.shards,
        **options.of_batches(),
    )


def _measure(
    step: ClassificationStep, data: LabelledImages, options: ClassificationOptions
) -> dict[str, float]:
    """Accuracy and loss on the dev split, with averaged weights."""
    _, dev = splits(data, options)
    if dev is None:
        return {}
    with step.averaged():
        scores = evaluate(step.model, dev)
    return {"accuracy": scores.accuracy, "dev_loss": scores.loss}


def _save_best(step: ClassificationStep, config: RunConfig, path: Path, record: Record) -> None:
    """Write the model as it is now, with averaged weights where the optimizer keeps some."""
    with step.averaged():
        save_model(step.model, path, meta=model_meta(config, record))
