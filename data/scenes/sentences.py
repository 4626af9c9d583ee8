"""Sentences about synthetic scenes: a small grammar whose every statement is true of the scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dlmie.data.scenes.plans import Group, Scene

NOUNS = {
    "circle": ("circle", "disc"), "square": ("square", "box"), "triangle": ("triangle",),
    "star": ("star",), "heart": ("heart",), "cross": ("cross",), "ring": ("ring", "hoop"),
    "moon": ("moon", "crescent"), "diamond": ("diamond",), "flower": ("flower",),
}  # fmt: skip
PLURALS = {"cross": "crosses", "box": "boxes"}
SIZES = {"small": ("small", "small", "little"), "large": ("large", "large", "big")}
MARKS = {"striped": "stripes", "dotted": "dots"}
NUMBERS = {2: "two", 3: "three", 4: "four"}
SHADES = {"white": "light", "cream": "light", "black": "dark", "navy": "dark"}
LEFT_OF = ("left of", "to the left of", "on the left of")
RIGHT_OF = ("right of", "to the right of", "on the right of")
ABOVE = ("above", "above", "over")
BELOW = ("below", "below", "under")
INSIDE = ("inside", "inside", "in")


@dataclass
class Writer:
    """The random choices of one caption, and the nouns it has used for each group."""

    scene: Scene
    rng: np.random.Generator
    nouns: dict[int, list[str]] = field(default_factory=dict)

    def pick(self, *options: str) -> str:
        """Choose one of several equally true ways to say something."""
        return options[int(self.rng.integers(len(options)))]

    def maybe(self, probability: float) -> bool:
        """Toss a coin."""
        return bool(self.rng.random() < probability)

    def words(self, index: int, marks: bool = True) -> str:
        """Name a group without article or number: ``small red striped circles``.

        ``marks=False`` keeps out ``with stripes``, for phrases that go on with another ``with``.
        """
        group: Group = self.scene.groups[index]
        noun = self.pick(*NOUNS[group.shape])
        if group.count > 1:
            noun = PLURALS.get(noun, f"{noun}s")
        self.nouns.setdefault(index, []).append(noun)
        parts = [self.pick(*SIZES[group.size])] if self.maybe(0.6) else []
        parts.append(group.color)
        after = ""
        if group.texture != "plain" and self.maybe(0.8):
            if not marks or self.maybe(0.75):
                parts.append(group.texture)
            else:
                after = f" with {MARKS[group.texture]}"
        return " ".join([*parts, noun]) + after

    def phrase(self, index: int, marks: bool = True) -> str:
        """Name a group with its article or number: ``a small red circle``, ``two stars``."""
        words = self.words(index, marks)
        count = self.scene.groups[index].count
        return f"{NUMBERS[count]} {words}" if count > 1 else with_article(words)

    def be(self, index: int, *verbs: str) -> str:
        """Conjugate: ``is`` or ``are``, or one of ``verbs`` given in the plural (``sit``)."""
        plural = self.scene.groups[index].count > 1
        verb = self.pick("be", "be", *verbs)
        if verb == "be":
            return "are" if plural else "is"
        return verb if plural else f"{verb}s"

    def it(self, index: int) -> str:
        """Refer to a group again: ``it`` or ``them``."""
        return "them" if self.scene.groups[index].count > 1 else "it"

    def background(self) -> str:
        """Name the background: ``a dark background``."""
        shade = self.scene.background
        return f"a {self.pick(shade, SHADES.get(shade, shade))} background"

    def backdrop(self) -> str:
        """Say what the background is: ``on a dark background``."""
        return f"{self.pick('on', 'on', 'against')} {self.background()}"

    def place(self) -> str:
        """Say where a lone thing is: ``in the top left corner``."""
        place = self.scene.relation
        if place == "middle":
            return self.pick("in the middle", "in the center")
        if " " in place:
            return self.pick(f"in the {place} corner", f"in the {place} corner", f"at the {place}")
        if place in ("left", "right"):
            return self.pick(f"on the {place}", f"on the {place} side")
        return self.pick(f"at the {place}", f"near the {place}")


def group_attributes(group: Group) -> list[str]:
    """List the words that may stand beside a group's noun: article or number, attributes, marks.

    Examples
    --------
    >>> group_attributes(Group("star", "red", "small", "dotted", count=2))
    ['two', 'little', 'small', 'red', 'dotted', 'with', 'dots']
    """
    count = [NUMBERS[group.count]] if group.count > 1 else ["a", "an"]
    texture = [group.texture, "with", MARKS[group.texture]] if group.texture in MARKS else []
    return [*count, *sorted(set(SIZES[group.size])), group.color, *texture]


def with_article(words: str) -> str:
    """Put ``a`` or ``an`` before words.

    Examples
    --------
    >>> with_article("orange star")
    'an orange star'
    """
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


Template = Callable[[Writer], str]

SINGLE: tuple[Template, ...] = (
    lambda w: f"{w.phrase(0)} {w.place()}",
    lambda w: f"{w.phrase(0)} {w.place()}",
    lambda w: f"there is {w.phrase(0)} {w.place()}",
    lambda w: f"{w.phrase(0)} {w.be(0, 'sit')} {w.place()}",
    lambda w: f"{w.place()} there is {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} {w.place()} against {w.background()}",
    lambda w: f"{w.phrase(0)} {w.backdrop()}",
    lambda w: f"the picture shows {w.phrase(0)} {w.place()}",
)

ROW: tuple[Template, ...] = (
    lambda w: f"{w.phrase(0)} in a row",
    lambda w: f"{w.phrase(0)} next to each other",
    lambda w: f"{w.phrase(0)} side by side",
    lambda w: f"there are {w.phrase(0)} side by side",
    lambda w: f"a row of {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} in a row {w.backdrop()}",
    lambda w: f"{w.phrase(0)} {w.be(0, 'sit')} next to each other",
    lambda w: f"the picture shows {w.phrase(0)} in a row",
)

COLUMN: tuple[Template, ...] = (
    lambda w: f"{w.phrase(0)} in a column",
    lambda w: f"{w.phrase(0)} one above the other",
    lambda w: f"{w.phrase(0)} one below the other",
    lambda w: f"there are {w.phrase(0)} one above the other",
    lambda w: f"a column of {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} in a column {w.backdrop()}",
    lambda w: f"{w.phrase(0)} {w.be(0)} one above the other",
    lambda w: f"the picture shows {w.phrase(0)} in a column",
)

SCATTERED: tuple[Template, ...] = (
    lambda w: f"{w.phrase(0)} {w.backdrop()}",
    lambda w: f"{w.phrase(0)} scattered {w.backdrop()}",
    lambda w: f"there are {w.phrase(0)} {w.backdrop()}",
    lambda w: f"a group of {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} {w.be(0)} scattered around",
    lambda w: f"there are {w.phrase(0)} scattered around",
    lambda w: f"the picture shows {w.phrase(0)}",
)

LEFT: tuple[Template, ...] = (
    lambda w: f"{w.phrase(0)} {w.pick(*LEFT_OF)} {w.phrase(1)}",
    lambda w: f"{w.phrase(1)} {w.pick(*RIGHT_OF)} {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} {w.be(0, 'sit')} {w.pick(*LEFT_OF)} {w.phrase(1)}",
    lambda w: f"{w.phrase(1)} {w.be(1, 'sit')} {w.pick(*RIGHT_OF)} {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} on the left and {w.phrase(1)} on the right",
    lambda w: f"{w.phrase(0)} {w.pick('next to', 'beside')} {w.phrase(1)}",
    lambda w: f"{w.phrase(0)} and {w.phrase(1)} {w.backdrop()}",
    lambda w: f"the picture shows {w.phrase(0)} {w.pick(*LEFT_OF)} {w.phrase(1)}",
)

STACK: tuple[Template, ...] = (
    lambda w: f"{w.phrase(0)} {w.pick(*ABOVE)} {w.phrase(1)}",
    lambda w: f"{w.phrase(1)} {w.pick(*BELOW)} {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} {w.be(0)} {w.pick(*ABOVE)} {w.phrase(1)}",
    lambda w: f"{w.phrase(1)} {w.be(1, 'sit')} {w.pick(*BELOW)} {w.phrase(0)}",
    lambda w: f"{w.phrase(0)} at the top and {w.phrase(1)} at the bottom",
    lambda w: f"{w.phrase(1, False)} with {w.phrase(0)} above {w.it(1)}",
    lambda w: f"{w.phrase(0)} and {w.phrase(1)} {w.backdrop()}",
    lambda w: f"the picture shows {w.phrase(0)} {w.pick(*ABOVE)} {w.phrase(1)}",
)

INNER: tuple[Template, ...] = (
    lambda w: f"{w.phrase(0)} {w.pick(*INSIDE)} {w.phrase(1)}",
    lambda w: f"{w.phrase(0)} {w.be(0, 'sit')} {w.pick(*INSIDE)} {w.phrase(1)}",
    lambda w: f"there is {w.phrase(0)} {w.pick(*INSIDE)} {w.phrase(1)}",
    lambda w: f"{w.phrase(1)} around {w.phrase(0)}",
    lambda w: f"{w.phrase(1)} with {w.phrase(0, False)} inside",
    lambda w: f"{w.phrase(1)} with {w.phrase(0, False)} in {w.pick('the middle', 'the center')}",
    lambda w: f"the picture shows {w.phrase(0)} {w.pick(*INSIDE)} {w.phrase(1)}",
)


ARRANGED = {"row": ROW, "column": COLUMN, "scattered": SCATTERED}
RELATED = {"left": LEFT, "above": STACK, "inside": INNER}


def write_sentences(scene: Scene, count: int = 5) -> tuple[list[str], list[list[str]]]:
    """Describe a scene in several different sentences.

    Parameters
    ----------
    scene
        What the picture shows.
    count
        How many sentences, at most 6: each follows another pattern.

    Returns
    -------
    sentences : list of str
        With a capital and a full stop.
    nouns : list of list of str
        For each group of the scene the nouns that name it in these sentences, sorted.

    Examples
    --------
    >>> from dlmie.data.scenes import plan_scene
    >>> sentences, nouns = write_sentences(plan_scene(0, "train", 0))
    >>> len(sentences)
    5
    """
    templates = {"single": SINGLE, **ARRANGED, **RELATED}[
        "single" if scene.kind == "single" else scene.relation
    ]
    # Not the stream that draws the picture: a change there must not change the sentences.
    rng = np.random.default_rng([scene.seed, 1])
    order = rng.permutation(len(templates))
    writer = Writer(scene, rng)
    sentences: list[str] = []
    for number in order:
        if len(sentences) == count:
            break
        sentence = templates[number](writer)
        sentence = f"{sentence[0].upper()}{sentence[1:]}."
        if sentence not in sentences:
            sentences.append(sentence)
    nouns = [sorted(set(writer.nouns.get(index, []))) for index in range(len(scene.groups))]
    return sentences, nouns
