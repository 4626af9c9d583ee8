"""Results of dlmie and PyTorch are compared robustly, and wrong ones are still found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.agreement import EVERY_ELEMENT, THROUGH_MAX_POOLS, Disagreement, agree

Floats = npt.NDArray[np.float32]
SHAPE = (2, 8, 32, 32)


def gradient() -> Floats:
    """As the gradients of images are: with few large elements."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(SHAPE) * rng.gamma(0.5, size=SHAPE)).astype("float32")


def near_tie(x: Floats, relative: float = 0.05) -> Floats:
    """Another maximum in one window far up: the gradient differs in one receptive field."""
    y = x.copy()
    field = y[0, :, 10:18, 10:18]
    noise = np.random.default_rng(1).standard_normal(field.shape)
    noise[0, 0, 0] = 0
    field += (relative / 20 * np.abs(x).max() * noise).astype("float32")
    field[0, 0, 0] += np.float32(relative) * np.abs(x).max()
    return y


def test_one_near_tie_is_no_disagreement() -> None:
    x = gradient()
    found = agree(near_tie(x), x, THROUGH_MAX_POOLS)
    assert 0.9 < found.share < 1
    assert 1e-3 < found.norm < 1e-2
    assert found.entry()["agreement"] == {
        "share": found.share,
        "share_min": THROUGH_MAX_POOLS.share,
        "element_tolerance": THROUGH_MAX_POOLS.element,
        "norm": found.norm,
        "norm_max": THROUGH_MAX_POOLS.norm,
    }
    with pytest.raises(Disagreement):  # without max pools there is no excuse
        agree(near_tie(x), x, EVERY_ELEMENT)


def _border(x: Floats) -> Floats:
    y = x.copy()
    y[..., -1, :] = 0
    return y


def _channel(x: Floats) -> Floats:
    y = x.copy()
    y[:, 3] = 0
    return y


def _image(x: Floats) -> Floats:
    y = x.copy()
    y[1] = x[0]
    return y


def _nan(x: Floats) -> Floats:
    y = x.copy()
    y[0, 0, 0, 0] = np.nan
    return y


WRONG: dict[str, Callable[[Floats], Floats]] = {
    "scaled": lambda x: np.float32(1.03) * x,
    "shifted": lambda x: np.roll(x, 1, axis=-1),
    "transposed": lambda x: x.swapaxes(2, 3),
    "border": _border,
    "channel": _channel,
    "image": _image,
    "sign": lambda x: -x,
    "zero": np.zeros_like,
    "nan": _nan,
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernels_are_found_even_through_max_pools(name: str) -> None:
    x = gradient()
    with pytest.raises(Disagreement, match="of the root mean square"):
        agree(WRONG[name](x), x, THROUGH_MAX_POOLS)


def test_one_wrong_array_of_several_is_found() -> None:
    x = gradient()
    agree([x, x], [x, x], EVERY_ELEMENT)
    with pytest.raises(Disagreement):
        agree([x, WRONG["border"](x)], [x, x], THROUGH_MAX_POOLS)


def test_other_shapes_are_found_although_they_broadcast() -> None:
    x = gradient()
    with pytest.raises(Disagreement, match="shape"):
        agree(x[:1], x, THROUGH_MAX_POOLS)
    with pytest.raises(Disagreement, match="shape"):
        agree([x], [x, x], THROUGH_MAX_POOLS)


def test_zeros_agree_with_zeros_only() -> None:
    zeros = np.zeros(4)
    assert agree(zeros, zeros, EVERY_ELEMENT).norm == 0
    with pytest.raises(Disagreement):
        agree(zeros + 1e-9, zeros, THROUGH_MAX_POOLS)
