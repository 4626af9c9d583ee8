"""The transposed convolution is the transpose of the convolution's map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest

from dlmie.compilation import function
from dlmie.ops.conv.conv import conv2d, conv2d_transpose

CASES: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"stride": 2, "padding": 1},
    {"stride": (1, 3), "padding": ((1, 0), (2, 1))},
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("kernels", [True, False])
def test_it_is_the_transpose(options: dict[str, Any], kernels: bool) -> None:
    """``<conv2d(y, w), x> = <y, conv2d_transpose(x, w)>`` for all x and y."""
    rng = np.random.default_rng(0)
    x, w = (pt.tensor(name, dtype="float64", shape=(None,) * 4) for name in "xw")
    run = function([x, w], conv2d_transpose(x, w, **options), kernels=kernels)
    small, filters = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 2, 4, 4))
    large = run(small, filters)
    y = rng.standard_normal(large.shape)
    back = function([x, w], conv2d(x, w, **options))(y, filters)
    assert back.shape == small.shape
    np.testing.assert_allclose((back * small).sum(), (y * large).sum(), rtol=1e-12)


def test_static_shapes_follow() -> None:
    x = pt.tensor("x", dtype="float32", shape=(None, 8, 7, 7))
    w = pt.tensor("w", dtype="float32", shape=(8, 4, 4, 4))
    assert conv2d_transpose(x, w, stride=2, padding=1).type.shape == (None, 4, 14, 14)


def test_same_does_not_say_how_large() -> None:
    x = pt.tensor("x", dtype="float32", shape=(None, 8, 7, 7))
    with pytest.raises(ValueError, match="padding as numbers"):
        conv2d_transpose(x, x, padding="same")
