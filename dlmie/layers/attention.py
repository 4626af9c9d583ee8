"""The LSTM that attends to a grid of annotations before every word."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph import init
from dlmie.graph.network import parameter
from dlmie.layers.dense import Linear
from dlmie.layers.recurrent import LSTM
from dlmie.ops.attention.attention_lstm import SCORES, Attended, attention_lstm_sequence

GATES = ("none", "scalar", "vector")


class AttentionLSTM:
    """LSTM with attention, in two parts: ``project`` once an image, then the sequence.

    Parameters
    ----------
    name : str
        Prefix of the parameters: those of an :class:`~dlmie.layers.recurrent.LSTM`, ``NAME/W_z``
        (channels, 4 × hidden), ``NAME/annotations/W``, ``/b``, ``NAME/W_q`` (hidden, attention),
        ``NAME/v`` (attention,) and, with a gate, ``NAME/W_beta``, ``NAME/b_beta``.
    inputs, channels, hidden, attention : int
        Sizes of a word vector, an annotation, the state, and the attention's hidden layer.
    score : str
        "tanh", "relu" or "dot"; see :mod:`dlmie.ops.attention.attention_lstm`.
    gate : str
        "none", "scalar" or "vector".
    """

    def __init__(
        self,
        name: str,
        inputs: int,
        channels: int,
        hidden: int,
        attention: int,
        *,
        rng: np.random.Generator,
        score: str = "tanh",
        gate: str = "scalar",
        dtype: str = "float32",
    ) -> None:
        if score not in SCORES or gate not in GATES:
            raise DlmieError(
                f"score must be one of {', '.join(SCORES)} and gate one of {', '.join(GATES)}, "
                f"not {score!r} and {gate!r}"
            )
        self.lstm = LSTM(name, inputs, hidden, rng=rng, dtype=dtype)
        self.score = score
        glorot = init.glorot_uniform()
        self.annotations = Linear(f"{name}/annotations", channels, attention, rng=rng, dtype=dtype)

        def make(part: str, shape: tuple[int, ...]) -> Any:
            return parameter(f"{name}/{part}", glorot(rng, shape, dtype), regularizable=True)

        self.W_z = make("W_z", (channels, 4 * hidden))
        self.W_q = make("W_q", (hidden, attention))
        # Never zero: attention would be uniform and pass no gradient on.
        first = init.normal(1 / np.sqrt(attention))(rng, (attention,), dtype)
        used = score != "dot"
        self.v = parameter(f"{name}/v", first, trainable=used, regularizable=used)
        self.gate = None
        if gate != "none":
            width = 1 if gate == "scalar" else channels
            b_beta = parameter(f"{name}/b_beta", np.zeros(width, dtype))
            self.gate = (make("W_beta", (hidden, width)), b_beta)

    def project(self, annotations: Variable) -> Variable:
        """annotations (images, cells, channels) → (images, cells, attention)."""
        return self.annotations(annotations)

    def __call__(
        self,
        x: Variable,
        annotations: Variable,
        projected: Variable,
        h: Variable,
        c: Variable,
        *,
        mask: Variable | None = None,
        hard: tuple[Variable, Variable] | None = None,
    ) -> Attended:
        """x (time, batch, inputs), h and c (batch, hidden) → all that the sequence op gives."""
        return attention_lstm_sequence(
            self.lstm.project(x),
            annotations,
            projected,
            h,
            c,
            self.lstm.W_h,
            self.W_z,
            self.W_q,
            self.v,
            gate=self.gate,
            mask=mask,
            hard=hard,
            score=self.score,
        )
