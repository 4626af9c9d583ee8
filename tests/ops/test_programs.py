"""Programs: what they compute, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

import dlmie
from dlmie.errors import DataError
from dlmie.ops.runtime.capture import Archive, CaptureError, capture
from dlmie.ops.runtime.programs import Program

x = pt.tensor("x", dtype="float32", shape=(None, 4))
weights = pytensor.shared(np.arange(12, dtype=np.float32).reshape(4, 3), name="W", shape=(4, 3))
biases = pytensor.shared(np.ones(3, np.float32), name="b", shape=(3,))


def folder() -> Path:
    return Path(pytensor.config.compiledir)


def program_of(function: Any) -> Program:
    archive = Archive()
    return Program(capture(function, archive), archive.arrays, folder())


def test_a_program_computes_what_its_function_does() -> None:
    product = x @ weights + biases
    square = (x * x).sum(axis=0)  # an input twice
    part = x[1:, ::2].T.reshape((2, -1))  # views, sizes, constants
    function = dlmie.function([x], [product, square, part, x])
    program = program_of(function)
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((n, 4), np.float32) for n in (5, 3))
    kept = program(first)
    copies = [array.copy() for array in kept]
    for array in (second, first):
        for ours, theirs in zip(program(array), function(array), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
    for array, copy in zip(kept, copies, strict=True):  # a later call leaves them alone
        np.testing.assert_array_equal(array, copy)


def test_one_output_is_no_list() -> None:
    value = np.ones((2, 4), np.float32)
    function = dlmie.function([x], x @ weights + biases)
    np.testing.assert_array_equal(program_of(function)(value), function(value))


def test_an_array_is_stored_once() -> None:
    archive = Archive()
    capture(dlmie.function([x], x @ weights + biases), archive)
    count = len(archive.arrays)
    capture(dlmie.function([x], x @ weights + biases + 1), archive)
    stored = [a for a in archive.arrays.values() if a.shape == (4, 3)]
    assert len(stored) == 1
    assert len(archive.arrays) >= count


@pytest.mark.parametrize(
    "arrays",
    [
        (),
        (np.ones((2, 4)),),
        (np.ones((2, 5), np.float32),),
        (np.ones(4, np.float32),),
        ([[1.0]],),
    ],
)
def test_other_inputs_are_refused(arrays: tuple[Any, ...]) -> None:
    program = program_of(dlmie.function([x], x @ weights + biases))
    with pytest.raises(TypeError, match=r"wanted"):
        program(*arrays)


def test_an_error_of_a_kernel_is_raised() -> None:
    w = pt.matrix("w", dtype="float32")
    program = program_of(dlmie.function([x, w], x @ w))
    with pytest.raises(ValueError, match=r"shape|agree|match|differ"):
        program(np.ones((2, 4), np.float32), np.ones((5, 2), np.float32))
    good = program(np.ones((2, 4), np.float32), np.ones((4, 2), np.float32))
    np.testing.assert_array_equal(good, np.full((2, 2), 4, np.float32))


class InPython(Op):
    """Adds one, in Python only."""

    def make_node(self, value: Any) -> Apply:
        return Apply(self, [value], [value.type()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        outputs[0][0] = inputs[0] + 1


def test_what_cannot_be_kept_is_said() -> None:
    count = pytensor.shared(np.float32(0), name="count")
    counting = dlmie.function([], count + 1, updates={count: count + 1})
    with pytest.raises(CaptureError, match="updates"):
        capture(counting, Archive())
    with pytest.raises(CaptureError, match="no C module"):
        capture(dlmie.function([x], InPython()(x)), Archive())


@pytest.mark.parametrize(
    "name", [f"tmpgone/m{'0' * 64}.so", f"../tmpgone/m{'0' * 64}.so", "/etc/passwd"]
)
def test_only_modules_of_the_cache_are_loaded(name: str) -> None:
    archive = Archive()
    plan = capture(dlmie.function([x], x @ weights + biases), archive)
    plan["nodes"][0]["module"] = name
    with pytest.raises(DataError, match="no module of this user's"):
        Program(plan, archive.arrays, folder())
