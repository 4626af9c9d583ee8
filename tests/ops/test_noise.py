"""Noise: the kernel against NumPy, and what a mask that is a function of a key must obey."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie.layers.noise import Noise
from dlmie.layers.noise import dropout as layer_dropout
from dlmie.ops.random.noise import dropout, uniform_like

SHAPES: list[tuple[int, ...]] = [(), (1,), (0, 3), (7, 5), (2, 3, 4), (130, 257)]


def compiled(dtype: str, ndim: int, kernels: bool) -> Any:
    x = pt.tensor("x", dtype=dtype, shape=(None,) * ndim)
    key = pt.lscalar("key")
    outputs = [dropout(x, 0.3, key, 5), uniform_like(x, key, 6)]
    return dlmie.function([x, key], outputs, kernels=kernels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernel_equals_numpy_bit_for_bit(dtype: str) -> None:
    rng = np.random.default_rng(0)
    functions: dict[int, list[Any]] = {}
    for shape in SHAPES:
        if len(shape) not in functions:
            functions[len(shape)] = [compiled(dtype, len(shape), k) for k in (True, False)]
        x = np.asarray(rng.standard_normal(shape), dtype)
        for key in (0, 1, -1, 2**40 + 3):
            fast, plain = (f(x, key) for f in functions[len(shape)])
            for a, b in zip(fast, plain, strict=True):
                assert a.dtype == b.dtype == dtype
                np.testing.assert_array_equal(a, b)


def test_dropped_is_zero_even_of_infinity() -> None:
    for kernels in (True, False):
        y, _ = compiled("float32", 1, kernels)(np.full(100, np.inf, np.float32), 3)
        assert set(y.tolist()) == {0.0, np.inf}


def test_expectation_and_rate() -> None:
    x, key = pt.fvector("x"), pt.lscalar("key")
    for rate in (0.1, 0.5, 0.9):
        f = dlmie.function([x, key], dropout(x, rate, key, 1))
        y = f(np.ones(200_000, np.float32), 11)
        kept = y != 0
        assert abs(kept.mean() - (1 - rate)) < 0.005
        assert abs(y.mean() - 1) < 0.02
        np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=1e-6)


def test_uniform_numbers_are_uniform_and_below_one() -> None:
    x, key = pt.fvector("x"), pt.lscalar("key")
    u = dlmie.function([x, key], uniform_like(x, key))(np.empty(400_000, np.float32), 4)
    assert 0 <= u.min() < u.max() < 1
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    assert np.abs(counts / len(u) - 0.05).max() < 0.002
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01


def test_the_gradient_uses_the_mask_of_the_forward_pass() -> None:
    noise = Noise(3)
    x, direction = pt.fmatrix("x"), pt.fmatrix("direction")
    y = noise.dropout(x, 0.5)
    gradient = pytensor.grad((y * direction).sum(), x)
    f = dlmie.function([x, direction], [y, gradient])
    rng = np.random.default_rng(0)
    values, ways = (rng.standard_normal((40, 50)).astype("f") for _ in range(2))
    masks = []
    for _ in range(3):
        out, slope = f(values, ways)
        np.testing.assert_array_equal(slope, np.where(out != 0, 2 * ways, 0))
        masks.append(out != 0)
    assert not np.array_equal(masks[0], masks[1])  # the key went on
    assert not np.array_equal(masks[1], masks[2])
    noise.key.set_value(np.int64(3) << np.int64(32))
    np.testing.assert_array_equal(f(values, ways)[0] != 0, masks[0])  # and can be put back


def test_the_key_moves_once_a_call_and_only_where_it_is_used() -> None:
    noise, x = Noise(0), pt.fvector("x")
    two = dlmie.function([x], [noise.dropout(x, 0.5), noise.uniform_like(x)])
    none = dlmie.function([x], layer_dropout(x, 0.5, None))
    ones = np.ones(8, np.float32)
    for expected in (1, 2, 3):
        two(ones)
        np.testing.assert_array_equal(none(ones), ones)
        assert noise.key.get_value() == expected


def test_uses_of_one_key_are_told_apart() -> None:
    noise, x = Noise(0), pt.fvector("x")
    f = dlmie.function([x], [noise.dropout(x, 0.5), noise.dropout(x, 0.5), noise.dropout(x, 0)])
    a, b, untouched = f(np.ones(1000, np.float32))
    agree = ((a != 0) == (b != 0)).mean()
    assert 0.4 < agree < 0.6
    assert untouched.all()


def test_bernoulli_draws_its_share() -> None:
    noise, x = Noise(1), pt.fvector("x")
    drawn = dlmie.function([x], noise.bernoulli_like(x, 0.2))(np.ones(100_000, np.float32))
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {0, 1}
    assert abs(drawn.mean() - 0.2) < 0.01


@pytest.mark.parametrize("kernels", [True, False])
def test_misuse_is_named(kernels: bool) -> None:
    x, key = pt.fvector("x"), pt.lscalar("key")
    f = dlmie.function([x, key], dropout(x, 1.0, key), kernels=kernels)
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\), not 1"):
        f(np.ones(3, np.float32), 0)
