"""``dlmie evaluate``: score captioners on a split, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlmie.cli.console import (
    Console,
    chosen_decoding,
    decoding_options,
    options_of,
    output_option,
    verb,
    whole,
)
from dlmie.cli.encoders import weights_option
from dlmie.data.captions.tokenizers import TOKENIZERS
from dlmie.errors import DlmieError
from dlmie.text import format_table

_COLUMNS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d")


@verb("evaluate")
@click.argument("models", nargs=-1, required=True)
@click.option("--split", default="dev", show_default=True, help="The images to caption.")
@click.option("--data", type=click.Path(), help="Prepared file.  [default: that of the run]")
@click.option(
    "--features",
    type=click.Path(),
    help="What the encoder makes of the images.  [default: that of the run, if it is there]",
)
@click.option("--ensemble", is_flag=True, help="Let all MODELS decide together.")
@options_of(
    "dlmie.captioning.evaluation:evaluate",
    bootstrap=("Resamplings for 95 % confidence intervals; 0: none.", whole(0)),
    tokenizer=(
        "How captions are split into words.  [default: as the model's were]",
        click.Choice(TOKENIZERS),
    ),
)
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
    export: str | None,
    output: str | None,
    encoder_weights: str | None,
    **options: Any,
) -> None:
    """Score captioners on a split: BLEU-1..4, ROUGE-L and CIDEr-D.

    MODELS are run folders, model files or names of captioners that come with dlmie. Captions run
    free and are compared with all references as people wrote them; the protocol line says what
    makes the numbers comparable. Where the data say what is where, as scenes do, and MODEL
    attends, the pointing score tells how much attention rests on a thing when it is named.
    """
    if output is not None and export is None:
        raise click.UsageError("--output says where --export coco goes: give both")
    if export is not None and output is not None and len(models) > 1 and not ensemble:
        raise click.UsageError("--output names one file: evaluate one model, or an --ensemble")
    chosen = {**chosen_decoding(), "seed": console.seed}
    from dlmie import captioning as hub
    from dlmie.data.captions.dataset import Captions

    prepared = Captions(data or data_of(models[0]))
    images = prepared[split]
    names = ["+".join(models)] if ensemble else list(models)
    scores = []
    for name, sources in zip(names, [models] if ensemble else [[m] for m in models], strict=True):
        captioner = hub.load(list(sources), encoder_weights=encoder_weights)
        cache = open_features(captioner, sources[0], images, features)
        console.note(f"{name}: captioning {len(images):,} images of {split}")
        decoding = captioner.decoding(**chosen)
        said = hub.caption_split(
            captioner, images, decoding, features=cache, progress=console.progress
        )
        result = hub.score_captions(
            captioner, images, said, decoding, bootstrap=bootstrap, tokenizer=tokenizer
        )
        scores.append(result)
        if export is not None:
            path = output or f"captions_{split}_{Path(name).stem}_results.json"
            _export(path, images, result.captions)
            console.note(f"wrote {path}")
    documents = [
        {"model": name, **result.to_json()} for name, result in zip(names, scores, strict=True)
    ]
    text = str(scores[0]) if len(names) == 1 else _side_by_side(names, scores)
    console.result(documents[0] if len(names) == 1 else documents, text)


def data_of(model: str) -> str:
    """The prepared file that a run was trained on."""
    from dlmie.training.runs import read_config

    if not (Path(model) / "config.json").is_file():
        raise click.UsageError(f"{model} is no run folder: say what to evaluate on with --data")
    path = read_config(Path(model)).data.path
    if not Path(path).is_file():
        raise DlmieError(f"{path}, the data of {model}, is gone: name its place with --data")
    return path


def open_features(captioner: Any, source: Any, images: Any, named: str | None) -> Any:
    """The feature cache that is named; else that of the run, if it is there and fits."""
    from dlmie.captioning import check_features
    from dlmie.data.captions.extraction import Features
    from dlmie.training.runs import read_config

    if named is not None:
        return Features(named)
    if not (Path(source) / "config.json").is_file():
        return None
    path = read_config(Path(source)).inputs.get("features")
    if path is None or not Path(path).is_file():
        return None
    try:
        cache = Features(path)
        for member in captioner.members:
            check_features(cache, member, images)
    except DlmieError:  # other data, or another encoder in the ensemble: encode the images
        return None
    return cache if images.name in cache.splits else None


def _export(path: str, images: Any, captions: list[str]) -> None:
    """COCO's results file; images without a number of the data set go by their names."""
    from dlmie.captioning.caption_files import write_coco_results

    own = images.image_ids != list(range(len(images)))
    write_coco_results(path, images.image_ids if own else images.names, captions)


def _side_by_side(names: list[str], scores: list[Any]) -> str:
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
