"""``dlmie train``: train a captioner, or continue a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.captioning.options import (
    CaptioningOptions,
    DistillationOptions,
    TeacherForcingOptions,
)
from dlmie.classification.options import (
    ClassificationOptions,
    CrossEntropyOptions,
    HingeOptions,
)
from dlmie.cli.console import Console
from dlmie.cli.encoders import encoder_options
from dlmie.cli.options import F, Number, flag_of, given, group_options, section, whole
from dlmie.cli.runs import start_run
from dlmie.cli.settings import FORMER_OPTIONS, GIVEN, assignment, make_settings, trained_models
from dlmie.cli.signatures import COMPUTED, REQUIRED, Parameter, parameters
from dlmie.cli.verbs import output_option, verb
from dlmie.errors import DlmieError
from dlmie.generation.options import GenerationOptions, PenaltyOptions
from dlmie.reinforcement.options import (
    DeepQOptions,
    QLearningOptions,
    ReinforcementOptions,
    WorldModelOptions,
)
from dlmie.training.optimizer_options import OptimizerOptions
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.training.runs import Run

_HELP = {
    "embedding": "Size of the word vectors.",
    "hidden": "Size of the LSTM, or of the hidden layer.",
    "dropout": "Share of activations dropped while training.",
    "tied": "Word vectors are the weights of the output, too.",
    "attention": "Size of the attention's hidden layer.",
    "score": "How attention compares: tanh, relu or dot.",
    "gate": "Attention gate: scalar, vector or none.",
    "deep_output": "Combine state, context and last word before the output.",
    "query": "State that asks where to look: previous, or current (has read the last word).",
    "standardize": "Standardize the channels of annotations over the training images.",
    "position": "Sines and cosines of row and column beside each annotation.",
    "hard": "Draw where to look (REINFORCE) instead of averaging.",
    "project": "Map annotations to so many channels first.",
    "global_context": "Give every step the mean annotation, through a layer of this size.",
    "global_head": "Units of the encoder's last 1×1 convolution; their mean is given instead.",
    "class_words": "Let words gain that name what the encoder's own classifier sees.",
    "image_bottleneck": "Units between the image and the LSTM's first state.",
    "output_bottleneck": "Units between the LSTM and the words' scores.",
    "cell": "Recurrent cell: rnn, lstm or attention.",
    "weight_scale": "Standard deviation of the first weights.",
    "regularization": "Strength of the penalty on squared weights.",
    "sizes": "Units of each hidden layer: 100,50.",
    "norm": "Normalization of layers: none, batch or layer.",
    "keep": "Probability that dropout keeps a unit while training.",
    "filters": "Filters of the convolution.",
    "filter_size": "Height and width of its filters.",
    "stages": "Filters of each stage of convolutions: 32,64,128.",
    "latent": "Size of the noise vector that becomes an image.",
    "critic_norm": "The course's critic: with batch norm, without padding.",
    "dueling": "Estimate state values and action advantages separately.",
    "model_hidden": "Size of the two hidden layers that model the world.",
}


def _model_options(function: F) -> F:
    """The union of all models' options; each says for which models it is, with its default."""
    names: dict[str, list[tuple[str, Parameter]]] = {}
    for model, target in trained_models().items():
        for name, parameter in parameters(target).items():
            if name not in GIVEN:
                names.setdefault(name, []).append((model, parameter))
    for name, uses in reversed(names.items()):
        kind = uses[0][1].type
        for model, parameter in uses:
            if parameter.default in (COMPUTED, REQUIRED):
                raise LookupError(f"the default of {model}'s {name} is not a plain value")
        defaults = ", ".join(f"{model}: {_shown(parameter.default)}" for model, parameter in uses)
        flag = flag_of(name)
        help = f"{_HELP[name]}  [{defaults}]"
        if kind is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=help)
        else:
            number = Number(kind) if kind in (int, float) else kind
            option = click.option(flag, name, type=number, default=None, help=help)
        function = option(function)
    for former, name in FORMER_OPTIONS.items():
        number = Number(names[name][0][1].type)
        function = click.option(f"--{former}", former, type=number, hidden=True)(function)
    return function


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "none" if default is None else str(default)


@verb("train", backends=True)
@click.argument("data", type=click.Path(), required=False)
@output_option("The run folder to make.", overwrite=False)
@click.option("--recipe", help="Start from named settings; options given override them.")
@click.option("--resume", type=click.Path(), metavar="RUN", help="Continue this run.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="With --resume: change lr or a training option. Else: any setting, such as "
    "training.decoding.beam=5; again for each.",
)
@click.option(
    "--from",
    "start",
    type=click.Path(),
    metavar="RUN|FILE",
    help="Start with the weights of this captioner; it decides the model and its sizes.",
)
@click.option(
    "--overfit",
    type=whole(1),
    metavar="N",
    help="Only check that the model can overfit the captions of N images; 1 if it cannot.",
)
@click.option(
    "--self-critical",
    is_flag=True,
    help="With --from: train on the CIDEr-D of captions drawn from the model.",
)
@click.option(
    "--model", type=click.Choice([*trained_models()]), default="show-tell", show_default=True
)
@encoder_options
@section(
    "Encoder",
    click.option(
        "--features",
        type=click.Path(),
        help="Features of the encoder, computed before.  [default: beside DATA]",
    ),
)
@section("Model", _model_options)
@section(
    "Classifiers",
    click.option(
        "--normalization",
        type=click.Choice(["mean-image", "per-channel", "none", "hog", "hog-course"]),
        help="What is subtracted from pixels, and divided by; or features instead of pixels: hog "
        "(gradients and hues), hog-course (as in cs231n).  [default: mean-image]",
    ),
    group_options(CrossEntropyOptions, skip=TeacherForcingOptions.names()),
    group_options(HingeOptions),
    group_options(ClassificationOptions, skip=CaptioningOptions.names()),
)
@section(
    "Generators",
    group_options(PenaltyOptions),
    group_options(GenerationOptions, skip=CaptioningOptions.names()),
)
@section(
    "Agents",
    group_options(ReinforcementOptions, skip=CaptioningOptions.names()),
    group_options(DeepQOptions),
    group_options(WorldModelOptions, skip=QLearningOptions.names()),
)
@section(
    "Objective",
    group_options(TeacherForcingOptions),
    click.option(
        "--teacher",
        "teachers",
        multiple=True,
        type=click.Path(),
        metavar="RUN|FILE",
        help="Learn what this trained captioner expects, too; again for each of several.",
    ),
    group_options(DistillationOptions, skip=TeacherForcingOptions.names()),
)
@section("Optimizer", group_options(OptimizerOptions, optimizer=["--optimiser"]))
@section(
    "Training",
    group_options(CaptioningOptions, shards=["--accumulate"]),
    click.option("--beam", type=whole(1), help="Of validation.  [default: 3]"),
)
@click.pass_context
def command(ctx: click.Context, console: Console, **_: object) -> None:
    """Train a captioner, classifier or generator on the prepared file DATA, into a run folder.

    An agent is trained in the environment that DATA names, such as FrozenLake-v1.

    \b
    dlmie train flickr8k.h5 --recipe show-tell-flickr8k --to runs/first
    dlmie train cifar10.h5 --model softmax --to runs/softmax
    dlmie train FrozenLake-v1 --model q-table --to runs/lake
    dlmie train --resume runs/first --epochs 30

    The folder is all that using the model needs. Ctrl-C finishes the step and saves; a run
    continues bit for bit, even after kill -9.
    """
    chosen = given(ctx)
    if "overfit" in chosen:
        _check_overfit(_with_data(chosen), console)
        return
    run = _resume(chosen, console) if "resume" in chosen else _start(chosen, console)
    if run.stop_reason == "interrupted":
        raise DlmieError(f"interrupted; continue with: dlmie train --resume {run.folder}")
    from dlmie.training.runs import read_config

    here, monitor = run.position, read_config(run.folder).training.monitor
    document = {
        "run": run.folder,
        "model": run.folder / "best.h5",
        "epochs": here.epoch,
        "steps": here.step,
        "monitor": monitor,
        "best": here.best,
        "best_epoch": here.best_epoch,
        "stop_reason": run.stop_reason,
    }
    reason = f"; stopped because {run.stop_reason}" if run.stop_reason else ""
    best = (
        ""
        if here.best is None
        else f", best {monitor} {here.best:.4f} after epoch {here.best_epoch}"
    )
    epochs = "1 epoch" if here.epoch == 1 else f"{here.epoch} epochs"
    console.result(document, f"{run.folder}: {epochs}{best}{reason}")


def _resume(chosen: JsonObject, console: Console) -> Run:
    allowed = ("resume", "changes", "epochs", "data")
    for name in chosen:
        if name not in allowed:
            raise click.UsageError(
                f"{flag_of(name)} cannot change in a run: give --resume only --epochs "
                "and --set lr=… (or a training option), or start a new run"
            )
    from dlmie.training.runs import read_config, resume

    changes = dict(assignment(word) for word in chosen.get("changes", ()))
    config = read_config(Path(chosen["resume"]))
    if chosen.get("epochs", 0) > config.training.epochs and _ends(config.optimizer):
        console.warn(
            f"the cosine schedule of this run has brought the learning rate down by epoch "
            f"{config.training.epochs}, where it stays: to learn more, start a new run with "
            f"dlmie train DATA --from {chosen['resume']} --to RUN"
        )
    return resume(
        chosen["resume"],
        epochs=chosen.get("epochs"),
        set=changes or None,
        data=chosen.get("data"),
        progress=console.progress,
    )


def _ends(spec: object) -> bool:
    """Whether an optimizer's schedule was made for so many steps and no more."""
    if isinstance(spec, list):
        return any(map(_ends, spec))
    if isinstance(spec, dict):
        return spec.get("schedule") == "cosine" or any(map(_ends, spec.values()))
    return False


def _start(chosen: JsonObject, console: Console) -> Run:
    if "to" not in _with_data(chosen):
        raise click.UsageError("say where the run goes: --to runs/NAME")
    settings = make_settings(chosen)
    return start_run(settings, chosen["data"], chosen["to"], console, chosen.get("features"))


def _with_data(chosen: JsonObject) -> JsonObject:
    if "data" not in chosen:
        raise click.UsageError("name the prepared data: dlmie train DATA --to RUN")
    return chosen


def _check_overfit(chosen: JsonObject, console: Console) -> None:
    """Whether the model can overfit a few captions; nothing is kept.

    Schedules are made for a run over all of the data, and dropout against overfitting: both
    are left out, dropout unless it is asked for.
    """
    from dlmie.captioning.overfitting import overfit

    settings = make_settings(chosen)
    for name in ("schedule", "warmup", "ema"):
        settings.optimizer.pop(name, None)
    if "dropout" in parameters(trained_models()[settings.model]) and "dropout" not in chosen:
        settings.config["dropout"] = 0.0
    from dlmie.captioning.planning import plan
    from dlmie.data.captions.dataset import Captions

    data, features = Captions(chosen["data"]), chosen.get("features")
    made = plan(settings, data, seed=console.seed, features=features, note=console.note)
    made.step.progress = console.progress
    passes = {name: chosen[name] for name in ("epochs", "batch") if name in chosen}
    report = overfit(
        made.step,
        data,
        images=chosen["overfit"],
        features=made.features,
        progress=console.progress,
        **passes,
    )
    console.result(report.to_json(), str(report))
    if not report.passed:
        raise DlmieError(f"the overfit check failed: loss {report.loss:.3f} nats per word")
