"""Teacher forcing: each word is learned from the true words before it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.captioning.annotations import Annotations
from dlmie.data.captions.vocabulary import PAD
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter
from dlmie.layers.noise import Noise
from dlmie.models.captioners.captioner import Captioner, CaptionLoss
from dlmie.training.objective import Loss, Objective


class TeacherForcing(Objective):
    """The negative log-likelihood of the true captions, and what a model adds to it.

    Parameters
    ----------
    model : Captioner
    annotations : Annotations
    alpha_penalty : float
        Weight of the doubly stochastic penalty Σ_cells (1 - Σ_t α_t)² (Xu et al. 2015, equation
        14); needs a model with attention.
    label_smoothing : float
        Share of each target's probability that goes to all words.
    scheduled_sampling : float
        Share of the previous words that the model replaces by its own (Bengio et al. 2015).
    """

    def __init__(
        self,
        model: Captioner,
        annotations: Annotations,
        *,
        alpha_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
    ) -> None:
        self.model, self.annotations = model, annotations
        self.alpha_penalty = alpha_penalty
        self.label_smoothing, self.scheduled_sampling = label_smoothing, scheduled_sampling
        self.name = model.kind

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """``inputs`` (batch, …), ``tokens`` (batch, time + 1)."""
        return {"inputs": self.annotations.input, "tokens": self.model.tokens}

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        out = self.model.loss(
            self.annotations.features,
            batch["tokens"],
            noise=noise,
            label_smoothing=self.label_smoothing,
            scheduled_sampling=self.scheduled_sampling,
        )
        return Loss(
            total=self.likelihood(out, batch["tokens"]) + self.penalties(out, batch["tokens"]),
            weight=out.words,
            metrics={"loss": out.total},
            updates=() if out.extra is None else out.extra.updates,
        )

    def trained(self, loss: Loss) -> list[Parameter]:
        """The captioner's parameters, and those of the encoder that shall learn."""
        frozen = self.annotations.frozen()
        return [p for p in super().trained(loss) if p not in frozen]

    def likelihood(self, out: CaptionLoss, tokens: Variable) -> Variable:
        """What the words said by people, or by others, cost: a sum over the batch."""
        return out.total

    def penalties(self, out: CaptionLoss, tokens: Variable) -> Variable:
        """What else the model is asked for: a sum over the batch."""
        # A model's own term: hard attention's REINFORCE.
        total = 0 if out.extra is None else out.extra.loss
        if self.alpha_penalty:
            if "alphas" not in out.extras:
                raise DlmieError(f"alpha_penalty needs attention, and {self.model.kind} has none")
            mask = pt.neq(tokens[:, 1:].T, PAD)[:, :, None]  # (time, batch, 1)
            attended = (out.extras["alphas"] * pt.cast(mask, self.model.dtype)).sum(axis=0)
            weight = np.asarray(self.alpha_penalty, self.model.dtype)
            total = total + weight * ((1 - attended) ** 2).sum()
        return total
