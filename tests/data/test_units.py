"""Pixels in network units: one definition for training, captions and pictures."""

from __future__ import annotations

import numpy as np
import pytest

from dlmie.data.images import (
    Preprocessing,
    deprocess,
    gray_level,
    normalize,
    pixel_size,
    preprocess,
    resize_planes,
    valid_range,
)

RGB = Preprocessing(6, (120, 110, 100), (60, 55, 50))
BGR = Preprocessing(6, (104, 117, 123), channels="BGR")


@pytest.mark.parametrize("preprocessing", [RGB, BGR])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalize_is_the_formula_at_any_size(preprocessing: Preprocessing, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 9, 3), np.uint8)
    x = normalize(pixels, preprocessing, dtype)
    assert x.dtype == dtype
    assert x.flags.c_contiguous
    ordered = pixels if preprocessing.channels == "RGB" else pixels[..., ::-1]
    expected = (ordered - np.array(preprocessing.mean)) / np.array(preprocessing.scale)
    np.testing.assert_allclose(x, np.moveaxis(expected, -1, 1), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(deprocess(x, preprocessing), pixels)


def test_preprocess_is_normalize_at_the_size_of_the_network() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), np.uint8)
    np.testing.assert_array_equal(preprocess(pixels, RGB), normalize(pixels, RGB))


def test_black_white_and_a_level_between_them() -> None:
    low, high = valid_range(RGB)
    ends = normalize(np.array([[[0] * 3, [255] * 3]], np.uint8), RGB)
    np.testing.assert_allclose(ends[:, :, :1], low, rtol=1e-6)
    np.testing.assert_allclose(ends[:, :, 1:], high, rtol=1e-6)
    np.testing.assert_allclose((high - low) / 255, pixel_size(RGB), rtol=1e-6)
    assert gray_level(RGB, "float64") == pytest.approx(np.mean(1 / np.array(RGB.scale)), rel=1e-15)


def test_planes_are_resized_without_rounding() -> None:
    planes = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    assert resize_planes(planes, (4, 5)) is planes
    larger = resize_planes(planes, (8, 10))
    assert larger.shape == (2, 3, 8, 10)
    assert larger.dtype == np.float32
    np.testing.assert_allclose(resize_planes(np.full((1, 3, 3), 0.3), 7), 0.3)
