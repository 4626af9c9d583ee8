"""Distillation: one model learns what several trained ones say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace

from dlmie.captioning.objectives.teacher_forcing import TrainingStep
from dlmie.data.captions.vocabulary import PAD
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter
from dlmie.ops.losses.cross_entropy import log_softmax, softmax


class DistillationStep(TrainingStep):
    """Teacher forcing in which each next word is also the one that trained models expect.

    The loss of a word is ``(1 - s) (-log p(w)) - s Σ_v p̄(v) log p(v)``, where p̄ is the mean of the
    teachers' probabilities after the same words and image (Hinton et al. 2015; word by word as in
    Kim and Rush 2016).  One model keeps most of what an ensemble of its like is better by.

    Parameters
    ----------
    model, optimiser, alpha_penalty, label_smoothing, finetune, from_layer, encoder_lr, seed
        See :class:`~dlmie.captioning.objectives.TrainingStep`.
    teachers : sequence of Captioner
        Of the same vocabulary and annotations; they do not change.  With ``finetune`` they go on
        seeing through the encoder as it is now.
    teacher_share : float
        The share s that the teachers have in each target.
    origins : sequence of mapping
        Where each teacher came from, for the run's configuration.

    Raises
    ------
    DlmieError
        No teacher, or one of another vocabulary or other annotations.
    """

    kind = "distillation"

    def __init__(
        self,
        model: Any,
        optimiser: Any = None,
        *,
        teachers: Sequence[Any],
        teacher_share: float = 0.7,
        origins: Sequence[Mapping[str, Any]] = (),
        alpha_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        finetune: str | None = None,
        from_layer: str | None = None,
        encoder_lr: float = 0.1,
        seed: int = 0,
    ) -> None:
        if not teachers:
            raise DlmieError("distillation needs at least one trained model to learn from")
        if not 0 <= teacher_share <= 1:
            raise DlmieError(f"the teachers' share must be from 0 to 1, not {teacher_share}")
        for number, teacher in enumerate(teachers):
            model.vocabulary.check_matches(teacher.vocabulary, f"teacher {number + 1}")
            if teacher.annotation_shape != model.annotation_shape:
                raise DlmieError(
                    f"teacher {number + 1} sees annotations {teacher.annotation_shape}, the model "
                    f"{model.annotation_shape}: they must look at the same layer"
                )
        self.teachers, self.teacher_share = list(teachers), teacher_share
        super().__init__(
            model,
            optimiser,
            alpha_penalty=alpha_penalty,
            label_smoothing=label_smoothing,
            finetune=finetune,
            from_layer=from_layer,
            encoder_lr=encoder_lr,
            seed=seed,
        )
        del self.options["scheduled_sampling"]
        self.options |= {
            "teachers": [dict(origin) for origin in origins],
            "teacher_share": teacher_share,
        }

    def _likelihood(self, out: dict[str, Any]) -> Variable:
        targets = self.model.tokens[:, 1:].T.flatten()  # (time × batch,)
        mask = pt.cast(pt.neq(targets, PAD), self.model.dtype)
        expected = -(self._expected() * log_softmax(out["logits"])).sum(axis=1)
        share = np.asarray(self.teacher_share, self.model.dtype)
        return (1 - share) * out["sum"] + share * (expected * mask).sum()

    def _expected(self) -> Variable:
        """The mean of the teachers' probabilities of each next word, (time × batch, words)."""
        words = self.model.tokens[:, :-1].T
        said = [softmax(t.forward(self.seen_by_teachers, words).logits) for t in self.teachers]
        return sum(said[1:], said[0]) / np.asarray(len(said), self.model.dtype)

    @cached_property
    def seen_by_teachers(self) -> Variable:
        """The annotations from an encoder that does not learn: what learns is copied."""
        kept = {p: pytensor.shared(p.get_value(), name=f"/teachers{p.name}") for p in self._tuned()}
        self.copies = list(kept.values())
        return clone_replace(self.features, replace=kept) if kept else self.features

    @property
    def state(self) -> dict[str, Any]:
        encoder = self.model.encoder
        # Copies of what is in no file.
        made = self.copies if encoder is not None and not encoder.weights else []
        return {**super().state, **{str(copy.name): copy for copy in made}}

    def _trained(self, objective: Any) -> list[Parameter]:
        known = {p for teacher in self.teachers for p in teacher.parameters}
        return [p for p in super()._trained(objective) if p not in known]
