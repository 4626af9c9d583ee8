"""The two sides of an adversarial game: what the critic learns, and what the generator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable

from dlmie.generation.options import AdversarialOptions, PenaltyOptions
from dlmie.graph.network import Parameter
from dlmie.layers.noise import Noise
from dlmie.losses import GAMES, critic_loss, generator_loss, gradient_penalty
from dlmie.models.generators.gan import GAN
from dlmie.training.objective import Loss, Objective


class CriticObjective(Objective):
    """The critic's side: high scores for real images, low ones for generated images.

    Reported are "loss" without the gradient penalty, "real" and "fake": its mean score of either,
    as a probability of being real where scores are logits.

    Parameters
    ----------
    model : GAN
    options : AdversarialOptions
    """

    name = "critic"

    def __init__(self, model: GAN, options: AdversarialOptions) -> None:
        self.model, self.options = model, options

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """``images`` (batch, channels, rows, columns) in [-1, 1]."""
        return {"images": self.model.images}

    def trained(self, loss: Loss) -> list[Parameter]:
        return [p for p in self.model.critic_parameters if "trainable" in p.roles]

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        model, real = self.model, batch["images"]
        fake, _ = model.generate(noise, real.shape[0])
        fake = disconnected_grad(fake)
        of_real, updates = model.critic.train(real, noise)
        of_real, of_fake = of_real[:, 0], model.critic_scores(fake, noise)
        total = loss = critic_loss(model.loss, of_real, of_fake).sum()
        if isinstance(self.options, PenaltyOptions):
            epsilon = noise.uniform_like(of_real)
            each = gradient_penalty(lambda x: model.critic_scores(x, noise), real, fake, epsilon)
            total = loss + np.asarray(self.options.penalty, model.dtype) * each.sum()
        shown = pt.sigmoid if GAMES[model.loss].logits else _as_it_is
        metrics = {"loss": loss, "real": shown(of_real).sum(), "fake": shown(of_fake).sum()}
        count = pt.cast(real.shape[0], model.dtype)
        return Loss(total=total, weight=count, metrics=metrics, updates=updates)


def _as_it_is(x: Variable) -> Variable:
    return x


class GeneratorObjective(Objective):
    """The generator's side: images that get high scores from the critic.

    Parameters
    ----------
    model : GAN
    """

    name = "generator"

    def __init__(self, model: GAN) -> None:
        self.model = model

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """``images``: as many new ones are made."""
        return {"images": self.model.images}

    def trained(self, loss: Loss) -> list[Parameter]:
        return [p for p in self.model.generator_parameters if "trainable" in p.roles]

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        model, count = self.model, batch["images"].shape[0]
        fake, updates = model.generate(noise, count)
        total = generator_loss(model.loss, model.critic_scores(fake, noise)).sum()
        return Loss(total=total, weight=pt.cast(count, model.dtype), updates=updates)
