"""The settings of ``dlmie train``: a recipe, then ``--set``, then the options that were given."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click

from dlmie.cli.captioners import split_names
from dlmie.cli.options import flag_of
from dlmie.cli.signatures import parameters
from dlmie.errors import DlmieError
from dlmie.models import registry
from dlmie.text import suggest
from dlmie.training.config import TaskOptions
from dlmie.training.optimizer_options import OptimizerOptions
from dlmie.training.registry import TASKS, task_options
from dlmie.training.settings import Settings
from dlmie.typing import Json, JsonObject

#: What a model's constructor takes that is no setting of a run's ``config``.
GIVEN = (
    *("annotations", "vocabulary", "shape", "classes", "normalization", "spaces"),
    *("self", "seed", "dtype"),
)
_ENCODER = ("name", "layer", "size", "weights", "output_stride", "preprocessing")
# Options whose names are not those of their settings.
_RENAMED = {
    "encoder": ("encoder", "name"),
    "layer": ("encoder", "layer"),
    "image_size": ("encoder", "size"),
    "output_stride": ("encoder", "output_stride"),
    "encoder_weights": ("encoder", "weights"),
    "encoder_preprocessing": ("encoder", "preprocessing"),
}
# Former spellings, still understood.
_FORMER_SECTIONS = {"optimiser": "optimizer"}
FORMER_OPTIONS = {"words": "embedding"}


def trained_models() -> dict[str, str]:
    """The models that can be trained: their classes, ``"module:Class"``, by name."""
    return {
        name: entry.target
        for name, entry in registry.MODELS.items()
        if entry.role in registry.TASKS
    }


def make_settings(chosen: JsonObject) -> Settings:
    """All settings of a run.

    Parameters
    ----------
    chosen : mapping
        The options that were given, by parameter name.

    Raises
    ------
    click.UsageError
        Options that contradict each other or mean nothing for the model or the way of training.
    """
    chosen = {FORMER_OPTIONS.get(name, name): value for name, value in chosen.items()}
    settings = _begin(chosen)
    options = task_options(registry.task_of(settings.model))
    _check_task(settings, options, chosen)
    settings.start = chosen.get("start")
    settings.normalization = chosen.get("normalization", settings.normalization)
    for word in chosen.get("changes", ()):
        _assign(settings, options, *assignment(word))
    if "encoder" in chosen and chosen["encoder"] != settings.encoder.get("name"):
        settings.encoder = {}  # layer and size of the recipe's encoder do not apply
    for name, value in chosen.items():
        if place := _place(settings, options, name):
            getattr(settings, place[0])[place[1]] = value
    if "beam" in chosen:
        settings.training["decoding"] = {"beam": chosen["beam"]}
    _choose_objective(settings, options, chosen)
    _check(settings, options)
    return settings


def _begin(chosen: JsonObject) -> Settings:
    """The settings of the recipe, named or the model's own; or none but the model's name."""
    from dlmie.models.recipes import recipe, recipe_of

    model = chosen.get("model")
    name = chosen.get("recipe", recipe_of(model))
    if name is None:
        return Settings(model or "show-tell")
    settings = Settings.from_recipe(name, recipe(name))
    if model is not None and model != settings.model:
        raise click.UsageError(f"recipe {settings.recipe} is for {settings.model}, not {model}")
    return settings


def sections(settings: Settings, options: TaskOptions) -> dict[str, list[str]]:
    """The names of the settings in each section but ``config``, whose are the model's own."""
    objectives = {n: None for group in options.objectives.values() for n in group.names()}
    return {
        "encoder": [*_ENCODER],
        "optimizer": OptimizerOptions.names(),
        "objective": [*objectives],
        "training": options.training.names(),
    }


def _model_options(model: str) -> list[str]:
    return [name for name in parameters(trained_models()[model]) if name not in GIVEN]


def _place(settings: Settings, options: TaskOptions, name: str) -> tuple[str, str] | None:
    """The section and the name of the setting that an option gives; None: it gives none."""
    if name in _RENAMED:
        return _RENAMED[name]
    for section, names in sections(settings, options).items():
        if name in names and section != "encoder":
            return section, name
    known = {option for model in trained_models() for option in _model_options(model)}
    return ("config", name) if name in known else None


def _choose_objective(settings: Settings, options: TaskOptions, chosen: JsonObject) -> None:
    """The name of the objective, with what it must be given."""
    usual = registry.MODELS[settings.model].objective or next(iter(options.objectives))
    kind = settings.objective.get("kind", usual)
    if chosen.get("self_critical"):
        kind = "self-critical"
    if chosen.get("teachers"):
        kind = "distillation"
        settings.objective["teachers"] = [
            name for teacher in chosen["teachers"] for name in split_names(teacher)
        ]
    if kind == "self-critical" and settings.start is None:
        raise click.UsageError(
            "self-critical training improves a trained captioner: name it by --from RUN"
        )
    if kind == "distillation" and not settings.objective.get("teachers"):
        raise click.UsageError(
            "distillation learns from trained captioners: name each by --teacher"
        )
    settings.objective["kind"] = kind


def _check(settings: Settings, options: TaskOptions) -> None:
    own = _model_options(settings.model)
    for name in settings.config:
        if name not in own:
            raise click.UsageError(
                f"{flag_of(name)} is not an option of {settings.model}, which has "
                + ", ".join(map(flag_of, own))
            )
    group = options.objectives[settings.objective["kind"]]
    for name in settings.objective_options:
        if name not in group.names():
            kind = settings.objective["kind"].replace("-", " ")
            raise click.UsageError(f"{flag_of(name)} has no meaning in {kind} training")
    try:
        group.of(settings.objective_options)
        options.training.of(settings.training)
        optimizer = OptimizerOptions.of(settings.optimizer)
        optimizer.chain(steps_per_epoch=1, epochs=1, higher_is_better=True)
    except DlmieError as error:
        raise click.UsageError(str(error)) from None


#: Options of ``dlmie train`` that only one task knows, beside those that it declares.
_OF_TASK = {
    "captioning": (
        *("encoder", "layer", "image_size", "encoder_weights", "encoder_preprocessing"),
        *("features", "start", "teachers", "self_critical", "beam", "overfit"),
    ),
    "classification": ("normalization",),
    "generation": (),
    "reinforcement": (),
}


def _check_task(settings: Settings, options: TaskOptions, chosen: JsonObject) -> None:
    """Refuse options that mean nothing for the model's task."""
    own = registry.task_of(settings.model)
    known = sections(settings, options)
    mine = {*known["training"], *known["objective"]}
    for task in TASKS:
        if task == own:
            continue
        theirs = sections(settings, task_options(task))
        others = {*theirs["training"], *theirs["objective"], *_OF_TASK[task]}
        for name in chosen:
            if name in others - mine:
                flag = {"start": "--from", "teachers": "--teacher"}.get(name, flag_of(name))
                raise click.UsageError(f"{flag} has no meaning for {settings.model}")


def assignment(word: str) -> tuple[str, Json]:
    """``lr=1e-4`` → ``("lr", 0.0001)``; values are JSON, or text as it stands."""
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--set takes KEY=VALUE, not {word!r}")
    try:
        value: Json = json.loads(text)
    except ValueError:
        value = None if text.lower() in ("none", "") else text
    return key, value


def _assign(settings: Settings, options: TaskOptions, key: str, value: Json) -> None:
    """Set ``section.name`` or, two levels deep, ``training.decoding.beam``."""
    section, *path = key.split(".")
    section = _FORMER_SECTIONS.get(section, section)
    known: dict[str, list[str] | None] = {"config": None, **sections(settings, options)}
    if not path or section not in known:
        raise click.UsageError(
            f"--set {key}: write SECTION.NAME=VALUE; sections are {', '.join(known)} "
            "(lr alone is for --resume)"
        )
    _check_known(known[section], path, key)
    if section == "config":
        path[0] = FORMER_OPTIONS.get(path[0], path[0])
    place = getattr(settings, section)
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value


def _check_known(known: Iterable[str] | None, path: list[str], key: str) -> None:
    if known is not None and path[0] not in known:
        raise click.UsageError(f"--set {key}: no such setting{suggest(path[0], known)}")
    if path[0] == "decoding" and len(path) == 2:
        fields = [
            *parameters("dlmie.captioning.decoding:Decoding"),
            *parameters("dlmie.captioning.decoding:Constraints"),
        ]
        if path[1] not in fields:
            raise click.UsageError(f"--set {key}: no such setting{suggest(path[1], fields)}")
