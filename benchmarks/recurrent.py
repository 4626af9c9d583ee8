"""Rows of ``dlmie bench``: training steps of captioners, beside PyTorch from equal weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.agreement import Tolerance, agree
from benchmarks.limits import FUNCTION, counted
from benchmarks.timing import Entry, race, using_threads
from dlmie import optim
from dlmie.compilation import function
from dlmie.graph.network import find_parameters, parameter
from dlmie.ops.attention.attention_lstm import attention_lstm_sequence
from dlmie.ops.dense.embedding import embedding
from dlmie.ops.losses.cross_entropy import softmax_cross_entropy
from dlmie.ops.recurrent.lstm import lstm_sequence

CHANNELS, HIDDEN, IMAGE = 512, 512, 4096
RATE = 1e-4
TOLERANCE = Tolerance(element=1e-4, norm=1e-4)  # of losses


@dataclass(frozen=True)
class Size:
    """Size of a training step: captions, their length, the side of the grid, the vocabulary."""

    batch: int = 64
    time: int = 20
    grid: int = 14
    words: int = 9000

    @property
    def cells(self) -> int:
        return self.grid * self.grid

    def tokens(self) -> torch.Tensor:
        shape = (self.batch, self.time + 1)
        return torch.randint(0, self.words, shape, generator=torch.Generator().manual_seed(0))


SIZE = Size()


class Steps(NamedTuple):
    """The same training step of the same model in dlmie and in PyTorch; each returns its loss."""

    ours: Callable[[], float]
    theirs: Callable[[], float]


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def _linear(name: str, layer: nn.Linear) -> Callable[[Any], Any]:
    """A copy of a PyTorch layer, over the last axis."""
    w = parameter(f"/{name}/W", _array(layer.weight).T.copy())
    b = None if layer.bias is None else parameter(f"/{name}/b", _array(layer.bias))

    def apply(x: Any) -> Any:
        leading = [x.shape[i] for i in range(x.type.ndim - 1)]
        y = x.reshape((-1, layer.in_features)) @ w
        y = y if b is None else y + b
        return y.reshape((*leading, layer.out_features))

    return apply


def _gates(weights: torch.Tensor) -> np.ndarray:
    """PyTorch's gates i, f, g, o in dlmie's order i, f, o, g, along the last axis."""
    i, f, g, o = np.split(_array(weights).T, 4, axis=-1)
    return np.concatenate([i, f, o, g], axis=-1)


class _TorchAttention(nn.Module):
    """Show, Attend and Tell as PyTorch users would write it."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, HIDDEN)
        self.cell = nn.LSTMCell(HIDDEN + CHANNELS, HIDDEN)
        self.project = nn.Linear(CHANNELS, HIDDEN)
        self.query = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.score = nn.Linear(HIDDEN, 1, bias=False)
        self.gate = nn.Linear(HIDDEN, CHANNELS)
        self.first_h, self.first_c = nn.Linear(CHANNELS, HIDDEN), nn.Linear(CHANNELS, HIDDEN)
        self.output = nn.Linear(HIDDEN, words)

    def forward(self, a: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        mean = a.mean(1)
        h, c = torch.tanh(self.first_h(mean)), torch.tanh(self.first_c(mean))
        projected, x = self.project(a), self.words(tokens[:, :-1])
        states, alphas = [], []
        for t in range(tokens.shape[1] - 1):
            score = self.score(torch.tanh(projected + self.query(h)[:, None])).squeeze(2)
            alpha = F.softmax(score, 1)
            z = (a * alpha[:, :, None]).sum(1) * torch.sigmoid(self.gate(h))
            h, c = self.cell(torch.cat([x[:, t], z], 1), (h, c))
            states.append(h)
            alphas.append(alpha)
        logits = self.output(torch.stack(states, 1))
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].reshape(-1))
        return loss + ((1 - torch.stack(alphas, 1).sum(1)) ** 2).mean()


class _TorchShowTell(nn.Module):
    """Show and Tell as PyTorch users would write it: the fused LSTM."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, HIDDEN)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.image, self.output = nn.Linear(IMAGE, HIDDEN), nn.Linear(HIDDEN, words)

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.image(features)[:, None], self.words(tokens[:, :-1])], 1)
        logits = self.output(self.lstm(x)[0][:, 1:])
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].reshape(-1))


def _torch_step(module: nn.Module, compile: bool, *data: torch.Tensor) -> Callable[[], float]:
    optimizer = torch.optim.Adam(module.parameters(), RATE)
    forward = torch.compile(module) if compile else module

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(*data)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _dlmie_step(loss: Any, inputs: list[Any], data: list[np.ndarray]) -> Callable[[], float]:
    updates = optim.adam(RATE).updates(loss, find_parameters(loss))
    run = function(inputs, loss, updates=list(updates))
    return lambda: float(run(*data))


def _cross_entropy(h: Any, tokens: Any, output: Callable[[Any], Any]) -> Any:
    logits = output(h.reshape((-1, HIDDEN)))
    losses = softmax_cross_entropy(logits, tokens[:, 1:].T.flatten())
    return losses.mean(dtype="float32")


def attend_steps(size: Size = SIZE, compile: bool = False) -> Steps:
    """One training step of Show, Attend and Tell: dlmie's and PyTorch's, from equal weights."""
    torch.manual_seed(0)
    module = _TorchAttention(size.words)
    annotations = torch.randn(size.batch, size.cells, CHANNELS).relu()
    a = pt.tensor("a", dtype="float32", shape=(None, size.cells, CHANNELS))
    tokens = pt.imatrix("tokens")
    cell = module.cell
    w_x, w_z = np.split(_gates(cell.weight_ih), 2)
    b = _gates(cell.bias_ih[None].T + cell.bias_hh[None].T)[0]
    mean = a.mean(axis=1, dtype="float32")
    x = embedding(parameter("/words", _array(module.words.weight)), tokens[:, :-1].T)
    flat = x.reshape((-1, HIDDEN)) @ parameter("/W_x", w_x) + parameter("/b", b)
    seen = attention_lstm_sequence(
        flat.reshape((x.shape[0], x.shape[1], 4 * HIDDEN)),
        a,
        _linear("project", module.project)(a),
        pt.tanh(_linear("h", module.first_h)(mean)),
        pt.tanh(_linear("c", module.first_c)(mean)),
        parameter("/W_h", _gates(cell.weight_hh)),
        parameter("/W_z", w_z),
        parameter("/W_q", _array(module.query.weight).T.copy()),
        parameter("/v", _array(module.score.weight)[0]),
        gate=(
            parameter("/W_beta", _array(module.gate.weight).T.copy()),
            parameter("/b_beta", _array(module.gate.bias)),
        ),
    )
    loss = _cross_entropy(seen.h, tokens, _linear("output", module.output))
    loss = loss + ((1 - seen.alpha.sum(axis=0)) ** 2).mean(dtype="float32")
    numbers = size.tokens()
    data = [_array(annotations), numbers.numpy().astype("int32")]
    theirs = _torch_step(module, compile, annotations, numbers)
    return Steps(_dlmie_step(loss, [a, tokens], data), theirs)


def show_tell_steps(size: Size = SIZE, compile: bool = False) -> Steps:
    """One training step of Show and Tell: dlmie's and PyTorch's, from equal weights."""
    torch.manual_seed(0)
    module = _TorchShowTell(size.words)
    features = torch.randn(size.batch, IMAGE)
    f, tokens = pt.fmatrix("features"), pt.imatrix("tokens")
    lstm = module.lstm
    words = embedding(parameter("/words", _array(module.words.weight)), tokens[:, :-1].T)
    x = pt.concatenate([_linear("image", module.image)(f)[None], words], axis=0)
    b = _gates((lstm.bias_ih_l0 + lstm.bias_hh_l0)[None].T)[0]
    w_x = parameter("/W_x", _gates(lstm.weight_ih_l0))
    flat = x.reshape((-1, HIDDEN)) @ w_x + parameter("/b", b)
    zero = pt.zeros((f.shape[0], HIDDEN), dtype="float32")
    xp = flat.reshape((x.shape[0], x.shape[1], 4 * HIDDEN))
    h, _ = lstm_sequence(xp, zero, zero, parameter("/W_h", _gates(lstm.weight_hh_l0)))
    loss = _cross_entropy(h[1:], tokens, _linear("output", module.output))
    numbers = size.tokens()
    data = [_array(features), numbers.numpy().astype("int32")]
    theirs = _torch_step(module, compile, features, numbers)
    return Steps(_dlmie_step(loss, [f, tokens], data), theirs)


def row(
    steps: Callable[..., Steps],
    *,
    size: Size = SIZE,
    threads: int | None = None,
    compile: bool = False,
) -> Entry:
    """Compare the losses of two steps, the second of which has seen an update; then time."""
    with using_threads(threads):
        ours, theirs = steps(size)
        compiled = steps(size, compile=True).theirs if compile else None
        agree(ours(), theirs(), TOLERANCE)
        if compiled is not None:
            compiled()
        entry = race(ours, theirs, compiled=compiled, tolerance=TOLERANCE)
        work = counted(theirs, flop=_uncounted(size, steps is attend_steps))
        return {**entry, **work.limit()}


def _uncounted(size: Size, attends: bool) -> float:
    """What PyTorch does not count: its fused LSTM, or tanh of every score, computed three times."""
    rows = size.batch * size.time
    if attends:
        return 3 * rows * size.cells * HIDDEN * FUNCTION
    return 3 * 2 * (rows + size.batch) * 2 * HIDDEN * 4 * HIDDEN


def show_attend_tell_step(compile: bool = False) -> Entry:
    """B 64, T 20, 196 cells × 512, H = E = A = 512, V 9000, vector gate, Adam."""
    return row(attend_steps, compile=compile)


def show_tell_step(compile: bool = False) -> Entry:
    """B 64, T 20, 4096-d image, H = E = 512, V 9000, Adam."""
    return row(show_tell_steps, compile=compile)


# Show, Attend and Tell at other sizes: one thing changes at a time.
SCALED: dict[str, dict[str, Any]] = {
    "batch1": {"size": Size(batch=1)},
    "batch8": {"size": Size(batch=8)},
    "grid7": {"size": Size(grid=7)},
    "grid28_batch16": {"size": Size(grid=28, batch=16)},
    "words1k": {"size": Size(words=1000)},
    "words50k": {"size": Size(words=50_000)},
    "time5": {"size": Size(time=5)},
    "time40": {"size": Size(time=40)},
    "1_thread": {"threads": 1},
}

ROWS = {
    "show_attend_tell_step": show_attend_tell_step,
    "show_tell_step": show_tell_step,
    **{f"attend_{kind}": partial(row, attend_steps, **options) for kind, options in SCALED.items()},
}
