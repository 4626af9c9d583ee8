"""The interface between PyTensor and the C library: memory, errors, threads, missing kernels."""

from __future__ import annotations

import ctypes
import gc
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Apply, Variable
from sequence_cases import threads

import dlmie
from dlmie.errors import CompilerError
from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.random.noise import uniform_like
from dlmie.ops.runtime import building, library
from dlmie.ops.runtime import kernel_op as kernels
from dlmie.ops.runtime.kernel_op import KernelOp


def matrices(rows: int = 512) -> tuple[Any, np.ndarray]:
    """A function whose result takes a block of 1 MiB, which the pool of memory.c lends."""
    x = pt.fmatrix("x")
    values = np.random.default_rng(0).standard_normal((rows, 512)).astype("f")
    return dlmie.function([x], MatMul(False, False)(x, x.T)), values


def test_outputs_outlive_their_function_and_its_other_calls() -> None:
    f, x = matrices()
    kept = [f(x * i) for i in range(1, 6)]
    views = [result[::2, ::3] for result in kept]
    copies = [result.copy() for result in kept]
    assert len({result.ctypes.data for result in kept}) == 5
    del f
    gc.collect()
    for result, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(result, copy)
    del kept, result
    gc.collect()
    f, x = matrices()
    for i in range(5):
        f(x + i)  # would overwrite blocks that were taken back too early
    for view, copy in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, copy[::2, ::3])


def test_a_function_may_be_fed_its_own_result() -> None:
    x = pt.fmatrix("x")
    f = dlmie.function([x], MatMul(False, False)(x, x))
    a = np.random.default_rng(0).standard_normal((300, 300)).astype("f") / 20
    expected = a.astype("f8")
    result = a
    for _ in range(3):
        result = f(result)
        expected = expected @ expected
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


class Pool:
    """memory.c through ctypes."""

    def __init__(self) -> None:
        functions = library.load()
        self._take, self._give = functions.dlmie_take, functions.dlmie_give
        self._take.restype, self._take.argtypes = (
            ctypes.c_void_p,
            [ctypes.c_size_t, ctypes.c_void_p],
        )
        self._give.restype, self._give.argtypes = None, [ctypes.c_void_p, ctypes.c_size_t]
        self._limit = functions.dlmie_limit_idle
        self._limit.restype, self._limit.argtypes = None, [ctypes.c_size_t]

    def take(self, size: int) -> tuple[int, int]:
        actual = ctypes.c_size_t()
        block = self._take(size, ctypes.byref(actual))
        return block, actual.value

    def give(self, block: int, size: int) -> None:
        self._give(block, size)

    def limit(self, size: int) -> None:
        self._limit(size)


@pytest.fixture
def pool() -> Iterator[Pool]:
    """The pool, emptied before and after."""
    result = Pool()
    result.limit(0)
    result.limit(1 << 31)
    yield result
    result.limit(0)
    result.limit(1 << 31)


def test_blocks_are_handed_out_again(pool: Pool) -> None:
    block, size = pool.take(1_000_000)
    assert size >= 1_000_000
    assert block % 64 == 0
    other, other_size = pool.take(1_000_000)
    assert other != block
    pool.give(block, size)
    assert pool.take(990_000) == (block, size)  # a little smaller fits
    pool.give(block, size)
    small, small_size = pool.take(400_000)  # one much smaller would waste most of it
    assert small != block
    pool.give(other, other_size)
    pool.give(small, small_size)


def test_the_pool_has_a_limit_and_drops_the_oldest(pool: Pool) -> None:
    pool.limit(3 << 20)
    blocks = [pool.take(1 << 20) for _ in range(4)]
    for block in blocks:
        pool.give(*block)
    again = [pool.take(1 << 20)[0] for _ in range(3)]
    assert set(again) == {block for block, _ in blocks[1:]}
    large = pool.take(8 << 20)
    pool.give(*large)  # more than the limit: returned to the system at once
    for block in again:
        pool.give(block, 1 << 20)


def test_memory_returns_to_the_pool_when_arrays_die() -> None:
    f, x = matrices()
    addresses = set()
    for _ in range(5):
        addresses.add(f(x).ctypes.data)
        gc.collect()
    assert len(addresses) <= 2  # the result's, and that of the copy of the transposed matrix


def test_one_module_calls_all_kernels() -> None:
    x = pt.fmatrix("x")
    f = dlmie.function([x], pt.tanh(x @ x.T))
    thunks = [t for n, t in zip(f.vm.nodes, f.vm.thunks, strict=True) if isinstance(n.op, KernelOp)]
    assert len({len(thunk.inputs) for thunk in thunks}) > 1
    assert len({thunk.thunk.module.__file__ for thunk in thunks}) == 1


class Refusing(KernelOp):
    """Softmax's kernel, called with what it cannot take."""

    kernel = "softmax"

    def parameters(self) -> Sequence[int]:
        return (0,)

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        return [inputs[0].type]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [shapes[0]]

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        raise AssertionError("the kernel is tested")


def test_a_kernels_refusal_is_a_value_error() -> None:
    x = pt.fscalar("x")
    f = dlmie.function([x], Refusing()(x))
    with pytest.raises(ValueError, match="softmax"):
        f(1)


def test_shapes_that_do_not_fit_are_a_value_error_and_no_crash() -> None:
    a, b = pt.fmatrix("a"), pt.fmatrix("b")
    f = dlmie.function([a, b], MatMul(False, False)(a, b))
    with pytest.raises(ValueError, match="matmul"):
        f(np.ones((2, 3), "f"), np.ones((4, 5), "f"))
    assert f(np.ones((2, 3), "f"), np.ones((3, 1), "f")).tolist() == [[3], [3]]


def test_mixed_precision_is_refused_while_building() -> None:
    a, b = pt.fmatrix("a"), pt.dmatrix("b")
    with pytest.raises(TypeError, match="mixed or unsupported floating dtypes"):
        dlmie.function([a, b], MatMul(False, False)(a, b))


def test_more_inputs_than_a_kernel_has_room_for() -> None:
    class Many(Refusing):
        pass

    with pytest.raises(TypeError, match="257 inputs and 1 outputs are more than the 256 and 16"):
        Many()(*[pt.fscalar() for _ in range(257)])


@pytest.mark.parametrize("shape", [(6, 8), (600, 800)])  # copies of large ones lie in blocks
def test_strided_inputs_are_understood(shape: tuple[int, int]) -> None:
    x = pt.fmatrix("x")
    f = dlmie.function([x], MatMul(False, True)(x, x))
    a = np.random.default_rng(0).standard_normal(shape).astype("f")[::-2, 1::2]
    for _ in range(2):
        np.testing.assert_allclose(f(a), a @ a.T, rtol=1e-5, atol=1e-4)


def test_results_for_one_and_two_threads() -> None:
    f, x = matrices(700)
    v = pt.fvector("v")
    noise = dlmie.function([v], uniform_like(v, pt.constant(np.int64(5))))
    results = []
    for count in (1, 2):
        with threads(count):
            results.append((f(x), noise(np.empty(100_000, "f"))))
            repeated = f(x)
            np.testing.assert_array_equal(repeated, results[-1][0])  # the same threads, same bits
    exact = x.astype("f8") @ x.astype("f8").T
    for product, _ in results:
        np.testing.assert_allclose(product, exact, atol=2e-3)
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_denormals_survive_kernels() -> None:
    f, x = matrices()
    f(x)
    assert np.float64(1e-310) / 2 > 0
    tiny = np.full((1, 1), 1e-30, "f")
    y = pt.fmatrix("y")
    product = dlmie.function([y], MatMul(False, False)(y, y * np.float32(1e-10)))(tiny)
    assert 0 <= product[0, 0] < 1e-37


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def load() -> Any:
        raise CompilerError("the C kernels do not compile: error: no such register")

    monkeypatch.setattr(library, "load", load)
    kernels._library_works.cache_clear()
    yield
    kernels._library_works.cache_clear()


@pytest.mark.usefixtures("broken")
def test_broken_kernels_are_told_of_once_and_done_without() -> None:
    x = pt.fmatrix("x")
    a = np.ones((2, 3), "f")
    with pytest.warns(RuntimeWarning, match="running without C kernels, slowly: the C kernels do"):
        f = dlmie.function([x], pt.tanh(x @ x.T))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g = dlmie.function([x], uniform_like(x, pt.constant(np.int64(1))))
    np.testing.assert_allclose(f(a), np.tanh(3.0), rtol=1e-6)
    assert g(a).shape == (2, 3)


def test_a_compiler_error_names_the_line(tmp_path: Any) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int f(void) { return undeclared; }\n")
    command = [*library.find_compiler(), "-c", str(source), "-o", str(tmp_path / "wrong.o")]
    with pytest.raises(CompilerError, match=r"do not compile: .*error.*undeclared.*dlmie doctor"):
        building.run_all([command])
