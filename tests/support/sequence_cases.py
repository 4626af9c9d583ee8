"""Helpers of the recurrent kernels' tests: kernel against NumPy definition, finite differences.

One compiled function serves all shapes of a case: compiling is what takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from dlmie.compilation import function, get_threads, set_threads

Build = Callable[..., Sequence[Any]]


class Case:
    """Outputs of ``build``, and the gradients of their projection on random directions.

    Parameters
    ----------
    build
        Takes symbolic inputs, returns a list of outputs.
    dtypes, ndims
        Of the inputs.
    differentiable : int
        How many of the leading inputs gradients are taken of.
    projected : sequence of int
        The outputs that a gradient reaches; default: all.
    """

    def __init__(
        self,
        build: Build,
        dtypes: Sequence[str],
        ndims: Sequence[int],
        differentiable: int,
        projected: Sequence[int] | None = None,
    ) -> None:
        inputs = [pt.tensor(dtype=d, shape=(None,) * n) for d, n in zip(dtypes, ndims, strict=True)]
        outputs = list(build(*inputs))
        self.projected = range(len(outputs)) if projected is None else projected
        directions = [outputs[i].type() for i in self.projected]
        cost = sum((outputs[i] * d).sum() for i, d in zip(self.projected, directions, strict=True))
        gradients = pytensor.grad(cost, inputs[:differentiable])
        self.differentiable = differentiable
        self.plain_outputs = function(inputs, outputs, kernels=False)
        arguments = [*inputs, *directions]
        results = [*outputs, *gradients]
        self.fast = function(arguments, results, kernels=True)
        self.plain = function(arguments, results, kernels=False)
        self.cost = function(arguments, cost, kernels=True)

    def directions(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        random = np.random.default_rng(7)
        outputs = self.plain_outputs(*arrays)
        return [
            random.normal(size=outputs[i].shape).astype(outputs[i].dtype) for i in self.projected
        ]

    def check_against_numpy(self, *arrays: np.ndarray, tolerance: float | None = None) -> None:
        """Kernels and NumPy agree to rounding, relative to the largest element."""
        if tolerance is None:
            tolerance = 1e-11 if arrays[0].dtype == np.float64 else 3e-5
        arguments = [*arrays, *self.directions(arrays)]
        for fast, plain in zip(self.fast(*arguments), self.plain(*arguments), strict=True):
            assert fast.shape == plain.shape
            assert fast.dtype == plain.dtype
            if plain.size:
                assert np.abs(fast - plain).max() <= tolerance * max(np.abs(plain).max(), 1)

    def check_finite_differences(
        self, *arrays: np.ndarray, samples: int = 12, step: float = 1e-5, tolerance: float = 1e-6
    ) -> None:
        """Each gradient against central differences, at randomly chosen elements."""
        random = np.random.default_rng(3)
        directions = self.directions(arrays)
        results = self.fast(*arrays, *directions)
        gradients = results[len(results) - self.differentiable :]
        for position, gradient in enumerate(gradients):
            size = arrays[position].size
            for index in random.choice(size, size=min(samples, size), replace=False):
                values = []
                for sign in (1, -1):
                    changed = [a.copy() for a in arrays]
                    changed[position].flat[index] += sign * step
                    values.append(float(self.cost(*changed, *directions)))
                slope = (values[0] - values[1]) / (2 * step)
                assert abs(gradient.flat[index] - slope) <= tolerance * max(abs(slope), 1), (
                    f"input {position}, element {index}: {gradient.flat[index]} against {slope}"
                )


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run kernels on that many threads."""
    before = get_threads()
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)
