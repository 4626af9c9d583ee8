"""Elementwise functions, sums, affine maps, and the rewrites that put them to work."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from sequence_cases import Case, threads

from dlmie.compilation import function
from dlmie.ops.conv.activation import ChannelSum
from dlmie.ops.dense.affine import Affine
from dlmie.ops.dense.elementwise import Vectorized
from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.dense.sums import SumAxis, SumOfSquares
from dlmie.ops.losses.cross_entropy import Softmax


def exact(kind: str, x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.longdouble if x.dtype == np.float64 else np.float64)
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-wide))
    return np.asarray(getattr(np, kind)(wide))


@pytest.mark.parametrize(
    ("kind", "dtype", "limit"),
    [
        ("exp", "float32", 1),
        ("tanh", "float32", 6),
        ("sigmoid", "float32", 3),
        ("exp", "float64", 1),
        ("tanh", "float64", 2),
        ("sigmoid", "float64", 3),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_errors_in_units_of_the_last_place(kind: str, dtype: str, limit: float) -> None:
    """The bounds that vmath.h states."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(size=40_000) * s for s in (1e-5, 1e-2, 0.3, 1, 5, 30, 300)])
    x = x.astype(dtype)
    inputs = pt.vector(dtype=dtype)
    y = function([inputs], Vectorized(kind)(inputs))(x)
    truth = exact(kind, x)
    normal = (np.abs(truth) > np.finfo(dtype).tiny) & (np.abs(truth) < np.finfo(dtype).max)
    y, truth = y[normal], truth[normal]
    errors = np.abs(y - truth) / np.spacing(np.abs(truth).astype(dtype))
    assert errors.max() <= limit
    assert np.isfinite(y).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes(dtype: str) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 1e-30, 1e30, -1e30], dtype)
    big, half, v = np.inf, 0.5, pt.vector(dtype=dtype)
    for kind, expected in {
        "tanh": [1, -1, np.nan, 0, 0, 1e-30, 1, -1],
        "sigmoid": [1, 0, np.nan, half, half, half, 1, 0],
        "exp": [big, 0, np.nan, 1, 1, 1, big, 0],
    }.items():
        y = function([v], Vectorized(kind)(v))(x)
        np.testing.assert_allclose(y, np.array(expected, dtype), rtol=1e-6)
    many = np.linspace(-40, 40, 100_001).astype(dtype)
    assert np.abs(function([v], Vectorized("tanh")(v))(many)).max() == 1


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "exp"])
def test_elementwise_gradients(kind: str) -> None:
    case = Case(lambda x: [Vectorized(kind)(x)], ["float64"], [2], 1)
    for shape in [(1, 1), (3, 17), (70, 90)]:
        x = np.random.default_rng(0).normal(size=shape)
        case.check_against_numpy(x)
        case.check_finite_differences(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sum_axis(axis: int, dtype: str) -> None:
    case = Case(lambda x: [SumAxis(axis)(x)], [dtype], [3], 1)
    for shape in [(1, 1, 1), (3, 5, 17), (40, 30, 300), (2, 0, 3), (3, 2100, 1)]:
        x = np.random.default_rng(0).normal(size=shape).astype(dtype)
        for count in (1, 2):
            with threads(count):
                case.check_against_numpy(x)


def test_sums_are_accurate_and_do_not_depend_on_threads() -> None:
    x = pt.fmatrix()
    run = function([x], [SumAxis(0)(x), SumAxis(1)(x), SumOfSquares()(x)])
    data = (1000 + np.random.default_rng(0).normal(size=(3000, 70))).astype("float32")
    with threads(1):
        one = [np.array(r) for r in run(data)]
    with threads(2):
        two = run(data)
    wide = data.astype("float64")
    truth = [wide.sum(axis=0), wide.sum(axis=1), (wide**2).sum()]
    for a, b, t in zip(one, two, truth, strict=True):
        assert (a == b).all()
        np.testing.assert_allclose(a, t, rtol=2e-7)


@pytest.mark.parametrize("transpose", [(False, False), (True, False), (False, True), (True, True)])
def test_affine(transpose: tuple[bool, bool]) -> None:
    for dtype in ("float32", "float64"):
        case = Case(lambda x, w, b: [Affine(*transpose)(x, w, b)], [dtype] * 3, [2, 2, 1], 3)
        for m, k, n in [(1, 1, 1), (5, 3, 17), (11, 40, 150), (70, 90, 110), (3, 0, 4)]:
            random = np.random.default_rng(0)
            arrays = [random.normal(size=s) for s in [(m, k), (k, n), (n,)]]
            for i in (0, 1):
                arrays[i] = arrays[i].T if transpose[i] else arrays[i]
            arrays = [np.ascontiguousarray(a, dtype=dtype) for a in arrays]
            case.check_against_numpy(*arrays)
            if dtype == "float64":
                case.check_finite_differences(*arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_few_rows(dtype: str) -> None:
    """They are read along the rows of W: any number of rows, depth, and columns, in parts."""
    x, w, b = pt.matrix(dtype=dtype), pt.matrix(dtype=dtype), pt.vector(dtype=dtype)
    run = function([x, w, b], [MatMul(False, False)(x, w), Affine(False, False)(x, w, b)])
    random = np.random.default_rng(0)
    depths, widths = (1, 7, 8, 9, 27), (1, 5, 16, 33, 70_000)
    for m, k, n in [*itertools.product(range(1, 14), depths, widths[:-1]), (5, 11, widths[-1])]:
        arrays = [random.normal(size=s).astype(dtype) for s in [(m, k), (k, n), (n,)]]
        wide = [a.astype(np.longdouble) for a in arrays]
        product = wide[0] @ wide[1]
        error = 80 * np.finfo(dtype).eps
        for found, truth in zip(run(*arrays), (product, product + wide[2]), strict=True):
            np.testing.assert_allclose(found, truth, atol=error, rtol=error)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transpose", [(False, False), (True, False), (False, True), (True, True)])
def test_products_by_panels(transpose: tuple[bool, bool], dtype: str) -> None:
    """More rows: whole panels and parts of one, parts of the rows and of the depth."""
    x, w, b = pt.matrix(dtype=dtype), pt.matrix(dtype=dtype), pt.vector(dtype=dtype)
    run = function([x, w, b], [MatMul(*transpose)(x, w), Affine(*transpose)(x, w, b)])
    random = np.random.default_rng(0)
    sizes = [(13, 4100, 41), (50, 100, 301), (131, 127, 67), (257, 65, 128), (600, 7, 300)]
    for m, k, n in sizes:
        plain = [random.normal(size=s).astype(dtype) for s in [(m, k), (k, n), (n,)]]
        given = [
            np.ascontiguousarray(a.T) if t else a
            for a, t in zip(plain, (*transpose, False), strict=True)
        ]
        wide = [a.astype(np.longdouble) for a in plain]
        product = wide[0] @ wide[1]
        error = 4 * k * float(np.finfo(dtype).eps)
        for found, truth in zip(run(*given), (product, product + wide[2]), strict=True):
            np.testing.assert_allclose(found, truth, atol=error, rtol=0)


@pytest.mark.parametrize("transpose", [(False, False), (True, True)])
def test_products_by_panels_do_not_depend_on_threads(transpose: tuple[bool, bool]) -> None:
    x, w = pt.fmatrix(), pt.fmatrix()
    run = function([x, w], MatMul(*transpose)(x, w))
    random = np.random.default_rng(0)
    long = 2100 if transpose[0] else 250  # without AVX-512 a longer one is BLAS's
    for m, k, n in ((64, long, 90), (131, 127, 700), (1500, 100, 20)):
        shapes = (k, m) if transpose[0] else (m, k), (n, k) if transpose[1] else (k, n)
        arrays = [random.standard_normal(s, "float32") for s in shapes]
        results = []
        for count in (1, 2, 9):
            with threads(count):
                results.append(run(*arrays).tobytes())
        assert len(set(results)) == 1


def test_products_of_few_rows_do_not_depend_on_threads() -> None:
    x, w = pt.fmatrix(), pt.fmatrix()
    run = function([x, w], MatMul(False, False)(x, w))
    random = np.random.default_rng(0)
    for m, k, n in ((5, 301, 1001), (1, 4000, 300), (12, 20, 5000), (12, 50_000, 1)):
        arrays = [random.standard_normal(s, "float32") for s in ((m, k), (k, n))]
        results = []
        for count in (1, 2, 9):
            with threads(count):
                results.append(run(*arrays).tobytes())
        assert len(set(results)) == 1


def compiled_ops(inputs: list[Any], outputs: Any) -> tuple[Callable[..., Any], list[Any]]:
    fast, plain = function(inputs, outputs), function(inputs, outputs, kernels=False)
    data = [
        np.random.default_rng(0).normal(size=[4 if n is None else n for n in v.type.shape])
        for v in inputs
    ]
    arrays = [d.astype(v.type.dtype) for d, v in zip(data, inputs, strict=True)]
    for a, b in zip(np.atleast_1d(fast(*arrays)), np.atleast_1d(plain(*arrays)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    return fast, [node.op for node in fast.maker.fgraph.toposort()]


def count(ops: list[Any], kind: type) -> int:
    return sum(type(op) is kind for op in ops)


def test_rewrites_of_an_output_layer() -> None:
    x = pt.tensor("x", dtype="float32", shape=(None, None, 5))
    w, b = pytensor.shared(np.ones((5, 7), "f"), shape=(5, 7)), pt.fvector("b")
    b = pt.specify_shape(b, (7,))
    flat = x.reshape((-1, 5)) @ w
    y = flat.reshape((x.shape[0], x.shape[1], 7)) + b
    inputs = [x, b.owner.inputs[0]]
    fast = function(inputs, pt.tanh(y))
    ops = [node.op for node in fast.maker.fgraph.toposort()]
    assert count(ops, Affine) == 1
    assert count(ops, MatMul) == 0
    assert count(ops, Vectorized) == 1
    given = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("f")
    bias = np.arange(7).astype("f")
    np.testing.assert_allclose(fast(given, bias), np.tanh(given.sum(-1)[..., None] + bias), 1e-5)


def test_a_transpose_that_drops_axes_is_not_taken_for_one_of_a_matrix() -> None:
    pooled, g = pt.tensor(shape=(None, 3, 1, 1), dtype="float32"), pt.fmatrix()
    run = function([pooled, g], pt.dot(pooled.dimshuffle(1, 0), g))
    assert any(isinstance(node.op, MatMul) for node in run.maker.fgraph.apply_nodes)
    random = np.random.default_rng(0)
    a = random.normal(size=(5, 3, 1, 1)).astype(np.float32)
    b = random.normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_allclose(run(a, b), a[:, :, 0, 0].T @ b, rtol=1e-5)


def test_a_bias_joins_a_product_with_leading_axes() -> None:
    x, b = pt.fmatrix(), pt.tensor(dtype="float32", shape=(6,))
    product = x @ np.ones((4, 6), "f")
    _, ops = compiled_ops([x, b], product[None] + b)
    assert count(ops, Affine) == 1
    _, ops = compiled_ops([x, b], product[:, None] + b)
    assert count(ops, Affine) == 0


def test_a_bias_that_is_not_one_a_column_is_left_alone() -> None:
    x = pt.tensor(dtype="float32", shape=(None, 4))
    one = pt.tensor(dtype="float32", shape=(1,))
    _, ops = compiled_ops([x, one], x @ np.ones((4, 6), "f") + one)
    assert count(ops, Affine) == 0
    b = pt.tensor(dtype="float32", shape=(3,))
    wide = (x @ np.ones((4, 6), "f")).reshape((-1, 3))
    _, ops = compiled_ops([x, b], wide + b)
    assert count(ops, Affine) == 0


def test_rewrites_of_softmax_and_sums() -> None:
    x = pt.tensor("x", dtype="float32", shape=(None, 6))
    _, ops = compiled_ops([x], pt.special.softmax(x, axis=1))
    assert count(ops, Softmax) == 1
    _, ops = compiled_ops([x], pt.special.log_softmax(x, axis=-1))
    assert count(ops, Softmax) == 1
    _, ops = compiled_ops([x], pt.special.softmax(x, axis=0))
    assert count(ops, Softmax) == 0
    _, ops = compiled_ops([x], pt.sqr(x).sum())
    assert count(ops, SumOfSquares) == 1
    _, ops = compiled_ops([x], (x * x).sum())
    assert count(ops, SumOfSquares) == 1
    _, ops = compiled_ops([x], x.sum(axis=0))
    assert count(ops, SumAxis) == 1
    _, ops = compiled_ops([x], x.mean(axis=1))
    assert count(ops, SumAxis) == 1
    images = pt.tensor(dtype="float32", shape=(None, 3, 5, 7))
    _, ops = compiled_ops([images], images.sum(axis=(0, 2, 3)))
    assert count(ops, ChannelSum) == 1
    _, ops = compiled_ops([images], images.sum(axis=(1, 2, 3)))
    assert count(ops, ChannelSum) == 0


def test_elementwise_works_in_place_only_where_nobody_looks() -> None:
    x = pt.fmatrix()
    run = function([x], pt.tanh(x * 2))
    (op,) = [n.op for n in run.maker.fgraph.toposort() if isinstance(n.op, Vectorized)]
    assert op.overwrites == 0
    given = np.ones((2, 3), "f")
    run = function([x], [pt.tanh(x), x + 1])
    np.testing.assert_allclose(run(given)[1], 2)
    assert (given == 1).all()


def test_the_users_own_graphs_stay_as_they_are() -> None:
    x = pt.fmatrix()
    plain = pytensor.function([x], pt.tanh(x).sum(axis=0), mode="FAST_COMPILE")
    ours = (Vectorized, SumAxis)
    assert not any(isinstance(n.op, ours) for n in plain.maker.fgraph.toposort())
