"""The parts of a figure: panels, and a color scale for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Panel:
    """One image of a figure.

    Attributes
    ----------
    image : (H, W, 3) uint8, (H, W) float, or (n,) or (k, n) curves
        Pixels as they are; numbers as colors with a scale drawn beside them; curves as lines.
    title : str
    colors : str
        Name of a matplotlib color map, for numbers.
    limits : (lowest, highest)
        Of the color scale; default: those of the numbers.
    labels : sequence of str
        Of curves.
    axes : (str, str)
        Names of the axes of curves.
    """

    image: np.ndarray = field(repr=False)
    title: str = ""
    colors: str = "inferno"
    limits: tuple[float, float] | None = None
    scale: bool = True
    labels: tuple[str, ...] = ()
    axes: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Scale:
    """One color scale for all panels of a figure.

    Attributes
    ----------
    colors : (n, 3) uint8
        From the lowest to the highest number, as they look in the panels.
    low, high : float
        The numbers at the ends.
    label : str
        What the numbers are.
    """

    colors: np.ndarray
    low: float
    high: float
    label: str = ""
