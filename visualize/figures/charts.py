"""Charts of what was measured: curves of runs, error bars, maps of two options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlmie.errors import DlmieError
from dlmie.files import atomic
from dlmie.typing import JsonObject
from dlmie.visualize.figures.drawing import file_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: What an epoch's record holds that is no curve.
_NO_CURVES = ("epoch", "step", "seconds", "best")

Points = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Plot:
    """One plot of a chart.

    Attributes
    ----------
    title, x_label, y_label : str
    lines : mapping
        By name: x and y of points that a line joins.
    dots : (x, y), optional
        Points that are not joined.
    bars : (x, y, deviation), optional
        Means with bars of their standard deviation, joined.
    colored : (x, y, numbers), optional
        Points with a color for a number.
    logarithmic : tuple of str
        Which axes are: "x", "y".
    """

    title: str = ""
    x_label: str = ""
    y_label: str = ""
    lines: Mapping[str, Points] = field(default_factory=dict)
    dots: Points | None = None
    bars: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None
    colored: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None
    logarithmic: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Plots below each other, or side by side; ``save`` writes them.

    Attributes
    ----------
    plots : sequence of Plot
    columns : int
        Plots side by side.
    """

    plots: Sequence[Plot]
    columns: int = 1

    def save(self, path: str | os.PathLike[str], *, dpi: int = 130) -> Path:
        """Write the chart as PNG, PDF or SVG, by the suffix; it appears complete or not at all.

        Raises
        ------
        DlmieError
            Another suffix, or the file cannot be written.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas

        path = Path(path)
        if path.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise DlmieError(f"{path}: a chart is saved as .png, .pdf or .svg, not {path.suffix!r}")
        columns = min(self.columns, len(self.plots))
        rows = -(-len(self.plots) // columns)
        canvas = Canvas(figsize=(5.2 * columns, 3.4 * rows), layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.subplots(rows, columns, squeeze=False).ravel()
        for one, plot in zip(axes, self.plots, strict=False):
            _draw(canvas, one, plot)
        for one in axes[len(self.plots) :]:
            one.set_axis_off()
        return atomic.write(path, file_of(canvas, kind=path.suffix[1:].lower(), dpi=dpi))


def _draw(canvas: Canvas, axes: Axes, plot: Plot) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(plot.title, fontsize=10)
    axes.set_xlabel(plot.x_label, fontsize=9)
    axes.set_ylabel(plot.y_label, fontsize=9)
    axes.grid(alpha=0.3)
    if "x" in plot.logarithmic:
        axes.set_xscale("log")
    elif plot.lines and all(float(x).is_integer() for xs, _ in plot.lines.values() for x in xs):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "y" in plot.logarithmic:
        axes.set_yscale("log")
    for name, (x, y) in plot.lines.items():
        axes.plot(x, y, marker=".", linewidth=1.3, label=name)
    if plot.dots is not None:
        axes.scatter(*plot.dots, s=14, color="#0b79c1")
    if plot.bars is not None:
        x, y, deviation = plot.bars
        axes.errorbar(x, y, yerr=deviation, color="#d5600c", capsize=3, linewidth=1.3)
    if plot.colored is not None:
        x, y, numbers = plot.colored
        shown = axes.scatter(x, y, s=110, c=numbers, cmap="viridis", edgecolors="black")
        for here, there, number in zip(x, y, numbers, strict=True):
            axes.annotate(
                f"{number:.3g}",
                (here, there),
                xytext=(7, 5),
                textcoords="offset points",
                fontsize=7,
            )
        canvas.colorbar(shown, ax=axes)
    if len(plot.lines) > 1:
        axes.legend(fontsize=7)


def training_curves(logs: Mapping[str, Sequence[JsonObject]], *, x: str = "epoch") -> Chart:
    """What runs measured, a plot for each measurement and a line for each run.

    Parameters
    ----------
    logs : mapping
        By name, the records of a run: ``run.log``.
    x : str
        Over "epoch", "step" or "seconds" (of training).

    Raises
    ------
    DlmieError
        No run has finished an epoch.

    Examples
    --------
    >>> chart = training_curves({"a": [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5}]})
    >>> chart.plots[0].lines["a"]
    ([1, 2], [2.0, 1.5])
    """
    epochs = {name: [r for r in records if "epoch" in r] for name, records in logs.items()}
    measured: dict[str, dict[str, Points]] = {}
    for name, records in epochs.items():
        passed = _passed(records, x)
        for metric in {key: None for record in records for key in record}:
            if metric in _NO_CURVES:
                continue
            there = [i for i, record in enumerate(records) if _is_number(record.get(metric))]
            if there:
                points = [passed[i] for i in there], [records[i][metric] for i in there]
                measured.setdefault(metric, {})[name] = points
    if not measured:
        raise DlmieError("no run has finished an epoch yet: there is nothing to draw")
    label = "seconds of training" if x == "seconds" else x
    plots = [Plot(metric, label, lines=lines) for metric, lines in measured.items()]
    return Chart(plots, columns=1 if len(plots) == 1 else 2)


def _passed(records: Sequence[JsonObject], x: str) -> list[float]:
    """Where on the x axis each epoch stands."""
    if x != "seconds":
        return [record[x] for record in records]
    return [float(total) for total in np.cumsum([record.get("seconds", 0) for record in records])]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)


def error_bars(
    scores: Mapping[int, Sequence[float]], *, x_label: str = "k", y_label: str = "accuracy"
) -> Chart:
    """The scores of all folds as dots, their means with bars of one standard deviation.

    Parameters
    ----------
    scores : mapping
        By the number on the x axis, the score of each fold.
    """
    places = sorted(scores)
    dots = [(place, score) for place in places for score in scores[place]]
    means = [float(np.mean(scores[place])) for place in places]
    deviations = [float(np.std(scores[place])) for place in places]
    plot = Plot(
        f"Cross-validation on {x_label}",
        x_label,
        y_label,
        dots=([x for x, _ in dots], [y for _, y in dots]),
        bars=(places, means, deviations),
    )
    return Chart([plot])


def option_map(
    x: Sequence[float],
    y: Sequence[float],
    scores: Mapping[str, Sequence[float]],
    labels: tuple[str, str],
) -> Chart:
    """A color for the score of each pair of two options, one plot for each score.

    Parameters
    ----------
    x, y : sequences of numbers
        Values of the options; an axis is logarithmic where they are positive and span more than a
        factor of five.
    scores : mapping
        By name, a score for each pair.
    labels : (str, str)
        Names of the two options.
    """
    wide = [
        name
        for name, values in (("x", x), ("y", y))
        if min(values) > 0 and max(values) > 5 * min(values)
    ]
    plots = [
        Plot(name, labels[0], labels[1], colored=(x, y, numbers), logarithmic=tuple(wide))
        for name, numbers in scores.items()
    ]
    return Chart(plots, columns=2)
