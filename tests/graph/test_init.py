"""Initializers: statistics, shapes, reproducibility, and how names and arrays are understood."""

from __future__ import annotations

import numpy as np
import pytest

from dlmie.errors import DlmieError
from dlmie.graph import init

RANDOM = {
    "normal": init.normal(0.3),
    "uniform": init.uniform(0.3),
    "glorot_normal": init.glorot_normal(),
    "glorot_uniform": init.glorot_uniform(),
    "he_normal": init.he_normal(),
    "he_uniform": init.he_uniform(),
    "fan_in_normal": init.fan_in_normal(),
}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("normal", 0.3),
        ("uniform", 0.3 / np.sqrt(3)),
        ("glorot_normal", np.sqrt(2 / (300 + 500))),
        ("glorot_uniform", np.sqrt(2 / (300 + 500))),
        ("he_normal", np.sqrt(2 / 300)),
        ("he_uniform", np.sqrt(2 / 300)),
        ("fan_in_normal", np.sqrt(1 / 300)),
    ],
)
def test_spread_of_a_matrix(name: str, std: float) -> None:
    values = RANDOM[name](rng(), (300, 500), "float64")
    assert values.std() == pytest.approx(std, rel=0.01)
    assert abs(values.mean()) < 4 * std / np.sqrt(values.size)


@pytest.mark.parametrize("name", RANDOM)
def test_same_seed_same_values_in_either_precision(name: str) -> None:
    double = RANDOM[name](rng(), (4, 3, 5, 5), "float64")
    single = RANDOM[name](rng(), (4, 3, 5, 5), "float32")
    assert single.dtype == np.float32
    assert single.shape == double.shape == (4, 3, 5, 5)
    np.testing.assert_array_equal(single, double.astype("float32"))
    assert not np.array_equal(double, RANDOM[name](np.random.default_rng(1), double.shape, "f8"))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, initializer in RANDOM.items():
        whole = initializer(rng(), (7, 11), "float32")
        with monkeypatch.context() as patch:
            patch.setattr(init, "_CHUNK", 8)
            np.testing.assert_array_equal(initializer(rng(), (7, 11), "float32"), whole, name)


def test_mean_and_limits() -> None:
    values = init.normal(0.1, mean=2.0)(rng(), (10_000,), "float64")
    assert values.mean() == pytest.approx(2.0, abs=0.01)
    values = init.uniform(0.2)(rng(), (10_000,), "float64")
    assert -0.2 <= values.min() < -0.19
    assert 0.19 < values.max() < 0.2


def test_fans() -> None:
    assert init.fans((300, 500)) == (300, 500)
    assert init.fans((64, 3, 7, 5)) == (3 * 35, 64 * 35)
    assert init.fans((32, 1, 3, 3))[0] == 9  # depthwise
    assert init.fans((300,)) == (300, 1)  # an attention vector
    assert init.fans(()) == (1, 1)
    with pytest.raises(init.InitError, match="no elements"):
        init.he_normal()(rng(), (0, 5), "float32")


def test_an_attention_vector_is_not_zero() -> None:
    # Integer division once made sqrt(2 / K) zero here: attention stayed uniform without gradient.
    assert np.abs(init.glorot_uniform()(rng(), (512,), "float32")).max() > 0.05


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (8, 3, 2, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    values = init.orthogonal(2.0)(rng(), shape, "float64").reshape(shape[0], -1) / 2
    gram = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-12)
    assert init.orthogonal()(rng(), shape, "float32").dtype == np.float32


def test_orthogonal_needs_a_matrix() -> None:
    with pytest.raises(init.InitError, match="needs a matrix"):
        init.orthogonal()(rng(), (5,), "float32")


def test_per_gate_sees_square_matrices() -> None:
    values = init.per_gate("orthogonal")(rng(), (5, 20), "float64")
    for gate in np.split(values, 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(5), atol=1e-12)
    values = init.per_gate(init.glorot_uniform())(rng(), (200, 800), "float64")
    assert values.std() == pytest.approx(np.sqrt(2 / 400), rel=0.01)
    with pytest.raises(init.InitError, match="multiple of 4"):
        init.per_gate("zeros")(rng(), (5, 6), "float64")


def test_lstm_bias_opens_the_forget_gate_only() -> None:
    bias = init.lstm_bias(1.5)(rng(), (12,), "float32")
    np.testing.assert_array_equal(bias, np.repeat(np.float32([0, 1.5, 0, 0]), 3))
    with pytest.raises(init.InitError, match="multiple of 4"):
        init.lstm_bias()(rng(), (6,), "float32")


def test_resolve_names_numbers_callables() -> None:
    for name in ("zeros", "ones", "he_normal", "orthogonal", "lstm_bias", "constant"):
        assert init.resolve(name)(rng(), (4, 8), "float32").shape == (4, 8)
    np.testing.assert_array_equal(init.resolve(0.5)(rng(), (2,), "float32"), np.float32([0.5, 0.5]))
    assert init.resolve(np.float64(1))(rng(), (), "float32") == 1
    assert init.resolve(init.ones)(rng(), (2,), "float32").sum() == 2  # without its parentheses
    np.testing.assert_array_equal(
        init.resolve(lambda r, shape, dtype: r.random(shape))(rng(), (3,), "float32"),
        rng().random(3).astype("float32"),
    )


def test_resolve_arrays_copies_and_checks_the_shape() -> None:
    values = np.arange(6.0).reshape(2, 3)
    result = init.resolve(values)(rng(), (2, 3), "float32")
    np.testing.assert_array_equal(result, values.astype("float32"))
    same = init.resolve(values)(rng(), (2, 3), "float64")
    same[:] = 0
    assert values.sum() == 15
    with pytest.raises(init.InitError, match=r"\(2, 3\), needed is \(3, 2\)"):
        init.resolve(values)(rng(), (3, 2), "float32")
    with pytest.raises(init.InitError, match="needed is"):
        init.resolve(lambda r, shape, dtype: np.zeros(1))(rng(), (3, 2), "float32")


def test_resolve_refuses_with_a_hint() -> None:
    with pytest.raises(DlmieError, match="did you mean 'he_normal'"):
        init.resolve("he_norml")
    with pytest.raises(DlmieError, match="give a name"):
        init.resolve(None)
    with pytest.raises(DlmieError, match="give a name"):
        init.resolve(["a"])


def test_nothing_is_drawn_for_a_model_that_a_file_fills() -> None:
    with init.nothing_drawn():
        for initializer in (init.normal(), init.orthogonal(), init.per_gate("orthogonal", gates=2)):
            assert not initializer(rng(), (4, 8), "float32").any()
        assert init.lstm_bias()(rng(), (8,), "float32").any()  # what is not random stays
        with pytest.raises(init.InitError):  # and so do the checks
            init.orthogonal()(rng(), (8,), "float32")
    assert init.orthogonal()(rng(), (4, 8), "float32").any()
