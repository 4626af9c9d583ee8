"""During decoding, words gain that name what the encoder's own classifier sees."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.models.encoders.imagenet import everyday_words

#: The probability at which it makes no difference; and how little certainty of absence counts.
USUAL, FLOOR = 0.018, 0.006


class ClassWords:
    """What it is worth to say a word, by the probabilities of ImageNet's classes.

    Few training captions name a cup of coffee, and yet it is one of the thousand things that the
    encoder learned to tell apart.  Words of captions for these things
    (:func:`~dlmie.models.encoders.imagenet.everyday_words`) gain ``weight · log((p + 0.006) /
    0.018)``, p being the probability of the classes that a word names: a little is lost where
    nothing of the kind is seen.  Once one is said, all words for the same thing lose what they
    gained, too: it is named once.  In Anderson et al. (EMNLP 2017, "Guided open vocabulary image
    captioning with constrained beam search") such words must be said; here the captioner may find
    others more probable.

    Only some hundred words name a class, so their worth is kept without the others, and one more
    column of zeros stands for these.

    Parameters
    ----------
    vocabulary : Vocabulary
    weight : float
        In nats.
    dtype : str
    """

    def __init__(self, vocabulary: Vocabulary, weight: float, dtype: str) -> None:
        classes = everyday_words()
        naming = set().union(*classes)
        known = [word for word in vocabulary.words if word in naming]
        columns = {word: i for i, word in enumerate(known)}
        names = np.zeros((len(classes), len(known) + 1), dtype)
        for number, words in enumerate(classes):
            names[number, [columns[word] for word in words if word in columns]] = 1
        places = [columns.get(word, len(known)) for word in vocabulary.words]
        self.weight, self.dtype = weight, dtype
        self.names = pt.constant(names)  # (classes, columns)
        self.naming = pt.constant(names.any(axis=0).astype(dtype))  # (columns,): 0 of the last
        self.places = pt.constant(np.array(places))  # (vocabulary,): the column of each word
        self.together = pt.constant((names.T @ names > 0).astype(dtype))  # (columns, columns)

    def worth(self, probabilities: Variable) -> Variable:
        """Before the first word: (images, classes) → (images, columns)."""
        weight, usual, floor = (np.asarray(x, self.dtype) for x in (self.weight, USUAL, FLOOR))
        worth = weight * pt.log((probabilities @ self.names + floor) / usual)
        return worth * self.naming

    def said(self, words: Variable, worth: Variable) -> Variable:
        """After words (rows,): worth (rows, columns) → (rows, columns)."""
        named = self.together[self.places[words]]
        return worth * (1 - named) - abs(worth) * named

    def spread(self, worth: Variable) -> Variable:
        """(rows, columns) → (rows, vocabulary): 0 of words that name nothing."""
        return worth[:, self.places]
