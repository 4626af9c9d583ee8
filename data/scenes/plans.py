"""What a synthetic scene holds and where: descriptions and layouts, drawn from a random stream.

A *scene* holds one or two *groups* of equal *things* (three small red circles), a *relation*
(where a lone thing is, how a group is arranged, how the first group lies to the second) and a
background. Positions and radii are fractions of the image, rows count downwards.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

SHAPES = (
    "circle", "square", "triangle", "star", "heart", "cross", "ring", "moon", "diamond", "flower",
)  # fmt: skip
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
TEXTURES = ("plain", "striped", "dotted")
BACKGROUNDS = ("white", "cream", "gray", "black", "navy")
PATTERNS = ("flat", "gradient", "glow", "bands", "grid")
PLACES = (
    "top left", "top", "top right",
    "left", "middle", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
# Room for a small thing, as a fraction of the radius of the shape around it.
HOLLOWS = {"circle": 1.0, "square": 1.0, "diamond": 0.7, "heart": 0.6, "ring": 0.6}
# Shapes broad enough to show dots when small, and those that show them when large.
DOTTED_SMALL = ("circle", "square", "heart")
DOTTED_LARGE = (*DOTTED_SMALL, "diamond", "triangle", "cross", "flower", "star")
# Pairs (color, background) that a person could not tell apart at a glance.
CLASHES = {
    ("yellow", "white"), ("yellow", "cream"), ("orange", "cream"), ("brown", "black"),
    ("brown", "navy"), ("purple", "navy"), ("blue", "navy"), ("purple", "black"),
}  # fmt: skip
DEV_BUCKET, TEST_BUCKET, BUCKETS = 8, 9, 10


@dataclass(frozen=True)
class Group:
    """Equal things that a caption names with one phrase."""

    shape: str
    color: str
    size: str  # "small" or "large"
    texture: str
    count: int = 1


@dataclass(frozen=True)
class Thing:
    """One drawn thing: its group, and center and radius as fractions of the image."""

    group: int
    row: float
    col: float
    radius: float
    tilt: float  # radians, anticlockwise


@dataclass(frozen=True)
class Scene:
    """A whole scene: everything that `render_scene` and the captions are made from.

    ``relation`` is a place (one thing), ``"row"``, ``"column"`` or ``"scattered"`` (one group),
    or how the first group lies to the second: ``"left"``, ``"above"`` or ``"inside"``.
    """

    groups: tuple[Group, ...]
    relation: str
    things: tuple[Thing, ...]
    background: str
    pattern: str
    seed: int  # of the drawing's small variations: shades, stripes, noise

    @property
    def kind(self) -> str:
        """``"single"``, ``"group"``, ``"pair"`` or ``"inside"``."""
        if len(self.groups) == 1:
            return "single" if self.groups[0].count == 1 else "group"
        return "inside" if self.relation == "inside" else "pair"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _group(rng: np.random.Generator, size: str, count: int = 1) -> Group:
    shape = _pick(rng, SHAPES)
    # Half of all things are plain: texture should be a surprise worth a word.
    texture = "plain" if rng.random() < 0.5 else _pick(rng, TEXTURES[1:])
    if texture == "dotted" and shape not in (DOTTED_SMALL if size == "small" else DOTTED_LARGE):
        texture = "striped"
    return Group(shape, _pick(rng, COLORS), size, texture, count)


def _composition(rng: np.random.Generator) -> tuple[tuple[Group, ...], str]:
    """Draw the groups and their relation, without positions."""
    size = _pick(rng, ("small", "large"))
    draw = rng.random()
    if draw < 0.2:
        return (_group(rng, size),), _pick(rng, PLACES)
    if draw < 0.4:
        count = int(rng.integers(2, 5))
        if count == 2:
            return (_group(rng, size, 2),), _pick(rng, ("row", "column"))
        return (_group(rng, "small", count),), _pick(rng, ("row", "column", "scattered"))
    if draw < 0.6:
        outer = Group(_pick(rng, tuple(HOLLOWS)), _pick(rng, COLORS), "large", "plain")
        pair = (_group(rng, "small"), outer)
        relation = "inside"
    else:
        # One of the two may be several small things; a noun then still names one group only,
        # because the two never share a shape or a color.
        counts = [1, 1]
        if rng.random() < 0.4:
            counts[int(rng.integers(2))] = int(rng.integers(2, 4))
        sizes = [_pick(rng, ("small", "large")) if count == 1 else "small" for count in counts]
        pair = (_group(rng, sizes[0], counts[0]), _group(rng, sizes[1], counts[1]))
        relation = _pick(rng, ("left", "above"))
    if pair[0].shape == pair[1].shape or pair[0].color == pair[1].color:
        return _composition(rng)
    return pair, relation


def split_of(groups: tuple[Group, ...], relation: str) -> str:
    """Name the split that may show this composition.

    The splits share no composition: a checksum of the description assigns each to one of them.
    A model is thus always tested on combinations that it has never seen, whatever the seed and
    the sizes of the splits.
    """
    key = "; ".join(f"{g.count} {g.size} {g.color} {g.texture} {g.shape}" for g in groups)
    bucket = zlib.crc32(f"{key}; {relation}".encode()) % BUCKETS
    return {DEV_BUCKET: "dev", TEST_BUCKET: "test"}.get(bucket, "train")


def plan_scene(seed: int, split: str, index: int) -> Scene:
    """Draw scene number ``index`` of a split; it depends on these three values only.

    Examples
    --------
    >>> plan_scene(0, "train", 0) == plan_scene(0, "train", 0)
    True
    """
    rng = np.random.default_rng([seed, ("train", "dev", "test").index(split), index])
    groups, relation = _composition(rng)
    while split_of(groups, relation) != split:
        groups, relation = _composition(rng)
    colors = [group.color for group in groups]
    fitting = tuple(b for b in BACKGROUNDS if not any((c, b) in CLASHES for c in colors))
    background, pattern = _pick(rng, fitting), _pick(rng, PATTERNS)
    things = tuple(_layout(rng, groups, relation))
    return Scene(groups, relation, things, background, pattern, int(rng.integers(2**31)))


# -- layout ---------------------------------------------------------------------------------------

MARGIN = 0.05  # between a thing and the border of the image


def _radius(rng: np.random.Generator, group: Group) -> float:
    if group.size == "large":
        return rng.uniform(0.175, 0.21)
    return rng.uniform(0.095, 0.105) if group.count == 4 else rng.uniform(0.095, 0.12)


def _thing(
    rng: np.random.Generator, group: int, shape: str, row: float, col: float, radius: float
) -> Thing:
    # A tilted square would be a diamond and a tilted cross an x: only a little of it.
    tilt = rng.uniform(-1, 1) * (0.25 if shape in ("heart", "star", "flower", "moon") else 0.1)
    return Thing(group, row, col, radius, tilt)


def _line(rng: np.random.Generator, count: int, radius: float, middle: float) -> np.ndarray:
    """Place centers of ``count`` neighbors along one axis, around ``middle`` where they fit."""
    room = 1 - 2 * MARGIN - count * 2 * radius
    gap = min(rng.uniform(0.03, 0.07), room / (count - 1) if count > 1 else 0)
    span = count * 2 * radius + (count - 1) * gap
    low = np.clip(middle - span / 2, MARGIN, 1 - MARGIN - span)
    return low + radius + np.arange(count) * (2 * radius + gap)


def _scatter(rng: np.random.Generator, count: int, radius: float) -> list[tuple[float, float]]:
    """Place things apart from each other, and neither in a row nor in a column."""
    low, high = MARGIN + radius, 1 - MARGIN - radius
    while True:
        spots = rng.uniform(low, high, (count, 2))
        apart = np.hypot(*(spots[:, None] - spots[None]).transpose(2, 0, 1))
        apart[np.diag_indices(count)] = 1
        if apart.min() > 2 * radius + 0.06 and spots.std(axis=0).min() > 0.14:
            return [(row, col) for row, col in spots.tolist()]


def _place(rng: np.random.Generator, place: str, radius: float) -> tuple[float, float]:
    """Place one thing at one of nine places."""
    shift = rng.uniform(0, 0.05, 2)
    row = col = 0.5
    if "top" in place:
        row = MARGIN + radius + shift[0]
    if "bottom" in place:
        row = 1 - MARGIN - radius - shift[0]
    if "left" in place:
        col = MARGIN + radius + shift[1]
    if "right" in place:
        col = 1 - MARGIN - radius - shift[1]
    wobble = rng.uniform(-0.04, 0.04, 2)
    return (
        row + wobble[0] if row == 0.5 else row,
        col + wobble[1] if col == 0.5 else col,
    )


def _layout(rng: np.random.Generator, groups: tuple[Group, ...], relation: str) -> list[Thing]:
    """Give every thing a place so that the relation holds."""
    first = groups[0]
    radius = _radius(rng, first)
    spots: list[tuple[float, float]]
    if relation == "inside":
        outer = groups[1]
        wide = rng.uniform(0.29, 0.36)
        row, col = rng.uniform(MARGIN + wide, 1 - MARGIN - wide, 2)
        # The inner thing may reach sqrt(2) radii out (a square's corner), and wander a little.
        inner = rng.uniform(0.55, 0.62) * HOLLOWS[outer.shape] * wide
        inner = float(np.clip(inner, 0.09, 0.125))
        wander = rng.uniform(-0.08, 0.08, 2) * HOLLOWS[outer.shape] * wide
        return [
            _thing(rng, 1, outer.shape, row, col, wide),
            _thing(rng, 0, first.shape, row + wander[0], col + wander[1], inner),
        ]
    if len(groups) == 1:
        if first.count == 1:
            spots = [_place(rng, relation, radius)]
        elif relation == "scattered":
            spots = _scatter(rng, first.count, radius)
        else:
            along = _line(rng, first.count, radius, rng.uniform(0.4, 0.6))
            across = rng.uniform(0.35, 0.65) + rng.uniform(-0.015, 0.015, first.count)
            pairs = zip(across, along, strict=True)
            spots = [(a, b) if relation == "row" else (b, a) for a, b in pairs]
        return [_thing(rng, 0, first.shape, row, col, radius) for row, col in spots]
    # Two blocks beside each other along one axis, each a line along the other axis.
    radii = (radius, _radius(rng, groups[1]))
    room = 1 - 2 * MARGIN - 2 * sum(radii)
    gap = rng.uniform(0.05, min(0.16, room))
    start = MARGIN + rng.uniform(0, room - gap)
    along = np.array([start + radii[0], start + 2 * radii[0] + gap + radii[1]])
    things = []
    for index, group in enumerate(groups):
        line = _line(rng, group.count, radii[index], rng.uniform(0.42, 0.58))
        for across in line:
            row, col = (across, along[index]) if relation == "left" else (along[index], across)
            things.append(_thing(rng, index, group.shape, row, col, radii[index]))
    return things
