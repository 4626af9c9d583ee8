"""CaptioningRNN, the captioner of the cs231n assignments: the image is the first hidden state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.deprecation import renamed_arguments
from dlmie.errors import DlmieError
from dlmie.files.containers import assign
from dlmie.graph import init
from dlmie.graph.network import parameter
from dlmie.layers import LSTM, RNN, Embedding, Linear
from dlmie.layers.noise import Noise
from dlmie.layers.options import LayerOptions
from dlmie.models.captioners.captioner import Captioner, Forward
from dlmie.ops.attention.attention_lstm import Attended, attention_lstm_sequence
from dlmie.ops.losses.cross_entropy import log_softmax
from dlmie.typing import Json


class AttentionCell(LSTM):
    """LSTM that attends to a grid before each step, as in the Michigan edition of the course.

    With the grid A (cells, hidden), ``α = softmax(A h / √hidden)`` and ``Σ_l α_l A_l W_z`` enters
    the gates i, f, o, g.  ``NAME/W_z`` is the course's Wattn.
    """

    def __init__(
        self,
        name: str,
        inputs: int,
        hidden: int,
        *,
        W_x: init.Initializer | None = None,
        W_h: init.Initializer | None = None,
        b: float | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(name, inputs, hidden, W_x=W_x, W_h=W_h, b=b, **options)
        shape, start = (hidden, 4 * hidden), init.fan_in_normal()
        value = start(options["rng"], shape, self.dtype)
        self.W_z = parameter(f"{name}/W_z", value, regularizable=True)

    def attend(self, x: Variable, grid: Variable, h: Variable, c: Variable) -> Attended:
        """x (time, batch, inputs), grid (images, cells, hidden), h and c (batch, hidden)."""
        same = pt.eye(self.hidden, dtype=self.dtype)
        unused = pt.zeros(self.hidden, dtype=self.dtype)
        return attention_lstm_sequence(
            self.project(x), grid, grid, h, c, self.W_h, self.W_z, same, unused, score="dot"
        )


CELLS: dict[str, type[RNN | LSTM]] = {"rnn": RNN, "lstm": LSTM, "attention": AttentionCell}

# Names of the course's parameter dictionary, in its order; Wattn for cell "attention" only.
CS231N_NAMES = {
    "W_embed": "/embedding/W",
    "W_proj": "/image/W",
    "b_proj": "/image/b",
    "Wx": "/cell/W_x",
    "Wh": "/cell/W_h",
    "b": "/cell/b",
    "Wattn": "/cell/W_z",
    "W_vocab": "/output/W",
    "b_vocab": "/output/b",
}


class CaptionRNN(Captioner):
    """h0 = affine(image); vanilla RNN or LSTM; scores = affine(h).

    With attention, the affine map projects each cell of the grid, h0 and c0 are the mean of the
    projected grid, and every step looks at it.  The course's loss, a sum over time averaged over
    the batch, is ``loss()["per_caption"]``.

    Parameters
    ----------
    annotations, vocabulary, seed, dtype
        See :class:`~dlmie.models.captioners.captioner.Captioner`.  Without attention a grid is
        averaged.
    cell : str
        "rnn", "lstm" or "attention".
    embedding, hidden : int
        Sizes of the word vectors and of the hidden state.

    Examples
    --------
    >>> vocabulary = Vocabulary.build([["a", "dog"]], min_count=1)
    >>> model = CaptionRNN((400, 4, 4), vocabulary, cell="attention", embedding=8, hidden=8)
    >>> sorted(model.get_cs231n())
    ['W_embed', 'W_proj', 'W_vocab', 'Wattn', 'Wh', 'Wx', 'b', 'b_proj', 'b_vocab']
    """

    kind = "caption-rnn"

    @renamed_arguments(words="embedding")
    def __init__(
        self,
        annotations: Variable | Sequence[int],
        vocabulary: Vocabulary,
        *,
        cell: str = "lstm",
        embedding: int = 256,
        hidden: int = 512,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(annotations, vocabulary, seed=seed, dtype=dtype)
        if cell not in CELLS:
            raise DlmieError(f"unknown cell {cell!r}: use one of {', '.join(CELLS)}")
        if cell == "attention" and len(self.annotation_shape) != 3:
            raise DlmieError(
                f"attention needs a grid of annotations (channels, rows, columns), not "
                f"{self.annotation_shape}: choose an earlier layer of the encoder"
            )
        self.cell_name, self.embedding_size, self.hidden = cell, embedding, hidden
        made: LayerOptions = {"rng": np.random.default_rng(seed), "dtype": dtype}
        scaled = init.fan_in_normal()  # the course's N(0, 1) / sqrt(fan in)
        self.image = Linear("/image", self.annotation_shape[0], hidden, W=scaled, **made)
        self.embedding = Embedding(
            "/embedding", len(vocabulary), embedding, W=init.normal(0.01), **made
        )
        self.cell = CELLS[cell]("/cell", embedding, hidden, W_x=scaled, W_h=scaled, b=0.0, **made)
        self.output = Linear("/output", hidden, len(vocabulary), W=scaled, **made)

    @property
    def config(self) -> dict[str, Json]:
        return {
            "cell": self.cell_name,
            "embedding": self.embedding_size,
            "hidden": self.hidden,
            "seed": self.seed,
            "dtype": self.dtype,
        }

    def _first(self, features: Variable) -> Variable:
        """features (images, channels[, rows, columns]) → h0 (images, hidden)."""
        return self.image(self.mean_annotation(features))

    def _grid(self, features: Variable) -> tuple[Variable, Variable]:
        """features → the projected grid (images, cells, hidden), and its mean: h0 and c0."""
        grid = self.image(self.annotations(features))
        return grid, grid.mean(axis=1, dtype=self.dtype)

    def forward(self, features: Variable, words: Variable, noise: Noise | None = None) -> Forward:
        x = self.embedding(words)  # (time, batch, embedding)
        extras = {}
        if isinstance(self.cell, AttentionCell):
            grid, first = self._grid(features)
            seen = self.cell.attend(x, grid, first, first)
            h, extras["alphas"] = seen.h, seen.alpha
        elif isinstance(self.cell, LSTM):
            h, _ = self.cell(x, self._first(features))
        else:
            h = self.cell(x, self._first(features))
        return Forward(self.output(h.reshape((-1, self.hidden))), extras)

    def begin(self, features: Variable) -> tuple[list[Variable], list[Variable]]:
        if isinstance(self.cell, AttentionCell):
            grid, first = self._grid(features)
            return [first, first], [grid]
        h = self._first(features)
        return ([h, h.zeros_like()] if isinstance(self.cell, LSTM) else [h]), []

    def advance(
        self, words: Variable, state: Sequence[Variable], context: Sequence[Variable]
    ) -> tuple[Variable, list[Variable], dict[str, Variable]]:
        x = self.embedding(words)
        extras = {}
        if isinstance(self.cell, AttentionCell):
            seen = self.cell.attend(x[None], *context, *state)
            new = [seen.h[0], seen.c[0]]
            extras["alphas"] = seen.alpha[0].reshape((-1, *self.annotation_shape[1:]))
        elif isinstance(self.cell, LSTM):
            new = list(self.cell.step(x, *state))
        else:
            new = [self.cell.step(x, *state)]
        return log_softmax(self.output(new[0])), new, extras

    def set_cs231n(self, params: Mapping[str, np.ndarray]) -> None:
        """Take over the course's parameter dictionary (``W_embed``, ``W_proj``, …), or nothing.

        Raises
        ------
        WeightsError
            Names every missing, unknown and misshapen array.
        """
        arrays = {CS231N_NAMES.get(name, name): np.asarray(v) for name, v in params.items()}
        assign(self.parameters, arrays, "the parameter dictionary")

    def get_cs231n(self) -> dict[str, np.ndarray]:
        """The parameters under the course's names."""
        values = {str(p.name): p.get_value() for p in self.parameters}
        names = {ours: course for course, ours in CS231N_NAMES.items() if ours in values}
        return {course: values[ours] for ours, course in names.items()}
