"""The captioner of the HSE course's final project: an LSTM between two narrow layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.layers import LSTM, Embedding, Linear
from dlmie.layers.noise import Noise, dropout
from dlmie.layers.options import LayerOptions
from dlmie.layers.parameterless import elu
from dlmie.models.captioners.captioner import Captioner, Forward
from dlmie.ops.losses.cross_entropy import log_softmax
from dlmie.typing import Json


class BottleneckLSTM(Captioner):
    """``h0 = c0 = elu(W' elu(W image))``; the words' scores are ``V elu(U h)``.

    The narrow layers ``W`` (channels × image_bottleneck) and ``U`` (hidden × output_bottleneck)
    keep the model small: of 2.7 million parameters for 8,769 words, 1.06 million are the output's,
    which would be 2.6 million without ``U``.  The defaults are the project's ("Introduction to
    Deep Learning", Higher School of Economics, week 6).

    Parameters
    ----------
    annotations, vocabulary, seed, dtype
        See :class:`~dlmie.models.captioners.captioner.Captioner`.  A grid is averaged.
    image_bottleneck : int
        Units between the image and the first state.
    embedding : int
        Size of the word vectors.
    hidden : int
        Size of the LSTM.
    output_bottleneck : int
        Units between the LSTM and the words' scores.
    dropout : float
        Rate at the LSTM's inputs and before the last layers; the project has none.

    Examples
    --------
    >>> vocabulary = Vocabulary.build([["a", "dog"]], min_count=1)
    >>> model = BottleneckLSTM((2048,), vocabulary)
    >>> [int(p.get_value().size) for p in model.parameters if "image" in str(p.name)]
    [245760, 120]
    """

    kind = "bottleneck-lstm"

    def __init__(
        self,
        annotations: Variable | Sequence[int],
        vocabulary: Vocabulary,
        *,
        image_bottleneck: int = 120,
        embedding: int = 100,
        hidden: int = 300,
        output_bottleneck: int = 120,
        dropout: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(annotations, vocabulary, seed=seed, dtype=dtype)
        self.image_bottleneck, self.output_bottleneck = image_bottleneck, output_bottleneck
        self.embedding_size, self.hidden, self.dropout = embedding, hidden, dropout
        made: LayerOptions = {"rng": np.random.default_rng(seed), "dtype": dtype}
        self.image = Linear("/image", self.annotation_shape[0], image_bottleneck, **made)
        self.first = Linear("/first", image_bottleneck, hidden, **made)
        self.embedding = Embedding("/embedding", len(vocabulary), embedding, **made)
        self.lstm = LSTM("/lstm", embedding, hidden, **made)
        self.bottleneck = Linear("/bottleneck", hidden, output_bottleneck, **made)
        self.output = Linear("/output", output_bottleneck, len(vocabulary), **made)

    @property
    def config(self) -> dict[str, Json]:
        return {
            "image_bottleneck": self.image_bottleneck,
            "embedding": self.embedding_size,
            "hidden": self.hidden,
            "output_bottleneck": self.output_bottleneck,
            "dropout": self.dropout,
            "seed": self.seed,
            "dtype": self.dtype,
        }

    def _first(self, features: Variable) -> Variable:
        """features (images, channels[, rows, columns]) → h0 and c0 (images, hidden)."""
        return elu(self.first(elu(self.image(self.mean_annotation(features)))))

    def _logits(self, h: Variable) -> Variable:
        return self.output(elu(self.bottleneck(h)))

    def forward(self, features: Variable, words: Variable, noise: Noise | None = None) -> Forward:
        state = self._first(features)
        x = dropout(self.embedding(words), self.dropout, noise)  # (time, batch, embedding)
        h, _ = self.lstm(x, state, state)
        h = dropout(h.reshape((-1, self.hidden)), self.dropout, noise)
        return Forward(self._logits(h), {})

    def begin(self, features: Variable) -> tuple[list[Variable], list[Variable]]:
        state = self._first(features)
        return [state, state], []

    def advance(
        self, words: Variable, state: Sequence[Variable], context: Sequence[Variable]
    ) -> tuple[Variable, list[Variable], dict[str, Variable]]:
        h, c = self.lstm.step(self.embedding(words), *state)
        return log_softmax(self._logits(h)), [h, c], {}
