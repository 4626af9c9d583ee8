"""``dlmie.function`` on JAX: shapes, dtypes, where values stay, errors, no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.c.cmodule import ModuleCache

import dlmie
from dlmie.errors import DlmieError

jax = pytest.importorskip("jax", reason="needs JAX: pip install dlmie[gpu]")

from dlmie.backends.jax import configuration  # noqa: E402
from dlmie.backends.jax.device import DeviceContainer  # noqa: E402

function: Callable[..., Any] = partial(dlmie.function, backend="jax")


def both(inputs: list[Any], outputs: list[Any], *arrays: np.ndarray) -> None:
    """Both backends give arrays of the same type and shape, and equal to rounding."""
    c, on_jax = (dlmie.function(inputs, outputs, backend=b)(*arrays) for b in ("c", "jax"))
    for wanted, found in zip(c, on_jax, strict=True):
        assert type(found) is np.ndarray
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_shapes_may_follow_from_other_shapes() -> None:
    x = pt.tensor3("x", dtype="float32")
    rows, width = x.shape[0] * x.shape[1], x.shape[2]
    flat = x.reshape((rows, width))
    outputs = [
        flat,
        flat[: rows // 2],
        pt.zeros((width + 1, rows), dtype="float32") + np.float32(2),
        pt.alloc(np.float32(3), *x.shape[1:]),
        pt.arange(rows - 1),
        pt.concatenate([x, pt.ones_like(x)], axis=1).flatten(2),
        pt.stack([x.shape[0], rows]),
        pt.cast(x.shape[0], "float32") * x,
    ]
    f = function([x], outputs)
    for shape in ((2, 3, 4), (4, 1, 2)):  # not compiled for one shape alone
        array = np.random.default_rng(0).random(shape, np.float32)
        wanted = dlmie.function([x], outputs, backend="c")(array)
        for found, expected in zip(f(array), wanted, strict=True):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(found, expected)


def test_maps_are_joined_and_their_gradients_split() -> None:
    from dlmie.ops.conv.concatenation import concatenate_channels

    x, y = pt.tensor4(dtype="float32"), pt.tensor4(dtype="float32")
    joined = concatenate_channels([x * 2, y])
    cost = (joined * pt.arange(joined.size).reshape(joined.shape)).sum()
    arrays = np.ones((2, 3, 2, 1), np.float32), np.ones((2, 1, 2, 1), np.float32)
    both([x, y], [joined, *pytensor.grad(cost, [x, y])], *arrays)


def test_types_are_those_that_the_graph_declares() -> None:
    x, n = pt.fmatrix("x"), pt.lscalar("n")
    double = pt.cast(x, "float64") * 0.1  # would be float32 by JAX's rules for Python's numbers
    outputs = [x * np.float32(0.1), double, x > 0, x.argmax(axis=1), n * 2, x.sum(), pt.log(n)]
    both([x, n], outputs, np.array([[1, -2], [0.5, 3]], np.float32), np.int64(2**40 + 1))


def test_floatx_of_pytensor_changes_nothing() -> None:
    code = (
        "import numpy as np, dlmie, pytensor.tensor as pt; x = pt.dvector(); "
        "print(dlmie.function([x], x / 3, backend='jax')(np.ones(1)).dtype)"
    )
    environment = {**os.environ, "PYTENSOR_FLAGS": "floatX=float32"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "float64"


def test_a_shape_that_depends_on_values_is_refused() -> None:
    n, x = pt.lscalar("n"), pt.fvector("x")
    with pytest.raises(DlmieError, match="must know all shapes before it computes"):
        function([x, n], x.reshape((n, -1)))(np.ones(4, np.float32), 2)


class Nameless(Op):
    """An operation that JAX knows nothing of."""

    def make_node(self, x: Any) -> Apply:
        return Apply(self, [x], [x.type()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        outputs[0][0] = inputs[0].copy()


def test_an_operation_without_a_form_is_named() -> None:
    x = pt.fvector("x")
    with pytest.raises(DlmieError, match=r"No JAX conversion.*Nameless.*use the backend c"):
        function([x], Nameless()(x))


def test_results_are_the_callers_own() -> None:
    x = pt.fvector("x")
    f = function([x], x * 2)
    first = f(np.ones(3, np.float32))
    first[0] = 7
    np.testing.assert_array_equal(f(np.ones(3, np.float32)), [2, 2, 2])


def test_what_is_updated_stays_on_the_device_and_is_read_as_numpy() -> None:
    state = pytensor.shared(np.zeros(3, np.float32), name="state")
    fixed = pytensor.shared(np.ones(3, np.float32), name="fixed")
    step = function([], state.sum(), updates=[(state, state + fixed)])
    before = state.get_value(borrow=True)
    old = state.container.storage[0]
    assert [step() for _ in range(3)] == [0, 3, 6]
    assert old.is_deleted()  # its memory was given to the new value
    np.testing.assert_array_equal(before, [0, 0, 0])
    value = state.get_value(borrow=True)
    assert type(value) is np.ndarray
    value[0] = 100  # a copy, and the caller's own
    np.testing.assert_array_equal(state.get_value(), [3, 3, 3])
    for variable in (state, fixed):
        assert isinstance(variable.container.storage[0], jax.Array)


def test_values_are_set_from_numpy() -> None:
    state = pytensor.shared(np.zeros(2, np.float32))
    step = function([], state * 2, updates=[(state, state + np.float32(1))])
    step()
    given = np.array([5, 6], np.float32)
    state.set_value(given, borrow=True)
    given[0] = 9  # the value was copied to the device
    np.testing.assert_array_equal(step(), [10, 12])
    with pytest.raises(TypeError):
        state.set_value(np.zeros((2, 2), np.float32))


def test_functions_share_what_they_update() -> None:
    count = pytensor.shared(np.int64(2**40))
    up = function([], count, updates=[(count, count + 1)])
    double = function([], count * 2, updates=[(count, count * 2)])
    assert isinstance(count.container, DeviceContainer)
    assert [up(), double(), up()] == [2**40, 2**41 + 2, 2**41 + 2]
    assert count.get_value() == 2**41 + 3


def test_random_numbers_move_on_as_with_c() -> None:
    from dlmie.layers.noise import Noise

    drawn = []
    for backend in ("c", "jax"):
        noise, x = Noise(3), pt.fmatrix("x")
        f = dlmie.function([x], noise.dropout(x, 0.5), backend=backend)
        drawn.append([f(np.ones((4, 5), np.float32)) for _ in range(3)])
    np.testing.assert_array_equal(*drawn)
    assert (drawn[0][0] != drawn[0][1]).any()


def test_no_compiler_is_needed() -> None:
    """Neither for graphs nor for kernels."""
    code = (
        "import numpy as np, dlmie, pytensor, pytensor.tensor as pt\n"
        "from dlmie.ops.conv.conv import conv2d\n"
        "dlmie.use_backend('jax')\n"
        "x, w = pt.tensor4(dtype='float32'), np.ones((1, 1, 2, 2), 'float32')\n"
        "y = conv2d(x, w, activation='relu').sum()\n"
        "f = dlmie.function([x], [y, pytensor.grad(y, x)])\n"
        "print(*(a.sum() for a in f(np.ones((1, 1, 3, 3), 'float32'))))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("PATH", "CC", "CXX")}
    environment |= {"PYTENSOR_FLAGS": "cxx=", "PATH": "/nowhere"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "16.0 16.0", done.stderr


def test_pytensor_leaves_the_folder_of_compiled_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose cache, in any process, removes the empty folders beside its modules."""
    monkeypatch.setattr(configuration, "cache_folder", lambda: tmp_path)
    folder = configuration._own_folder()
    (tmp_path / "empty").mkdir()
    ModuleCache(str(tmp_path))
    assert folder.is_dir()
    assert not (tmp_path / "empty").exists()
