"""Training steps of generators: the critic learns, then the generator, from each batch."""

from __future__ import annotations

from typing import ClassVar

from dlmie import optim
from dlmie.errors import DlmieError
from dlmie.generation.album import Album
from dlmie.generation.objectives import CriticObjective, GeneratorObjective
from dlmie.generation.options import OBJECTIVES, AdversarialOptions
from dlmie.models.generators.gan import GAN
from dlmie.training.objective import Batch
from dlmie.training.step import StepResult, TrainingStep, Update
from dlmie.typing import JsonObject

DEFAULT_OPTIMIZER = optim.adam(1e-3, beta1=0.5)  # the course's


class GenerationStep(TrainingStep):
    """An update of the critic and one of the generator; made by :func:`compile`.

    Attributes
    ----------
    model : GAN
    kind : str
        Of the game.
    options : AdversarialOptions
        Of the objective, as a run's configuration has them.
    optimizer : Chain
        Of either side.
    album : Album, optional
        Takes pictures as the generator learns.
    """

    task: ClassVar[str] = "generation"
    unit: ClassVar[str] = "images"
    album: Album | None = None

    def __init__(
        self,
        model: GAN,
        optimizer: optim.Chain | optim.Transform | None,
        *,
        options: AdversarialOptions,
        seed: int = 0,
    ) -> None:
        self.model, self.kind, self.options = model, model.loss, options
        self.optimizer = optim.chain(DEFAULT_OPTIMIZER if optimizer is None else optimizer)
        sides = [
            Update(CriticObjective(model, options), self.optimizer, name="critic"),
            Update(GeneratorObjective(model), self.optimizer, name="generator"),
        ]
        super().__init__(sides, seed=seed)

    def __call__(self, batch: Batch) -> StepResult:
        if self.album is not None:
            self.album.count()
        return super().__call__(batch)

    def describe(self) -> JsonObject:
        """The section ``objective`` of a run's configuration."""
        return {"kind": self.kind, "seed": self.seed, **self.options.to_json()}


def compile(
    model: GAN,
    optimizer: optim.Chain | optim.Transform | None = None,
    *,
    objective: str | None = None,
    seed: int = 0,
    **options: object,
) -> GenerationStep:
    """Make a training step for a generator, compiled when it is first called.

    Parameters
    ----------
    model : GAN
    optimizer : Chain, optional
        Of both sides; default: Adam with a learning rate of 1e-3 and β1 = 0.5.
    objective : str, optional
        The game that the model is made for, the only one that fits.
    seed : int
        Of the noise.
    **options
        Fields of :class:`~dlmie.generation.options.PenaltyOptions` for WGAN-GP.

    Raises
    ------
    DlmieError
        Another game, or an unknown option.
    """
    if objective is not None and objective != model.loss:
        raise DlmieError(f"{model.kind} plays the {model.loss} game, not {objective}")
    chosen = OBJECTIVES[model.loss].of(options)
    assert isinstance(chosen, AdversarialOptions)
    return GenerationStep(model, optimizer, options=chosen, seed=seed)
