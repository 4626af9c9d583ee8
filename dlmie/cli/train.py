"""``dlmie train``: train a captioner, or continue a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from dlmie.cli import optimiser
from dlmie.cli.common import (
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
from dlmie.cli.encoders import encoder_options, make_network
from dlmie.cli.signatures import parameters
from dlmie.errors import DataError, DlmieError

# The captioners of dlmie.hub.CAPTIONERS, which would load PyTensor (a test compares).
MODELS = {
    "show-tell": "dlmie.models.show_tell:ShowTell",
    "show-attend-tell": "dlmie.models.show_attend_tell:ShowAttendTell",
    "caption-rnn": "dlmie.models.caption_rnn:CaptionRNN",
}
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
_INNER = ("annotations", "vocabulary", "self", "seed", "dtype")
# The steps that a run may take, by the name in its configuration.
_STEPS = {
    "teacher-forcing": "dlmie.steps:TrainingStep",
    "self-critical": "dlmie.steps_self_critical:SelfCriticalStep",
    "distillation": "dlmie.steps_distillation:DistillationStep",
}

_OBJECTIVE: dict[str, Any] = {
    "alpha_penalty": "Weight of the penalty on attention that does not cover the image.",
    "label_smoothing": (
        "Share of a word's probability given to all words.",
        real(0, 1),
    ),
    "scheduled_sampling": ("Share of words replaced by the model's own.", real(0, 1)),
    "finetune": ("Train the encoder, too, from the layer of this name on.", str),
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
    "limit": ("Use only so many training images.", whole(1)),
    "checkpoint_every": ("Steps between checkpoints; 0: only epochs.", whole(0)),
}


def _model_options(function: F) -> F:
    """The union of all models' options; each says for which models it is, with its default."""
    names: dict[str, list[tuple[str, Any]]] = {}
    for model, target in MODELS.items():
        for name, parameter in parameters(target).items():
            if name not in _INNER:
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
    options_of("dlmie.steps:TrainingStep", **_OBJECTIVE),
    click.option(
        "--teacher",
        "teachers",
        multiple=True,
        type=click.Path(),
        metavar="RUN|FILE",
        help="Learn what this trained captioner expects, too; again for each of several.",
    ),
    options_of("dlmie.steps_distillation:DistillationStep", **_TEACHING),
)
@section("Optimizer", _optimiser_options)
@section(
    "Training",
    options_of("dlmie.hub_training:train", **_TRAINING),
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
    here = run.position
    document = {
        "run": run.folder,
        "model": run.folder / "best.h5",
        "epochs": here.epoch,
        "steps": here.step,
        "best": here.best,
        "best_epoch": here.best_epoch,
        "stop_reason": run.stop_reason,
    }
    reason = f"; stopped because {run.stop_reason}" if run.stop_reason else ""
    best = "" if here.best is None else f", best {here.best:.4f} after epoch {here.best_epoch}"
    console.result(document, f"{run.folder}: {here.epoch} epochs{best}{reason}")


def _resume(chosen: dict[str, Any], console: Console) -> Any:
    allowed = ("resume", "changes", "epochs", "data")
    for name in chosen:
        if name not in allowed:
            raise click.UsageError(
                f"--{name.replace('_', '-')} cannot change in a run: give --resume only --epochs "
                "and --set lr=… (or a training option), or start a new run"
            )
    from dlmie import hub_training

    changes = dict(_assignment(word) for word in chosen.get("changes", ()))
    config = hub_training.read_config(Path(chosen["resume"]))
    if chosen.get("epochs", 0) > config["training"]["epochs"] and _ends(config["optimiser"]):
        console.warn(
            f"the cosine schedule of this run has brought the learning rate down by epoch "
            f"{config['training']['epochs']}, where it stays: to learn more, start a new run with "
            f"dlmie train DATA --from {chosen['resume']} --to RUN"
        )
    return hub_training.resume(
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


def make_settings(chosen: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run: defaults, then the recipe, then ``--set``, then other options."""
    settings: dict[str, Any] = {
        "model": "show-tell", "config": {}, "encoder": {}, "optimiser": {}, "objective": {},
        "training": {}, "recipe": chosen.get("recipe"),
    }  # fmt: skip
    if "recipe" in chosen:
        from dlmie.models.recipes import recipe

        settings.update(recipe(chosen["recipe"]))
        if "model" in chosen and chosen["model"] != settings["model"]:
            raise click.UsageError(
                f"recipe {chosen['recipe']} is for {settings['model']}, not {chosen['model']}"
            )
    settings["model"] = chosen.get("model", settings["model"])
    for word in chosen.get("changes", ()):
        _assign(settings, *_assignment(word))
    encoder = {"encoder": "name", "layer": "layer", "image_size": "size"}
    encoder["encoder_weights"] = "weights"
    if "encoder" in chosen and chosen["encoder"] != settings["encoder"].get("name"):
        settings["encoder"] = {}  # layer and size of the recipe's encoder do not apply
    known = parameters(MODELS[settings["model"]])
    if chosen.get("self_critical"):
        settings["step"] = "self-critical"
    if chosen.get("teachers"):
        settings["step"] = "distillation"
        settings["objective"]["teachers"] = list(chosen["teachers"])
    kind = settings.setdefault("step", "teacher-forcing")
    if kind == "self-critical" and "start" not in chosen:
        raise click.UsageError(
            "self-critical training improves a trained captioner: name it by --from RUN"
        )
    if kind == "distillation" and not settings["objective"].get("teachers"):
        raise click.UsageError(
            "distillation learns from trained captioners: name each by --teacher"
        )
    settings["start"] = chosen.get("start")
    for name, value in chosen.items():
        if name in _OBJECTIVE or name in _TEACHING:
            settings["objective"][name] = value
        elif name in _TRAINING:
            settings["training"][name] = value
        elif name in optimiser.DEFAULTS:
            settings["optimiser"][name] = value
        elif name in encoder:
            settings["encoder"][encoder[name]] = value
        elif name == "beam":
            settings["training"]["decoding"] = {"beam": value}
        elif name in _HELP:
            settings["config"][name] = value
    for name in settings["config"]:
        if name not in known or name in _INNER:
            own = ", ".join("--" + n.replace("_", "-") for n in known if n not in _INNER)
            raise click.UsageError(f"--{name.replace('_', '-')} is not an option of "
                                   f"{settings['model']}, which has {own}")  # fmt: skip
    for name in settings["objective"]:
        if name not in parameters(_STEPS[kind]):
            raise click.UsageError(
                f"--{name.replace('_', '-')} has no meaning in {kind.replace('-', ' ')} training"
            )
    return settings


def start_run(
    settings: dict[str, Any],
    data: Any,
    to: str | Path,
    console: Console,
    *,
    features: str | Path | None = None,
) -> Any:
    """Build what the settings describe and train it into the folder ``to``."""
    from dlmie import hub_training

    step, data, cache = _build(settings, data, console, features)
    return hub_training.train(
        step,
        data,
        to=to,
        features=cache if cache is not None else features,
        seed=console.seed,
        progress=console.progress,
        meta={"recipe": settings.get("recipe"), "command": sys.argv[1:], "settings": settings},
        **settings["training"],
    )


def _check_overfit(chosen: dict[str, Any], console: Console) -> None:
    """Whether the model can learn a few captions by heart; nothing is kept.

    Schedules are made for a run over all of the data, and dropout against learning by heart: both
    are left out, dropout unless it is asked for.
    """
    from dlmie.hub_training import overfit

    settings = make_settings(chosen)
    for name in ("schedule", "warmup", "ema"):
        settings["optimiser"].pop(name, None)
    if "dropout" in parameters(MODELS[settings["model"]]) and "dropout" not in chosen:
        settings["config"]["dropout"] = 0.0
    step, data, cache = _build(settings, chosen["data"], console, chosen.get("features"))
    passes = {name: chosen[name] for name in ("epochs", "batch") if name in chosen}
    report = overfit(
        step, data, images=chosen["overfit"], features=cache, progress=console.progress, **passes
    )
    console.result(report.to_json(), str(report))
    if not report.passed:
        raise DlmieError(f"the overfit check failed: loss {report.loss:.3f} nats a word")


def _build(
    settings: dict[str, Any], data: Any, console: Console, features: str | Path | None
) -> tuple[Any, Any, Any]:
    """The training step that settings describe, its data and, where they are there, features."""
    from dlmie import hub
    from dlmie.data.captions import Captions
    from dlmie.hub_runs import make_step

    if not isinstance(data, Captions):
        data = Captions(data)
    seed = console.seed
    start = None if settings.get("start") is None else hub.load(settings["start"])
    wanted, cache = settings["encoder"], None
    if start is not None:
        seen = _encoder_of(start)
        if wanted.get("name", seen.get("name")) == seen.get("name"):
            wanted = {**seen, **wanted}
    if (
        features is not None
        and Path(features).exists()
        and not settings["objective"].get("finetune")
    ):
        cache = _open_features(features, wanted)
        annotations: Any = cache.shape
    else:
        network, layer = make_network(
            wanted.get("name", "efficientnet-lite0"),
            wanted.get("layer"),
            wanted.get("size"),
            wanted.get("weights"),
            grid=settings["model"] == "show-attend-tell"
            or settings["config"].get("cell") == "attention",
        )
        annotations = network[layer]
    model = _make_model(settings, annotations, data, seed, start)
    optimiser = _make_optimiser(settings, data)
    objective = {**settings["objective"], "seed": seed}
    step = make_step(settings.get("step", "teacher-forcing"), model, optimiser, data, objective)
    step.progress = console.progress
    return step, data, cache


def _encoder_of(start: Any) -> dict[str, Any]:
    """What a trained captioner sees through, in the words of the settings."""
    header = start.header.get("encoder")
    if not header:
        return {}
    path = (header["weights"] or {}).get("path")
    return {
        "name": header["name"],
        "layer": header["layer"],
        "size": header["size"],
        **({} if path is None else {"weights": path}),
    }


def _make_model(
    settings: dict[str, Any], annotations: Any, data: Any, seed: int, start: Any
) -> Any:
    """A fresh model, or with ``start`` one that goes on from a trained captioner's weights."""
    from dlmie import hub, init, storage

    if start is None:
        make = hub.captioner_class(settings["model"])
        return make(annotations, data.vocabulary, seed=seed, **settings["config"])
    trained = start.model
    trained.vocabulary.check_matches(data.vocabulary, str(data.path))
    config = {**trained.config, **settings["config"], "seed": seed}
    with init.nothing_drawn():
        model = type(trained)(annotations, data.vocabulary, **config)
    values = {str(p.name): p.get_value(borrow=True) for p in trained.parameters}
    storage.assign(model.parameters, values, settings["start"])
    return model


def _open_features(path: str | Path, wanted: dict[str, Any]) -> Any:
    """A feature cache; what was said of the encoder must be true of it."""
    from dlmie.data.features import Features

    cache = Features(path)
    said = {key: wanted[key] for key in ("name", "layer", "size") if wanted.get(key) is not None}
    cache.check_matches({"encoder": said})
    return cache


def _make_optimiser(settings: dict[str, Any], data: Any) -> Any:
    from dlmie.data.batches import Batches
    from dlmie.hub_training import Limited

    training = settings["training"]
    defaults = {name: parameters("dlmie.hub_training:train")[name].default for name in _TRAINING}
    options = {**defaults, **training}
    split = data["train"]
    split = split if options["limit"] is None else Limited(split, options["limit"])
    batches = Batches(
        split,
        lambda index, flips: index,
        batch=options["batch"],
        captions_per_image=options["captions_per_image"],
    )
    try:
        return optimiser.build(
            settings["optimiser"],
            steps_per_epoch=len(batches),
            epochs=options["epochs"],
            monitor=options["monitor"],
        )
    except DataError:
        raise
    except DlmieError as error:
        raise click.UsageError(str(error)) from None


def _assignment(word: str) -> tuple[str, Any]:
    """``lr=1e-4`` → ``("lr", 0.0001)``; values are JSON, or text as it stands."""
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--set takes KEY=VALUE, not {word!r}")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, None if text.lower() in ("none", "") else text


def _assign(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set ``section.name`` or, two levels deep, ``training.decoding.beam``."""
    section, *path = key.split(".")
    if not path or not isinstance(settings.get(section), dict):
        sections = ", ".join(name for name, part in settings.items() if isinstance(part, dict))
        raise click.UsageError(
            f"--set {key}: write SECTION.NAME=VALUE; sections are {sections} "
            "(lr alone is for --resume)"
        )
    place = settings[section]
    _check_known(section, path, key)
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value


def _check_known(section: str, path: list[str], key: str) -> None:
    from dlmie.network import suggest

    known = {
        "encoder": ["name", "layer", "size", "weights"],
        "optimiser": list(optimiser.DEFAULTS),
        "objective": [*_OBJECTIVE, *_TEACHING],
        "training": [*_TRAINING, "decoding"],
    }
    if section in known and path[0] not in known[section]:
        raise click.UsageError(f"--set {key}: no such setting{suggest(path[0], known[section])}")
    if path[0] == "decoding" and len(path) == 2:
        fields = [
            *parameters("dlmie.decoding:Decoding"),
            *parameters("dlmie.decoding_rules:Rules"),
        ]
        if path[1] not in fields:
            raise click.UsageError(f"--set {key}: no such setting{suggest(path[1], fields)}")
