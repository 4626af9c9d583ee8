"""``dlmie train``: train a captioner, or continue a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlmie.cli import optimizer as optimiser
from dlmie.cli.console import (
    Console,
    F,
    Number,
    given,
    options_of,
    output_option,
    real,
    section,
    verb,
    whole,
)
from dlmie.cli.encoders import encoder_options
from dlmie.cli.runs import build_step, start_run
from dlmie.cli.settings import GIVEN, MODELS, assignment, make_settings
from dlmie.cli.signatures import parameters
from dlmie.errors import DlmieError

_HELP = {
    "words": "Size of the word vectors.",
    "hidden": "Size of the LSTM.",
    "dropout": "Share of activations dropped while training.",
    "tied": "Word vectors are the weights of the output, too.",
    "attention": "Size of the attention's hidden layer.",
    "score": "How attention compares: tanh, relu or dot.",
    "gate": "Attention gate: scalar, vector or none.",
    "deep_output": "Combine state, context and last word before the output.",
    "hard": "Draw where to look (REINFORCE) instead of averaging.",
    "project": "Map annotations to so many channels first.",
    "cell": "Recurrent cell: rnn, lstm or attention.",
}

_OBJECTIVE: dict[str, Any] = {
    "alpha_penalty": "Weight of the penalty on attention that does not cover the image.",
    "label_smoothing": (
        "Share of a word's probability given to all words.",
        real(0, 1),
    ),
    "scheduled_sampling": ("Share of words replaced by the model's own.", real(0, 1)),
    "finetune": ("Train the encoder, too, from the layer of this name on.", str),
    "from_layer": ("With --finetune: what FEATURES hold, a layer before that one.", str),
    "encoder_lr": "With --finetune: factor on the encoder's learning rate.",
}
_TEACHING: dict[str, Any] = {
    "teacher_share": ("With --teacher: how much the teachers count in each word.", real(0, 1)),
}
_TRAINING: dict[str, Any] = {
    "epochs": ("Passes over the training captions.", whole(1)),
    "batch": ("Captions in a step.", whole(1)),
    "monitor": "Score of dev that chooses the best epoch: bleu_4, cider_d, …, dev_loss.",
    "patience": ("Stop after so many epochs without a better score.", whole(1)),
    "captions_per_image": ("Use so many captions of an image in an epoch.", whole(1)),
    "flip": "Mirror half of the images; not where captions say left and right.",
    "crops": ("See half of the images as one of so many random crops.", whole(0)),
    "limit": ("Use only so many training images.", whole(1)),
    "checkpoint_every": ("Steps between checkpoints; 0: only epochs.", whole(0)),
}


def _model_options(function: F) -> F:
    """The union of all models' options; each says for which models it is, with its default."""
    names: dict[str, list[tuple[str, Any]]] = {}
    for model, target in MODELS.items():
        for name, parameter in parameters(target).items():
            if name not in GIVEN:
                names.setdefault(name, []).append((model, parameter))
    for name, uses in reversed(names.items()):
        kind: Any = uses[0][1].type
        defaults = ", ".join(f"{model}: {_shown(parameter.default)}" for model, parameter in uses)
        flag = "--" + name.replace("_", "-")
        settings: dict[str, Any] = {"default": None, "help": f"{_HELP[name]}  [{defaults}]"}
        if kind is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", name, **settings)
        else:
            kind = Number(kind) if kind in (int, float) else kind
            option = click.option(flag, name, type=kind, **settings)
        function = option(function)
    return function


def _shown(default: Any) -> str:
    return {True: "yes", False: "no", None: "none"}.get(default, str(default))


def _optimiser_options(function: F) -> F:
    texts = {
        "optimizer": ("Rule, with options: adam, adam:beta2=0.98, adamw, rmsprop, sgd, …", str),
        "lr": ("Learning rate at its highest.", real(0)),
        "schedule": ("Of lr: constant, cosine, step_decay, plateau:patience=2, …", str),
        "warmup": ("Rise to it in so many steps, or '2 epochs'.", str),
        "clip_norm": ("Shorten longer gradients to this; 0: never.", real(0)),
        "clip_value": ("Clip each element of the gradient.", real(0)),
        "weight_decay": ("Pull weights towards zero.", real(0)),
        "ema": ("Use the running average of the weights, with this decay.", real(0, 1)),
    }  # fmt: skip
    for name, (text, kind) in reversed(texts.items()):
        default = optimiser.DEFAULTS[name]
        flags = ["--" + name.replace("_", "-")] + (["--optimiser"] if name == "optimizer" else [])
        function = click.option(
            *flags, name, type=kind, default=default, show_default=default is not None, help=text
        )(function)
    return function


@verb("train")
@click.argument("data", type=click.Path(), required=False)
@output_option("The run folder to make.")
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
    help="Only check that the model can learn the captions of N images by heart; 1 if it cannot.",
)
@click.option(
    "--self-critical",
    is_flag=True,
    help="With --from: train on the CIDEr-D of captions drawn from the model.",
)
@click.option("--model", type=click.Choice(list(MODELS)), default="show-tell", show_default=True)
@encoder_options
@section(
    "Encoder",
    click.option(
        "--features", type=click.Path(), help="The encoder's answers.  [default: beside DATA]"
    ),
)
@section("Model", _model_options)
@section(
    "Objective",
    options_of("dlmie.captioning.objectives:TrainingStep", **_OBJECTIVE),
    click.option(
        "--teacher",
        "teachers",
        multiple=True,
        type=click.Path(),
        metavar="RUN|FILE",
        help="Learn what this trained captioner expects, too; again for each of several.",
    ),
    options_of("dlmie.captioning.objectives:DistillationStep", **_TEACHING),
)
@section("Optimizer", _optimiser_options)
@section(
    "Training",
    options_of("dlmie.captioning.training:train", **_TRAINING),
    click.option("--beam", type=whole(1), help="Of validation.  [default: 3]"),
)
@click.pass_context
def command(ctx: click.Context, console: Console, **_: Any) -> None:
    """Train a captioner on the prepared file DATA, into a new run folder.

    \b
    dlmie train flickr8k.h5 --recipe show-tell-flickr8k --to runs/first
    dlmie train --resume runs/first --epochs 30

    The folder is all that captioning needs. Ctrl-C finishes the step and saves; a run continues
    bit for bit, even after kill -9.
    """
    chosen = given(ctx)
    if "overfit" in chosen:
        _check_overfit(_with_data(chosen), console)
        return
    run = _resume(chosen, console) if "resume" in chosen else _start(chosen, console)
    if run.stop_reason == "interrupted":
        raise DlmieError(f"interrupted; continue with: dlmie train --resume {run.folder}")
    from dlmie.captioning.runs import read_config

    here, monitor = run.position, read_config(run.folder)["training"]["monitor"]
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


def _resume(chosen: dict[str, Any], console: Console) -> Any:
    allowed = ("resume", "changes", "epochs", "data")
    for name in chosen:
        if name not in allowed:
            raise click.UsageError(
                f"--{name.replace('_', '-')} cannot change in a run: give --resume only --epochs "
                "and --set lr=… (or a training option), or start a new run"
            )
    from dlmie.captioning.runs import read_config
    from dlmie.captioning.training import resume

    changes = dict(assignment(word) for word in chosen.get("changes", ()))
    config = read_config(Path(chosen["resume"]))
    if chosen.get("epochs", 0) > config["training"]["epochs"] and _ends(config["optimiser"]):
        console.warn(
            f"the cosine schedule of this run has brought the learning rate down by epoch "
            f"{config['training']['epochs']}, where it stays: to learn more, start a new run with "
            f"dlmie train DATA --from {chosen['resume']} --to RUN"
        )
    return resume(
        chosen["resume"],
        epochs=chosen.get("epochs"),
        set=changes or None,
        data=chosen.get("data"),
        progress=console.progress,
    )


def _ends(spec: Any) -> bool:
    """Whether an optimiser's schedule was made for so many steps and no more."""
    if isinstance(spec, list):
        return any(map(_ends, spec))
    if isinstance(spec, dict):
        return spec.get("schedule") == "cosine" or any(map(_ends, spec.values()))
    return False


def _start(chosen: dict[str, Any], console: Console) -> Any:
    if "to" not in _with_data(chosen):
        raise click.UsageError("say where the run goes: --to runs/NAME")
    settings = make_settings(chosen)
    return start_run(settings, chosen["data"], chosen["to"], console,
                     features=chosen.get("features"))  # fmt: skip


def _with_data(chosen: dict[str, Any]) -> dict[str, Any]:
    if "data" not in chosen:
        raise click.UsageError("name the prepared data: dlmie train DATA --to RUN")
    return chosen


def _check_overfit(chosen: dict[str, Any], console: Console) -> None:
    """Whether the model can learn a few captions by heart; nothing is kept.

    Schedules are made for a run over all of the data, and dropout against learning by heart: both
    are left out, dropout unless it is asked for.
    """
    from dlmie.captioning.overfitting import overfit

    settings = make_settings(chosen)
    for name in ("schedule", "warmup", "ema"):
        settings["optimiser"].pop(name, None)
    if "dropout" in parameters(MODELS[settings["model"]]) and "dropout" not in chosen:
        settings["config"]["dropout"] = 0.0
    step, data, cache = build_step(settings, chosen["data"], console, chosen.get("features"))
    passes = {name: chosen[name] for name in ("epochs", "batch") if name in chosen}
    report = overfit(
        step, data, images=chosen["overfit"], features=cache, progress=console.progress, **passes
    )
    console.result(report.to_json(), str(report))
    if not report.passed:
        raise DlmieError(f"the overfit check failed: loss {report.loss:.3f} nats a word")
