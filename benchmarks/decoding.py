"""Rows of ``dlmie bench``: batched beam search, beside the same search in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from pytensor.graph.basic import Variable

from benchmarks.agreement import Disagreement
from benchmarks.limits import FUNCTION, Work
from benchmarks.timing import Entry, race, using_threads
from dlmie.captioning.decoding import Caption, Decoding
from dlmie.data.captions.vocabulary import END, PAD, SPECIAL, START, UNK, Vocabulary
from dlmie.models.captioners.show_attend_tell import ShowAttendTell

BEAM, LENGTH, GRID, CHANNELS, HIDDEN, WORDS = 5, 20, 14, 512, 512, 9000


def make_model(
    annotations: Variable | Sequence[int] = (CHANNELS, GRID, GRID),
    words: int = WORDS,
    precision: str = "float16",
) -> ShowAttendTell:
    """Show, Attend and Tell, by default of the size of the training benchmark; random weights.

    The weights are larger than a new model's, so that hypotheses differ; special words except END
    are excluded, as by the constraints of decoding.  They are rounded to ``precision``: captioners
    are handed out in float16, computed with in float32.
    """
    listed = [*SPECIAL, *(f"word{i}" for i in range(words - len(SPECIAL)))]
    model = ShowAttendTell(
        annotations,
        Vocabulary(listed),
        embedding=HIDDEN,
        hidden=HIDDEN,
        attention=HIDDEN,
        gate="vector",
        deep_output=False,
    )
    rng = np.random.default_rng(0)
    for p in model.parameters:
        shape = p.get_value(borrow=True).shape
        drawn = rng.standard_normal(shape) * 3 / np.sqrt(shape[0])
        p.set_value(drawn.astype(precision).astype("float32"))
    bias = next(p for p in model.parameters if p.name == "/output/b")
    values = np.zeros(words, "float32")
    values[[PAD, START, UNK]] = -1e9
    bias.set_value(values)
    return model


class TorchBeam:
    """The same model and search as PyTorch users would write them: top-k over images × beams."""

    def __init__(self, model: ShowAttendTell) -> None:
        self.p = {str(p.name): torch.from_numpy(p.get_value()) for p in model.parameters}

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """features (images, channels, rows, columns) → words (images, length), log-probability."""
        p, n = self.p, len(features)
        count = p["/output/b"].shape[0]
        a = features.flatten(2).transpose(1, 2).contiguous()  # (images, cells, channels)
        mean = a.mean(1)
        h = torch.tanh(mean @ p["/initial/hidden/W"] + p["/initial/hidden/b"])
        c = torch.tanh(mean @ p["/initial/cell/W"] + p["/initial/cell/b"])
        projected = a @ p["/lstm/annotations/W"] + p["/lstm/annotations/b"]
        # Every beam has its own row; expand shares the memory of the image's annotations.
        a = a[:, None].expand(n, BEAM, -1, -1)
        projected = projected[:, None].expand(n, BEAM, -1, -1)
        h, c = (s[:, None].expand(n, BEAM, -1).reshape(n * BEAM, -1) for s in (h, c))
        words = torch.full((n, BEAM), START)
        totals = torch.full((n, BEAM), -torch.inf)
        totals[:, 0] = 0
        history = torch.empty((n, BEAM, 0), dtype=torch.long)
        done = torch.zeros((n, BEAM), dtype=torch.bool)
        rows = torch.arange(n)[:, None]
        for _ in range(LENGTH):
            logs, h, c = self.step(words.reshape(-1), h, c, a, projected)
            logs = logs.reshape(n, BEAM, count)
            logs[done] = -torch.inf  # a finished hypothesis stays as it is, with END again
            logs[..., END] = torch.where(done, torch.zeros(()), logs[..., END])
            scores = (totals[..., None] + logs).reshape(n, -1)
            totals, best = scores.topk(BEAM, dim=1)
            source, words = best // count, best % count
            history = torch.cat([history[rows, source], words[..., None]], dim=2)
            done = done[rows, source] | (words == END)
            pick = (rows * BEAM + source).reshape(-1)
            h, c = h[pick], c[pick]
            if done.all():
                break
        return history[:, 0], totals[:, 0]

    def step(
        self,
        words: torch.Tensor,
        h: torch.Tensor,
        c: torch.Tensor,
        a: torch.Tensor,
        projected: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One word for every row."""
        p, shape = self.p, (*projected.shape[:2], 1, -1)
        query = (h @ p["/lstm/W_q"]).reshape(shape)
        score = torch.tanh(projected + query) @ p["/lstm/v"]  # (images, beams, cells)
        alpha = torch.softmax(score, dim=2)
        z = torch.einsum("nbl,nld->nbd", alpha, a[:, 0]).reshape(len(h), -1)
        z = z * torch.sigmoid(h @ p["/lstm/W_beta"] + p["/lstm/b_beta"])
        x = p["/embedding/W"][words]
        gates = x @ p["/lstm/W_x"] + h @ p["/lstm/W_h"] + z @ p["/lstm/W_z"] + p["/lstm/b"]
        i, f, o, g = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return torch.log_softmax(h @ p["/output/W"] + p["/output/b"], dim=1), h, c


def _until_end(words: list[int]) -> list[int]:
    return words[: words.index(END)] if END in words else words


def least_work(images: int, precision: str = "float16") -> Work:
    """Products, scores of cells and exponentials of words; every step reads all weights."""
    rows = images * BEAM * LENGTH
    inner = 2 * HIDDEN * (3 * 4 * HIDDEN + HIDDEN + CHANNELS + WORDS)  # gates, query, gate, words
    attending = GRID * GRID * (HIDDEN * FUNCTION + 2 * CHANNELS)
    weights = np.dtype(precision).itemsize * inner // 2 * LENGTH  # read once per step
    return Work(rows * (inner + attending + WORDS * FUNCTION), weights)


def search(images: int, precision: str = "float16") -> Entry:
    """Captions from features, beam 5, 20 words: 196 cells × 512, H = A = 512, V 9000."""
    with using_threads():
        return _race_searches(images, precision)


def _race_searches(images: int, precision: str) -> Entry:
    model = make_model(precision=precision)
    features = np.random.default_rng(1).random((images, CHANNELS, GRID, GRID), "float32")
    decoding = Decoding(beam=BEAM, length_norm=0.0, max_length=LENGTH)
    reference, inputs = TorchBeam(model), torch.from_numpy(features)

    def ours() -> list[list[Caption]]:
        return decoding(*model.fixed_decoder.begin(features))

    best = [captions[0] for captions in ours()]
    equal = compare(best, *reference(inputs))
    entry = race(ours, lambda: reference(inputs), work=least_work(images, precision))
    return {**entry, "captions_per_second": images / entry["dlmie_s"], "equal": equal}


def compare(captions: list[Caption], words: torch.Tensor, totals: torch.Tensor) -> float:
    """The fraction of captions that are PyTorch's ``words`` (images, length) as well.

    The searches differ in detail (dlmie always keeps the greedy hypothesis), so captions may.

    Raises
    ------
    Disagreement
        Log-probabilities of equal captions differ, or dlmie's are worse on average.
    """
    found, theirs = np.array([caption.log_probability for caption in captions]), totals.numpy()
    same = np.array(
        [
            _until_end(row) == caption.words
            for row, caption in zip(words.tolist(), captions, strict=True)
        ]
    )
    difference = np.abs(found - theirs)[same].max(initial=0)
    if not (difference <= 1e-2 and found.mean() >= theirs.mean() - 0.5):
        raise Disagreement(
            "the searches of dlmie and PyTorch differ: log-probabilities of equal captions by "
            f"{difference:.1e} (at most 0.01), their means are {found.mean():.2f} and "
            f"{theirs.mean():.2f} (at most 0.5 less)"
        )
    return float(same.mean())


ROWS = {
    "beam5": partial(search, 64),
    "beam5_batch1": partial(search, 1),
    "beam5_batch8": partial(search, 8),
    "beam5_float32": partial(search, 64, "float32"),
    "beam5_batch1_float32": partial(search, 1, "float32"),
}
