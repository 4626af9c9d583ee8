"""What a fooled model is to answer: a class of a network, or a sentence of a captioner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dlmie.data.captions.tokenizers import join_words
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.typing import JsonObject
from dlmie.visualize.ascent.evaluation import probabilities
from dlmie.visualize.ascent.inputs import (
    class_index,
    class_name,
    named_objective,
    network_input,
)
from dlmie.visualize.ascent.models import Caption, ImageCaptioner, Model, network_of
from dlmie.visualize.ascent.objectives import Objective, sentence_log_likelihood, unit
from dlmie.visualize.ascent.pixels import to_network


class Target(Protocol):
    """What an attack asks of its target; pixels are (H, W, 3) uint8, as they would be saved."""

    network: Network
    objective: Objective
    label: str

    @property
    def target(self) -> int | str:
        """For the manifest."""
        ...

    def reached(self, pixels: np.ndarray, value: float, step: int) -> bool:
        """Whether the model answers it for these pixels, whose objective is ``value``."""
        ...

    def report(self, before: np.ndarray, after: np.ndarray) -> tuple[JsonObject, str, str]:
        """Results for the manifest, ``fooled`` among them, and titles of the two pictures."""
        ...


@dataclass
class ClassTarget:
    """Another class, with at least some probability."""

    network: Network
    true: int
    target: int
    confidence: float
    margin: bool = True
    objective: Objective = field(init=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        logits, self.label = self.network["logits"], class_name(self.network, self.target)
        self.objective = unit(logits, self.target)
        if self.margin:
            self.objective = self.objective - unit(logits, self.true)

    def _probabilities(self, pixels: np.ndarray) -> np.ndarray:
        result: np.ndarray = probabilities(self.network, to_network(pixels, self.network)[None])[0]
        return result

    def reached(self, pixels: np.ndarray, value: float, step: int) -> bool:
        if self.margin and value < 0:
            return False
        found = self._probabilities(pixels)
        return bool(found.argmax() == self.target and found[self.target] >= self.confidence)

    def report(self, before: np.ndarray, after: np.ndarray) -> tuple[JsonObject, str, str]:
        p, q = self._probabilities(before), self._probabilities(after)
        true, seen = class_name(self.network, self.true), class_name(self.network, int(q.argmax()))
        results = {
            "fooled": bool(q.argmax() == self.target),
            "from": true,
            "to": self.label,
            "probability_before": float(p[self.target]),
            "probability_after": float(q[self.target]),
        }
        return results, f"{true} {p[self.true]:.1%}", f"{seen} {q.max():.1%}"


@dataclass
class SentenceTarget:
    """A sentence, word by word, as the captioner's own search finds it."""

    captioner: ImageCaptioner
    before: Caption  # its caption of the photograph
    target: str
    objective: Objective = field(init=False)
    network: Network = field(init=False)
    label: str = field(init=False)

    #: A search takes as long as a step: look only at every so many of them.
    EVERY = 4

    def __post_init__(self) -> None:
        self.objective = sentence_log_likelihood(self.captioner, self.target)
        self.network, self.label = self.objective.network, repr(self.target)

    def reached(self, pixels: np.ndarray, value: float, step: int) -> bool:
        return step % self.EVERY == 0 and self.captioner(pixels)[0].text == self.target

    def report(self, before: np.ndarray, after: np.ndarray) -> tuple[JsonObject, str, str]:
        found = self.captioner(after)[0]
        p, q = (self.captioner.force(x, self.target).log_probability for x in (before, after))
        results = {
            "fooled": found.text == self.target,
            "from": self.before.text,
            "to": self.target,
            "said": found.text,
            "log_probability_before": p,
            "log_probability_after": q,
        }
        return results, f"“{self.before.text}”", f"“{found.text}”"


def find_target(
    model: Model, pixels: np.ndarray, target: int | str | None, *, confidence: float, margin: bool
) -> Target:
    """The target that a user names, or the most likely one that is not yet reached.

    Raises
    ------
    DlmieError
        The model answers it already; or a captioner is given no sentence.
    """
    network_of(model)  # a clear error for what is neither
    if not isinstance(model, Network):
        return _sentence_target(model, pixels, target)
    named = named_objective(model, pixels, target, rank=1)
    index = class_index(model, named.target)
    true = int(probabilities(model, network_input(model, pixels))[0].argmax())
    if true == index:
        raise DlmieError(
            f"the network already sees {named.label} in this photograph: choose another target"
        )
    return ClassTarget(model, true, index, confidence, margin)


def _sentence_target(
    captioner: ImageCaptioner, pixels: np.ndarray, target: int | str | None
) -> SentenceTarget:
    before, *others = captioner(pixels, n_best=3)
    if target is None:
        target = next((other.text for other in others if other.words), None)
    if not isinstance(target, str):
        raise DlmieError("a captioner is fooled with a sentence, such as 'a dog is running'")
    vocabulary = captioner.vocabulary
    sentence = join_words(vocabulary.tokenize(target), vocabulary.tokenizer)
    if sentence == before.text:
        raise DlmieError(f"the caption already is {sentence!r}: choose another sentence")
    return SentenceTarget(captioner, before, sentence)
