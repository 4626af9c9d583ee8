"""Training steps of classifiers: by the name of an objective and its options."""

from __future__ import annotations

from typing import ClassVar

from dlmie import optim
from dlmie.classification.model_files import NORMALIZATION
from dlmie.classification.objective import Classify
from dlmie.classification.options import OBJECTIVES
from dlmie.errors import DlmieError
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.text import suggest
from dlmie.training.checkpoint import KeptArray, Stateful
from dlmie.training.config import OptionGroup
from dlmie.training.step import TrainingStep, Update
from dlmie.typing import JsonObject

DEFAULT_OPTIMIZER = optim.adam(1e-3)


class ClassificationStep(TrainingStep):
    """An update of a classifier; made by :func:`compile`.

    Attributes
    ----------
    model : ImageClassifier
    kind : str
        Of the objective: "cross-entropy" or "hinge".
    options : OptionGroup
        Of the objective, as a run's configuration has them.
    """

    task: ClassVar[str] = "classification"
    unit: ClassVar[str] = "images"

    def __init__(
        self,
        model: ImageClassifier,
        optimizer: optim.Chain | optim.Transform | None,
        *,
        kind: str,
        options: OptionGroup,
        seed: int = 0,
    ) -> None:
        self.model, self.kind, self.options = model, kind, options
        self.optimizer = optim.chain(DEFAULT_OPTIMIZER if optimizer is None else optimizer)
        super().__init__(Update(Classify(model, kind, options), self.optimizer), seed=seed)

    @property
    def unsaved(self) -> dict[str, Stateful]:
        """What the model sees through, which need not be what its data would give."""
        arrays = self.model.normalization.arrays
        return {NORMALIZATION + name: KeptArray(array) for name, array in arrays.items()}

    def describe(self) -> JsonObject:
        """The section ``objective`` of a run's configuration."""
        return {"kind": self.kind, "seed": self.seed, **self.options.to_json()}


def compile(
    model: ImageClassifier,
    optimizer: optim.Chain | optim.Transform | None = None,
    *,
    objective: str | None = None,
    seed: int = 0,
    **options: object,
) -> ClassificationStep:
    """Make a training step for a classifier, compiled when it is first called.

    Parameters
    ----------
    model : ImageClassifier
    optimizer : Chain, optional
        A chain of :mod:`dlmie.optim`; default: Adam with a learning rate of 1e-3.
    objective : str, optional
        "cross-entropy" or "hinge"; by default the one that the model is named for.
    seed : int
        Of dropout and everything else that is random in the step.
    **options
        Fields of :class:`~dlmie.classification.options.CrossEntropyOptions` or
        :class:`~dlmie.classification.options.HingeOptions`.

    Raises
    ------
    DlmieError
        An unknown objective or option.
    """
    kind = model.loss if objective is None else objective
    if kind not in OBJECTIVES:
        raise DlmieError(f"there is no objective {kind!r}{suggest(kind, OBJECTIVES)}")
    chosen = OBJECTIVES[kind].of(options)
    return ClassificationStep(model, optimizer, kind=kind, options=chosen, seed=seed)
