"""The pointing score: does attention rest on a thing when its name is said?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlmie.captioning.decoding import Caption
from dlmie.data.captions.boxes import covered
from dlmie.errors import DataError
from dlmie.typing import JsonObject


@dataclass(frozen=True)
class Pointing:
    """How much attention falls on the things that a caption names.

    Attributes
    ----------
    score : float
        Mean share of a word's attention that lies inside the boxes of the things it names, from
        0 to 1; NaN where no caption names anything.
    chance : float
        The same for attention that is spread evenly: the mean share of the image in these boxes.
    shuffled : float
        The same for maps dealt out at random among all naming words: what a captioner reaches that
        knows where things tend to be, but does not look. NaN for a single word.
    ceiling : float
        The same for attention on the cell alone that lies furthest inside: the most that maps of
        this grid can reach.
    brightest : float
        Share of these words whose brightest cell lies, with its center, in a box of the thing.
    entropy : float
        Mean entropy of the maps of all words, as a share of that of an even map: 1 looks
        everywhere alike, 0 at one cell.
    naming : float
        Of all words that name a kind of thing which has boxes somewhere in the data, the share
        whose thing is in the image; NaN where there is no such word.
    words : int
        Words that named a thing of their image.
    per_word : numpy.ndarray
        (words,): the share of each of them, in the order of the captions.
    """

    score: float
    chance: float
    shuffled: float
    ceiling: float
    brightest: float
    entropy: float
    naming: float
    words: int
    per_word: np.ndarray

    def to_json(self) -> JsonObject:
        """Plain values: ``pointing``, ``pointing_chance``, …; None for NaN."""
        values = {
            "pointing": self.score,
            "pointing_chance": self.chance,
            "pointing_shuffled": self.shuffled,
            "pointing_ceiling": self.ceiling,
            "pointing_brightest": self.brightest,
            "attention_entropy": self.entropy,
            "naming": self.naming,
        }
        plain = {name: None if np.isnan(x) else float(x) for name, x in values.items()}
        return {**plain, "pointing_words": self.words}

    def __str__(self) -> str:
        if not self.words:
            return "pointing: no caption names a thing of its image"
        return (
            f"pointing {self.score:.4f}  (chance {self.chance:.4f}; maps of other words "
            f"{self.shuffled:.4f}; at most {self.ceiling:.4f}; {self.words} words)\n"
            f"brightest cell in the box {self.brightest:.4f}, entropy {self.entropy:.4f} of an "
            f"even map's, {self.naming:.4f} of the words that name a thing name one that is there"
        )


def pointing(
    captions: Sequence[Caption], objects: Sequence[Sequence[JsonObject] | None]
) -> Pointing:
    """Measure how much attention falls into the box of each thing when it is named.

    A word names the things of its image whose ``words`` hold it; the attention on the union of
    their boxes counts, cells that are partly covered by the part covered. Images of which it is not
    known what they show are left out.

    Parameters
    ----------
    captions : sequence of Caption
        One per image, with ``text`` (a word for each map) and ``alphas`` (words, rows, columns).
    objects
        For each image what it shows: mappings with ``words`` and ``box``, [top, left, bottom,
        right] as fractions of the image; None where this is not known.

    Raises
    ------
    DataError
        Captions and images differ in number, or a caption has no maps or not one per word.

    Examples
    --------
    >>> from dlmie.captioning.decoding import Caption
    >>> said = Caption([4], -1.0, -1.0, True, {"alphas": np.array([[[0.7, 0.1], [0.1, 0.1]]])})
    >>> said.text = "star"
    >>> result = pointing([said], [[{"words": ["star"], "box": [0, 0, 0.5, 0.5]}]])
    >>> round(result.score, 3), result.chance
    (0.7, 0.25)
    """
    if len(captions) != len(objects):
        raise DataError(f"{len(captions)} captions but the things of {len(objects)} images")
    kinds = {word for things in objects for thing in things or () for word in thing["words"]}
    maps: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    brightest: list[bool] = []
    entropies: list[float] = []
    naming = 0  # words that name a kind of thing, whether it is there or not
    for number, (caption, things) in enumerate(zip(captions, objects, strict=True)):
        words, alphas = caption.labels, caption.alphas
        if alphas is None or alphas.ndim != 3 or len(alphas) != len(words):
            raise DataError(f"caption {number} has no map (rows, columns) for each of its words")
        if things is None:
            continue
        naming += sum(word in kinds for word in words)
        for word, alpha in zip(words, alphas, strict=True):
            alpha = alpha / alpha.sum()
            entropies.append(_evenness(alpha))
            boxes = [thing["box"] for thing in things if word in thing["words"]]
            if boxes:
                maps.append(alpha)
                shares.append(covered(boxes, alpha.shape))
                brightest.append(_holds_brightest(boxes, alpha))
    entropy = float(np.mean(entropies)) if entropies else np.nan
    named = len(maps) / naming if naming else np.nan
    if not maps:
        nothing = (np.nan,) * 5
        return Pointing(*nothing, entropy, named, 0, np.zeros(0))
    a, inside = np.array(maps, dtype=float), np.array(shares)  # (naming words, rows, columns)
    own = (a * inside).sum(axis=(1, 2))
    # The mean over all other words' maps, without dealing them out.
    total = (a.sum(axis=0) * inside).sum(axis=(1, 2))
    others = (total - own) / (len(a) - 1) if len(a) > 1 else np.full(1, np.nan)
    return Pointing(
        score=float(own.mean()),
        chance=float(inside.mean()),
        shuffled=float(others.mean()),
        ceiling=float(inside.max(axis=(1, 2)).mean()),
        brightest=float(np.mean(brightest)),
        entropy=entropy,
        naming=named,
        words=len(a),
        per_word=own,
    )


def _evenness(alpha: np.ndarray) -> float:
    """Entropy of a map as a share of that of an even one; 1 of a single cell."""
    used = alpha[alpha > 0]
    return float(-(used * np.log(used)).sum() / np.log(alpha.size)) if alpha.size > 1 else 1.0


def _holds_brightest(boxes: Sequence[Sequence[float]], alpha: np.ndarray) -> bool:
    row, column = np.unravel_index(np.argmax(alpha), alpha.shape)
    y, x = (row + 0.5) / alpha.shape[0], (column + 0.5) / alpha.shape[1]
    return any(top <= y <= bottom and left <= x <= right for top, left, bottom, right in boxes)
