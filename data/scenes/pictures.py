"""Drawing of synthetic scenes: anti-aliased shapes with textures and a soft shadow, in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlmie.data.scenes.plans import Scene, Thing

PALETTE = {
    "red": (214, 40, 44), "orange": (245, 140, 20), "yellow": (252, 214, 50),
    "green": (48, 158, 70), "blue": (40, 104, 222), "purple": (130, 62, 190),
    "pink": (248, 130, 186), "brown": (122, 74, 42),
}  # fmt: skip
BACKDROPS = {
    "white": (247, 247, 245), "cream": (250, 236, 200), "gray": (158, 164, 172),
    "black": (28, 29, 34), "navy": (22, 34, 86),
}  # fmt: skip
SAMPLES = 4  # per pixel and axis, for anti-aliasing

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Fold the plane into half of one of five equal points, where the edge is one straight line.
    angle = np.abs((np.arctan2(x, y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(x, y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    tip, inner = 1.06, 0.46
    du, dv = inner * np.cos(np.pi / 5) - tip, inner * np.sin(np.pi / 5)
    return (u - tip) * dv - v * du <= 0


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = 1.18 * x, 1.18 * y + 0.12
    round_part, y_cubed = x * x + y * y - 1, y * y * y  # x**3 takes a hundred times as long
    return round_part * round_part * round_part - x * x * y_cubed <= 0


def _flower(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Six round petals (the plane folded into half of one of them) around an open eye.
    angle = np.abs((np.arctan2(x, y) + np.pi / 6) % (np.pi / 3) - np.pi / 6)
    radius = np.hypot(x, y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    petals = (u - 0.66) ** 2 + v**2 <= 0.36**2
    return (petals | (radius <= 0.5)) & (radius > 0.24)


# Each is true inside the shape, for x to the right and y upward in radii from the center.
OUTLINES: dict[str, Outline] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.9,
    "triangle": lambda x, y: (y >= -0.78) & (y <= 0.95 - 1.73 * np.abs(x)),
    "star": _star,
    "heart": _heart,
    "cross": lambda x, y: (
        (np.minimum(np.abs(x), np.abs(y)) <= 0.32) & (np.maximum(np.abs(x), np.abs(y)) <= 0.98)
    ),
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.62**2),
    "moon": lambda x, y: ((x - 0.14) ** 2 + y**2 <= 1) & ((x - 0.66) ** 2 + (y - 0.1) ** 2 > 0.66),
    "diamond": lambda x, y: np.abs(x) / 0.78 + np.abs(y) <= 1,
    "flower": _flower,
}


def _window(thing: Thing, size: int) -> tuple[int, int, int, int]:
    """Bound the pixels a thing can touch: top, left, bottom, right."""
    reach = 1.25 * thing.radius * size + 1
    row, col = thing.row * size, thing.col * size
    top, left = max(0, int(row - reach)), max(0, int(col - reach))
    return top, left, min(size, int(row + reach) + 1), min(size, int(col + reach) + 1)


def _local(thing: Thing, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample points of a thing's window in its own frame: (rows * SAMPLES, columns * SAMPLES)."""
    top, left, bottom, right = _window(thing, size)
    rows = (np.arange(top * SAMPLES, bottom * SAMPLES) + 0.5) / SAMPLES / size
    cols = (np.arange(left * SAMPLES, right * SAMPLES) + 0.5) / SAMPLES / size
    y = (thing.row - rows[:, None]) / thing.radius
    x = (cols[None, :] - thing.col) / thing.radius
    cos, sin = np.cos(thing.tilt), np.sin(thing.tilt)
    return cos * x + sin * y, cos * y - sin * x


def _average(samples: np.ndarray) -> np.ndarray:
    """Average the samples of each pixel: (rows, columns)."""
    rows, cols = samples.shape
    grid = samples.reshape(rows // SAMPLES, SAMPLES, cols // SAMPLES, SAMPLES)
    if samples.dtype == bool:  # counted exactly, and much faster
        return grid.sum(axis=1, dtype=np.uint8).sum(axis=2, dtype=np.uint8) / np.float32(SAMPLES**2)
    return grid.mean(axis=(1, 3), dtype=np.float32)


def thing_box(scene: Scene, thing: Thing, size: int = 64) -> list[float]:
    """Bound what is seen of a thing.

    Returns
    -------
    list of float
        Top, left, bottom and right as fractions of the image; pixels that the thing covers by
        at least half count.
    """
    shape = scene.groups[thing.group].shape
    cover = _average(OUTLINES[shape](*_local(thing, size))) >= 0.5
    top, left, _, _ = _window(thing, size)
    rows, cols = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    edges = (top + rows[0], left + cols[0], top + rows[-1] + 1, left + cols[-1] + 1)
    return [float(edge) / size for edge in edges]


def _backdrop(scene: Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the background: (size, size, 3) float32, before noise."""
    base = np.array(BACKDROPS[scene.background]) + rng.uniform(-6, 6, 3)
    rows, cols = np.mgrid[:size, :size].astype(np.float32) / size
    angle, phase = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1)
    along = (rows - 0.5) * np.sin(angle) + (cols - 0.5) * np.cos(angle)  # -0.7 … 0.7
    shade = np.zeros_like(rows)
    if scene.pattern == "gradient":
        shade = 26 * along
    elif scene.pattern == "glow":
        row, col = rng.uniform(0.2, 0.8, 2)
        shade = 22 * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 0.12) - 8
    elif scene.pattern == "bands":
        shade = 5 * np.tanh(4 * np.sin(2 * np.pi * (3.0 * along + phase)))
    elif scene.pattern == "grid":
        step, start = max(4, size // 8), int(phase * 8)
        lines = (np.arange(size) + start) % step == 0
        shade = -9.0 * (lines[:, None] | lines[None, :])
    if sum(BACKDROPS[scene.background]) < 300:
        shade = np.abs(shade) + 0.4 * shade  # dark backgrounds can only become lighter
    return (base + shade[..., None]).astype(np.float32)


def _paint(canvas: np.ndarray, scene: Scene, thing: Thing, rng: np.random.Generator) -> None:
    """Draw one thing, with its texture, a light from the top left and a soft shadow."""
    size = len(canvas)
    group = scene.groups[thing.group]
    x, y = _local(thing, size)
    inside = OUTLINES[group.shape](x, y)
    cover = _average(inside)[..., None]  # (rows, columns, 1), 0 … 1
    top, left, bottom, right = _window(thing, size)
    color = np.array(PALETTE[group.color]) + rng.uniform(-9, 9, 3)
    fill = (color + 14 * _average(np.clip(y - x, -1, 1))[..., None]).astype(np.float32)
    if group.texture != "plain":
        # Marks keep about the same width in pixels: a small thing shows fewer of them.
        marks_across = 3.2 if group.size == "small" else 5.0
        if group.texture == "striped":
            slant = rng.uniform(0.6, 0.95)
            wave = np.sin(np.pi * marks_across * (x * slant + y * np.sqrt(1 - slant**2)))
            marks = wave > 0.3
        else:
            u, v = x * marks_across / 2.2 + 0.5, y * marks_across / 2.2 + 0.5
            u = u + 0.5 * (np.floor(v) % 2)  # every other line of dots is shifted
            marks = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.085
        # A rim without marks keeps the silhouette whole on a background of the marks' shade.
        rim = 1.1 if group.shape in ("ring", "moon") else 1.25
        marks &= OUTLINES[group.shape](rim * x, rim * y)
        light = np.array(PALETTE[group.color]).sum() > 520
        ink = color * 0.45 if light else color + (255 - color) * 0.78
        share = _average(marks)[..., None]
        fill = fill * (1 - share) + ink.astype(np.float32) * share
    region = canvas[top:bottom, left:right]
    drop = max(1, size // 64)
    shadow = np.zeros_like(cover)
    shadow[drop:, drop:] = cover[:-drop, :-drop]
    region *= 1 - 0.28 * shadow
    region += cover * (fill - region)


def render_scene(scene: Scene, size: int = 64) -> np.ndarray:
    """Draw a scene.

    Parameters
    ----------
    scene
        What to draw (`plan_scene`).
    size
        Height and width in pixels.

    Returns
    -------
    numpy.ndarray
        ``(size, size, 3)`` uint8.

    Examples
    --------
    >>> from dlmie.data.scenes import plan_scene, render_scene
    >>> render_scene(plan_scene(0, "train", 0)).shape
    (64, 64, 3)
    """
    rng = np.random.default_rng(scene.seed)
    canvas = _backdrop(scene, size, rng)
    for thing in scene.things:
        _paint(canvas, scene, thing, rng)
    canvas += rng.normal(0, 2.5, canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
