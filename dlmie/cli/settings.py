"""The settings of a run: everything that decides its course but the data and the seed.

One dictionary with a section each for the model (``config``), the encoder, the optimiser, the
objective and the training, as :mod:`dlmie.models.recipes` writes them.  A recipe fills it, then
``--set``, then the options of ``dlmie train``, each of which belongs to one section.
"""

from __future__ import annotations

import json
from typing import Any

import click

from dlmie.cli import optimizer as optimiser
from dlmie.cli.signatures import parameters
from dlmie.text import suggest

# The captioners of dlmie.captioning.CAPTIONERS, which would load PyTensor (a test compares).
MODELS = {
    "show-tell": "dlmie.models.captioners.show_tell:ShowTell",
    "show-attend-tell": "dlmie.models.captioners.show_attend_tell:ShowAttendTell",
    "caption-rnn": "dlmie.models.captioners.caption_rnn:CaptionRNN",
}
#: What a captioner's constructor takes that is no setting of a run's ``config``.
GIVEN = ("annotations", "vocabulary", "self", "seed", "dtype")
# The steps that a run may take, by the name in its configuration.
_STEPS = {
    "teacher-forcing": "dlmie.captioning.objectives:TrainingStep",
    "self-critical": "dlmie.captioning.objectives:SelfCriticalStep",
    "distillation": "dlmie.captioning.objectives:DistillationStep",
}
#: The names in each section but ``config``, whose names are those of the model's constructor.
SECTIONS: dict[str, tuple[str, ...]] = {
    "encoder": ("name", "layer", "size", "weights"),
    "optimiser": tuple(optimiser.DEFAULTS),
    "objective": (
        *("alpha_penalty", "label_smoothing", "scheduled_sampling", "finetune", "from_layer"),
        *("encoder_lr", "teacher_share"),
    ),
    "training": (
        *("epochs", "batch", "monitor", "patience", "captions_per_image", "flip", "crops"),
        *("limit", "checkpoint_every", "decoding"),
    ),
}
# Options whose names are not those of their settings.
_RENAMED = {
    "encoder": ("encoder", "name"),
    "image_size": ("encoder", "size"),
    "encoder_weights": ("encoder", "weights"),
}


def make_settings(chosen: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run: defaults, then the recipe, then ``--set``, then other options.

    Parameters
    ----------
    chosen : dict
        The options that were given, by parameter name.

    Raises
    ------
    click.UsageError
        Options that contradict each other or mean nothing for the model or the way of training.
    """
    settings: dict[str, Any] = {
        "model": "show-tell", "config": {}, "encoder": {}, "optimiser": {}, "objective": {},
        "training": {}, "recipe": chosen.get("recipe"), "start": chosen.get("start"),
    }  # fmt: skip
    if "recipe" in chosen:
        _follow(settings, chosen["recipe"], chosen.get("model"))
    settings["model"] = chosen.get("model", settings["model"])
    for word in chosen.get("changes", ()):
        _assign(settings, *assignment(word))
    if "encoder" in chosen and chosen["encoder"] != settings["encoder"].get("name"):
        settings["encoder"] = {}  # layer and size of the recipe's encoder do not apply
    for name, value in chosen.items():
        if place := _place(name):
            settings[place[0]][place[1]] = value
    if "beam" in chosen:
        settings["training"]["decoding"] = {"beam": chosen["beam"]}
    settings["step"] = _step(settings, chosen)
    _check(settings)
    return settings


def _follow(settings: dict[str, Any], name: str, model: str | None) -> None:
    from dlmie.models.recipes import recipe

    settings.update(recipe(name))
    if model is not None and model != settings["model"]:
        raise click.UsageError(f"recipe {name} is for {settings['model']}, not {model}")


def _place(option: str) -> tuple[str, str] | None:
    """The section and the name of the setting that an option gives; None: it gives none."""
    if option in _RENAMED:
        return _RENAMED[option]
    for section, names in SECTIONS.items():
        if option in names:
            return section, option
    of_models = (name for target in MODELS.values() for name in parameters(target))
    return ("config", option) if option in of_models and option not in GIVEN else None


def _step(settings: dict[str, Any], chosen: dict[str, Any]) -> str:
    """The name of the way of training, with what it must be given."""
    step: str = settings.get("step", "teacher-forcing")
    if chosen.get("self_critical"):
        step = "self-critical"
    if chosen.get("teachers"):
        step = "distillation"
        settings["objective"]["teachers"] = list(chosen["teachers"])
    if step == "self-critical" and settings["start"] is None:
        raise click.UsageError(
            "self-critical training improves a trained captioner: name it by --from RUN"
        )
    if step == "distillation" and not settings["objective"].get("teachers"):
        raise click.UsageError(
            "distillation learns from trained captioners: name each by --teacher"
        )
    return step


def _check(settings: dict[str, Any]) -> None:
    own = [name for name in parameters(MODELS[settings["model"]]) if name not in GIVEN]
    for name in settings["config"]:
        if name not in own:
            raise click.UsageError(
                f"{_flag(name)} is not an option of {settings['model']}, which has "
                + ", ".join(map(_flag, own))
            )
    for name in settings["objective"]:
        if name not in parameters(_STEPS[settings["step"]]):
            step = settings["step"].replace("-", " ")
            raise click.UsageError(f"{_flag(name)} has no meaning in {step} training")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def assignment(word: str) -> tuple[str, Any]:
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
    known = SECTIONS.get(section)
    if known is not None and path[0] not in known:
        raise click.UsageError(f"--set {key}: no such setting{suggest(path[0], known)}")
    if path[0] == "decoding" and len(path) == 2:
        fields = [
            *parameters("dlmie.captioning.decoding:Decoding"),
            *parameters("dlmie.captioning.decoding:Rules"),
        ]
        if path[1] not in fields:
            raise click.UsageError(f"--set {key}: no such setting{suggest(path[1], fields)}")
