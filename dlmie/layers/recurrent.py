"""Recurrent layers over time-major sequences (time, batch, size)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.graph import init
from dlmie.graph.network import parameter
from dlmie.ops.recurrent.lstm import lstm_sequence
from dlmie.ops.recurrent.rnn import rnn_sequence


class _Recurrent:
    """Parameters and input projection that the recurrent layers share.

    Parameters
    ----------
    name : str
        Prefix of the parameters: ``NAME/W_x`` (inputs, gates × hidden), ``NAME/W_h`` (hidden,
        gates × hidden) and ``NAME/b``.
    inputs, hidden : int
    W_x, W_h, b : initializer or array
    """

    gates: int
    bias: Any = 0.0

    def __init__(
        self,
        name: str,
        inputs: int,
        hidden: int,
        *,
        rng: np.random.Generator,
        W_x: Any = None,
        W_h: Any = None,
        b: Any = None,
        dtype: str = "float32",
    ) -> None:
        self.inputs, self.hidden, self.dtype = inputs, hidden, dtype
        size = self.gates * hidden

        def make(part: str, given: Any, default: Any, shape: tuple[int, ...], decays: bool) -> Any:
            first = init.resolve(default if given is None else given)(rng, shape, dtype)
            return parameter(f"{name}/{part}", first, regularizable=decays)

        self.W_x = make("W_x", W_x, init.glorot_uniform(), (inputs, size), True)
        # Each gate's recurrent matrix orthogonal (Saxe et al., 2014).
        square = init.per_gate(init.orthogonal(), self.gates)
        self.W_h = make("W_h", W_h, square, (hidden, size), True)
        self.b = make("b", b, self.bias, (size,), False)

    def project(self, x: Variable) -> Variable:
        """The input's part of the gates, for all steps in one matrix product.

        x (time, batch, inputs) → (time, batch, gates × hidden).
        """
        time, batch = x.shape[0], x.shape[1]
        flat = x.reshape((-1, self.inputs)) @ self.W_x + self.b
        return flat.reshape((time, batch, self.gates * self.hidden))

    def zeros(self, batch: Variable) -> Any:
        """The state before the first step."""
        return pt.zeros((batch, self.hidden), dtype=self.dtype)


class LSTM(_Recurrent):
    """Long short-term memory without peepholes; gates in the order i, f, o, g.

    ``c_t = σ(f) c_{t-1} + σ(i) tanh(g)``, ``h_t = σ(o) tanh(c_t)``.  The forget gate's bias starts
    at 1 (Jozefowicz et al., 2015).
    """

    gates = 4
    bias = staticmethod(init.lstm_bias())

    def zeros(self, batch: Variable) -> tuple[Variable, Variable]:
        return super().zeros(batch), super().zeros(batch)

    def __call__(
        self,
        x: Variable,
        h: Variable | None = None,
        c: Variable | None = None,
        mask: Variable | None = None,
    ) -> tuple[Variable, Variable]:
        """x (time, batch, inputs), h and c (batch, hidden) or zero → h, c (time, batch, hidden).

        Where ``mask`` (time, batch) is 0 the state is carried over.
        """
        h0, c0 = self.zeros(x.shape[1])
        return lstm_sequence(
            self.project(x), h0 if h is None else h, c0 if c is None else c, self.W_h, mask
        )

    def step(self, x: Variable, h: Variable, c: Variable) -> tuple[Variable, Variable]:
        """One step: x (batch, inputs), h and c (batch, hidden) → new h and c."""
        hs, cs = self(x[None], h, c)
        return hs[0], cs[0]


class RNN(_Recurrent):
    """Vanilla recurrent layer: ``h_t = tanh(x_t W_x + h_{t-1} W_h + b)``."""

    gates = 1

    def __call__(
        self, x: Variable, h: Variable | None = None, mask: Variable | None = None
    ) -> Variable:
        """x (time, batch, inputs), h (batch, hidden) or zero → (time, batch, hidden)."""
        first = self.zeros(x.shape[1]) if h is None else h
        return rnn_sequence(self.project(x), first, self.W_h, mask)

    def step(self, x: Variable, h: Variable) -> Variable:
        """One step: x (batch, inputs), h (batch, hidden) → new h."""
        return self(x[None], h)[0]
