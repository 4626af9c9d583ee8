"""Self-critical training: the score of drawn captions is the objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.captioning.decoding import Caption, Decoding
from dlmie.captioning.metrics import CiderD
from dlmie.data.captions.vocabulary import END, PAD, SPECIAL, START
from dlmie.errors import DlmieError
from dlmie.layers.noise import Noise
from dlmie.models.captioners.captioner import Captioner
from dlmie.training.objective import Batch, Loss, Objective

_END = SPECIAL[END]


class SelfCritical(Objective):
    """Raise the probability of captions that score above their siblings.

    Each image gets ``samples`` captions drawn from the model; the reward is CIDEr-D against the
    image's references, the baseline the mean reward of the image's other samples (Rennie et al.
    2017; baseline of Luo 2020).  Start from a model that was trained by teacher forcing.  The
    reported loss is minus the mean reward.

    Parameters
    ----------
    model : Captioner
        Each image of a batch is used once, however many of its captions are there:
        ``captions_per_image=1`` is what suits.
    references : list of list of list of str
        For each training image the words of its references.
    samples : int
        Captions drawn for each image.
    temperature : float
        Of drawing.
    max_length : int
        Words that a drawn caption has at most, the end counted as one.
    """

    def __init__(
        self,
        model: Captioner,
        *,
        references: Sequence[Sequence[Sequence[str]]],
        samples: int = 5,
        temperature: float = 1.0,
        max_length: int = 20,
    ) -> None:
        if samples < 2:
            raise DlmieError("self-critical training compares samples: it needs at least 2")
        for name in model.decoding_only:
            if model.config[name]:
                raise DlmieError(
                    f"self-critical training draws captions without {name}: leave it out, and "
                    "give it to dlmie export"
                )
        self.model, self.name = model, model.kind
        # The end counts as a word, or captions that stop too early would score best.
        self.cider = CiderD([[[*words, _END] for words in image] for image in references])
        self.decoding = Decoding(
            samples=samples, temperature=temperature, max_length=max_length, allow_unknown=False
        )
        self._weights = pt.tensor("weights", dtype=model.dtype, shape=(None,))  # (captions,)
        self._reward = pt.dscalar("reward")

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """Features and words of the drawn captions, their advantages, and the mean reward."""
        return {
            "inputs": self.model.features,
            "tokens": self.model.tokens,
            "weights": self._weights,
            "reward": self._reward,
        }

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        # Captions are drawn without dropout, as they will be generated; what learns of them has
        # dropout, or the model soon overfits the training images.
        out = self.model.loss(batch["inputs"], batch["tokens"], noise=noise)
        self.key = noise.key
        return Loss(
            total=(out.each * batch["weights"]).sum(),  # (time, captions) × (captions,)
            weight=out.words,
            metrics={"loss": -batch["reward"] * pt.cast(out.words, "float64")},
            # A model without dropout would leave the key as it is, and draw the same again.
            updates=[(noise.key, noise.key + np.int64(1))],
        )

    def arrays(self, batch: Batch) -> Sequence[np.ndarray]:
        """Draw captions of the images of a batch and score them."""
        images, first = np.unique(batch["image_index"], return_index=True)
        features = batch["inputs"][first]
        step, state = self.model.decoder.begin(features)
        # The key of this update seeds the draws, so that resuming repeats them.
        key = int(self.key.get_value())
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
        return [np.repeat(features, samples, axis=0), tokens, advantage, reward.mean()]

    def _words(self, caption: Caption) -> list[str]:
        return [*self.model.vocabulary.decode(caption.words), *[_END] * caption.finished]


def _pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Word numbers of several captions as one int32 matrix, PAD after each."""
    result = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for line, row in zip(result, rows, strict=True):
        line[: len(row)] = row
    return result
