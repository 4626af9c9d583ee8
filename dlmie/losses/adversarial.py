"""Losses of adversarial games: what the critic minimizes, and what the generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytensor.tensor as pt
from pytensor.gradient import grad
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.losses.reduction import like


@dataclass(frozen=True)
class Game:
    """The losses of an adversarial game, of the critic's scores (batch,), example by example.

    Attributes
    ----------
    critic : callable
        From the scores of real and of generated images to the critic's loss.
    generator : callable
        From the scores of generated images to the generator's loss.
    logits : bool
        Whether a score is the logit of the probability that an image is real.
    """

    critic: Callable[[Variable, Variable], Variable]
    generator: Callable[[Variable], Variable]
    logits: bool = False


def _half_square(scores: Variable, target: float) -> Variable:
    return like(scores, 0.5) * pt.sqr(scores - like(scores, target))


#: The games by name.
GAMES: Mapping[str, Game] = {
    # Goodfellow et al. (2014); the generator's is the form whose gradient does not vanish.
    "vanilla": Game(
        critic=lambda real, fake: pt.softplus(-real) + pt.softplus(fake),
        generator=lambda fake: pt.softplus(-fake),
        logits=True,
    ),
    # Mao et al. (2017)
    "least-squares": Game(
        critic=lambda real, fake: _half_square(real, 1.0) + _half_square(fake, 0.0),
        generator=lambda fake: _half_square(fake, 1.0),
    ),
    # Arjovsky et al. (2017)
    "wasserstein": Game(critic=lambda real, fake: fake - real, generator=lambda fake: -fake),
}


def game(kind: str) -> Game:
    """The game of a name.

    Raises
    ------
    DlmieError
        There is none.
    """
    if kind not in GAMES:
        *others, last = GAMES
        raise DlmieError(f"a game is {', '.join(others)} or {last}, not {kind!r}")
    return GAMES[kind]


def critic_loss(kind: str, real: Variable, fake: Variable) -> Variable:
    """The loss of the critic in an adversarial game, example by example.

    "vanilla": ``-log σ(real) - log(1 - σ(fake))`` (Goodfellow et al. 2014); "least-squares":
    ``½ (real - 1)² + ½ fake²`` (Mao et al. 2017); "wasserstein": ``fake - real`` (Arjovsky et al.
    2017).

    Parameters
    ----------
    kind : str
    real, fake : (batch,)
        The critic's scores of real and of generated images.

    Returns
    -------
    (batch,)

    Raises
    ------
    DlmieError
        Another kind.
    """
    return game(kind).critic(real, fake)


def generator_loss(kind: str, fake: Variable) -> Variable:
    """The loss of the generator in an adversarial game, example by example.

    "vanilla": ``-log σ(fake)``, the form whose gradient does not vanish; "least-squares":
    ``½ (fake - 1)²``; "wasserstein": ``-fake``.

    Parameters
    ----------
    kind : str
    fake : (batch,)
        The critic's scores of generated images.

    Raises
    ------
    DlmieError
        Another kind.
    """
    return game(kind).generator(fake)


def gradient_penalty(
    critic: Callable[[Variable], Variable], real: Variable, fake: Variable, epsilon: Variable
) -> Variable:
    """``(‖∇f(x̂)‖ - 1)²``, example by example (Gulrajani et al. 2017, equation 3).

    ``x̂ = ε real + (1 - ε) fake``; the norm is over all elements of an example. The critic must
    score each example by itself: it has no batch norm.

    Parameters
    ----------
    critic : callable
        From examples to scores (batch,).
    real, fake : (batch, ...)
    epsilon : (batch,)
        Uniform in [0, 1).

    Returns
    -------
    (batch,)
    """
    epsilon = epsilon.dimshuffle(0, *["x"] * (real.type.ndim - 1))
    between = epsilon * real + (like(real, 1.0) - epsilon) * fake
    gradient = grad(critic(between).sum(), between)
    squares = pt.sqr(gradient).flatten(2).sum(axis=1)
    # A critic that is flat somewhere has a norm of 0, whose own derivative is not finite.
    return pt.sqr(pt.sqrt(squares + like(squares, 1e-30)) - like(squares, 1.0))
