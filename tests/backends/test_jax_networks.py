"""A whole network on JAX beside the C kernels, in both precisions."""

from __future__ import annotations

import numpy as np
import pytensor
import pytest

import dlmie
from dlmie import models

pytest.importorskip("jax", reason="needs JAX: pip install dlmie[gpu]")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "of_logits", "of_gradient"), [("float32", 2e-5, 1e-2), ("float64", 1e-12, 1e-11)]
)
def test_logits_and_input_gradient_of_efficientnet(
    dtype: str, of_logits: float, of_gradient: float
) -> None:
    """Bounds relative to the largest: in float32 a ReLU6 at its edge may fall to either side."""
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(dtype)
    network = models.encoder("efficientnet-lite0", dtype=dtype)
    logits = network["logits"]
    outputs = [logits, pytensor.grad(logits[:, 281].sum(), network.input)]
    c, found = (dlmie.function([network.input], outputs, backend=b)(images) for b in ("c", "jax"))
    for wanted, ours, bound in zip(c, found, (of_logits, of_gradient), strict=True):
        assert ours.dtype == wanted.dtype == dtype
        assert np.abs(ours - wanted).max() <= bound * np.abs(wanted).max()
