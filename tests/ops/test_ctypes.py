"""The C library called directly, without PyTensor's compiled code between."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from sanitize_kernels import call_kernel, kernel_ops, run

from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.runtime import library


def test_every_kernel_equals_its_definition() -> None:
    used = run(library.load(), ["float32", "float64"])
    assert used == {op for op in kernel_ops() if op.__module__.startswith("dlmie.")}


def test_a_refused_call_says_why() -> None:
    a, b = np.zeros((2, 3)), np.zeros((4, 5))
    with pytest.raises(ValueError, match="matmul"):
        call_kernel(library.load(), MatMul(), "float64", [a, b], ["float64"])


def test_the_library_exports_nothing_but_kernels() -> None:
    lib = ctypes.CDLL(str(library.build()))
    for name in ("gemm_f32", "gemm_serial_f64"):
        assert not hasattr(lib, name)
