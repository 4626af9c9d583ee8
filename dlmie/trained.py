"""Trained models of every task: loaded by what their files say, and scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dlmie.files import containers
from dlmie.models import registry

if TYPE_CHECKING:
    from dlmie.captioning.captioner import ImageCaptioner
    from dlmie.models.agents.agent import Agent
    from dlmie.models.classifiers.image_classifier import ImageClassifier
    from dlmie.models.generators.gan import GAN
    from dlmie.models.registry import Role


@overload
def load(
    source: list[str | Path] | list[str] | list[Path] | tuple[str | Path, ...],
    *,
    encoder_weights: str | Path | None = ...,
) -> ImageCaptioner: ...
@overload  # by a name or a path: whoever loads a model knows what it is, a type checker cannot
def load(source: str | Path, *, encoder_weights: str | Path | None = ...) -> Any: ...


def load(
    source: str | Path | Sequence[str | Path], *, encoder_weights: str | Path | None = None
) -> ImageCaptioner | ImageClassifier | GAN | Agent:
    """Load a trained model: a run folder, a model file, or the name of a model that is shipped.

    Parameters
    ----------
    source
        Several captioners make an ensemble.
    encoder_weights : path, optional
        Of a captioner: where its encoder's weight file is now, see :func:`dlmie.captioning.load`.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or not fitting: one line that says which.
    """
    from dlmie import captioning, classification, generation, reinforcement

    if isinstance(source, (str, Path)):
        if is_classifier(source):
            return classification.load(source)
        if is_generator(source):
            return generation.load(source)
        if is_agent(source):
            return reinforcement.load(source)
    return captioning.load(source, encoder_weights=encoder_weights)


def is_classifier(source: str | Path) -> bool:
    """Whether a run folder or a model file holds a classifier.

    Raises
    ------
    WeightsError
        Nothing there, or not a model.
    """
    return _holds(source, "classifier")


def is_agent(source: str | Path) -> bool:
    """Whether a run folder or a model file holds an agent; raises as `is_classifier` does."""
    return _holds(source, "agent")


def is_generator(source: str | Path) -> bool:
    """Whether a run folder or a model file holds a generator; raises as `is_classifier` does."""
    return _holds(source, "generator")


def _holds(source: str | Path, role: Role) -> bool:
    from dlmie.captioning.model_files import find_model

    return containers.load_header(find_model(source)).get("kind") in registry.names(role)


def evaluate(model: Any, split: Any, **options: Any) -> Any:
    """Score a trained model on a split of a data set.

    Parameters
    ----------
    model
        A loaded model, or what :func:`load` takes.
    split
        ``LabelledImages("cifar10.h5")["dev"]`` for a classifier or a generator,
        ``Captions("flickr8k.h5")["dev"]`` for a captioner, an environment for an agent.
    **options
        See ``evaluate`` of :mod:`dlmie.classification`, :mod:`dlmie.generation`,
        :mod:`dlmie.captioning` and :mod:`dlmie.reinforcement`.

    Returns
    -------
    ClassScores, GenerationScores, Scores or AgentScores
    """
    from dlmie import captioning, classification, generation, reinforcement
    from dlmie.data.labelled.dataset import LabelledSplit
    from dlmie.models.agents.agent import Agent
    from dlmie.models.generators.gan import GAN

    named = isinstance(model, (str, Path))
    if isinstance(model, Agent) or (named and is_agent(model)):
        return reinforcement.evaluate(model, split, **options)
    if isinstance(model, GAN) or (named and is_generator(model)):
        return generation.evaluate(model, split, **options)

    if isinstance(split, LabelledSplit):
        return classification.evaluate(model, split, **options)
    return captioning.evaluate(model, split, **options)
