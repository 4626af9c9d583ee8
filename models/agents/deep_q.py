"""Deep Q-networks (Mnih et al. 2015), plain and dueling (Wang et al. 2016)."""

from __future__ import annotations

import itertools

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.graph.network import Parameter, find_parameters
from dlmie.layers import Conv2D, Linear
from dlmie.models.agents.agent import Agent, Config, Spaces, needs_arrays
from dlmie.ops.conv.activation import relu

# Filters, size, stride of the convolutions, none with padding: 84 → 20 → 9 → 7.
_CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
_SIZE, _LAST, _FEATURES = 84, 7, 512


class DQN(Agent):
    """The value of each action: of images of 84 × 84 by convolutions, else by two dense layers.

    For images it is the network of the course: 32 filters of 8 × 8, stride 4; 64 of 4 × 4, stride
    2; 64 of 3 × 3; 512 of 7 × 7, which is a dense layer; no padding, no biases, ReLU. A dueling
    network splits what they give in halves, for the advantages of the actions and the value of the
    state: ``Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')``.

    Beside its parameters ``/main/…`` it has as many ``/target/…``, which follow slowly and give the
    values of next states; see :class:`~dlmie.reinforcement.objectives.QLearning`.

    Parameters
    ----------
    spaces, seed, dtype
        See :class:`~dlmie.models.agents.agent.Agent`.
    hidden : int
        Size of the two dense layers for observations that are no images.
    dueling : bool

    Examples
    --------
    >>> agent = DQN(Spaces((84, 84, 3), 0, 4, "uint8"), dueling=True)
    >>> sum(p.get_value().size for p in agent.parameters)
    1682688
    """

    kind = "dqn"
    objective = "deep-q"

    def __init__(
        self,
        spaces: Spaces,
        *,
        hidden: int = 128,
        dueling: bool = False,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(spaces, seed=seed, dtype=dtype)
        needs_arrays(self.kind, spaces)
        self.hidden, self.dueling = hidden, dueling
        self._main, self._target = self._trunk("/main"), self._trunk("/target")
        for parameter in self.target_parameters:  # they learn by following
            parameter.roles = frozenset()

    @property
    def config(self) -> Config:
        return {"hidden": self.hidden, "dueling": self.dueling, **super().config}

    def scores(self, observations: Variable) -> Variable:
        return self._main(observations)

    def target_scores(self, observations: Variable) -> Variable:
        """The same of the target network."""
        return self._target(observations)

    @property
    def target_parameters(self) -> list[Parameter]:
        """The parameters of the target network, in the order of `parameters`."""
        return find_parameters(self.target_scores(self.observations))

    def synchronize(self) -> None:
        """Make the target network equal to the main one, as it is at first."""
        for target, main in zip(self.target_parameters, self.parameters, strict=True):
            target.set_value(main.get_value())

    def _trunk(self, name: str) -> _Convolutional | _Dense:
        kind = _Convolutional if _is_image(self.spaces) else _Dense
        return kind(name, self.spaces, self.hidden, self.dueling, self.seed, self.dtype)


def _is_image(spaces: Spaces) -> bool:
    """Whether observations are images of 84 × 84, once they are enlarged."""
    sizes = [size * spaces.enlarge for size in spaces.shape[:2]]
    return len(spaces.shape) == 3 and sizes == [_SIZE, _SIZE]


class _Convolutional:
    """From images to the values of actions."""

    def __init__(
        self, name: str, spaces: Spaces, hidden: int, is_dueling: bool, seed: int, dtype: str
    ) -> None:
        rng = np.random.default_rng(seed)  # main and target network begin as equals
        self._enlarge, self._dtype, self._dueling = spaces.enlarge, dtype, is_dueling
        self._layers = []
        channels = spaces.shape[2]
        for number, (filters, size, stride) in enumerate(_CONVOLUTIONS, 1):
            layer = Conv2D(
                f"{name}/conv{number}", channels, filters, size,
                rng=rng, stride=stride, padding="valid", b=None, dtype=dtype,
            )  # fmt: skip
            self._layers.append(layer)
            channels = filters
        # Filters as large as what they see: one matrix product, many times as fast.
        inputs = channels * _LAST**2
        self._dense = Linear(
            f"{name}/dense", inputs, _FEATURES, rng=rng, W="he_normal", b=None, dtype=dtype
        )
        self._half = half = _FEATURES // 2 if is_dueling else _FEATURES
        self._action = Linear(f"{name}/action", half, spaces.actions, rng=rng, b=None, dtype=dtype)
        self._value = Linear(f"{name}/value", half, 1, rng=rng, b=None, dtype=dtype)

    def __call__(self, observations: Variable) -> Variable:
        """(batch, rows, columns, channels) → (batch, actions)."""
        x = pt.cast(observations, self._dtype) / np.asarray(255, self._dtype)
        x = enlarged(x.dimshuffle(0, 3, 1, 2), self._enlarge)
        for layer in self._layers:
            x = relu(layer(x))
        features = relu(self._dense(x.flatten(2)))  # (batch, 512)
        if not self._dueling:
            return self._action(features)
        advantages = self._action(features[:, : self._half])
        return dueling(self._value(features[:, self._half :]), advantages)


class _Dense:
    """From vectors to the values of actions."""

    def __init__(
        self, name: str, spaces: Spaces, hidden: int, is_dueling: bool, seed: int, dtype: str
    ) -> None:
        rng = np.random.default_rng(seed)
        sizes = [int(np.prod(spaces.shape)), hidden, hidden]
        self._dtype, self._dueling = dtype, is_dueling
        self._layers = [
            Linear(f"{name}/dense{number}", size, outputs, rng=rng, W="he_normal", dtype=dtype)
            for number, (size, outputs) in enumerate(itertools.pairwise(sizes), 1)
        ]
        self._action = Linear(f"{name}/action", hidden, spaces.actions, rng=rng, dtype=dtype)
        self._value = Linear(f"{name}/value", hidden, 1, rng=rng, dtype=dtype)

    def __call__(self, observations: Variable) -> Variable:
        """(batch, ...) → (batch, actions)."""
        x = pt.cast(observations, self._dtype).flatten(2)
        for layer in self._layers:
            x = relu(layer(x))
        actions = self._action(x)
        return dueling(self._value(x), actions) if self._dueling else actions


def dueling(value: Variable, advantages: Variable) -> Variable:
    """``V + A - mean A``, the mean over the actions of each row (Wang et al. 2016, equation 9).

    Parameters
    ----------
    value : (batch, 1)
    advantages : (batch, actions)
    """
    return value + advantages - advantages.mean(axis=1, keepdims=True)


def enlarged(images: Variable, times: int) -> Variable:
    """Images (batch, channels, rows, columns) with each pixel so many times as high and wide."""
    if times == 1:
        return images
    batch, channels, rows, columns = (images.shape[i] for i in range(4))
    ones = pt.ones((1, 1, 1, times, 1, times), dtype=images.type.dtype)
    spread = images[:, :, :, None, :, None] * ones
    large = spread.reshape((batch, channels, rows * times, columns * times))
    fixed = [None if size is None else size * times for size in images.type.shape[2:]]
    return pt.specify_shape(large, (*images.type.shape[:2], *fixed))
