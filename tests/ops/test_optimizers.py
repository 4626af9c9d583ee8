"""Fused rules: NumPy, the golden numbers, in place where possible and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from sequence_cases import threads

from dlmie.compilation import function
from dlmie.ops.optimizers.updates import Rule, adam_step, adam_update, momentum_step, rmsprop_step

ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def rules(dtype: str, ndim: int) -> dict[str, tuple[list[Any], Any]]:
    g, m, v, p = (pt.tensor(n, dtype=dtype, shape=(None,) * ndim) for n in "gmvp")
    rate, t = pt.scalar("rate", dtype=dtype), pt.lscalar("t")
    return {
        "momentum": ([g, m, rate], momentum_step(g, m, rate, momentum=0.9)),
        "rmsprop": ([g, v, rate], rmsprop_step(g, v, rate, decay=0.99, epsilon=1e-8)),
        "adam": ([g, m, v, rate, t], adam_step(g, m, v, rate, t, **ADAM)),
        "adam_update": ([p, m, v, g, rate, t], adam_update(p, m, v, g, rate, t, **ADAM)),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adam", "adam_update"])
def test_kernels_equal_numpy(name: str, dtype: str) -> None:
    random = np.random.default_rng(0)
    inputs, outputs = rules(dtype, 2)[name]
    fast = function(inputs, outputs, kernels=True)
    plain = function(inputs, outputs, kernels=False)
    for shape in [(1, 1), (3, 17), (130, 257), (0, 4)]:
        arrays = [np.abs(random.normal(size=shape)).astype(dtype) for v in inputs if v.ndim]
        scalars = [np.asarray(0.01, dtype), 7][: len(inputs) - len(arrays)]
        for count in (1, 2):
            with threads(count):
                results = fast(*arrays, *scalars)
            for a, b in zip(results, plain(*arrays, *scalars), strict=True):
                assert a.dtype == b.dtype == dtype
                limit = 1e-13 if dtype == "float64" else 2e-6
                np.testing.assert_allclose(a, b, rtol=limit, atol=limit)


def test_golden_adam() -> None:
    # SPEC: cs231n's adam at its sixth update.
    w, g = np.linspace(-0.4, 0.6, 20).reshape(4, 5), np.linspace(-0.6, 0.4, 20).reshape(4, 5)
    m, v = np.linspace(0.6, 0.9, 20).reshape(4, 5), np.linspace(0.7, 0.5, 20).reshape(4, 5)
    moved, _, _ = function([], adam_update(w, m, v, g, 1e-2, 6, **ADAM))()
    np.testing.assert_allclose(moved[[0, 3], [0, 4]], [-0.40094747, 0.59801459], rtol=1e-8)


def nodes(compiled: Any, op: type) -> list[Any]:
    return [n for n in compiled.maker.fgraph.toposort() if isinstance(n.op, op)]


def shared(value: np.ndarray) -> Any:
    return pytensor.shared(value.copy(), shape=value.shape)


def test_the_graph_of_an_update_becomes_one_pass_in_place() -> None:
    random = np.random.default_rng(0)
    start, g = random.normal(size=(2, 40, 3)).astype("float32")
    p, m, v = shared(start), shared(np.zeros_like(start)), shared(np.zeros_like(start))
    gradient = pt.fmatrix()
    step, m_new, v_new = adam_step(gradient * 2, m, v, 0.1, 1, **ADAM)
    run = function([gradient], [], updates={p: p + step, m: m_new, v: v_new})
    (node,) = nodes(run, Rule)
    assert node.op.adds
    assert node.op.aliases == {0: 0, 1: 2, 2: 3}
    before = m.get_value(borrow=True, return_internal_type=True)
    run(g)
    assert m.get_value(borrow=True, return_internal_type=True) is before
    np.testing.assert_allclose(p.get_value(), start - 0.1 * np.sign(g), rtol=1e-5)
    np.testing.assert_allclose(m.get_value(), 0.2 * g, rtol=1e-6)


def test_what_others_need_is_not_overwritten() -> None:
    start = np.ones((3, 2), "float32")
    p, m = shared(start), shared(start)
    g = pt.fmatrix()
    step, m_new = momentum_step(g, m, 0.5, momentum=0.9)
    # The old parameter, the old slot and the caller's gradient are all still wanted.
    run = function([g], [p + 0, m * 3, p + step], updates={p: p + step, m: m_new})
    given = np.full((3, 2), 2.0, "float32")
    old, slot, moved = run(given)
    assert (given == 2).all()
    assert (old == 1).all()
    assert (slot == 3).all()
    np.testing.assert_allclose(moved, 0.9 * 1 - 0.5 * 2 + 1)
    np.testing.assert_allclose(p.get_value(), moved)


def test_a_schedule_of_the_rate_stays_symbolic() -> None:
    rate, t = pt.dscalar(), pt.lscalar()
    g = np.array([0.5, -2.0])
    step = adam_step(g, np.zeros(2), np.zeros(2), rate, t, **ADAM)[0]
    run = function([rate, t], step)
    np.testing.assert_allclose(run(0.3, 1), -0.3 * np.sign(g), rtol=1e-6)


def test_wrong_shapes_are_refused() -> None:
    a, b = pt.dmatrix(), pt.dmatrix()
    run = function([a, b], momentum_step(a, b, 0.1, momentum=0.9)[0])
    with pytest.raises(ValueError, match="differ in shape"):
        run(np.zeros((2, 3)), np.zeros((3, 2)))
