"""Captions to words: the one contract by which text is split, from preparing to scoring.

What counts as a word is fixed by a name and by the number of a contract, because a trained
captioner and its scores depend on it: files keep both, and one without the number is of contract 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from dlmie.errors import DataError

#: Names that :func:`tokenize` knows.
TOKENIZERS = ("words", "whitespace", "characters")

#: The contract of today. 1 was that of dlmie 0.1.0: its words were ``[^\\W_]+(?:'[^\\W_]+)*`` after
#: NFC and lower case, which loses combining marks and knows only one apostrophe.
CONTRACT = 2

_FIRST = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

# Other ways to write the apostrophe, as keyboards, spreadsheets and publishers do.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4\uff07", "'"))
# What has no meaning of its own inside a word: soft hyphens, marks of direction, variation
# selectors, word joiners.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff"
    "\U000e0100-\U000e01ef]+"
)
# Ligatures, full and half widths and the shapes of Arabic letters: other forms of other letters.
_PRESENTATION = re.compile("[\ufb00-\ufdff\ufe70-\ufefc\uff00-\uffef]+")
_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ: they change how letters are written, and so the word


def tokenize(text: str, tokenizer: str = "words", contract: int = CONTRACT) -> list[str]:
    """Split a caption into words.

    Parameters
    ----------
    text
        One caption.
    tokenizer
        ``"words"``: lower case; letters and digits of any script with their marks, apostrophes and
        joiners (ZWJ, ZWNJ) inside a word kept; punctuation dropped.  Variants of one character
        (Unicode NFC, curly apostrophes, full width, the dotted capital I) give the same word.
        ``"characters"``: each letter or digit, with its marks, is a word; for languages that are
        written without blanks.
        ``"whitespace"``: split at white space, the words as they stand.
    contract
        Which definition of ``"words"``: 1 is that of dlmie 0.1.0 (see :data:`CONTRACT`).

    Returns
    -------
    list[str]
        The words; empty if there is none.

    Raises
    ------
    DataError
        For another tokenizer's name or an unknown contract.
    TypeError
        If ``text`` is not a string (a list of strings would silently be split into letters).

    Examples
    --------
    >>> tokenize("A dog's ball -- it’s RED .")
    ['a', "dog's", 'ball', "it's", 'red']
    >>> tokenize("一只狗", "characters")
    ['一', '只', '狗']
    """
    if not isinstance(text, str):
        raise TypeError(f"tokenize takes one caption as a string, not {type(text).__name__}")
    check_tokenizer(tokenizer, contract)
    if tokenizer == "whitespace":
        return text.split()
    if tokenizer == "words":
        if contract == 1:
            return _FIRST.findall(unicodedata.normalize("NFC", text).lower())
        if text.isascii():  # the same, and most captions are
            return _FIRST.findall(text.lower())
    plain = _one_form(text)
    words, characters = _patterns(_marks(plain))
    return (words if tokenizer == "words" else characters).findall(plain)


def check_tokenizer(name: str, contract: int = CONTRACT) -> None:
    """Raise a :class:`DataError` unless there is such a tokenizer of such a contract."""
    if name not in TOKENIZERS:
        raise DataError(f"tokenizer {name!r} is not known; choose one of {', '.join(TOKENIZERS)}")
    if not 1 <= contract <= CONTRACT:
        raise DataError(
            f"tokenizers of contract {contract} are of a later dlmie, this one knows contracts up "
            f"to {CONTRACT}: upgrade with pip install -U dlmie"
        )


def tokenizer_label(name: str, contract: int = CONTRACT) -> str:
    """Name a tokenizer in a protocol: with its contract where that is not today's."""
    return name if contract == CONTRACT or name != "words" else f"{name} (contract {contract})"


def join_words(words: Sequence[str], tokenizer: str = "words") -> str:
    """Give words as one line: joined by blanks, unless each is a character."""
    return ("" if tokenizer == "characters" else " ").join(words)


def one_word_note(captions: Sequence[Sequence[str]], tokenizer: str = "words") -> str | None:
    """Say so if most captions are one word: so looks a language that is written without blanks."""
    one = sum(len(words) == 1 for words in captions)
    if tokenizer == "characters" or one * 2 <= len(captions):
        return None
    return (
        f"{one:,} of {len(captions):,} captions are one word for the tokenizer {tokenizer!r}; for "
        "a language that is written without blanks choose the tokenizer 'characters'"
    )


def _one_form(text: str) -> str:
    """Lower case in one Unicode form, without variants of one character."""
    text = _IGNORABLE.sub("", text)
    text = _PRESENTATION.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    # "İ".lower() has a dot of its own above the i, which no other i has.
    text = text.lower().replace("i\u0307", "i")
    return unicodedata.normalize("NFC", text)


def _marks(text: str) -> str:
    """The combining marks of a text: they belong to the letter before, and ``\\w`` lacks them."""
    return "".join(sorted({c for c in text if unicodedata.category(c) in ("Mn", "Mc")}))


@lru_cache(maxsize=256)
def _patterns(marks: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What a word is and what a character is, in text that has these marks."""
    letter = r"[^\W_]"
    if marks:  # a joiner may stand between a letter and its marks, as in Bengali
        letter += f"(?:[{marks}{_JOINERS}]*[{marks}])?"
    word = f"{letter}(?:(?:'|[{_JOINERS}]+)?{letter})*"
    # At the end of a word a joiner means something only after a virama: half a letter.
    viramas = "".join(mark for mark in marks if unicodedata.combining(mark) == 9)
    if viramas:
        word += f"(?:(?<=[{viramas}])\u200d)?"
    return re.compile(word), re.compile(letter)
