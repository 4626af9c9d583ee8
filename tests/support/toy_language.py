"""A tiny language model in plain NumPy, whose answers are easy to check, for the search tests."""

from __future__ import annotations

from itertools import product

import numpy as np

from dlmie.captioning.decoding import Extras, State
from dlmie.data.captions.vocabulary import END, START


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class ToyModel:
    """h' = tanh(h/2 + E[word] + image); the sums are taken row by row, so bits never change."""

    def __init__(
        self, seed: int, images: int = 3, size: int = 7, hidden: int = 4, end_bias: float = 0.0
    ) -> None:
        draw = np.random.default_rng(seed).standard_normal
        self.embedding = draw((size, hidden))
        self.image = draw((images, hidden))
        self.output = 2 * draw((hidden, size))
        self.look = draw((hidden, 6))
        self.bias = np.zeros(size)
        self.bias[END] = end_bias
        self.images, self.size = images, size
        self.seen: list[np.ndarray] = []

    def start(self, images: np.ndarray | None = None) -> State:
        return (np.zeros((self.images if images is None else len(images), 1, 4)),)

    def step(self, words: np.ndarray, state: State, images: np.ndarray) -> tuple:
        self.seen.append(images)
        hidden = np.tanh(state[0] / 2 + self.embedding[words] + self.image[images][:, None])
        logits = (hidden[..., None] * self.output).sum(axis=-2) + self.bias
        alphas = np.exp(log_softmax((hidden[..., None] * self.look).sum(axis=-2)))
        extras: Extras = {"alphas": alphas.reshape(*words.shape, 2, 3), "gates": hidden[..., 0]}
        return log_softmax(logits), (hidden,), extras

    def of(self, images: np.ndarray):
        """The same model for a batch of only these images."""
        return lambda words, state, active: self.step(words, state, images[active])

    def log_probability(self, image: int, words: list[int], finished: bool = True) -> float:
        """From scratch, one word after the other."""
        return sum(self.word_logs(image, words, finished))

    def word_logs(self, image: int, words: list[int], finished: bool = True) -> list[float]:
        """The log-probability of each word, and of the end."""
        state, last, found = (np.zeros((1, 1, 4)),), START, []
        for word in [*words, END] if finished else words:
            logs, state, _ = self.step(np.array([[last]]), state, np.array([image]))
            found.append(float(logs[0, 0, word]))
            last = word
        return found

    def all_captions(
        self, image: int, words: list[int], steps: int, length_norm: float
    ) -> list[tuple[float, list[int]]]:
        """Every caption that ends within so many steps, the best first."""
        found = [
            (self.log_probability(image, list(said)) / (size + 1) ** length_norm, list(said))
            for size in range(steps)
            for said in product(words, repeat=size)
        ]
        return sorted(found, key=lambda pair: -pair[0])
