"""Pooling: against its NumPy definition, PyTorch, golden numbers and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from conv_cases import assert_same, symbols, verify_gradient

from dlmie.compilation import function
from dlmie.ops.pool.pool import average_pool, global_average_pool, max_pool

# (rows, columns), options
CASES: list[tuple[tuple[int, int], dict[str, Any]]] = [
    ((6, 8), {"size": 2}),
    ((7, 9), {"size": 2}),
    ((3, 2), {"size": 2}),
    ((12, 34), {"size": 2}),
    ((5, 71), {"size": 2}),
    ((7, 40), {"size": 2, "ceil_mode": True}),
    ((13, 12), {"size": 3, "stride": 2, "ceil_mode": True}),
    ((9, 8), {"size": 3, "stride": 2, "padding": 1}),
    ((8, 9), {"size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ((5, 6), {"size": 3, "stride": 1, "padding": 1}),
    ((9, 10), {"size": (2, 3), "stride": (3, 1), "padding": (1, 0)}),
    ((4, 4), {"size": 1, "stride": 3, "ceil_mode": True}),
    ((2, 2), {"size": 3, "stride": 2, "ceil_mode": True}),
    ((1, 1), {"size": 1}),
]


def image(rows: int, columns: int, dtype: str = "float64") -> np.ndarray:
    # Few distinct values: ties happen, and the first maximum must win everywhere.
    random = np.random.default_rng(5)
    return random.integers(-4, 4, size=(2, 3, rows, columns)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("size", "options"), CASES)
def test_kernels_equal_numpy(size: tuple[int, int], options: dict[str, Any], dtype: str) -> None:
    x = image(*size, dtype)
    assert_same(lambda x: max_pool(x, **options), x)
    assert_same(lambda x: average_pool(x, **options), x)
    assert_same(lambda x: average_pool(x, **options, count_include_padding=True), x)


@pytest.mark.parametrize(("size", "options"), CASES)
def test_equals_pytorch(size: tuple[int, int], options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x = image(*size)
    names = {"size": "kernel_size"}
    theirs = {names.get(k, k): v for k, v in options.items()}
    for ours, other in [
        (lambda x: max_pool(x, **options), lambda t: F.max_pool2d(t, **theirs)),
        (
            lambda x: average_pool(x, **options),
            lambda t: F.avg_pool2d(t, **theirs, count_include_pad=False),
        ),
        (
            lambda x: average_pool(x, **options, count_include_padding=True),
            lambda t: F.avg_pool2d(t, **theirs),
        ),
    ]:
        (v,) = symbols(x)
        y = ours(v)
        got = function([v], [y, pytensor.grad((y**2).sum(), v)])(x)
        t = torch.tensor(x, requires_grad=True)
        out = other(t)
        (out**2).sum().backward()
        np.testing.assert_allclose(got[0], out.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(got[1], t.grad.numpy(), rtol=1e-12)


def test_golden_numbers() -> None:
    """SPEC A17."""
    x = np.linspace(-0.3, 0.4, 96).reshape(2, 3, 4, 4)
    (v,) = symbols(x)
    y = function([v], max_pool(v, 2))(x)
    assert y.shape == (2, 3, 2, 2)
    np.testing.assert_allclose(y.ravel()[:2], [-0.26315789, -0.24842105], rtol=1e-6)
    assert y.ravel()[-1] == pytest.approx(0.4)


def test_global_average() -> None:
    x = image(7, 6)
    assert_same(global_average_pool, x)
    (v,) = symbols(x)
    np.testing.assert_allclose(
        function([v], global_average_pool(v))(x), x.mean(axis=(2, 3)), rtol=1e-12
    )


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_first_and_second_derivatives(pool: Any) -> None:
    random = np.random.default_rng(2)
    x = random.permutation(2 * 7 * 6).reshape(1, 2, 7, 6).astype("float64")  # no ties
    options = {"size": 3, "stride": 2, "padding": 1}
    verify_gradient(lambda x: pool(x, **options), [x], eps=1e-5)

    def gradient_norm(x: Any) -> Any:
        y = pool(x / 10, **options)
        return (pytensor.grad((y**3).sum(), x) ** 2).sum()

    verify_gradient(gradient_norm, [x], eps=1e-5)


def test_nan_is_not_hidden() -> None:
    x = image(4, 4, "float32")
    x[0, 0, 1, 1] = np.nan
    (v,) = symbols(x)
    assert np.isnan(function([v], max_pool(v, 2))(x)[0, 0, 0, 0])
    assert np.isnan(function([v], max_pool(v, 2), kernels=False)(x)[0, 0, 0, 0])


def test_shapes_are_known_without_computing() -> None:
    x = pt.tensor4(dtype="float32", shape=(None, 8, 13, 14))
    assert max_pool(x, 3, 2, ceil_mode=True).type.shape == (None, 8, 6, 7)
    assert global_average_pool(x).type.shape == (None, 8)
    (v,) = symbols(image(9, 10, "float32"))
    for options in ({"size": 2}, {"size": 3, "stride": 2, "padding": 1, "ceil_mode": True}):
        shape = function([v], max_pool(v, **options).shape)(image(9, 10, "float32"))
        assert tuple(shape) == function([v], max_pool(v, **options))(image(9, 10, "float32")).shape


def test_bad_options_are_refused() -> None:
    x = pt.tensor4(dtype="float32")
    with pytest.raises(ValueError, match="half the window"):
        max_pool(x, 2, padding=2)
    with pytest.raises(ValueError, match="positive"):
        max_pool(x, 0)
    with pytest.raises(TypeError, match="4 dimensions"):
        max_pool(pt.fmatrix(), 2)
    with pytest.raises(ValueError, match="does not fit"):
        function([x], max_pool(x, 5))(np.zeros((1, 1, 4, 4), "float32"))
