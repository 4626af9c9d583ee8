"""Parts of a captioner's training step, and how they scale, dlmie beside PyTorch.

    python -m benchmarks.recurrent_parts [NAME ...]

Every row is forward and backward (but ``adam_update``) and compares the gradients before it times.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import torch
import torch.nn.functional as F

from benchmarks.limits import FUNCTION, Work, nbytes
from benchmarks.timing import race, using_threads
from dlmie.compilation import function
from dlmie.ops.attention.attention_lstm import attention_lstm_sequence
from dlmie.ops.dense.embedding import embedding
from dlmie.ops.losses.cross_entropy import softmax_cross_entropy
from dlmie.ops.optimizers.updates import adam_update
from dlmie.ops.recurrent.lstm import lstm_sequence

BATCH, TIME, SIZE, WORDS = 64, 20, 512, 9000

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


def _compare(ours: Run, theirs: Run, tolerance: float = 2e-4) -> None:
    for a, b in zip(ours(), theirs(), strict=True):
        if np.abs(a - b).max() > tolerance * max(float(np.abs(b).max()), 1e-6):
            raise AssertionError("the gradients differ")


def _race(
    name: str,
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    work: Work,
    **arrays: np.ndarray,
) -> dict[str, Any]:
    learned = [k for k, v in arrays.items() if v.dtype == np.float32]
    runs = _ours(ours, arrays, learned), _theirs(theirs, arrays, learned)
    _compare(*runs)
    return race(name, *runs, work=work)


def lstm(name: str, batch: int = BATCH, time: int = TIME, threads: int | None = None) -> Any:
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
        _compare(mine, theirs)
        return race(name, mine, theirs, work=work)


def attention(name: str, batch: int = BATCH, time: int = TIME, grid: int = 14) -> Any:
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
    return _race(name, ours, theirs, work, **arrays)


def cross_entropy(name: str, rows: int = BATCH * TIME, words: int = WORDS) -> Any:
    """Cross-entropy of every row, and the gradient of the logits."""
    targets = np.random.default_rng(0).integers(words, size=rows)

    def ours(logits: Any, targets: Any) -> Any:
        return softmax_cross_entropy(logits, targets)

    def theirs(logits: Any, targets: Any) -> Any:
        return F.cross_entropy(logits, targets, reduction="none")

    logits = _numbers(rows, words)
    work = Work(2 * logits.size * FUNCTION, 3 * logits.nbytes)  # read twice, written once
    return _race(name, ours, theirs, work, logits=logits, targets=targets)


def embedding_gradient(name: str, words: int = WORDS) -> Any:
    """1,280 rows of an embedding matrix, and its dense gradient."""
    ids = np.random.default_rng(0).integers(words, size=(TIME, BATCH))

    def theirs(w: Any, ids: Any) -> Any:
        return F.embedding(ids, w)

    w = _numbers(words, SIZE)
    work = Work(bytes=w.nbytes + 4 * ids.size * SIZE * 4)
    return _race(name, embedding, theirs, work, w=w, ids=ids)


def adam(name: str, words: int = WORDS) -> Any:
    """One Adam update of a words × 512 matrix; PyTorch's with ``fused=True``."""
    start, gradient = _numbers(words, SIZE), _numbers(words, SIZE, seed=1)
    p, m, v = (pytensor.shared(a.copy(), shape=a.shape) for a in (start, 0 * start, 0 * start))
    g, count = pytensor.shared(gradient, shape=gradient.shape), pytensor.shared(np.int64(0))
    constants = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    new = adam_update(p, m, v, g, np.float32(1e-3), count + 1, **constants)
    run = function([], [], updates=[*zip((p, m, v), new, strict=True), (count, count + 1)])
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    parameter.grad = torch.from_numpy(gradient)
    optimiser = torch.optim.Adam([parameter], 1e-3, fused=True)
    for _ in range(3):
        run()
        optimiser.step()
    if not np.allclose(p.get_value(), parameter.detach().numpy(), atol=1e-6):
        raise AssertionError("the updates differ")
    # The parameter and two slots are read and written, the gradient is read.
    return race(name, run, optimiser.step, work=Work(bytes=7 * start.nbytes))


ROWS = {
    name: partial(part, name, **options)
    for name, part, options in [
        ("lstm", lstm, {}),
        ("lstm_batch1", lstm, {"batch": 1}),
        ("lstm_time5", lstm, {"time": 5}),
        ("lstm_time40", lstm, {"time": 40}),
        ("lstm_batch8", lstm, {"batch": 8}),
        ("lstm_1_thread", lstm, {"threads": 1}),
        ("attention_lstm", attention, {}),
        ("attention_lstm_batch1", attention, {"batch": 1}),
        ("attention_lstm_7x7", attention, {"grid": 7}),
        ("attention_lstm_28x28", attention, {"grid": 28, "batch": 16}),
        ("cross_entropy", cross_entropy, {}),
        ("cross_entropy_1k", cross_entropy, {"words": 1000}),
        ("cross_entropy_50k", cross_entropy, {"words": 50_000}),
        ("embedding", embedding_gradient, {}),
        ("adam_update", adam, {}),
    ]
}


def main() -> None:
    """Run the rows named on the command line, or all."""
    for name in sys.argv[1:] or ROWS:
        print(json.dumps(ROWS[name]()))


if __name__ == "__main__":
    main()
