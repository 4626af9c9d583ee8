"""Self-critical training: the score of drawn captions is the objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt

from dlmie.captioning.decoding import Caption, Decoding
from dlmie.captioning.metrics import CiderD
from dlmie.captioning.objectives.teacher_forcing import TrainingStep
from dlmie.data.captions.vocabulary import END, PAD, SPECIAL, START
from dlmie.errors import DlmieError

_END = SPECIAL[END]


class SelfCriticalStep(TrainingStep):
    """Self-critical training: raise the probability of captions that score above their siblings.

    Each image gets ``samples`` captions drawn from the model; the reward is CIDEr-D against the
    image's references, the baseline the mean reward of the image's other samples (Rennie et al.
    2017; baseline of Luo 2020).  Start from a model that was trained by teacher forcing.

    Parameters
    ----------
    model, optimiser, seed
        See :class:`TrainingStep`.  Each image of a batch is used once, however many of its captions
        are there: ``captions_per_image=1`` is what suits.
    references : list of list of list of str
        For each training image the words of its references.
    samples : int
        Captions drawn for each image.
    temperature : float
        Of drawing.
    max_length : int
        Words that a drawn caption has at most, the end counted as one.
    """

    kind = "self-critical"

    def __init__(
        self,
        model: Any,
        optimiser: Any = None,
        *,
        references: Sequence[Sequence[Sequence[str]]],
        samples: int = 5,
        temperature: float = 1.0,
        max_length: int = 20,
        seed: int = 0,
    ) -> None:
        if samples < 2:
            raise DlmieError("self-critical training compares samples: it needs at least 2")
        # The end counts as a word, or captions that stop too early would score best.
        self.cider = CiderD([[[*words, _END] for words in image] for image in references])
        self.decoding = Decoding(
            samples=samples, temperature=temperature, max_length=max_length, allow_unknown=False
        )
        self.weights = pt.tensor("weights", dtype=model.dtype, shape=(None,))  # (captions,)
        super().__init__(model, optimiser, seed=seed)
        self.options = {
            "samples": samples,
            "temperature": temperature,
            "max_length": max_length,
            "seed": seed,
        }

    def _build(self) -> None:
        # Captions are drawn without dropout, as they will be said; what learns of them has dropout,
        # or the model soon knows the training images by heart.
        self.features = self.input = self.model.features
        out = self.model.loss(self.features, noise=self.noise)
        weighted = (out["each"] * self.weights).sum()  # (time, captions) × (captions,)
        self._inputs = [self.input, self.model.tokens, self.weights]
        self._outputs = [weighted, out["words"]]
        self._finish(weighted / out["words"])

    def __call__(self, batch: Any) -> tuple[float, int]:
        """One update; the "loss" is minus the mean reward of the drawn captions, per word."""
        images, first = np.unique(batch.image_index, return_index=True)
        features = batch.inputs[first]
        step, state = self.model.decoder.begin(features)
        # The key of this update seeds the draws, so that resuming repeats them.
        key = int(self.noise.key.get_value())
        drawn = self.decoding(step, state, keys=[key * 1_000_003 + int(i) for i in images])
        reward = np.array(
            [
                [self.cider.score(self._words(c), int(image)) for c in captions]
                for image, captions in zip(images, drawn, strict=True)
            ]
        )  # (images, samples)
        samples = reward.shape[1]
        baseline = (reward.sum(axis=1, keepdims=True) - reward) / (samples - 1)
        # A caption that was cut at its greatest length has no end to learn.
        tokens = _pad(
            [[START, *c.words, *[END] * c.finished] for captions in drawn for c in captions]
        )
        advantage = (reward - baseline).reshape(-1).astype(self.model.dtype)
        _, words = self._function(np.repeat(features, samples, axis=0), tokens, advantage)
        self.noise.key.set_value(np.int64(key + 1))  # a model without dropout would leave it
        return -float(reward.mean()) * int(words), int(words)

    def _words(self, caption: Caption) -> list[str]:
        return [*self.model.vocabulary.decode(caption.words), *[_END] * caption.finished]


def _pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Word numbers of several captions as one int32 matrix, PAD after each."""
    result = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for line, row in zip(result, rows, strict=True):
        line[: len(row)] = row
    return result
