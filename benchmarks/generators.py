"""Rows of ``dlmie bench``: a training step of adversarial networks, beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.timing import Entry, race, using_threads
from dlmie.generation.step import compile
from dlmie.models import DCGAN

_BATCH, _LATENT, _RATE, _BETA1 = 128, 96, 1e-3, 0.5
Run = Callable[[], np.ndarray]


def _ours() -> Run:
    step = compile(DCGAN((28, 28, 1), latent=_LATENT))
    step.progress = False
    images = np.random.default_rng(0).uniform(-1, 1, (_BATCH, 1, 28, 28)).astype("float32")

    def run() -> np.ndarray:
        return np.array(step({"images": images}).sums["loss"])

    return run


def _theirs(memory_format: torch.memory_format) -> Run:
    generator = nn.Sequential(
        nn.Linear(_LATENT, 1024), nn.ReLU(), nn.BatchNorm1d(1024),
        nn.Linear(1024, 6272), nn.ReLU(), nn.BatchNorm1d(6272), nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.ReLU(), nn.BatchNorm2d(64),
        nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Tanh(),
    ).to(memory_format=memory_format)  # fmt: skip
    critic = nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.LeakyReLU(0.01), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5), nn.LeakyReLU(0.01), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(1024, 1024), nn.LeakyReLU(0.01), nn.Linear(1024, 1),
    ).to(memory_format=memory_format)  # fmt: skip
    options = {"lr": _RATE, "betas": (_BETA1, 0.999), "foreach": True}
    of_critic = torch.optim.Adam(critic.parameters(), **options)
    of_generator = torch.optim.Adam(generator.parameters(), **options)
    images = torch.empty(_BATCH, 1, 28, 28).uniform_(-1, 1).contiguous(memory_format=memory_format)
    softplus = nn.functional.softplus

    def run() -> np.ndarray:
        noise = torch.empty(_BATCH, _LATENT).uniform_(-1, 1)
        with torch.no_grad():
            fake = generator(noise)
        loss = (softplus(-critic(images)) + softplus(critic(fake))).mean()
        of_critic.zero_grad(set_to_none=True)
        loss.backward()
        of_critic.step()
        fake = generator(torch.empty(_BATCH, _LATENT).uniform_(-1, 1))
        learned = list(generator.parameters())
        cost = softplus(-critic(fake)).mean()
        gradients = torch.autograd.grad(cost, learned)  # none of the critic's parameters
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient
        of_generator.step()
        return np.array(float(loss))

    return run


def dc_gan_step() -> Entry:
    """Critic and generator of the course's DC-GAN, a batch of 128 images of 28 × 28."""
    with using_threads():
        plain, last = torch.contiguous_format, torch.channels_last
        return race(_ours(), _theirs(plain), channels_last=_theirs(last))


ROWS = {"dc_gan_step": dc_gan_step}
