"""Show and Tell (Vinyals et al., CVPR 2015): the image is the first word the LSTM reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.deprecation import renamed_arguments
from dlmie.graph.network import parameter
from dlmie.layers import LSTM, Embedding, Linear
from dlmie.layers.noise import Noise, dropout
from dlmie.layers.options import LayerOptions
from dlmie.models.captioners.captioner import Captioner, Forward
from dlmie.ops.losses.cross_entropy import log_softmax
from dlmie.typing import Json


class ShowTell(Captioner):
    """LSTM captioner that sees the image once, as its input at t = -1 (equations 10-12).

    Parameters
    ----------
    annotations, vocabulary, seed, dtype
        See :class:`~dlmie.models.captioners.captioner.Captioner`.  A grid is averaged.
    embedding : int
        Size of the word vectors and of the embedded image.
    hidden : int
        Size of the LSTM.
    dropout : float
        Rate at the LSTM's inputs and before the output layer.
    tied : bool
        The output layer uses the word vectors as its weights (Press and Wolf, 2017).

    Examples
    --------
    >>> vocabulary = Vocabulary.build([["a", "dog"]], min_count=1)
    >>> model = ShowTell((1280,), vocabulary, embedding=64, hidden=64)
    >>> model.loss().per_word.ndim
    0
    """

    kind = "show-tell"

    @renamed_arguments(words="embedding")
    def __init__(
        self,
        annotations: Variable | Sequence[int],
        vocabulary: Vocabulary,
        *,
        embedding: int = 512,
        hidden: int = 512,
        dropout: float = 0.3,
        tied: bool = False,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(annotations, vocabulary, seed=seed, dtype=dtype)
        self.embedding_size, self.hidden = embedding, hidden
        self.dropout, self.tied = dropout, tied
        made: LayerOptions = {"rng": np.random.default_rng(seed), "dtype": dtype}
        self.image = Linear("/image", self.annotation_shape[0], embedding, **made)
        self.embedding = Embedding("/embedding", len(vocabulary), embedding, **made)
        self.lstm = LSTM("/lstm", embedding, hidden, **made)
        if tied:
            self.bottleneck = Linear("/output", hidden, embedding, b=None, **made)
            self.bias = parameter("/output/b", np.zeros(len(vocabulary), dtype))
        else:
            self.output = Linear("/output", hidden, len(vocabulary), **made)

    @property
    def config(self) -> dict[str, Json]:
        return {
            "embedding": self.embedding_size,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "tied": self.tied,
            "seed": self.seed,
            "dtype": self.dtype,
        }

    def _image(self, features: Variable) -> Variable:
        """features (batch, channels[, rows, columns]) → embedded image (batch, embedding)."""
        return self.image(self.mean_annotation(features))

    def _logits(self, h: Variable) -> Variable:
        if self.tied:
            return self.bottleneck(h) @ self.embedding.W.T + self.bias
        return self.output(h)

    def forward(self, features: Variable, words: Variable, noise: Noise | None = None) -> Forward:
        image = self._image(features)[None]  # (1, batch, embedding)
        inputs = pt.concatenate(
            [image, self.embedding(words)], axis=0
        )  # (time + 1, batch, embedding)
        h, _ = self.lstm(dropout(inputs, self.dropout, noise))
        h = dropout(h[1:].reshape((-1, self.hidden)), self.dropout, noise)
        return Forward(self._logits(h), {})

    def begin(self, features: Variable) -> tuple[list[Variable], list[Variable]]:
        h, c = self.lstm.step(self._image(features), *self.lstm.zeros(features.shape[0]))
        return [h, c], []

    def advance(
        self, words: Variable, state: Sequence[Variable], context: Sequence[Variable]
    ) -> tuple[Variable, list[Variable], dict[str, Variable]]:
        h, c = self.lstm.step(self.embedding(words), *state)
        return log_softmax(self._logits(h)), [h, c], {}
