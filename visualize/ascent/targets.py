"""What a fooled model is to say: a class of a network, or a sentence of a captioner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dlmie.data.captions.tokenizers import join_words
from dlmie.data.images import ImageSource
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.visualize.ascent.evaluation import probabilities
from dlmie.visualize.ascent.inputs import (
    choose,
    class_index,
    class_name,
    read_image,
)
from dlmie.visualize.ascent.objectives import Objective, says, unit
from dlmie.visualize.ascent.pixels import to_network


class Goal(Protocol):
    """What an attack asks of its goal; pixels are (H, W, 3) uint8, as the image would be saved."""

    network: Network
    objective: Objective
    label: str

    @property
    def target(self) -> int | str:
        """For the manifest."""
        ...

    def reached(self, pixels: np.ndarray, value: float, step: int) -> bool:
        """Whether the model says it of these pixels, whose objective is ``value``."""
        ...

    def report(self, before: np.ndarray, after: np.ndarray) -> tuple[dict[str, Any], str, str]:
        """Results for the manifest, ``fooled`` among them, and titles of the two pictures."""
        ...


@dataclass
class ClassGoal:
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

    def report(self, before: np.ndarray, after: np.ndarray) -> tuple[dict[str, Any], str, str]:
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
class SentenceGoal:
    """A sentence, word by word, as the captioner's own search finds it."""

    captioner: Any
    before: Any  # its caption of the photograph
    target: str
    objective: Objective = field(init=False)
    network: Network = field(init=False)
    label: str = field(init=False)

    #: A search takes as long as a step: look only at every so many of them.
    EVERY = 4

    def __post_init__(self) -> None:
        self.objective = says(self.captioner, self.target)
        self.network, self.label = self.objective.network, repr(self.target)

    def reached(self, pixels: np.ndarray, value: float, step: int) -> bool:
        return step % self.EVERY == 0 and self.captioner(pixels)[0].text == self.target

    def report(self, before: np.ndarray, after: np.ndarray) -> tuple[dict[str, Any], str, str]:
        said = self.captioner(after)[0]
        p, q = (self.captioner.force(x, self.target).log_probability for x in (before, after))
        results = {
            "fooled": said.text == self.target,
            "from": self.before.text,
            "to": self.target,
            "said": said.text,
            "log_probability_before": p,
            "log_probability_after": q,
        }
        return results, f"“{self.before.text}”", f"“{said.text}”"


def find_goal(
    model: Any, image: ImageSource, target: int | str | None, *, confidence: float, margin: bool
) -> Goal:
    """The goal that a user names, or the most likely one that is not yet reached.

    Raises
    ------
    DlmieError
        The model says it already; or a captioner is given no sentence.
    """
    if not isinstance(model, Network):
        return _sentence_goal(model, image, target)
    subject = choose(model, image, target, rank=1)
    index = class_index(model, subject.target)
    _, x = read_image(model, image)
    true = int(probabilities(model, x)[0].argmax())
    if true == index:
        raise DlmieError(
            f"the network already sees {subject.label} in this photograph: choose another target"
        )
    return ClassGoal(model, true, index, confidence, margin)


def _sentence_goal(captioner: Any, image: ImageSource, target: int | str | None) -> SentenceGoal:
    before, *others = captioner(image, n_best=3)
    if target is None:
        target = next((other.text for other in others if other.words), None)
    if not isinstance(target, str):
        raise DlmieError("a captioner is fooled with a sentence, such as 'a dog is running'")
    vocabulary = captioner.vocabulary
    sentence = join_words(vocabulary.tokenize(target), vocabulary.tokenizer)
    if sentence == before.text:
        raise DlmieError(f"the captioner already says {sentence!r}: choose another sentence")
    return SentenceGoal(captioner, before, sentence)
