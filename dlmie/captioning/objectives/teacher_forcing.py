"""Teacher forcing: each word is learned from the true words before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.captioning.annotations import Annotations
from dlmie.data.captions.attention_targets import AttentionTargets
from dlmie.data.captions.vocabulary import PAD
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter
from dlmie.layers.noise import Noise
from dlmie.models.captioners.captioner import Captioner, CaptionLoss
from dlmie.training.objective import Batch, Loss, Objective


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
    attention_supervision : float
        Weight of ``-log Σ_i α_ti c_i`` for each word t that names a thing, where c_i is the share
        of cell i that the thing covers: attention is to rest on what is named (after Liu et al.
        2017, "Attention correctness in neural image captioning"); needs a model with attention
        and ``targets``. Where these have a map for each of n things that the word is about, it is
        the mean over them of ``-log n Σ_i α_ti c_ij``: attention is to rest on all of them alike,
        as it must to tell how many there are.
    attention_entropy : float
        Weight of the entropy ``-Σ_i α_ti log α_ti`` of each word's attention, in nats: it narrows
        to fewer cells; needs a model with attention. Large weights from the first step on make it
        settle on one cell before it has learned where to look.
    targets : AttentionTargets, optional
        Where things are.
    """

    def __init__(
        self,
        model: Captioner,
        annotations: Annotations,
        *,
        alpha_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
        attention_supervision: float = 0.0,
        attention_entropy: float = 0.0,
        targets: AttentionTargets | None = None,
    ) -> None:
        self.model, self.annotations = model, annotations
        self.alpha_penalty, self.attention_supervision = alpha_penalty, attention_supervision
        self.attention_entropy = attention_entropy
        if attention_supervision and targets is None:
            raise DlmieError(
                "attention_supervision needs boxes: data that say what is where (scenes, or "
                "photographs prepared with --boxes), given as targets"
            )
        self.targets = targets if attention_supervision else None
        self.label_smoothing, self.scheduled_sampling = label_smoothing, scheduled_sampling
        self.name = model.kind

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """``inputs`` (batch, …), ``tokens`` (batch, time + 1); ``targets`` (AttentionTargets)."""
        inputs = {"inputs": self.annotations.input, "tokens": self.model.tokens}
        return inputs if self.targets is None else {**inputs, "targets": self._attended}

    @cached_property
    def _attended(self) -> Variable:
        assert self.targets is not None
        shape = (None,) * (4 if self.targets.each else 3)
        return pt.tensor("targets", dtype=self.model.dtype, shape=shape)

    def arrays(self, batch: Batch) -> Sequence[np.ndarray]:
        """The arrays of a batch, and where attention should rest at each of its words."""
        arrays = [batch["inputs"], batch["tokens"]]
        if self.targets is None:
            return arrays
        where = self.targets(batch["tokens"], batch["image_index"], batch["views"])
        return [*arrays, where.astype(self.model.dtype, copy=False)]

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        out = self.model.loss(
            self.annotations.features,
            batch["tokens"],
            noise=noise,
            label_smoothing=self.label_smoothing,
            scheduled_sampling=self.scheduled_sampling,
        )
        total = self.likelihood(out, batch["tokens"]) + self.penalties(out, batch["tokens"])
        metrics = {"loss": out.total}
        if self.targets is not None:
            astray = self.astray(out, batch["targets"])
            total = total + np.asarray(self.attention_supervision, self.model.dtype) * astray
            metrics["attention_loss"] = astray
        return Loss(
            total=total,
            weight=out.words,
            metrics=metrics,
            updates=() if out.extra is None else out.extra.updates,
        )

    def trained(self, loss: Loss) -> list[Parameter]:
        """The captioner's parameters, and those of the encoder that shall learn."""
        frozen = self.annotations.frozen()
        return [p for p in super().trained(loss) if p not in frozen]

    def likelihood(self, out: CaptionLoss, tokens: Variable) -> Variable:
        """What the words said by people, or by others, cost: a sum over the batch."""
        return out.total

    def astray(self, out: CaptionLoss, targets: Variable) -> Variable:
        """What attention costs beside the things that are named: a sum over the batch.

        targets : (time, batch, cells), the share of each cell that the named things cover; or
        (time, batch, things, cells), that each of them covers.
        """
        dtype = self.model.dtype
        alphas = self._alphas(out, "attention_supervision")
        if targets.type.ndim == 4:
            alphas = alphas[:, :, None]
        there = pt.cast(targets.max(axis=-1) > 0, dtype)  # (time, batch[, things])
        # A cell that is covered only in part still counts, so the best map costs little, not 0.
        least = np.asarray(1e-6, dtype)
        inside = pt.maximum((alphas * targets).sum(axis=-1), least)
        if targets.type.ndim == 3:
            return -(there * pt.log(inside)).sum()
        things = pt.maximum(there.sum(axis=2, keepdims=True), np.asarray(1, dtype))
        return -(there * pt.log(things * inside) / things).sum()

    def _alphas(self, out: CaptionLoss, option: str) -> Variable:
        if "alphas" not in out.extras:
            raise DlmieError(f"{option} needs attention, and {self.model.kind} has none")
        return out.extras["alphas"]

    def penalties(self, out: CaptionLoss, tokens: Variable) -> Variable:
        """What else the model is asked for: a sum over the batch."""
        dtype = self.model.dtype
        # A model's own term: hard attention's REINFORCE.
        total = 0 if out.extra is None else out.extra.loss
        mask = pt.cast(pt.neq(tokens[:, 1:].T, PAD), dtype)[:, :, None]  # (time, batch, 1)
        if self.alpha_penalty:
            attended = (self._alphas(out, "alpha_penalty") * mask).sum(axis=0)
            total = total + np.asarray(self.alpha_penalty, dtype) * ((1 - attended) ** 2).sum()
        if self.attention_entropy:
            alphas = self._alphas(out, "attention_entropy")
            logs = pt.log(pt.maximum(alphas, np.asarray(1e-20, dtype)))
            total = total - np.asarray(self.attention_entropy, dtype) * (mask * alphas * logs).sum()
        return total
