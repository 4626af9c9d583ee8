"""Whether a caption is true of its scene: each of its claims, checked one by one.

A caption of the scenes' own grammar (:mod:`dlmie.data.scenes.sentences`) says what is there
(how many, how large, of what color, texture and shape) and how it lies (a place, an arrangement, a
relation, the background). Every such statement is a claim. Words that no sentence of the grammar
has make one claim, that the caption means something, which is false.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations

from dlmie.data.scenes.plans import BACKGROUNDS, COLORS, PLACES, Group, Scene
from dlmie.data.scenes.sentences import MARKS, NOUNS, NUMBERS, PLURALS, SHADES, SIZES
from dlmie.errors import DataError

_COUNTS = {"a": 1, "an": 1, **{word: count for count, word in NUMBERS.items()}}
_SIZE_OF = {word: size for size, words in SIZES.items() for word in words}
_SINGULAR = {noun: shape for shape, nouns in NOUNS.items() for noun in nouns}
_PLURAL = {PLURALS.get(noun, f"{noun}s"): shape for noun, shape in _SINGULAR.items()}
_TEXTURE_OF = {marks: texture for texture, marks in MARKS.items()}
_SHADES = {shade for name in BACKGROUNDS for shade in (name, SHADES.get(name, name))}
# What a sentence may call the places of a lone thing.
_PLACE_OF = {"center": "middle", **{place: place for place in PLACES}}


@dataclass(frozen=True)
class Claim:
    """One statement of a caption: its kind, what was said, and whether it is true."""

    kind: str
    said: str
    true: bool


@dataclass(frozen=True)
class Truth:
    """How true captions are of their scenes.

    Attributes
    ----------
    truth : float
        Share of the captions of which every claim is true; NaN where there is no caption.
    claims : float
        Share of all claims that are true.
    per_caption : tuple of tuple of Claim
        The claims of each caption.
    """

    truth: float
    claims: float
    per_caption: tuple[tuple[Claim, ...], ...]

    def to_json(self) -> dict[str, float]:
        """Plain values: ``truth`` and ``truth_claims``."""
        return {"truth": self.truth, "truth_claims": self.claims}

    def __str__(self) -> str:
        count = sum(len(claims) for claims in self.per_caption)
        return (
            f"truth {self.truth:.4f}  (captions without a false claim; {self.claims:.4f} of "
            f"{count} claims are true)"
        )


def truth(captions: Sequence[str], scenes: Sequence[Scene]) -> Truth:
    """Check every claim of captions against their scenes.

    Parameters
    ----------
    captions
        One for each scene.
    scenes
        What the pictures show.

    Raises
    ------
    DataError
        Captions and scenes differ in number.

    Examples
    --------
    >>> from dlmie.data.scenes import plan_scene, write_sentences
    >>> scene = plan_scene(0, "train", 0)
    >>> truth([write_sentences(scene)[0][0]], [scene]).truth
    1.0
    """
    if len(captions) != len(scenes):
        raise DataError(f"{len(captions)} captions but {len(scenes)} scenes")
    checked = tuple(
        tuple(check_caption(caption, scene))
        for caption, scene in zip(captions, scenes, strict=True)
    )
    whole = [all(claim.true for claim in claims) for claims in checked]
    single = [claim.true for claims in checked for claim in claims]
    return Truth(_mean(whole), _mean(single), checked)


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def check_caption(caption: str, scene: Scene) -> list[Claim]:
    """List the claims of one caption with what is true of them.

    Which thing of the scene a phrase means is not said: of all ways to take the phrases, the one
    that makes most claims true counts.
    """
    statement = parse_caption(caption)
    if statement is None:
        return [Claim("sentence", caption, False)]
    return max(_readings(statement, scene), key=lambda claims: sum(claim.true for claim in claims))


# -- parsing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phrase:
    """What a phrase says of some equal things; None where it says nothing."""

    count: int
    shape: str
    color: str
    size: str | None
    texture: str | None


@dataclass(frozen=True)
class Statement:
    """What a caption says.

    ``relation`` is a place, "row", "column" or "scattered" of a single phrase; "left", "above" or
    "inside" of the first phrase to the second, or "beside", which does not say who is left; None
    where nothing is said of how things lie.
    """

    phrases: tuple[Phrase, ...]
    relation: str | None = None
    background: str | None = None


def _either(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


def _phrase(name: str) -> str:
    return (
        rf"(?P<{name}_count>{_either(_COUNTS)}) "
        rf"(?:(?P<{name}_size>{_either(_SIZE_OF)}) )?"
        rf"(?P<{name}_color>{_either(COLORS)}) "
        rf"(?:(?P<{name}_texture>{_either(MARKS)}) )?"
        rf"(?P<{name}_noun>{_either([*_SINGULAR, *_PLURAL])})"
        rf"(?: with (?P<{name}_marks>{_either(_TEXTURE_OF)}))?"
    )


_A, _B = _phrase("a"), _phrase("b")
_BE = r"(?: (?:is|are|sits?))?"
_OPENING = r"(?:there (?:is|are) |the picture shows )?"
_BACKDROP = rf"(?:on|against) a (?P<background>{_either(_SHADES)}) background"
_CORNERS = _either(place for place in PLACES if " " in place)
_PLACE = (
    rf"(?:in the (?P<inner>middle|center)|in the (?P<corner>{_CORNERS}) corner"
    rf"|(?:at|near) the (?P<edge>{_CORNERS}|top|bottom)|on the (?P<side>left|right)(?: side)?)"
)
_ROW = r"(?:in a row|next to each other|side by side)"
_COLUMN = r"(?:in a column|one (?:above|below) the other)"
_AT = r"(?:(?:to|on) the )?"

# Sentences whose words are checked one after the other: (pattern, relation, order of the phrases).
# "place" stands for the place that was said.
_SENTENCES: tuple[tuple[re.Pattern[str], str | None, str], ...] = tuple(
    (re.compile(pattern), relation, order)
    for pattern, relation, order in (
        (rf"{_OPENING}{_A}{_BE} {_PLACE}(?: {_BACKDROP})?", "place", "a"),
        (rf"{_PLACE} there (?:is|are) {_A}", "place", "a"),
        (rf"{_OPENING}{_A}{_BE} {_ROW}(?: {_BACKDROP})?", "row", "a"),
        (rf"{_OPENING}a row of {_A}", "row", "a"),
        (rf"{_OPENING}{_A}{_BE} {_COLUMN}(?: {_BACKDROP})?", "column", "a"),
        (rf"{_OPENING}a column of {_A}", "column", "a"),
        (rf"{_OPENING}{_A}{_BE} scattered(?: around)?(?: {_BACKDROP})?", "scattered", "a"),
        (rf"{_OPENING}(?:a group of )?{_A}(?: {_BACKDROP})?", None, "a"),
        (rf"{_OPENING}{_A}{_BE} {_AT}left of {_B}", "left", "ab"),
        (rf"{_OPENING}{_A}{_BE} {_AT}right of {_B}", "left", "ba"),
        (rf"{_OPENING}{_A} on the left and {_B} on the right", "left", "ab"),
        (rf"{_OPENING}{_A}{_BE} (?:next to|beside) {_B}", "beside", "ab"),
        (rf"{_OPENING}{_A}{_BE} (?:above|over) {_B}", "above", "ab"),
        (rf"{_OPENING}{_A}{_BE} (?:below|under) {_B}", "above", "ba"),
        (rf"{_OPENING}{_A} at the top and {_B} at the bottom", "above", "ab"),
        (rf"{_OPENING}{_A} with {_B} above (?:it|them)", "above", "ba"),
        (rf"{_OPENING}{_A}{_BE} (?:inside|in) {_B}", "inside", "ab"),
        (rf"{_OPENING}{_A} around {_B}", "inside", "ba"),
        (rf"{_OPENING}{_A} with {_B} (?:inside|in the (?:middle|center))", "inside", "ba"),
        (rf"{_OPENING}{_A} and {_B}(?: {_BACKDROP})?", None, "ab"),
    )
)


def parse_caption(caption: str) -> Statement | None:
    """Read a caption by the grammar of the scenes; None where it is no sentence of it.

    Examples
    --------
    >>> parse_caption("A small red star inside a blue ring.").relation
    'inside'
    """
    text = " ".join(re.findall(r"\w+", caption.lower()))
    for pattern, relation, order in _SENTENCES:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        said = match.groupdict()
        phrases = [_read_phrase(said, name) for name in order]
        if None in phrases:  # "two circle", "a circles"
            continue
        place = next(
            (said[key] for key in ("inner", "corner", "edge", "side") if said.get(key)), ""
        )
        return Statement(
            tuple(phrase for phrase in phrases if phrase is not None),
            _PLACE_OF[place] if relation == "place" else relation,
            said.get("background"),
        )
    return None


def _read_phrase(said: Mapping[str, str | None], name: str) -> Phrase | None:
    count, noun = _COUNTS[str(said[f"{name}_count"])], str(said[f"{name}_noun"])
    shapes = _SINGULAR if count == 1 else _PLURAL
    if noun not in shapes:
        return None
    size, marks = said[f"{name}_size"], said[f"{name}_marks"]
    return Phrase(
        count=count,
        shape=shapes[noun],
        color=str(said[f"{name}_color"]),
        size=None if size is None else _SIZE_OF[size],
        texture=said[f"{name}_texture"] if marks is None else _TEXTURE_OF[marks],
    )


# -- checking -------------------------------------------------------------------------------------


def _readings(statement: Statement, scene: Scene) -> Iterator[list[Claim]]:
    """The claims for each way to say which group each phrase means."""
    indices: list[int | None] = list(range(len(scene.groups)))
    # A phrase may mean nothing that is there.
    indices += [None] * max(0, len(statement.phrases) - len(indices))
    for meant in permutations(indices, len(statement.phrases)):
        claims: list[Claim] = []
        for phrase, index in zip(statement.phrases, meant, strict=True):
            claims += _check_phrase(phrase, None if index is None else scene.groups[index])
        if statement.relation is not None:
            true = _relation_holds(statement.relation, meant, scene)
            claims.append(Claim("relation", statement.relation, true))
        if statement.background is not None:
            shade = scene.background
            true = statement.background in (shade, SHADES.get(shade, shade))
            claims.append(Claim("background", statement.background, true))
        yield claims


def _check_phrase(phrase: Phrase, group: Group | None) -> list[Claim]:
    return [
        Claim(kind, str(value), group is not None and getattr(group, kind) == value)
        for kind, value in asdict(phrase).items()
        if value is not None
    ]


def _relation_holds(relation: str, meant: Sequence[int | None], scene: Scene) -> bool:
    if len(meant) == 1:
        return len(scene.groups) == 1 and relation == scene.relation
    if relation == "beside":
        return scene.relation == "left"
    return relation == scene.relation and tuple(meant) == (0, 1)
