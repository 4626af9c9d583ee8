"""``dlmie evaluate``: score captioners on a split, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.agents import evaluate_agents
from dlmie.cli.captioners import split_names
from dlmie.cli.console import Console
from dlmie.cli.data import data_of, features_of_run, open_features
from dlmie.cli.decoding import chosen_decoding, decoding_options
from dlmie.cli.encoders import weights_option
from dlmie.cli.generators import evaluate_generators
from dlmie.cli.labelled import evaluate_classifiers
from dlmie.cli.options import flag_of, given, options_of, whole
from dlmie.cli.scores import print_scores
from dlmie.cli.verbs import OutputOption, output_option, verb
from dlmie.data.captions.tokenizers import TOKENIZERS
from dlmie.files.outputs import COCO
from dlmie.parallel import world
from dlmie.text import format_table

if TYPE_CHECKING:
    from dlmie.captioning.metrics.scores import Scores
    from dlmie.data.captions.dataset import Split
    from dlmie.models.registry import Role

# What a command line may name beside MODELS and --data, by role; captioners take all other options.
_OPTIONS: dict[Role, tuple[str, ...]] = {
    "classifier": ("split", "errors"),
    "generator": ("split", "classifier", "images"),
    "agent": ("episodes", "seeds"),
}
_COLUMNS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d")


@verb("evaluate", backends=True)
@click.argument("models", nargs=-1, required=True)
@click.option("--split", default="dev", show_default=True, help="The images to score on.")
@click.option(
    "--data",
    type=click.Path(),
    help="Prepared file, or the environment of agents.  [default: that of the run]",
)
@click.option(
    "--features",
    type=click.Path(),
    help="What the encoder makes of the images.  [default: that of the run, if it is there]",
)
@click.option("--ensemble", is_flag=True, help="Let all MODELS decide together, as one.")
@options_of(
    "dlmie.captioning.evaluation:evaluate",
    bootstrap=("Resamplings for 95 % confidence intervals; 0: none.", whole(0)),
    tokenizer=(
        "How captions are split into words.  [default: as the model's were]",
        click.Choice(TOKENIZERS),
    ),
)
@options_of(
    "dlmie.generation.evaluation:evaluate",
    classifier="For generators: a trained classifier of the same data, which scores images.",
    images=("For generators: how many images are scored.", whole(2)),
)
@options_of(
    "dlmie.reinforcement.evaluation:evaluate",
    episodes=("For agents: greedy episodes for each seed.", whole(1)),
    seeds=("For agents: how many seeds, from --seed on.", whole(1)),
)
@click.option(
    "--errors", cls=OutputOption, type=click.Path(),
    help="For a classifier: draw misclassified images by predicted class, .png or .pdf.",
)  # fmt: skip
@click.option("--export", type=click.Choice(["coco"]), help="Write the captions, too.")
@output_option("Where --export goes.  [default: captions_SPLIT_MODEL_results.json]", name="output")
@weights_option
@decoding_options
def command(
    console: Console,
    models: tuple[str, ...],
    split: str,
    data: str | None,
    features: str | None,
    ensemble: bool,
    bootstrap: int,
    tokenizer: str | None,
    classifier: str | None,
    images: int,
    episodes: int,
    seeds: int,
    errors: str | None,
    export: str | None,
    output: str | None,
    encoder_weights: str | None,
    **_: object,
) -> None:
    """Score captioners on a split with BLEU-1..4, ROUGE-L and CIDEr-D; and other models.

    MODELS are run folders, model files or names of captioners that come with dlmie; several with
    commas between them decide together. Captions run free and are compared with all references as
    people wrote them; the protocol line says what makes the numbers comparable. Where the data say
    what is where, as scenes do, and MODEL attends, the pointing score tells how much attention
    rests on a thing when it is named. For classifiers, accuracy is printed by class as well, with
    what each class is most taken for. Generators are scored by the Fréchet distance of their images
    from real ones, and with --classifier by a classifier. Agents are scored by the reward of greedy
    episodes, mean and standard deviation, beside the best possible mean where it can be computed.
    """
    groups = [split_names(model) for model in models]
    members = [name for group in groups for name in group]
    role = _role(members)
    if role in _OPTIONS and len(members) > len(models):
        raise click.UsageError(
            f"only captioners decide together: name {role}s with spaces between them"
        )
    if role == "agent":
        evaluate_agents(console, members, data, {"episodes": episodes, "seeds": seeds})
        return
    if role == "generator":
        evaluate_generators(console, members, split, data, classifier=classifier, images=images)
        return
    if role == "classifier":
        evaluate_classifiers(console, members, split, data, errors)
        return
    groups = [members] if ensemble else groups
    if output is not None and export is None:
        raise click.UsageError("--output says where --export coco goes: give both")
    if export is not None and output is not None and len(groups) > 1:
        raise click.UsageError("--output names one file: evaluate one model, or an --ensemble")
    chosen = {**chosen_decoding(), "seed": console.seed}
    from dlmie import captioning
    from dlmie.data.captions.dataset import Captions

    source = data or data_of(members[0])
    names = ["+".join(group) for group in groups]
    paths = []
    if export is not None:
        console.outputs.reads(
            source, *(path for member in members for path in features_of_run(member))
        )
        shown = [output] if output else _result_files(names, split)
        paths = [console.outputs.writes(path, COCO) for path in shown]
    captioned = Captions(source)[split]
    scores = []
    for number, (name, group) in enumerate(zip(names, groups, strict=True)):
        captioner = captioning.load(group, encoder_weights=encoder_weights)
        cache = open_features(captioner, group[0], captioned, features)
        console.note(f"{name}: captioning {len(captioned):,} images of {split}")
        decoding = captioner.decoding(**chosen)
        said = captioning.caption_split(
            captioner, captioned, decoding, features=cache, progress=console.progress
        )
        result = captioning.score_captions(
            captioner, captioned, said, decoding, bootstrap=bootstrap, tokenizer=tokenizer
        )
        scores.append(result)
        if export is not None:
            world().on_first(partial(_export, paths[number], captioned, result.captions))
            console.note(f"wrote {paths[number]}")
    print_scores(console, names, scores, _side_by_side(names, scores))


def _role(models: Sequence[str]) -> Role:
    """What all models are for.

    Raises
    ------
    click.UsageError
        They are of several roles, or an option is given that does not apply to theirs.
    """
    from dlmie.trained import role_of

    roles = sorted({role_of(model) for model in models})
    if len(roles) > 1:
        listed = " and ".join(f"{role}s" for role in roles)
        raise click.UsageError(f"evaluate {listed} one after the other")
    (role,) = roles
    of_others = {name for names in _OPTIONS.values() for name in names} - {"split"}
    for name in given(click.get_current_context()):
        if role in _OPTIONS:
            applies = name in ("models", "data", *_OPTIONS[role])
        else:
            applies = name not in of_others
        if not applies:
            raise click.UsageError(f"{flag_of(name)} does not apply to {role}s")
    return role


def _result_files(names: Sequence[str], split: str) -> list[str]:
    """Where the captions of each model go; no two to one place.

    Examples
    --------
    >>> _result_files(["a/best.h5", "b/best.h5", "c.h5"], "dev")[::2]
    ['captions_dev_a_best_results.json', 'captions_dev_c_results.json']
    """
    stems = [Path(name).stem for name in names]
    if len(set(stems)) < len(stems):
        parents = [Path(name).resolve().parent.name for name in names]
        stems = [
            stem if stems.count(stem) == 1 else f"{parent}_{stem}"
            for stem, parent in zip(stems, parents, strict=True)
        ]
    stems = [
        stem if stem not in stems[:place] else f"{stem}_{place + 1}"
        for place, stem in enumerate(stems)
    ]
    return [f"captions_{split}_{stem}_results.json" for stem in stems]


def _export(path: Path, images: Split, captions: list[str]) -> None:
    """COCO's results file; images without a number of the data set go by their names."""
    from dlmie.captioning.caption_files import write_coco_results

    own = images.image_ids != list(range(len(images)))
    write_coco_results(path, images.image_ids if own else images.names, captions)


def _side_by_side(names: list[str], scores: list[Scores]) -> str:
    from dlmie.captioning.metrics.scores import score_text

    rows = [
        (name, *(score_text(getattr(result, column)) for column in _COLUMNS))
        for name, result in zip(names, scores, strict=True)
    ]
    lines = [format_table(("", *_COLUMNS), rows)]
    for more in ("truth", "pointing"):
        found = [(name, getattr(s, more)) for name, s in zip(names, scores, strict=True)]
        lines += [f"{name}: {value}" for name, value in found if value]
    lines += [f"{n}: {note}" for n, s in zip(names, scores, strict=True) for note in s.notes]
    protocols = {result.protocol_line for result in scores}
    if len(protocols) == 1:
        return "\n".join([*lines, protocols.pop()])
    return "\n".join(
        [*lines, *(f"{n}: {s.protocol_line}" for n, s in zip(names, scores, strict=True))]
    )
