"""The reference numbers of the course for GANs, through compiled graphs, and second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from course import assert_matches, course_entry, line
from pytensor.gradient import grad
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.graph.network import parameter
from dlmie.layers.parameterless import leaky_relu
from dlmie.losses import critic_loss, generator_loss, gradient_penalty
from dlmie.models import DCGAN, LeastSquaresGAN, VanillaGAN, WassersteinGAN
from dlmie.ops.conv.conv import conv2d, conv2d_transpose
from dlmie.ops.pool.pool import max_pool

GAMES = {"vanilla": "vanilla", "least_squares": "least-squares", "wasserstein": "wasserstein"}


@pytest.mark.parametrize("name", GAMES)
def test_gan_losses_with_gradients(shared: Path, name: str) -> None:
    entry = course_entry(shared, "gan_losses_with_gradients")
    real, fake = pt.dvector("real"), pt.dvector("fake")
    critic = critic_loss(GAMES[name], real, fake).mean()
    generator = generator_loss(GAMES[name], fake).mean()
    gradients = [*grad(critic, [real, fake]), grad(generator, fake)]
    run = function([real, fake], [critic, generator, *gradients])
    given, expected = entry["inputs"], entry["expected"][name]
    found = run(np.array(given["logits_real"]), np.array(given["logits_fake"]))
    names = ("D", "G", "dD_dreal", "dD_dfake", "dG_dfake")
    assert set(expected) <= set(names)
    for key, value in zip(names, found, strict=True):
        if key in expected:
            assert_matches(np.asarray(value), expected[key], entry["rtol"])


def test_gan_loss_stability(shared: Path) -> None:
    entry = course_entry(shared, "gan_loss_stability")
    logits, zeros = pt.dvector("logits"), pt.dvector("zeros")
    # A critic's loss is softplus(-real) + softplus(fake); softplus(0) is log 2.
    of_real, of_fake = critic_loss("vanilla", logits, zeros), critic_loss("vanilla", zeros, logits)
    run = function([logits, zeros], [generator_loss("vanilla", logits), of_real, of_fake])
    given = np.array(entry["inputs"]["logits"])
    minus, real, fake = run(given, np.zeros(3))
    expected = entry["expected"]
    assert_matches(minus, expected["softplus(-x)"], entry["rtol"])
    assert_matches(real - np.log(2), expected["softplus(-x)"], entry["rtol"], atol=1e-15)
    assert_matches(fake - np.log(2), expected["softplus(x)"], entry["rtol"], atol=1e-15)


def test_wgan_gradient_penalty(shared: Path) -> None:
    entry = course_entry(shared, "wgan_gradient_penalty")
    given, expected, rtol = entry["inputs"], entry["expected"], entry["rtol"]
    values = {
        name: line(*spec["linspace"][:2], *spec["linspace"][2])
        for name, spec in given.items()
        if isinstance(spec, dict)
    }
    W, b, v = (parameter(f"/{name}", values[name]) for name in ("W", "b", "v"))
    real, fake, share = pt.dmatrix("real"), pt.dmatrix("fake"), pt.dvector("share")

    def critic(x: Variable) -> Variable:
        return leaky_relu(x @ W.T + b) @ v

    between = share[:, None] * real + (1 - share[:, None]) * fake
    slope = grad(critic(between).sum(), between)
    each = gradient_penalty(critic, real, fake, share)
    penalty = given["lambda"] * each.mean()
    outputs = [between, slope, each, penalty, *grad(penalty, [W, v])]
    run = function([real, fake, share], outputs)
    found = run(values["real"], values["fake"], np.array(given["eps"]))
    x_hat, grad_x, squares, total, d_w, d_v = found
    assert_matches(x_hat, expected["x_hat"], rtol)
    assert_matches(grad_x, expected["grad_x"], rtol)
    assert_matches(np.sqrt(squares) + 1, expected["norms"], rtol)
    np.testing.assert_allclose(total, expected["penalty"], rtol=rtol)
    assert_matches(d_w, expected["dW"], rtol)
    assert_matches(d_v, expected["dv"], rtol)


def test_gan_parameter_counts(shared: Path) -> None:
    """All values, batch norm's running statistics included."""
    expected = course_entry(shared, "gan_parameter_counts")["expected"]
    shape = (28, 28, 1)

    def count(parameters: Any) -> int:
        return sum(p.get_value().size for p in parameters)

    found = {
        "D_vanilla": count(VanillaGAN(shape).critic_parameters),
        "G_vanilla_noise4": count(VanillaGAN(shape, latent=4).generator_parameters),
        "G_vanilla_noise96": count(LeastSquaresGAN(shape).generator_parameters),
        "D_dcgan": count(DCGAN(shape).critic_parameters),
        "G_dcgan_noise4": count(DCGAN(shape, latent=4).generator_parameters),
        "D_wgan": count(WassersteinGAN(shape, critic_norm=True).critic_parameters),
    }
    assert found == expected
    # Without batch norm, and with the 7 × 7 pixels of the padded second convolution, not 5 × 5.
    plain = count(WassersteinGAN(shape).critic_parameters)
    assert plain == expected["D_wgan"] - 4 * 128 + (7 * 7 - 5 * 5) * 128 * 1024
    assert count(WassersteinGAN(shape, latent=4).generator_parameters) == found["G_dcgan_noise4"]


def norm_of_gradient(layer: Callable[[Variable], Variable], x: Variable) -> Variable:
    """``Σ (∇ Σ tanh layer(x))²``: its gradient has the second derivatives of the layer."""
    return pt.sqr(grad(pt.tanh(layer(x)).sum(), x)).sum()


LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any]] = {
    "convolution": ((2, 2, 6, 6), (3, 2, 3, 3), lambda x, w: conv2d(x, w)),
    "stride": ((2, 2, 6, 6), (3, 2, 4, 4), lambda x, w: conv2d(x, w, stride=2)),
    "transposed": (
        (2, 3, 3, 3), (3, 2, 4, 4), lambda x, w: conv2d_transpose(x, w, stride=2, padding=1)
    ),
    "max pool": ((2, 2, 6, 6), (3, 2, 3, 3), lambda x, w: max_pool(conv2d(x, w), 2)),
    "leaky ReLU": ((4, 5), (5, 3), lambda x, w: leaky_relu(x @ w)),
    "penalty of a critic": (
        (2, 1, 8, 8),
        (3, 1, 4, 4),
        lambda x, w: leaky_relu(conv2d(x, w, stride=2)).flatten(2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives(name: str) -> None:
    """By central differences, in float64, of what a gradient penalty needs."""
    x_shape, w_shape, layer = LAYERS[name]
    rng = np.random.default_rng(0)
    x = pt.tensor("x", dtype="float64", shape=x_shape)
    w = pt.tensor("w", dtype="float64", shape=w_shape)
    value = norm_of_gradient(lambda x: layer(x, w), x)
    run = function([x, w], [value, *grad(value, [x, w])])
    at = [rng.standard_normal(x_shape), rng.standard_normal(w_shape)]
    _, *gradients = run(*at)
    for place, gradient in enumerate(gradients):
        for _ in range(3):
            way = rng.standard_normal(at[place].shape)
            ends = []
            for sign in (1, -1):
                moved = list(at)
                moved[place] = at[place] + sign * 1e-6 * way
                ends.append(float(run(*moved)[0]))
            slope = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose((gradient * way).sum(), slope, rtol=2e-6, atol=1e-7)
