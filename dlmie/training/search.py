"""Searching options: which values to try, and what is known of those that were tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlmie.errors import DlmieError
from dlmie.files import atomic
from dlmie.files.documents import read_json
from dlmie.files.schema import Key, check_document
from dlmie.training.metric import Metric
from dlmie.typing import JsonObject

FILE = "search.json"
_KEYS = {
    "about": Key(dict),
    "trials": Key(
        list,
        each=Key(dict, keys={"values": Key(dict), "scores": Key(list, each=Key(float))}),
    ),
}


@dataclass(frozen=True)
class Choice:
    """What an option may be: one of some words, or a number within a range.

    Attributes
    ----------
    name : str
        Of the option, as Python spells it.
    words : tuple of str
        The values, as they would stand on a command line; of a range its two ends.
    is_range : bool
    whole : bool
        Whether whole numbers are drawn of a range.
    """

    name: str
    words: tuple[str, ...]
    is_range: bool = False
    whole: bool = False

    @classmethod
    def parse(cls, text: str) -> Choice:
        """``"lr=1e-4,1e-3"`` or ``"lr=1e-4..1e-2"``.

        Raises
        ------
        DlmieError
            Something else, or the ends of a range are not numbers in order.

        Examples
        --------
        >>> Choice.parse("weight-decay=0,0.1").words
        ('0', '0.1')
        """
        name, equals, rest = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or not name or not rest:
            raise DlmieError(f"{text!r}: write NAME=VALUE,VALUE or NAME=LOWEST..HIGHEST")
        low, dots, high = rest.partition("..")
        if not dots:
            return cls(name, tuple(word.strip() for word in rest.split(",")))
        try:
            ordered = float(low) < float(high)
        except ValueError:
            ordered = False
        if not ordered:
            raise DlmieError(f"{text!r}: a range is two numbers, the smaller one first")
        return cls(name, (low.strip(), high.strip()), is_range=True)

    def draw(self, rng: np.random.Generator) -> str:
        """A value at random: of a range evenly, by its logarithm where both ends are positive."""
        if not self.is_range:
            return self.words[rng.integers(len(self.words))]
        low, high = map(float, self.words)
        if low > 0:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        return str(round(value)) if self.whole else f"{value:.4g}"


def grid(choices: Sequence[Choice]) -> list[dict[str, str]]:
    """All combinations, the last option changing fastest.

    Raises
    ------
    DlmieError
        A range, which has no end of values.

    Examples
    --------
    >>> [each["lr"] for each in grid([Choice("lr", ("1", "2")), Choice("batch", ("8",))])]
    ['1', '2']
    """
    for choice in choices:
        if choice.is_range:
            raise DlmieError(
                f"{choice.name} is a range: say how many values to draw (--random N), or name them"
            )
    names = [choice.name for choice in choices]
    combinations = itertools.product(*(choice.words for choice in choices))
    return [dict(zip(names, words, strict=True)) for words in combinations]


def drawn(choices: Sequence[Choice], count: int, seed: int) -> list[dict[str, str]]:
    """So many combinations at random; more of them begin with the same ones."""
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        found.append({choice.name: choice.draw(rng) for choice in choices})
    return found


def name_of(values: dict[str, str]) -> str:
    """What the folder of a trial is called.

    Examples
    --------
    >>> name_of({"lr": "1e-3", "norm": "batch"})
    'lr=1e-3,norm=batch'
    """
    return ",".join(f"{name}={word}" for name, word in values.items()).replace("/", "_")


@dataclass(frozen=True)
class Trial:
    """Values that were tried, and the best monitored score of each run with them.

    Attributes
    ----------
    values : dict of str
    scores : list of float
        One, or one for each fold.
    """

    values: dict[str, str]
    scores: list[float]

    @property
    def mean(self) -> float:
        """Over the folds."""
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """The standard deviation over the folds; 0 of one."""
        return float(np.std(self.scores))


@dataclass
class Search:
    """The trials in a folder; a trial that is known is not made again.

    Parameters
    ----------
    folder : path
    about : mapping
        What all trials have in common; a folder holds one search.
    trials : list of Trial
    """

    folder: Path
    about: JsonObject
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, about: JsonObject) -> Search:
        """The search in a folder, or a new one.

        Raises
        ------
        DlmieError
            The folder holds a search with other options, or its file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return cls(folder, about)
        document = check_document(read_json(path), _KEYS, path)
        if document["about"] != about:
            raise DlmieError(
                f"{folder} holds a search with other options: give the same ones, or name another "
                "folder"
            )
        trials = [Trial(trial["values"], trial["scores"]) for trial in document["trials"]]
        return cls(folder, about, trials)

    def known(self, values: dict[str, str]) -> Trial | None:
        """The trial of these values, if it was made."""
        return next((trial for trial in self.trials if trial.values == values), None)

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        self.trials.append(trial)
        trials = [{"values": each.values, "scores": each.scores} for each in self.trials]
        document = {"format": "dlmie-search", "about": self.about, "trials": trials}
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(self.folder / FILE, document)

    def best(self, metric: Metric) -> Trial:
        """The trial with the best mean; the first of equals."""
        best = self.trials[0]
        for trial in self.trials[1:]:
            if metric.better(trial.mean, than=best.mean):
                best = trial
        return best
