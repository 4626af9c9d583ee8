"""Hard attention: REINFORCE against the exact gradient, its baseline, and that it learns."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie import optim
from dlmie.captioning.step import compile as compile_step
from dlmie.data.batches import Batch
from dlmie.data.captions.vocabulary import END, PAD, START, Vocabulary
from dlmie.layers.noise import Noise
from dlmie.models.captioners.captioner import Forward
from dlmie.models.captioners.show_attend_tell import ShowAttendTell

VOCABULARY = Vocabulary.build([list("abc")], min_count=1)
TOKENS = np.asarray([[START, 4, 5, END], [START, 6, END, PAD]], np.int32)
CHECKED = ("/lstm/W_q", "/lstm/annotations/W", "/initial/hidden/W")


class Told(ShowAttendTell):
    """A hard model whose draws are inputs."""

    def _draws(self, words: Any, noise: Noise) -> tuple[Any, Any]:
        self.told = pt.dmatrix("u"), pt.dmatrix("sampled")  # (time, batch) each
        return self.told


def make(cls: type[ShowAttendTell], **options: Any) -> ShowAttendTell:
    model = cls(
        (3, 1, 2), VOCABULARY, embedding=4, hidden=5, attention=3,
        dropout=0.0, hard=True, dtype="float64", **options,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    for p in model.parameters:
        p.set_value(rng.standard_normal(p.get_value().shape) * 0.9)
    return model


def chosen(model: ShowAttendTell) -> list[Any]:
    return [p for p in model.parameters if p.name in CHECKED]


def test_the_estimators_mean_is_the_exact_gradient() -> None:
    """Every path of draws is enumerated; its probability and loss give the expected loss, whose
    central differences are compared with the mean of many estimates."""
    features = np.random.default_rng(0).standard_normal((2, 3, 1, 2)) * 1.5
    told = make(Told)
    out = told.loss(noise=Noise(0))
    cell0, each = out.extras["alphas"][:, :, 0], out.each
    path = dlmie.function([told.features, told.tokens, *told.told], [cell0, each])
    captions = {0: 3, 1: 2}  # number of words, the end included

    def expected_loss() -> float:
        total = 0.0
        # At each step: the expectation, the first cell or the second one.
        for choice in itertools.product((None, 0, 1), repeat=3):
            u = np.asarray([0.0 if c == 0 else 1 - 1e-12 for c in choice])
            sampled = np.asarray([c is not None for c in choice], float)
            first, losses = path(
                features, TOKENS, *(np.repeat(x[:, None], 2, axis=1) for x in (u, sampled))
            )
            for n, length in captions.items():
                if any(c is not None for c in choice[length:]):
                    continue  # draws at padding: one representative counts for all
                probability = np.prod(
                    [
                        0.5 if c is None else 0.5 * (first[t, n] if c == 0 else 1 - first[t, n])
                        for t, c in enumerate(choice[:length])
                    ]
                )
                total += probability * losses[:, n].sum()
        return float(total)

    exact = {}
    for p in chosen(told):
        value, slope = p.get_value(), np.empty(p.get_value().shape)
        for index in np.ndindex(*value.shape):
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * 1e-5
                p.set_value(moved)
                sides.append(expected_loss())
            slope[index] = (sides[0] - sides[1]) / 2e-5
        p.set_value(value)
        exact[p.name] = slope

    model = make(ShowAttendTell)
    model.entropy = 0.0
    out = model.loss(noise=Noise(5))
    gradients = pytensor.grad(out.total + out.extra.loss, chosen(model))
    # The baseline is put to the mean loss of a word: any number gives the same expectation.
    (baseline, _), *_ = out.extra.updates
    baseline.set_value(np.float64(1.7))
    estimate = dlmie.function([model.features, model.tokens], gradients)
    copies, calls = 500, 80
    many = np.tile(features, (copies, 1, 1, 1)), np.tile(TOKENS, (copies, 1))
    sums = [[g / copies for g in estimate(*many)] for _ in range(calls)]
    for p, draws in zip(chosen(model), zip(*sums, strict=True), strict=True):
        mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(calls)
        assert np.abs(mean - exact[p.name]).max() < 4.5 * error.max(), p.name
        assert error.max() < 0.2 * np.abs(exact[p.name]).max(), p.name

    # Without REINFORCE's term the gradient is another one: the test would notice.
    plain = pytensor.grad(out.total, chosen(model))
    blind = dlmie.function([model.features, model.tokens], plain)
    biased = [np.mean(g, axis=0) for g in zip(*(blind(*many) for _ in range(20)), strict=True)]
    gap = max(
        np.abs(g / copies - exact[p.name]).max() / np.abs(exact[p.name]).max()
        for p, g in zip(chosen(model), biased, strict=True)
    )
    assert gap > 0.3


def test_extra_loss_against_numpy() -> None:
    model = make(ShowAttendTell)
    time, batch, cells = 3, 2, 2
    rng = np.random.default_rng(0)
    alphas = rng.dirichlet(np.ones(cells), (time, batch))
    weights = np.eye(cells)[rng.integers(0, cells, (time, batch))]
    sampled = np.asarray([[1.0, 0], [0, 1], [1, 1]])
    losses, mask = rng.random((time, batch)), np.asarray([[1.0, 1], [1, 1], [1, 0]])
    losses *= mask
    symbols = [pt.as_tensor_variable(x) for x in (alphas, weights, sampled, losses, mask)]
    extras = dict(zip(("alphas", "weights", "sampled"), symbols[:3], strict=True))
    extra = model.extra_loss(Forward(pt.zeros((6, 7)), extras), *symbols[3:])
    assert extra is not None
    (baseline, new), *_ = extra.updates
    first = np.log(len(VOCABULARY))
    value, moved = dlmie.function([], [extra.loss, new])()
    expected = 0.0
    for t in range(time):
        for n in range(batch):
            to_go = sum((losses[s, n] - first) * mask[s, n] for s in range(t, time))
            log_chosen = np.log(alphas[t, n, weights[t, n].argmax()])
            expected += mask[t, n] * sampled[t, n] * to_go * log_chosen
            expected += 0.002 * mask[t, n] * (alphas[t, n] * np.log(alphas[t, n])).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert baseline.get_value() == pytest.approx(first)
    np.testing.assert_allclose(moved, 0.9 * first + 0.1 * losses.sum() / mask.sum())


def toy(n: int, seed: int) -> Batch:
    """The word tells which of six cells holds a mark, whose kind is the next word."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, 4, 2, 3)).astype(np.float32) * 0.1
    kind, place = rng.integers(0, 3, n), rng.integers(0, 6, n)
    features[np.arange(n), kind, place // 3, place % 3] += 2
    features[np.arange(n), 3, place // 3, place % 3] += 2
    tokens = np.stack(
        [np.full(n, START), 4 + kind, 4 + kind, np.full(n, END)], axis=1, dtype=np.int32
    )
    index = np.arange(n)
    return Batch(features, tokens, index, index, np.zeros(n, bool))


def test_a_hard_model_learns_and_its_baseline_follows() -> None:
    model = ShowAttendTell(
        (4, 2, 3), VOCABULARY, embedding=8, hidden=16, attention=16, dropout=0.0, hard=True
    )
    step = compile_step(model, optim.adam(2e-2), seed=1)
    step.progress = False
    baseline = step.state["/hard/baseline"]
    before = float(baseline.get_value())
    assert before == pytest.approx(np.log(7), rel=1e-6)
    losses = []
    for i in range(120):
        result = step(toy(32, i))
        losses.append(result.sums["loss"] / result.weight)
    assert np.mean(losses[-10:]) < 0.15 < 1 < losses[0]
    assert float(baseline.get_value()) == pytest.approx(np.mean(losses[-10:]), abs=0.1)
    # Without noise the expectation is used: nothing is drawn, and it is as good.
    batch = toy(64, 1000)
    results = [model.loss_function(batch.inputs, batch.tokens) for _ in range(2)]
    assert results[0][0] == results[1][0]
    assert results[0][0] / results[0][1] < 0.15
