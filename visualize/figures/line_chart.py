"""Small line charts as SVG text, to stand inside an HTML page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

# Readable on white and on black, and apart from each other for most color-blind people.
_COLORS = ("#0b79c1", "#d5600c", "#1f9d76", "#c2559d")
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 110, 10, 34  # margins in pixels


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    description: str,
    width: int = 480,
    height: int = 240,
) -> str:
    """Draw named series of points (x, y) as lines with axes and names at their ends.

    Parameters
    ----------
    series : mapping
        At least one point in all; points that are not finite are left out.
    x_label, description : str
        Under the axis; for those who cannot see the chart.
    width, height : int
        Pixels.

    Returns
    -------
    str
        An ``<svg>`` element.

    Examples
    --------
    >>> line_chart({"loss": [(1, 3.0), (2, 2.5)]}, x_label="epoch", description="Loss")[:4]
    '<svg'
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    kept = {name: points for name, points in finite.items() if points}
    points = [point for each in kept.values() for point in each]
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points), 8, whole=True)
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points), 5)
    x_low, x_high = min(x for x, _ in points), max(max(x for x, _ in points), x_ticks[-1])
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_low) / ((y_high - y_low) or 1)
        return (
            round(_LEFT + across * (width - _LEFT - _RIGHT), 1),
            round(height - _BOTTOM - up * (height - _TOP - _BOTTOM), 1),
        )

    parts = []
    for tick in y_ticks:
        x, y = at(x_low, tick)
        parts.append(f'<line class="grid" x1="{x}" y1="{y}" x2="{width - _RIGHT}" y2="{y}"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        if tick >= x_low:
            x, _ = at(tick, y_low)
            parts.append(
                f'<text x="{x}" y="{height - _BOTTOM + 15}" text-anchor="middle">{tick:g}</text>'
            )
    middle = (_LEFT + width - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts += _lines(kept, at, width)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """Round numbers about ``count`` of which span from ``low`` to ``high``.

    Examples
    --------
    >>> ticks(0.13, 0.58, 5)
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * count >= span * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Through text: 3 · 0.1 would be 0.30000000000000004.
    return [float(f"{i * step:.12g}") for i in range(first, max(last, first + 1) + 1)]


def _lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    at: Callable[[float, float], tuple[float, float]],
    width: int,
) -> list[str]:
    """Each series as a line with a dot per point, and its name where it ends."""
    parts = []
    ends: list[float] = []  # heights at which names stand already
    for (name, points), color in zip(series.items(), itertools.cycle(_COLORS), strict=False):
        places = [at(x, y) for x, y in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline class="line" stroke="{color}" points="{path}"/>')
        for (x, y), (across, down) in zip(points, places, strict=True):
            parts.append(
                f'<circle cx="{across}" cy="{down}" r="2.5" fill="{color}">'
                f"<title>{escape(name)} {y:.4g} at {x:g}</title></circle>"
            )
        height = places[-1][1] + 4
        while any(abs(height - other) < 12 for other in ends):
            height += 1
        ends.append(height)
        parts.append(
            f'<text x="{width - _RIGHT + 8}" y="{height:g}" fill="{color}">{escape(name)}</text>'
        )
    return parts
