"""Trained models of every task: loaded by what their files say, and scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dlmie.errors import DlmieError
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
        role = role_of(source)
        if role == "classifier":
            return classification.load(source)
        if role == "generator":
            return generation.load(source)
        if role == "agent":
            return reinforcement.load(source)
    return captioning.load(source, encoder_weights=encoder_weights)


def role_of(source: str | Path) -> Role:
    """What the model of a run folder or a model file is for: "captioner", "classifier", …

    A model of an unknown kind counts as a captioner, whose loader names the kind.

    Raises
    ------
    WeightsError
        Nothing there, or not a model.
    """
    from dlmie.captioning.model_files import find_model

    entry = registry.MODELS.get(str(containers.load_header(find_model(source)).get("kind")))
    return "captioner" if entry is None else entry.role


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

    Raises
    ------
    DlmieError
        It is scored on another kind of split.
    """
    from dlmie import captioning, classification, generation, reinforcement
    from dlmie.data.captions.dataset import Split
    from dlmie.data.labelled.dataset import LabelledSplit

    role = role_of(model) if isinstance(model, (str, Path)) else _role_of_loaded(model)
    if role == "agent":
        return reinforcement.evaluate(model, split, **options)
    if role == "captioner":
        if not isinstance(split, Split):
            raise _other_split(role, "Captions", split)
        return captioning.evaluate(model, split, **options)
    if not isinstance(split, LabelledSplit):
        raise _other_split(role, "LabelledImages", split)
    if role == "generator":
        return generation.evaluate(model, split, **options)
    return classification.evaluate(model, split, **options)


def _other_split(role: Role, data: str, given: object) -> DlmieError:
    what = type(given).__name__
    return DlmieError(f"a {role} is scored on a split, {data}(FILE)[NAME], not on {what}")


def _role_of_loaded(model: object) -> Role:
    """What :func:`load` gives for a role; captioners come wrapped, or several in a list."""
    task = getattr(model, "task", None)
    return next((role for role, its in registry.TASKS.items() if its == task), "captioner")
