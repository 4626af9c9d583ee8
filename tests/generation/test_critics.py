"""What the critics of adversarial networks look at."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
import pytest

from dlmie.compilation import function
from dlmie.models import DCGAN, VanillaGAN, WassersteinGAN
from dlmie.models.generators.gan import GAN


def pixels_read(model: GAN) -> np.ndarray:
    """Whether the critic's score depends on a pixel: (rows, columns)."""
    d_images = pt.grad(model.critic(model.images).sum(), model.images)
    images = np.random.default_rng(0).uniform(-1, 1, (16, 1, 28, 28)).astype("float32")
    gradients: np.ndarray = function([model.images], d_images)(images)
    return (gradients != 0).any(axis=(0, 1))


@pytest.mark.parametrize("kind", [VanillaGAN, DCGAN, WassersteinGAN])
def test_every_pixel_counts(kind: type[GAN]) -> None:
    assert pixels_read(kind((28, 28, 1))).all()


def test_the_courses_critic_misses_two_rows_and_columns() -> None:
    read = pixels_read(WassersteinGAN((28, 28, 1), critic_norm=True))
    assert read[:26, :26].all()
    assert not read[26:].any()
    assert not read[:, 26:].any()
