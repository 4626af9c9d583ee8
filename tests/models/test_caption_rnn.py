"""CaptioningRNN: the course's golden numbers through the compiled C path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie.captioning.decoding import force
from dlmie.data.captions.vocabulary import END, PAD, START, Vocabulary
from dlmie.errors import DlmieError, WeightsError
from dlmie.models.captioners.caption_rnn import CaptionRNN

CELLS = ("rnn", "lstm", "attention")


class ThreeWords(Vocabulary):
    """The course's toy vocabulary, which is shorter than one of ours may be."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 3


def lin(first: float, last: float, *shape: int) -> np.ndarray:
    return np.linspace(first, last, int(np.prod(shape))).reshape(shape)


def small(cell: str) -> CaptionRNN:
    vocabulary = Vocabulary.build([list("abcdef")], min_count=1)
    model = CaptionRNN((6, 2, 3), vocabulary, cell=cell, embedding=7, hidden=5, dtype="float64")
    rng = np.random.default_rng(3)
    for p in model.parameters:
        p.set_value(rng.standard_normal(p.get_value().shape) * 0.7)
    return model


@pytest.mark.parametrize(
    ("cell", "features", "expected"),
    [
        ("rnn", lin(-1.5, 0.3, 10, 20), 9.83235591003),
        ("lstm", lin(-0.5, 1.7, 10, 20), 9.82445935443),
    ],
)
def test_golden_losses(
    cell: str, features: np.ndarray, expected: float, golden: dict[str, Any]
) -> None:
    model = CaptionRNN((20,), ThreeWords(), cell=cell, embedding=30, hidden=40, dtype="float64")
    model.set_cs231n({k: lin(-1.4, 1.3, *v.shape) for k, v in model.get_cs231n().items()})
    captions = (np.arange(130) % 3).reshape(10, 13).astype(np.int32)
    loss = dlmie.function([model.features, model.tokens], model.loss().per_caption)
    result = float(loss(features, captions))
    assert abs(result - expected) < 1e-11  # the course prints eleven decimals
    assert abs(result - golden[f"caption_loss_{cell}"]) < 1e-10


def test_golden_steps_and_sequences(golden: dict[str, Any]) -> None:
    def run(cell: str, sizes: tuple[int, int], weights: tuple[Any, Any, Any], *inputs: Any) -> Any:
        model = CaptionRNN(
            (2, 2, 2), ThreeWords(), cell=cell, embedding=sizes[0], hidden=sizes[1], dtype="float64"
        )
        for part, value in zip("xh", weights[:2], strict=True):
            getattr(model.cell, f"W_{part}").set_value(value)
        model.cell.b.set_value(weights[2])
        symbols = [pt.tensor(dtype="float64", shape=(None,) * x.ndim) for x in inputs]
        layer = model.cell if inputs[0].ndim == 3 else model.cell.step
        return dlmie.function(symbols, layer(*symbols))(*inputs)

    rnn = (lin(-0.1, 0.9, 10, 4), lin(-0.3, 0.7, 4, 4), lin(-0.2, 0.4, 4))
    h = run("rnn", (10, 4), rnn, lin(-0.4, 0.7, 3, 10), lin(-0.2, 0.5, 3, 4))
    np.testing.assert_allclose(h, golden["rnn_step"], atol=1e-12)

    rnn = (lin(-0.2, 0.4, 4, 5), lin(-0.4, 0.1, 5, 5), lin(-0.7, 0.1, 5))
    x = lin(-0.1, 0.3, 2, 3, 4).swapaxes(0, 1)
    h = run("rnn", (4, 5), rnn, x, lin(-0.3, 0.1, 2, 5))
    np.testing.assert_allclose(h.swapaxes(0, 1), golden["rnn_forward"], atol=1e-12)

    lstm = (lin(-2.1, 1.3, 4, 20), lin(-0.7, 2.2, 5, 20), lin(0.3, 0.7, 20))
    inputs = lin(-0.4, 1.2, 3, 4), lin(-0.3, 0.7, 3, 5), lin(-0.4, 0.9, 3, 5)
    h, c = run("lstm", (4, 5), lstm, *inputs)
    np.testing.assert_allclose(h, golden["lstm_step_h"], atol=1e-12)
    np.testing.assert_allclose(c, golden["lstm_step_c"], atol=1e-12)

    lstm = (lin(-0.2, 0.9, 5, 16), lin(-0.3, 0.6, 4, 16), lin(0.2, 0.7, 16))
    x = lin(-0.4, 0.6, 2, 3, 5).swapaxes(0, 1)
    h, _ = run("lstm", (5, 4), lstm, x, lin(-0.4, 0.8, 2, 4))
    np.testing.assert_allclose(h.swapaxes(0, 1), golden["lstm_forward"], atol=1e-12)


def attend(
    x: np.ndarray, grid: np.ndarray, state: tuple[np.ndarray, np.ndarray], *weights: np.ndarray
) -> list[np.ndarray]:
    """(h, c, alpha) of the attention cell; the course's grids are (images, hidden, 4, 4)."""
    hidden = grid.shape[1]
    model = CaptionRNN(
        (2, 2, 2),
        ThreeWords(),
        cell="attention",
        embedding=x.shape[2],
        hidden=hidden,
        dtype="float64",
    )
    cell = model.cell
    for variable, value in zip((cell.W_x, cell.W_h, cell.b, cell.W_z), weights, strict=True):
        variable.set_value(value)
    cells = grid.reshape(len(grid), hidden, -1).swapaxes(1, 2).copy()
    arrays = [x, cells, *state]
    symbols = [pt.tensor(dtype="float64", shape=(None,) * a.ndim) for a in arrays]
    seen = cell.attend(*symbols)
    return dlmie.function(symbols, [seen.h, seen.c, seen.alpha, seen.z])(*arrays)


def test_golden_attention(golden: dict[str, Any]) -> None:
    grid, first = lin(-0.4, 1.8, 2, 5, 4, 4), lin(-0.4, 0.6, 2, 5)
    zeros = np.zeros((4, 20)), np.zeros((5, 20)), np.zeros(20), np.zeros((5, 20))
    _, _, alpha, seen = attend(np.zeros((1, 2, 4)), grid, (first, first), *zeros)
    expected = np.asarray(golden["mich_attn_w"]).reshape(2, 16)
    np.testing.assert_allclose(alpha[0], expected, atol=1e-8)
    np.testing.assert_allclose(seen[0], golden["mich_attn"], atol=1e-8)


def test_golden_attention_step(golden: dict[str, Any]) -> None:
    # The course hands the attended vector to the step: a grid of it alone gives just that.
    attended = lin(0.6, 1.8, 3, 5)
    weights = (
        lin(-2.1, 1.3, 4, 20), lin(-0.7, 2.2, 5, 20), lin(0.3, 0.7, 20), lin(1.3, 4.2, 5, 20)
    )  # fmt: skip
    state = lin(-0.3, 0.7, 3, 5), lin(-0.4, 0.9, 3, 5)
    h, c, _, _ = attend(lin(-0.4, 1.2, 1, 3, 4), attended[:, :, None, None], state, *weights)
    np.testing.assert_allclose(h[0], golden["mich_attnlstm_step_h"], atol=1e-8)
    np.testing.assert_allclose(c[0], golden["mich_attnlstm_step_c"], atol=1e-8)


def test_golden_attention_sequence(golden: dict[str, Any]) -> None:
    grid = lin(-0.4, 1.8, 2, 4, 4, 4)
    first = grid.mean(axis=(2, 3))
    x = lin(-0.4, 0.6, 2, 3, 5).swapaxes(0, 1).copy()
    weights = (
        lin(-0.2, 0.9, 5, 16), lin(-0.3, 0.6, 4, 16), lin(0.2, 0.7, 16), lin(1.3, 4.2, 4, 16)
    )  # fmt: skip
    h, _, _, _ = attend(x, grid, (first, first), *weights)
    np.testing.assert_allclose(h.swapaxes(0, 1), golden["mich_attnlstm_forward"], atol=1e-8)


@pytest.mark.parametrize("cell", CELLS)
def test_said_word_by_word_as_taught(cell: str) -> None:
    model = small(cell)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 6, 2, 3))
    captions = [[4, 5, 6], [9]]
    tokens = np.full((2, 5), PAD, np.int32)
    for row, words in zip(tokens, captions, strict=True):
        row[: len(words) + 2] = [START, *words, END]
    each = dlmie.function([model.features, model.tokens], model.loss().each)(features, tokens)
    said = force(*model.decoder.begin(features), captions)
    for n in range(2):
        assert abs(said[n].log_probability + each[:, n].sum()) < 1e-10
    if cell == "attention":
        assert said[0].alphas is not None
        assert said[0].alphas.shape == (3, 2, 3)
        np.testing.assert_allclose(said[0].alphas.sum(axis=(1, 2)), 1)


def test_gradients_of_the_attention_model_equal_finite_differences() -> None:
    model = small("attention")
    rng = np.random.default_rng(1)
    features = rng.standard_normal((2, 6, 2, 3))
    tokens = np.asarray([[START, 4, 7, END], [START, 5, END, PAD]], np.int32)
    loss = model.loss().per_caption
    gradients = pytensor.grad(loss, model.parameters)
    f = dlmie.function([model.features, model.tokens], [loss, *gradients])
    for p, gradient in zip(model.parameters, f(features, tokens)[1:], strict=True):
        value = p.get_value()
        for index in rng.choice(value.size, size=min(3, value.size), replace=False):
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved.flat[index] += sign * 1e-5
                p.set_value(moved)
                sides.append(float(f(features, tokens)[0]))
            p.set_value(value)
            slope = (sides[0] - sides[1]) / 2e-5
            assert abs(slope - gradient.flat[index]) < 1e-7 * max(1, abs(slope)), p.name


@pytest.mark.parametrize("cell", CELLS)
def test_the_courses_dictionary_round_trip(cell: str) -> None:
    model, other = (
        small(cell),
        CaptionRNN(
            (6, 2, 3),
            small(cell).vocabulary,
            cell=cell,
            embedding=7,
            hidden=5,
            dtype="float64",
            seed=9,
        ),
    )
    params = model.get_cs231n()
    expected = {"W_embed", "W_proj", "b_proj", "Wx", "Wh", "b", "W_vocab", "b_vocab"}
    assert set(params) == (expected | {"Wattn"} if cell == "attention" else expected)
    other.set_cs231n(params)
    for name, value in other.get_cs231n().items():
        np.testing.assert_array_equal(value, params[name])
    with pytest.raises(WeightsError, match=r"/cell/W_h is missing.*W_wrong is not part"):
        other.set_cs231n({("W_wrong" if k == "Wh" else k): v for k, v in params.items()})


def test_misuse_is_one_clear_line() -> None:
    vocabulary = Vocabulary.build([["a"]], min_count=1)
    with pytest.raises(DlmieError, match="unknown cell 'gru': use one of rnn, lstm, attention"):
        CaptionRNN((4,), vocabulary, cell="gru")
    with pytest.raises(DlmieError, match="needs a grid of annotations"):
        CaptionRNN((4,), vocabulary, cell="attention")
