"""Weights in half precision: kernels that widen them, and the rewrite that stores them so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from sequence_cases import threads

from dlmie.compilation import function
from dlmie.ops.attention.attention_lstm import attention_lstm_sequence
from dlmie.ops.dense.affine import Affine
from dlmie.ops.dense.elementwise import Vectorized
from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.recurrent.lstm import LSTMSequence
from dlmie.ops.runtime import library
from dlmie.ops.runtime.capture import Archive, capture


def half_matrix() -> Any:
    return pt.matrix(dtype="float16")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_with_weights_in_half_precision(dtype: str) -> None:
    """Few rows read them as they lie, many in panels: any number of rows, depth and columns."""
    x, w, b = pt.matrix(dtype=dtype), half_matrix(), pt.vector(dtype=dtype)
    run = function([x, w, b], [MatMul()(x, w), Affine()(x, w, b)])
    random = np.random.default_rng(0)
    rows, depths, widths = (1, 2, 5, 12, 13, 40), (1, 7, 8, 27, 300), (1, 5, 16, 33, 64, 257)
    for m, k, n in [*itertools.product(rows, depths, widths), (3, 0, 4), (20, 0, 4), (0, 3, 4)]:
        arrays = [random.normal(size=s).astype(dtype) for s in [(m, k), (k, n), (n,)]]
        arrays[1] = arrays[1].astype("float16")
        wide = [a.astype(np.longdouble) for a in arrays]
        product = wide[0] @ wide[1]
        error = 500 * np.finfo(dtype).eps
        for found, truth in zip(run(*arrays), (product, product + wide[2]), strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, truth, atol=error, rtol=error)


@pytest.mark.parametrize("rows", [1, 20])
def test_every_number_of_half_precision_is_widened(rows: int) -> None:
    """Subnormal numbers, both zeros, infinities, NaN: as many columns as fill vectors, and more."""
    x, w = pt.fmatrix(), half_matrix()
    run = function([x, w], MatMul()(x, w))
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for columns in (every, every[1 << 10 :][:2051]):
        found = run(np.ones((rows, 1), "float32"), columns[None])
        np.testing.assert_array_equal(found, np.repeat(columns[None].astype("float32"), rows, 0))


def test_a_refused_product_says_why() -> None:
    x, w = pt.fmatrix(), half_matrix()
    with pytest.raises(TypeError, match="float16"):
        function([x, w], MatMul(False, True)(x, w))
    with pytest.raises(TypeError, match="float16"):
        function([w], Vectorized("exp")(w))
    with pytest.raises(ValueError, match="inner sizes"):
        function([x, w], MatMul()(x, w))(np.ones((2, 3), "f"), np.ones((4, 5), np.float16))


def test_products_in_half_precision_do_not_depend_on_threads() -> None:
    x, w = pt.fmatrix(), half_matrix()
    run = function([x, w], MatMul()(x, w))
    random = np.random.default_rng(0)
    for m, k, n in ((5, 301, 1001), (12, 20, 5000), (13, 301, 1001), (40, 700, 130)):
        arrays = [random.standard_normal(s, "float32") for s in ((m, k), (k, n))]
        results = []
        for count in (1, 2, 9):
            with threads(count):
                results.append(run(arrays[0], arrays[1].astype(np.float16)).tobytes())
        assert len(set(results)) == 1


@pytest.mark.parametrize(("time", "beams"), [(1, 5), (1, 9), (5, 2)])
def test_sequences_with_weights_in_half_precision(time: int, beams: int) -> None:
    images, cells, channels, hidden, inner = 2, 5, 7, 6, 9
    rows = images * beams
    shapes = {
        "xp": (time, rows, 4 * hidden),
        "a": (images, cells, channels),
        "p": (images, cells, inner),
        "h": (rows, hidden),
        "c": (rows, hidden),
        "W_h": (hidden, 4 * hidden),
        "W_z": (channels, 4 * hidden),
        "W_q": (hidden, inner),
        "v": (inner,),
        "W_beta": (hidden, channels),
        "b_beta": (channels,),
    }
    random = np.random.default_rng(0)
    arrays = [random.normal(size=s).astype("float16") for s in shapes.values()]
    half = ["float16" if n.startswith("W") else "float32" for n in shapes]
    results = []
    for dtypes in (half, ["float32"] * len(half)):
        v = [
            pt.tensor(dtype=d, shape=(None,) * a.ndim) for d, a in zip(dtypes, arrays, strict=True)
        ]
        seen = attention_lstm_sequence(*v[:9], gate=(v[9], v[10]))
        outputs = [seen.h, seen.z, *LSTMSequence(False)(v[0], v[3], v[4], v[5])]
        given = [a.astype(d) for a, d in zip(arrays, dtypes, strict=True)]
        results += [function(v, outputs, kernels=on)(*given) for on in (True, False)]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-6)


def dense(weights: np.ndarray, *, fixed: bool) -> tuple[Callable[..., Any], Any]:
    """``x W + b`` with shared weights; the function, and W."""
    x, w = pt.fmatrix(), pytensor.shared(weights)
    b = pytensor.shared(np.ones(weights.shape[1], "float32"))
    return function([x], x @ w + b, fixed=fixed), w


def stored(run: Any) -> list[str]:
    """The types of what a function multiplies by."""
    nodes = run.maker.fgraph.toposort()
    return [node.inputs[1].type.dtype for node in nodes if isinstance(node.op, MatMul)]


@pytest.fixture
def weights() -> np.ndarray:
    """Numbers of half precision, as float32."""
    drawn = np.random.default_rng(0).standard_normal((300, 400))
    return drawn.astype("float16").astype("float32")


def test_fixed_weights_are_stored_in_half_precision(weights: np.ndarray) -> None:
    if not library.reads_half():
        pytest.skip("this processor has no instructions that widen numbers")
    (fixed, w), (plain, _) = dense(weights, fixed=True), dense(weights, fixed=False)
    assert stored(fixed) == ["float16"]
    assert stored(plain) == ["float32"]
    for rows in (1, 5, 12, 30):
        x = np.random.default_rng(1).standard_normal((rows, 300), "float32")
        if rows <= 12:
            np.testing.assert_array_equal(fixed(x), plain(x))
        else:  # summed in another order
            np.testing.assert_allclose(fixed(x), plain(x), rtol=1e-5, atol=1e-5)
    archive = Archive()  # what is kept of it does not hold them twice
    capture(fixed, archive)
    assert [a.dtype.name for a in archive.arrays.values() if a.ndim == 2] == ["float16"]
    np.testing.assert_array_equal(w.get_value(), weights)


def test_other_weights_stay_as_they_are(weights: np.ndarray) -> None:
    """Where something would be lost, and small ones, which lie in a cache."""
    for changed in (1.00001, 70_000.0, np.nan):
        w = weights.copy()
        w[-1, -1] = changed
        assert stored(dense(w, fixed=True)[0]) == ["float32"]
    assert stored(dense(weights[:10], fixed=True)[0]) == ["float32"]


def test_without_instructions_that_widen_nothing_is_stored(
    weights: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "reads_half", lambda: False)
    assert stored(dense(weights, fixed=True)[0]) == ["float32"]
