"""LSTM and vanilla recurrent sequences: NumPy, golden numbers, finite differences, masks."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from sequence_cases import Case, threads

from dlmie.compilation import function
from dlmie.ops.recurrent.lstm import lstm_sequence
from dlmie.ops.recurrent.rnn import rnn_sequence

# (time, batch, hidden)
SHAPES = [(1, 1, 1), (1, 4, 3), (5, 1, 17), (4, 3, 16), (3, 2, 33)]
BIG = (5, 40, 130)  # past the size where threads are woken


def lin(a: float, b: float, *shape: int) -> np.ndarray:
    return np.linspace(a, b, num=int(np.prod(shape))).reshape(shape)


def arrays(
    cell: str, shape: tuple[int, int, int], dtype: str, masked: bool, seed: int = 0
) -> list[np.ndarray]:
    time, batch, hidden = shape
    gates = 4 if cell == "lstm" else 1
    random = np.random.default_rng(seed)
    result = [random.normal(size=(time, batch, gates * hidden))]
    result += [random.normal(size=(batch, hidden)) for _ in range(2 if cell == "lstm" else 1)]
    result += [random.normal(size=(hidden, gates * hidden)) / np.sqrt(hidden)]
    if masked:
        result += [random.random((time, batch)) < 0.6]
    return [a.astype(dtype) for a in result]


@functools.cache
def case(cell: str, dtype: str, masked: bool) -> Case:
    if cell == "lstm":
        ndims, build = [3, 2, 2, 2, 2], lstm_sequence
    else:
        ndims, build = [3, 2, 2, 2], lambda *inputs: [rnn_sequence(*inputs)]
    if not masked:
        ndims = ndims[:-1]
    return Case(build, [dtype] * len(ndims), ndims, len(ndims) - masked)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_kernels_equal_numpy(cell: str, masked: bool, dtype: str) -> None:
    for count in (1, 2):
        with threads(count):
            for shape in [*SHAPES, BIG]:
                case(cell, dtype, masked).check_against_numpy(*arrays(cell, shape, dtype, masked))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_gradients_equal_finite_differences(cell: str, masked: bool) -> None:
    for shape in SHAPES:
        case(cell, "float64", masked).check_finite_differences(
            *arrays(cell, shape, "float64", masked)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("used", [0, 1])
def test_gradient_through_one_of_the_outputs(used: int, dtype: str) -> None:
    one = Case(
        lambda *inputs: lstm_sequence(*inputs), [dtype] * 4, [3, 2, 2, 2], 4, projected=[used]
    )
    given = arrays("lstm", (4, 3, 5), dtype, False)
    one.check_against_numpy(*given)
    if dtype == "float64":
        one.check_finite_differences(*given)


def test_masked_steps_carry_the_state_and_change_nothing() -> None:
    xp, h0, c0, w, _ = arrays("lstm", (5, 3, 4), "float64", True)
    inputs = [pt.tensor(dtype="float64", shape=(None,) * n) for n in (3, 2, 2, 2, 2)]
    run = function(inputs, lstm_sequence(*inputs))
    mask = np.ones((5, 3))
    mask[2:, 1] = 0
    h, c = run(xp, h0, c0, w, mask)
    assert (h[2:, 1] == h[1, 1]).all()
    assert (c[2:, 1] == c[1, 1]).all()
    other = xp.copy()
    other[2:, 1] = np.nan  # padding may hold anything
    for a, b in zip(run(other, h0, c0, w, mask), (h, c), strict=True):
        assert (a == b).all()


def test_saturated_gates_stay_finite() -> None:
    xp, h0, c0, w = arrays("lstm", (3, 2, 5), "float32", False)
    given = [xp * 1000, h0, c0, w]
    one = case("lstm", "float32", False)
    results = one.fast(*given, *one.directions(given))
    assert all(np.isfinite(r).all() for r in results)
    assert np.abs(results[0]).max() <= 1


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_runs_repeat_bit_for_bit(cell: str) -> None:
    one, given = case(cell, "float32", False), arrays(cell, BIG, "float32", False)
    arguments = [*given, *one.directions(given)]
    first = [r.copy() for r in one.fast(*arguments)]
    for a, b in zip(first, one.fast(*arguments), strict=True):
        assert (a == b).all()


def test_golden_lstm() -> None:
    # SPEC A8: x W_x + b projected outside, then the sequence; batch first there.
    N, D, H, T = 2, 5, 4, 3
    x = lin(-0.4, 0.6, N, T, D).transpose(1, 0, 2)
    xp = x @ lin(-0.2, 0.9, D, 4 * H) + lin(0.2, 0.7, 4 * H)
    h0 = lin(-0.4, 0.8, N, H)
    h, _ = function([], lstm_sequence(xp, h0, np.zeros((N, H)), lin(-0.3, 0.6, H, 4 * H)))()
    expected = [
        [0.01764008, 0.01823233, 0.01882671, 0.0194232],
        [0.11287491, 0.12146228, 0.13018446, 0.13902939],
        [0.31358768, 0.33338627, 0.35304453, 0.37250975],
    ]
    np.testing.assert_allclose(h[:, 0], expected, rtol=5e-7)


def test_golden_rnn() -> None:
    N, T, D, H = 2, 3, 4, 5
    x = lin(-0.1, 0.3, N, T, D).transpose(1, 0, 2)
    xp = x @ lin(-0.2, 0.4, D, H) + lin(-0.7, 0.1, H)
    h = function([], rnn_sequence(xp, lin(-0.3, 0.1, N, H), lin(-0.4, 0.1, H, H)))()
    expected = [-0.42070749, -0.27279261, -0.11074945, 0.05740409, 0.22236251]
    np.testing.assert_allclose(h[0, 0], expected, rtol=1e-7)
    np.testing.assert_allclose(
        h[2, 1], [-0.51014825, -0.30524429, -0.06755202, 0.17806392, 0.40333043], rtol=1e-6
    )


def test_static_shapes_are_kept() -> None:
    xp = pt.tensor(dtype="float32", shape=(None, 6, 20))
    h0 = pt.tensor(dtype="float32", shape=(6, 5))
    w = pt.tensor(dtype="float32", shape=(5, 20))
    h, c = lstm_sequence(xp, h0, h0, w)
    assert h.type.shape == c.type.shape == (None, 6, 5)
    assert pytensor.grad(h.sum(), xp).type.shape == (None, 6, 20)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3, 19), (3, 5), (3, 5), (5, 20)], "20 columns"),
        ([(2, 3, 20), (4, 5), (3, 5), (5, 20)], "h0 and c0"),
        ([(2, 3, 20), (3, 5), (3, 5), (5, 16)], "W_h 5 x 20"),
    ],
)
def test_wrong_shapes_are_refused(shapes: Any, message: str) -> None:
    inputs = [pt.tensor(dtype="float64", shape=(None,) * len(s)) for s in shapes]
    run = function(inputs, lstm_sequence(*inputs))
    with pytest.raises(ValueError, match=message):
        run(*[np.zeros(s) for s in shapes])


def test_mixed_precision_is_refused() -> None:
    with pytest.raises(TypeError, match="float32"):
        rnn_sequence(pt.ftensor3(), pt.dmatrix(), pt.dmatrix())
