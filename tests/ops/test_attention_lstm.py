"""The attention LSTM: kernel against NumPy, gradients against finite differences, goldens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie.ops.attention.attention_lstm import attention_lstm_sequence

NAMES = ("xp", "a", "p", "h0", "c0", "W_h", "W_z", "W_q", "v", "W_beta", "b_beta")
SHAPES = [  # time, images, beams, cells, channels, hidden, attention
    (1, 1, 1, 1, 1, 1, 1),
    (3, 2, 1, 5, 4, 3, 7),
    (4, 3, 1, 6, 17, 19, 33),
]


def make(shape: tuple[int, ...], gate: str, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
    time, images, beams, cells, channels, hidden, attention = shape
    batch = images * beams
    rng = np.random.default_rng(seed)
    sizes: dict[str, tuple[int, ...]] = {
        "xp": (time, batch, 4 * hidden),
        "a": (images, cells, channels),
        "p": (images, cells, attention),
        "h0": (batch, hidden),
        "c0": (batch, hidden),
        "W_h": (hidden, 4 * hidden),
        "W_z": (channels, 4 * hidden),
        "W_q": (hidden, attention),
        "v": (attention,),
    }
    if gate != "none":
        width = 1 if gate == "scalar" else channels
        sizes |= {"W_beta": (hidden, width), "b_beta": (width,)}
    return {k: (rng.standard_normal(s) * 0.7).astype(dtype) for k, s in sizes.items()}


def build(values: dict[str, np.ndarray], extras: dict[str, np.ndarray], score: str) -> Any:
    x = {k: pt.tensor(k, dtype=v.dtype, shape=(None,) * v.ndim) for k, v in values.items()}
    e = {k: pt.tensor(k, dtype=v.dtype, shape=(None,) * v.ndim) for k, v in extras.items()}
    out = attention_lstm_sequence(
        *(x[k] for k in NAMES[:9]),
        gate=(x["W_beta"], x["b_beta"]) if "W_beta" in x else None,
        mask=e.get("mask"),
        hard=(e["u"], e["sampled"]) if "u" in e else None,
        score=score,
    )
    return x, e, out


def extras_for(shape: tuple[int, ...], mask: bool, hard: bool, dtype: str) -> dict[str, np.ndarray]:
    time, batch = shape[0], shape[1] * shape[2]
    rng = np.random.default_rng(1)
    result = {}
    if mask:
        result["mask"] = (rng.random((time, batch)) < 0.7).astype(dtype)
    if hard:
        result["u"] = rng.random((time, batch)).astype(dtype)
        result["sampled"] = (rng.random((time, batch)) < 0.5).astype(dtype)
    return result


CASES = [
    ("tanh", "scalar", False, False),
    ("tanh", "vector", True, False),
    ("relu", "none", False, False),
    ("dot", "scalar", True, False),
    ("tanh", "scalar", False, True),
    ("tanh", "none", True, True),
]


def loss_of(out: Any) -> Any:
    """A scalar that reaches every output with a cotangent of its own."""
    total = 0
    for i, v in enumerate((out.h, out.c, out.alpha, out.z, out.beta)):
        total = total + (v * pt.sin(np.asarray(i + 1, v.dtype) + v.shape[0] + 3 * v)).sum()
    return total


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("score", "gate", "mask", "hard"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernel_equals_numpy(
    shape: tuple[int, ...], score: str, gate: str, mask: bool, hard: bool, dtype: str
) -> None:
    values, extras = make(shape, gate, dtype), extras_for(shape, mask, hard, dtype)
    x, e, out = build(values, extras, score)
    gradients = pytensor.grad(loss_of(out), list(x.values()), disconnected_inputs="ignore")
    inputs, arrays = [*x.values(), *e.values()], [*values.values(), *extras.values()]
    results = [
        dlmie.function(inputs, [*out, *gradients], kernels=kernels)(*arrays)
        for kernels in (True, False)
    ]
    tolerance = 3e-5 if dtype == "float32" else 1e-11
    for kernel, plain in zip(*results, strict=True):
        assert kernel.dtype == plain.dtype == dtype
        scale = max(1.0, float(np.abs(plain).max(initial=0)))
        np.testing.assert_allclose(kernel, plain, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize(("score", "gate", "mask"), [c[:3] for c in CASES[:4]])
def test_gradients_equal_finite_differences(score: str, gate: str, mask: bool) -> None:
    shape = (3, 2, 1, 4, 3, 2, 3)
    values, extras = make(shape, gate, "float64"), extras_for(shape, mask, False, "float64")
    x, e, out = build(values, extras, score)
    gradients = pytensor.grad(loss_of(out), list(x.values()), disconnected_inputs="ignore")
    f = dlmie.function([*x.values(), *e.values()], [loss_of(out), *gradients])
    exact = f(*values.values(), *extras.values())[1:]
    eps = 1e-6
    for name, gradient in zip(values, exact, strict=True):
        numeric = np.empty_like(gradient)
        for index in np.ndindex(*gradient.shape):
            sides = []
            for sign in (1, -1):
                moved = {k: v.copy() for k, v in values.items()}
                moved[name][index] += sign * eps
                sides.append(float(f(*moved.values(), *extras.values())[0]))
            numeric[index] = (sides[0] - sides[1]) / (2 * eps)
        np.testing.assert_allclose(gradient, numeric, atol=2e-7, rtol=1e-6, err_msg=name)


def test_beams_share_their_image() -> None:
    values = make((2, 3, 4, 5, 6, 7, 8), "scalar", "float64")
    x, _, out = build(values, {}, "tanh")
    shared = dlmie.function(list(x.values()), list(out))(*values.values())
    repeated = {k: np.repeat(v, 4, axis=0) if k in ("a", "p") else v for k, v in values.items()}
    alone = dlmie.function(list(x.values()), list(out))(*repeated.values())
    for one, other in zip(shared, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def test_a_drawn_cell_is_drawn_with_its_probability() -> None:
    values = make((1, 1, 1, 4, 3, 2, 3), "none", "float64")
    rows = 4000
    for k in ("xp", "h0", "c0"):
        axis = 1 if k == "xp" else 0
        values[k] = np.repeat(values[k], rows, axis=axis)
    draws = {"u": np.random.default_rng(0).random((1, rows)), "sampled": np.ones((1, rows))}
    x, e, out = build(values, draws, "tanh")
    f = dlmie.function([*x.values(), *e.values()], [out.alpha, out.weights])
    alpha, weights = f(*values.values(), *draws.values())
    assert np.all(weights.sum(axis=2) == 1)
    np.testing.assert_allclose(weights.mean(axis=1)[0], alpha[0, 0], atol=0.03)


def test_sizes_that_do_not_fit_are_named() -> None:
    values = make((2, 2, 1, 3, 4, 5, 6), "scalar", "float32")
    values["W_z"] = values["W_z"][:-1]
    x, _, out = build(values, {}, "tanh")
    with pytest.raises(ValueError, match=r"W_z must be \(4, 20\)"):
        dlmie.function(list(x.values()), out.h)(*values.values())


def test_golden_numbers_of_the_first_dlmie(golden: dict[str, Any]) -> None:
    """SPEC A12 "ver2": context of the same step, no gate, zero biases."""

    def lin(low: float, high: float, *shape: int) -> np.ndarray:
        return np.linspace(low, high, int(np.prod(shape))).reshape(shape)

    n, d, h, t, k = 2, 5, 4, 3, 5
    x = lin(-0.4, 0.6, n, t, d)
    a = lin(-0.2, 0.5, n, 10, 3)
    values = {
        "xp": (x @ lin(-0.2, 0.9, d, 4 * h)).transpose(1, 0, 2),
        "a": a,
        "p": a @ lin(-0.2, 0.5, 3, k),
        "h0": lin(-0.4, 0.8, n, h),
        "c0": np.zeros((n, h)),
        "W_h": lin(-0.3, 0.6, h, 4 * h),
        "W_z": lin(-0.3, 0.6, 3, 4 * h),
        "W_q": lin(-0.2, 0.6, h, k),
        "v": lin(0.1, 0.4, k),
    }
    symbols, _, out = build(values, {}, "tanh")
    f = dlmie.function(list(symbols.values()), [out.h, out.alpha, out.z])
    for result, name in zip(f(*values.values()), ("h", "alpha", "z"), strict=True):
        expected = np.asarray(golden[f"dlmie_attend_ver2_{name}"])
        np.testing.assert_allclose(result.transpose(1, 0, 2), expected, atol=1e-12)
