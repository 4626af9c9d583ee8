"""Distillation: one model learns what several trained ones expect together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace

from dlmie.captioning.annotations import Annotations
from dlmie.captioning.objectives.teacher_forcing import TeacherForcing
from dlmie.data.captions.attention_targets import AttentionTargets
from dlmie.data.captions.vocabulary import PAD
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter
from dlmie.models.captioners.captioner import Captioner, CaptionLoss
from dlmie.ops.losses.cross_entropy import log_softmax, softmax
from dlmie.training.objective import Loss


class Distillation(TeacherForcing):
    """Teacher forcing in which each next word is also the one that trained models expect.

    The loss of a word is ``(1 - s) (-log p(w)) - s Σ_v p̄(v) log p(v)``, where p̄ is the mean of the
    teachers' probabilities after the same words and image (Hinton et al. 2015; word by word as in
    Kim and Rush 2016).  One model keeps most of what an ensemble of its like is better by.

    Parameters
    ----------
    model, annotations, alpha_penalty, label_smoothing, attention_supervision, \
    attention_entropy, targets
        See :class:`~dlmie.captioning.objectives.TeacherForcing`.
    teachers : sequence of Captioner
        Of the same vocabulary and annotations; they do not change.  Where the encoder learns they
        go on seeing through it as it is now.
    teacher_share : float
        The share s that the teachers have in each target.

    Raises
    ------
    DlmieError
        No teacher, or one of another vocabulary or other annotations.
    """

    def __init__(
        self,
        model: Captioner,
        annotations: Annotations,
        *,
        teachers: Sequence[Captioner],
        teacher_share: float = 0.7,
        alpha_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        attention_supervision: float = 0.0,
        attention_entropy: float = 0.0,
        targets: AttentionTargets | None = None,
    ) -> None:
        super().__init__(
            model,
            annotations,
            alpha_penalty=alpha_penalty,
            label_smoothing=label_smoothing,
            attention_supervision=attention_supervision,
            attention_entropy=attention_entropy,
            targets=targets,
        )
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

    def trained(self, loss: Loss) -> list[Parameter]:
        """Nothing of the teachers."""
        taught = {p for teacher in self.teachers for p in teacher.parameters}
        return [p for p in super().trained(loss) if p not in taught]

    def likelihood(self, out: CaptionLoss, tokens: Variable) -> Variable:
        targets = tokens[:, 1:].T.flatten()  # (time × batch,)
        mask = pt.cast(pt.neq(targets, PAD), self.model.dtype)
        expected = -(self._expected(tokens) * log_softmax(out.logits)).sum(axis=1)
        share = np.asarray(self.teacher_share, self.model.dtype)
        return (1 - share) * out.total + share * (expected * mask).sum()

    def _expected(self, tokens: Variable) -> Variable:
        """The mean of the teachers' probabilities of each next word, (time × batch, words)."""
        words = tokens[:, :-1].T
        said = [softmax(t.forward(self.seen_by_teachers, words).logits) for t in self.teachers]
        return sum(said[1:], said[0]) / np.asarray(len(said), self.model.dtype)

    @cached_property
    def copies(self) -> dict[Variable, SharedVariable]:
        """For each parameter of the encoder that learns, one that stays as it is now."""
        return {
            p: pytensor.shared(p.get_value(), name=f"/teachers{p.name}")
            for p in self.annotations.tuned()
        }

    @cached_property
    def seen_by_teachers(self) -> Variable:
        """The annotations from an encoder that does not learn: what learns is copied."""
        features = self.annotations.features
        return clone_replace(features, replace=self.copies) if self.copies else features
