"""Helpers of the convolution and pooling tests: compare a kernel with its NumPy definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable

from dlmie.compilation import function


def symbols(*arrays: np.ndarray) -> list[Variable]:
    """One input variable for each array."""
    return [pt.tensor(dtype=a.dtype, shape=(None,) * a.ndim) for a in arrays]


def both(build: Any, *arrays: np.ndarray, gradients: bool = True) -> tuple[list, list]:
    """Outputs (and the gradients of a random projection of them) by kernels, and by NumPy."""
    inputs = symbols(*arrays)
    y = build(*inputs)
    outputs = [y]
    if gradients:
        seed = np.random.default_rng(7)
        shape = function(inputs, y, kernels=False)(*arrays).shape
        direction = pt.constant(seed.normal(size=shape).astype(arrays[0].dtype))
        outputs += pytensor.grad((y * direction).sum(), inputs)
    return (
        function(inputs, outputs, kernels=True)(*arrays),
        function(inputs, outputs, kernels=False)(*arrays),
    )


def assert_same(build: Any, *arrays: np.ndarray, tolerance: float | None = None) -> None:
    """Kernel and NumPy agree to rounding, relative to the largest element."""
    if tolerance is None:
        tolerance = 1e-12 if arrays[0].dtype == np.float64 else 2e-5
    for fast, plain in zip(*both(build, *arrays), strict=True):
        assert fast.shape == plain.shape
        assert fast.dtype == plain.dtype
        if plain.size:
            assert np.abs(fast - plain).max() <= tolerance * max(np.abs(plain).max(), 1)


def verify_gradient(build: Any, arrays: list[np.ndarray], **options: Any) -> None:
    """Finite differences, with the C linker (PyTensor's default would be Numba)."""
    pytensor.gradient.verify_grad(
        build, arrays, rng=np.random.default_rng(0), mode=Mode("cvm", "fast_run"), **options
    )
