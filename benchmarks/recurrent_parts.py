"""Rows of ``dlmie bench``: parts of a captioner's training step, and how they scale.

Every row is forward and backward, except ``adam_update``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import torch
import torch.nn.functional as F

from benchmarks.agreement import Tolerance, agree
from benchmarks.limits import FUNCTION, Work, nbytes
from benchmarks.timing import Entry, race, using_threads
from dlmie.compilation import function
from dlmie.ops.attention.attention_lstm import attention_lstm_sequence
from dlmie.ops.dense.embedding import embedding
from dlmie.ops.losses.cross_entropy import softmax_cross_entropy
from dlmie.ops.optimizers.updates import adam_update
from dlmie.ops.recurrent.lstm import lstm_sequence

BATCH, TIME, SIZE, WORDS = 64, 20, 512, 9000
TOLERANCE = Tolerance(element=1e-2, norm=2e-4)

Run = Callable[[], list[np.ndarray]]


def _numbers(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype("float32")


def _ours(build: Callable[..., Any], arrays: dict[str, np.ndarray], learned: list[str]) -> Run:
    """The gradients of the sum of what ``build`` makes of symbolic inputs."""
    inputs = {k: pt.tensor(k, dtype=v.dtype, shape=(None,) * v.ndim) for k, v in arrays.items()}
    gradients = pytensor.grad(build(**inputs).sum(), [inputs[k] for k in learned])
    run = function(list(inputs.values()), gradients)
    return lambda: run(*arrays.values())


def _theirs(build: Callable[..., Any], arrays: dict[str, np.ndarray], learned: list[str]) -> Run:
    """The same by autograd."""
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    for name in learned:
        tensors[name].requires_grad_()

    def run() -> list[np.ndarray]:
        gradients = torch.autograd.grad(build(**tensors).sum(), [tensors[k] for k in learned])
        return [g.numpy() for g in gradients]

    return run


def _race(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    work: Work,
    **arrays: np.ndarray,
) -> Entry:
    """Race the gradients with respect to every float array."""
    learned = [k for k, v in arrays.items() if v.dtype == np.float32]
    with using_threads():
        runs = _ours(ours, arrays, learned), _theirs(theirs, arrays, learned)
        return race(*runs, tolerance=TOLERANCE, work=work)


def lstm(batch: int = BATCH, time: int = TIME, threads: int | None = None) -> Entry:
    """An LSTM of 512 units over 512 inputs; PyTorch's is its fused one."""
    module = torch.nn.LSTM(SIZE, SIZE)
    with torch.no_grad():
        module.bias_hh_l0.zero_()
    w_x, w_h, b = (
        getattr(module, k).detach() for k in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
    )
    # PyTorch's gates are i, f, g, o; dlmie's i, f, o, g.
    order = np.r_[0 : 2 * SIZE, 3 * SIZE : 4 * SIZE, 2 * SIZE : 3 * SIZE]
    x, zero = _numbers(time, batch, SIZE), np.zeros((batch, SIZE), "float32")
    arrays = {"x": x, "w_x": w_x.numpy()[order].T.copy(), "w_h": w_h.numpy()[order].T.copy()}
    bias = b.numpy()[order].copy()

    def ours(x: Any, w_x: Any, w_h: Any) -> Any:
        xp = (x.reshape((-1, SIZE)) @ w_x + bias).reshape((x.shape[0], x.shape[1], 4 * SIZE))
        return lstm_sequence(xp, zero, zero, w_h)[0]

    theirs_x = torch.from_numpy(x).requires_grad_()

    def theirs() -> list[np.ndarray]:
        wanted = [theirs_x, module.weight_ih_l0, module.weight_hh_l0]
        g_x, g_w_x, g_w_h = torch.autograd.grad(module(theirs_x)[0].sum(), wanted)
        return [g_x.numpy(), g_w_x.numpy()[order].T, g_w_h.numpy()[order].T]

    mine = _ours(ours, arrays, list(arrays))
    rows = time * batch
    products = 3 * 2 * rows * 2 * SIZE * 4 * SIZE  # forward, and the gradients of both factors
    work = Work(products + 2 * 5 * rows * SIZE * FUNCTION, 2 * nbytes(*arrays.values()))
    with using_threads(threads):
        return race(mine, theirs, tolerance=TOLERANCE, work=work)


def attention(batch: int = BATCH, time: int = TIME, grid: int = 14) -> Entry:
    """The attention LSTM over a grid of 512 channels, all sizes 512, without the projections."""
    w = partial(_numbers, scale=SIZE**-0.5)
    arrays = {
        "xp": _numbers(time, batch, 4 * SIZE),
        "a": np.maximum(_numbers(batch, grid * grid, SIZE, seed=1), 0),
        "p": _numbers(batch, grid * grid, SIZE, seed=2),
        "h0": _numbers(batch, SIZE, seed=3),
        "c0": _numbers(batch, SIZE, seed=4),
        "w_h": w(SIZE, 4 * SIZE, seed=5),
        "w_z": w(SIZE, 4 * SIZE, seed=6),
        "w_q": w(SIZE, SIZE, seed=7),
        "v": w(SIZE, seed=8),
    }

    def ours(xp: Any, a: Any, p: Any, h0: Any, c0: Any, **weights: Any) -> Any:
        return attention_lstm_sequence(xp, a, p, h0, c0, *weights.values()).h

    def theirs(xp: Any, a: Any, p: Any, h0: Any, c0: Any, **weights: Any) -> Any:
        w_h, w_z, w_q, v = weights.values()
        h, c, states = h0, c0, []
        for t in range(len(xp)):
            alpha = F.softmax(torch.tanh(p + (h @ w_q)[:, None]) @ v, dim=1)
            z = (a * alpha[:, :, None]).sum(1)
            i, f, o, g = (xp[t] + h @ w_h + z @ w_z).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states)

    rows, cells = time * batch, grid * grid
    products = 3 * 2 * rows * SIZE * (4 + 4 + 1) * SIZE
    weighing = 3 * 2 * rows * cells * SIZE  # the context; backward the same for a and for alpha
    scores = 3 * rows * cells * SIZE * FUNCTION  # tanh forward, in d_query and in d_projection
    work = Work(products + weighing + scores, 2 * nbytes(*arrays.values()))
    return _race(ours, theirs, work, **arrays)


def cross_entropy(rows: int = BATCH * TIME, words: int = WORDS) -> Entry:
    """Cross-entropy of every row, and the gradient of the logits."""
    targets = np.random.default_rng(0).integers(words, size=rows)

    def ours(logits: Any, targets: Any) -> Any:
        return softmax_cross_entropy(logits, targets)

    def theirs(logits: Any, targets: Any) -> Any:
        return F.cross_entropy(logits, targets, reduction="none")

    logits = _numbers(rows, words)
    work = Work(2 * logits.size * FUNCTION, 3 * logits.nbytes)  # read twice, written once
    return _race(ours, theirs, work, logits=logits, targets=targets)


def embedding_gradient(words: int = WORDS) -> Entry:
    """1,280 rows of an embedding matrix, and its dense gradient."""
    ids = np.random.default_rng(0).integers(words, size=(TIME, BATCH))

    def ours(w: Any, ids: Any) -> Any:
        return embedding(w, ids)

    def theirs(w: Any, ids: Any) -> Any:
        return F.embedding(ids, w)

    w = _numbers(words, SIZE)
    work = Work(bytes=w.nbytes + 4 * ids.size * SIZE * 4)
    return _race(ours, theirs, work, w=w, ids=ids)


def adam(words: int = WORDS) -> Entry:
    """One Adam update of a words × 512 matrix; PyTorch's with ``fused=True``."""
    start, gradient = _numbers(words, SIZE), _numbers(words, SIZE, seed=1)
    p, m, v = (pytensor.shared(a.copy(), shape=a.shape) for a in (start, 0 * start, 0 * start))
    g, count = pytensor.shared(gradient, shape=gradient.shape), pytensor.shared(np.int64(0))
    constants = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    new = adam_update(p, m, v, g, np.float32(1e-3), count + 1, **constants)
    run = function([], [], updates=[*zip((p, m, v), new, strict=True), (count, count + 1)])
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    parameter.grad = torch.from_numpy(gradient)
    optimizer = torch.optim.Adam([parameter], 1e-3, fused=True)
    for _ in range(3):
        run()
        optimizer.step()
    agreement = agree(p.get_value(), parameter.detach(), Tolerance(element=1e-5, norm=1e-6))
    # The parameter and two slots are read and written, the gradient is read.
    with using_threads():
        entry = race(run, optimizer.step, work=Work(bytes=7 * start.nbytes))
    return {**entry, **agreement.entry()}


ROWS: dict[str, Callable[[], Entry]] = {
    "lstm": lstm,
    "lstm_batch1": partial(lstm, batch=1),
    "lstm_time5": partial(lstm, time=5),
    "lstm_time40": partial(lstm, time=40),
    "lstm_batch8": partial(lstm, batch=8),
    "lstm_1_thread": partial(lstm, threads=1),
    "attention_lstm": attention,
    "attention_lstm_batch1": partial(attention, batch=1),
    "attention_lstm_7x7": partial(attention, grid=7),
    "attention_lstm_28x28": partial(attention, grid=28, batch=16),
    "cross_entropy": cross_entropy,
    "cross_entropy_1k": partial(cross_entropy, words=1000),
    "cross_entropy_50k": partial(cross_entropy, words=50_000),
    "embedding": embedding_gradient,
    "adam_update": adam,
}
