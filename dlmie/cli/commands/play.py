"""``dlmie play``: an episode of an agent as an animated picture."""

from __future__ import annotations

import click

from dlmie.cli.console import Console
from dlmie.cli.drawings import ANIMATIONS, CHARTS, claim_drawing
from dlmie.cli.options import options_of, real, whole
from dlmie.cli.verbs import OutputOption, output_option, verb


@verb("play")
@click.argument("agent", type=click.Path())
@output_option("The GIF to make.", required=True)
@click.option(
    "--in", "environment", metavar="NAME",
    help="The environment.  [default: the one that the agent was trained in]",
)  # fmt: skip
@click.option(
    "--predictions",
    cls=OutputOption,
    type=click.Path(),
    help="Of a world model: also chart its prediction of each step (.png, .pdf or .svg).",
)
@options_of(
    "dlmie.reinforcement.playing:play",
    greedy="Take the best action; or draw every action at random.",
    steps=("Stop after so many steps.", whole(1)),
)
@click.option(
    "--fps", type=real(0.1, 50), default=10.0, show_default=True, help="Steps shown per second."
)
def command(
    console: Console,
    agent: str,
    to: str,
    environment: str | None,
    predictions: str | None,
    greedy: bool,
    steps: int | None,
    fps: float,
) -> None:
    """Play an episode with AGENT, a run or a model file, and show it as an animated GIF.

    \b
    dlmie play runs/lake --to episode.gif
    dlmie play runs/lake --to random.gif --no-greedy
    """
    path = claim_drawing(console, "--to", to, ANIMATIONS)
    chart = None
    if predictions is not None:
        chart = claim_drawing(console, "--predictions", predictions, CHARTS)
    from dlmie.reinforcement.playing import draw_predictions, play

    if chart is not None:
        draw_predictions(agent, environment, chart, seed=console.seed)

    played = play(agent, environment, seed=console.seed, greedy=greedy, steps=steps)
    played.figure(fps=fps).save(path)
    document = {
        "path": path,
        "predictions": chart,
        "environment": played.environment,
        "reward": played.reward,
        "steps": len(played.actions),
        "actions": played.actions,
        "rewards": played.rewards,
    }
    length = "1 step" if len(played.actions) == 1 else f"{len(played.actions)} steps"
    text = f"{path}: {played.environment}, reward {played.reward:g}, {length}"
    console.result(document, text)
