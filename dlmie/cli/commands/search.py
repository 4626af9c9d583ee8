"""``dlmie search``: train with many values of some options, and see which are best."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.console import Console
from dlmie.cli.drawings import CHARTS, claim_drawing
from dlmie.cli.options import Number, flag_of, given, whole
from dlmie.cli.verbs import OutputOption, output_option, verb
from dlmie.errors import DlmieError
from dlmie.text import format_table
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.training.metric import Metric
    from dlmie.training.search import Choice, Search, Trial
    from dlmie.training.settings import Settings
    from dlmie.training.task import Data
    from dlmie.visualize.figures.charts import Chart


# Options of `dlmie train` stand on the same command line, and are read by its own parser.
@verb("search", unknown_options=True)
@click.argument("data", type=click.Path())
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@output_option("The folder of the search: a run in it for each trial.", required=True)
@click.option(
    "--over",
    "over",
    multiple=True,
    required=True,
    metavar="NAME=VALUES",
    help="Values of an option of dlmie train: lr=1e-4,1e-3, or a range to draw from: lr=1e-4..1e-2 "
    "(with --random); again for each option.",
)
@click.option("--random", "count", type=whole(1), metavar="N",
              help="Draw N combinations, instead of trying all.")  # fmt: skip
@click.option(
    "--figure", cls=OutputOption, type=click.Path(),
    help="Draw the scores over the first one or two options: .png, .pdf or .svg.",
)  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    console: Console,
    data: str,
    options: tuple[str, ...],
    to: str,
    over: tuple[str, ...],
    count: int | None,
    figure: str | None,
) -> None:
    """Train on DATA with every combination of some values, and say which is best.

    All OPTIONS of dlmie train hold for every trial. With --folds K each trial is a
    cross-validation: K runs, each scored on the part of the training images that it did not see.

    \b
    dlmie search cifar10.h5 --to runs/search --model softmax --epochs 5 \\
        --over lr=1e-4,1e-3 --over regularization=0.01,0.1
    dlmie search cifar10.h5 --to runs/random --random 20 --model two-layer \\
        --over lr=1e-4..1e-2 --over hidden=50..500

    The same command continues a search that was stopped; a larger N adds trials to it.
    """
    from dlmie.models.registry import task_of
    from dlmie.training import registry
    from dlmie.training.search import Search, drawn, grid, name_of

    common = _train_options(ctx, data, options)
    choices = [_choice(text) for text in over]
    if figure is not None:
        claim_drawing(console, "--figure", figure, CHARTS)
        _check_numbers(choices[:2])
    combinations = grid(choices) if count is None else drawn(choices, count, console.seed)
    combinations = list({name_of(values): values for values in combinations}.values())
    settings = [_settings(ctx, common, values) for values in combinations]  # all before the first
    task = registry.task(task_of(settings[0].model))
    about = {"over": list(over), "options": _plain(common), "seed": console.seed}
    search = Search.open(Path(to), about)
    opened = task.open(data)
    for number, (values, chosen) in enumerate(zip(combinations, settings, strict=True), 1):
        if search.known(values) is None:
            console.note(f"trial {number} of {len(combinations)}: {name_of(values)}")
            search.add(_trial(console, opened, Path(to) / name_of(values), values, chosen))
    monitor = settings[0].training.get("monitor", task.options().monitor)
    metric = task.metric(monitor)
    document, text = _report(search, metric)
    if figure is not None:
        document["figure"] = str(_figure(search, monitor, choices).save(figure))
    console.result(document, text)


def _train_options(ctx: click.Context, data: str, options: Sequence[str]) -> JsonObject:
    """The options of ``dlmie train`` that were given, by name."""
    try:
        with _train().make_context("train", [data, *options], parent=ctx) as inner:
            chosen = given(inner)
    except click.UsageError as error:
        error.ctx = ctx  # it is this command that was misused
        raise
    for name in ("to", "resume", "overfit", "features"):
        if name in chosen:
            raise click.UsageError(f"--{name} has no meaning in a search")
    return chosen


def _train() -> click.Command:
    found: click.Command = importlib.import_module("dlmie.cli.commands.train").command
    return found


def _choice(text: str) -> Choice:
    """An option with its values; of options that are whole numbers, whole numbers are drawn."""
    from dlmie.training.search import Choice

    choice = Choice.parse(text)
    kinds = {param.name: param.type for param in _train().params}
    kind = kinds.get(choice.name)
    return replace(choice, whole=isinstance(kind, Number) and kind.kind is int)


def _settings(ctx: click.Context, common: JsonObject, values: dict[str, str]) -> Settings:
    """The settings of a trial: those of all, and its own values."""
    from dlmie.cli.settings import make_settings

    params = {param.name: param for param in _train().params}
    own = {}
    for name, word in values.items():
        if name not in params:
            raise click.UsageError(f"--over {name}: dlmie train has no such option")
        if name in common:
            raise click.UsageError(f"{flag_of(name)} is given and searched: give one")
        own[name] = params[name].type.convert(word, params[name], ctx)
    return make_settings({**common, **own})


def _plain(options: JsonObject) -> JsonObject:
    """Options as JSON has them; the data may move."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if name != "data"
    }


def _trial(
    console: Console, data: Data, folder: Path, values: dict[str, str], settings: Settings
) -> Trial:
    """Train with some values, for each fold where there are folds."""
    from dlmie.training.search import Trial

    folds = settings.training.get("folds")
    if folds is None or "fold" in settings.training:
        return Trial(values, [_score(console, data, folder, settings)])
    scores = []
    for number in range(folds):
        settings.training["fold"] = number
        scores.append(_score(console, data, folder / f"fold{number}", settings))
    return Trial(values, scores)


def _score(console: Console, data: Data, folder: Path, settings: Settings) -> float:
    """The best score of a run, which is begun, continued or done."""
    from dlmie.cli.runs import start_run
    from dlmie.training.runs import resume

    if (folder / "config.json").is_file():
        run = resume(folder, progress=console.progress, data=data.path)
    else:
        run = start_run(settings, data, folder, console)
    if run.stop_reason == "interrupted":
        raise DlmieError("interrupted; the same command continues the search")
    if run.position.best is None:
        raise DlmieError(f"{folder} ended without a score ({run.stop_reason})")
    return float(run.position.best)


def _report(search: Search, metric: Metric) -> tuple[JsonObject, str]:
    best = search.best(metric)
    names = list(best.values)
    folds = len(best.scores)
    rows = []
    for trial in search.trials:
        score = f"{trial.mean:.4f}" + (f" ± {trial.deviation:.4f}" if folds > 1 else "")
        star = " *" if trial is best else ""
        rows.append((*(trial.values[name] for name in names), score + star))
    trials = [
        {"values": t.values, "score": t.mean, "scores": t.scores, "best": t is best}
        for t in search.trials
    ]
    document = {
        "folder": str(search.folder),
        "monitor": metric.name,
        "best": {"values": best.values, "score": best.mean},
        "trials": trials,
    }
    heading = f"{metric.name} of {folds} folds" if folds > 1 else metric.name
    return document, format_table((*names, heading), rows)


def _check_numbers(choices: Sequence[Choice]) -> None:
    """Refuse to draw over options that are not numbers, before anything is trained."""
    for choice in choices:
        try:
            list(map(float, choice.words))
        except ValueError:
            raise click.UsageError(
                f"--figure draws over numbers, which {choice.name} is not"
            ) from None


def _figure(search: Search, monitor: str, choices: Sequence[Choice]) -> Chart:
    """A map over two options that are numbers, or a line over one."""
    from dlmie.visualize.figures.charts import Chart, Plot, option_map

    names = [choice.name for choice in choices][:2]
    axes = [[float(trial.values[name]) for trial in search.trials] for name in names]
    means = [trial.mean for trial in search.trials]
    if len(axes) == 2:
        return option_map(axes[0], axes[1], {monitor: means}, (names[0], names[1]))
    order = sorted(range(len(means)), key=lambda i: axes[0][i])
    x = [axes[0][i] for i in order]
    wide = ("x",) if x[0] > 0 and x[-1] > 5 * x[0] else ()
    line = {monitor: (x, [means[i] for i in order])}
    return Chart([Plot("", names[0], monitor, lines=line, logarithmic=wide)])
