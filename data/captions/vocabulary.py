"""Words to numbers and back: one vocabulary for data, training and scores."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from dlmie.data.captions.tokenizers import CONTRACT, check_tokenizer, join_words, tokenize
from dlmie.errors import DataError

#: Numbers of the four special words; every vocabulary begins with them.
PAD, START, END, UNK = 0, 1, 2, 3

#: The special words themselves, in the order of their numbers.
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")


class Vocabulary:
    """The words a captioner knows, numbered.

    Parameters
    ----------
    words
        All words in the order of their numbers, the four of :data:`SPECIAL` first.
    tokenizer, contract
        How the text was split that they come from: see
        :func:`~dlmie.data.captions.tokenizers.tokenize`.

    Attributes
    ----------
    words : tuple[str, ...]
        The words.
    tokenizer : str
    contract : int
        What :meth:`tokenize` splits text by.
    hash : str
        SHA-256 (hex) of the words in order: equal hashes mean equal numbers for equal words.

    Raises
    ------
    DataError
        If the special words are not first, or a word is empty, repeated or not a string.

    Examples
    --------
    >>> vocabulary = Vocabulary.build([["a", "dog"], ["a", "cat"]], min_count=1)
    >>> vocabulary.words
    ('<pad>', '<start>', '<end>', '<unk>', 'a', 'cat', 'dog')
    >>> vocabulary.encode(["a", "bird"]), vocabulary.text([1, 4, 6, 2, 0])
    ([4, 3], 'a dog')
    """

    def __init__(
        self, words: Sequence[str], tokenizer: str = "words", contract: int = CONTRACT
    ) -> None:
        self.words, self.tokenizer, self.contract = tuple(words), tokenizer, contract
        if self.words[:4] != SPECIAL:
            raise DataError(f"a vocabulary begins with {' '.join(SPECIAL)}, not {self.words[:4]}")
        check_tokenizer(tokenizer, contract)
        for word in self.words:
            if not isinstance(word, str) or not word:
                raise DataError(f"a word of a vocabulary is a string with letters, not {word!r}")
        self._index = {word: number for number, word in enumerate(self.words)}
        if len(self._index) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise DataError(f"the word {twice!r} stands more than once in the vocabulary")
        listing = json.dumps(self.words, ensure_ascii=True, separators=(",", ":"))
        self.hash = hashlib.sha256(listing.encode("ascii")).hexdigest()

    @classmethod
    def build(
        cls,
        token_lists: Iterable[Iterable[str]],
        min_count: int = 5,
        max_size: int | None = None,
        tokenizer: str = "words",
    ) -> Vocabulary:
        """Count words and keep the frequent ones: by falling count, equal counts by the word.

        Parameters
        ----------
        token_lists
            One list of words per caption, of the **training** split only.
        min_count
            Words that occur less often are left out (they are read as ``<unk>``).
        max_size
            Keep at most this many words in all, the four special ones included.
        tokenizer
            What the captions were split by.

        Raises
        ------
        DataError
            For a ``min_count`` below 1 or a ``max_size`` below 4.
        """
        if min_count < 1:
            raise DataError(f"min_count must be at least 1, not {min_count}")
        if max_size is not None and max_size < len(SPECIAL):
            raise DataError(f"max_size counts the 4 special words too; {max_size} is too small")
        counts = Counter(word for tokens in token_lists for word in tokens)
        for special in SPECIAL:  # text that was split elsewhere may hold "<unk>"
            counts.pop(special, None)
        kept = sorted(
            (word for word, count in counts.items() if count >= min_count),
            key=lambda word: (-counts[word], word),
        )
        return cls((*SPECIAL, *kept)[:max_size], tokenizer)

    def left_out(self, token_lists: Iterable[Iterable[str]]) -> dict[str, int]:
        """Count what is read as ``<unk>``.

        Returns
        -------
        dict[str, int]
            Different words (``types``) and words (``tokens``) that are not in the vocabulary, and
            how many there are in all (``of_types``, ``of_tokens``).
        """
        counts = Counter(word for tokens in token_lists for word in tokens)
        unknown = [count for word, count in counts.items() if self._index.get(word, UNK) <= UNK]
        return {
            "types": len(unknown),
            "of_types": len(counts),
            "tokens": sum(unknown),
            "of_tokens": counts.total(),
        }

    def tokenize(self, text: str) -> list[str]:
        """Split text as that was split which the vocabulary was built from."""
        return tokenize(text, self.tokenizer, self.contract)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Number the words; unknown ones become ``UNK``, and no start or end is added.

        A special word in the text is no more than an unknown word: a caption cannot say
        ``<end>`` and so cut itself short.
        """
        if isinstance(tokens, str):
            raise TypeError("encode takes a list of words, not a string: use tokenize first")
        numbers = (self._index.get(token, UNK) for token in tokens)
        return [number if number > UNK else UNK for number in numbers]

    def decode(self, ids: Iterable[int] | np.ndarray) -> list[str]:
        """Give the words up to the first ``END``, without ``PAD`` and ``START``.

        Raises
        ------
        DataError
            If a number is outside the vocabulary, naming both.
        """
        words = []
        for number in map(int, ids):
            if not 0 <= number < len(self.words):
                raise DataError(
                    f"word number {number} is outside this vocabulary of {len(self.words)} words: "
                    "it comes from another one"
                )
            if number == END:
                break
            if number not in (PAD, START):
                words.append(self.words[number])
        return words

    def text(self, ids: Iterable[int] | np.ndarray) -> str:
        """Give :meth:`decode`'s words as one line; only characters are not joined by blanks."""
        return join_words(self.decode(ids), self.tokenizer)

    def index(self, word: str) -> int:
        """Give the number of a word.

        Raises
        ------
        DataError
            If the vocabulary does not hold it (:meth:`encode` gives ``UNK`` instead).
        """
        try:
            return self._index[word]
        except KeyError:
            raise DataError(
                f"the word {word!r} is not among the {len(self)} words of the vocabulary"
            ) from None

    def check_matches(self, other: Vocabulary, name: str = "the other one") -> None:
        """Raise a :class:`DataError` that names both sizes unless both number words alike."""
        if self.hash != other.hash:
            odd = sum(a != b for a, b in zip(self.words, other.words, strict=False))
            raise DataError(
                f"two different vocabularies: {len(self)} words here, {len(other)} in {name}, "
                f"{odd + abs(len(self) - len(other))} places differ; use the data file the model "
                "was trained on"
            )

    def to_json(self) -> list[str]:
        """Return plain values that ``json.dump`` takes: the words in order."""
        return list(self.words)

    @classmethod
    def from_json(
        cls, value: Sequence[str], tokenizer: str = "words", contract: int = CONTRACT
    ) -> Vocabulary:
        """Make it again from :meth:`to_json`'s answer."""
        return cls(value, tokenizer, contract)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words, {self.hash[:8]})"
