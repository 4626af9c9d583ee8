"""``dlmie curves``: what runs measured while they trained, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from dlmie.cli.console import Console
from dlmie.cli.drawings import CHARTS, claim_drawing
from dlmie.cli.verbs import output_option, verb
from dlmie.errors import DlmieError


@verb("curves")
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@output_option("The chart, .png, .pdf or .svg.", required=True)
@click.option(
    "--x", type=click.Choice(["epoch", "step", "seconds"]), default="epoch", show_default=True,
    help="What the curves are drawn over.",
)  # fmt: skip
def command(console: Console, runs: tuple[str, ...], to: str, x: str) -> None:
    """Draw what RUNS measured: a plot for each measurement, a line for each run.

    \b
    dlmie curves runs/sgd runs/momentum runs/adam --to rules.png
    """
    path = claim_drawing(console, "--to", to, CHARTS)
    from dlmie.training.folders import CONFIG
    from dlmie.training.runs import read_log
    from dlmie.visualize.figures.charts import training_curves

    for run in runs:
        if not (Path(run) / CONFIG).is_file():
            raise DlmieError(f"{run} is not a run folder")
    logs = {name: read_log(Path(run)) for name, run in zip(_names(runs), runs, strict=True)}
    training_curves(logs, x=x).save(path)
    console.result({"output": path, "runs": list(runs)}, to)


def _names(runs: tuple[str, ...]) -> list[str]:
    """The last parts of the paths that tell them apart."""
    for parts in range(1, max(len(Path(run).parts) for run in runs) + 1):
        names = ["/".join(Path(run).parts[-parts:]) for run in runs]
        if len({*names}) == len(names):
            return names
    return [f"{run} ({number})" for number, run in enumerate(runs, 1)]
