"""``dlmie inspect``: what a file or a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.console import Console, fields
from dlmie.cli.drawings import FIGURES, claim_drawing
from dlmie.cli.labelled import describe_labelled, draw_samples
from dlmie.cli.verbs import OVERWRITE, OutputOption, verb
from dlmie.errors import DataError, WeightsError
from dlmie.files.atomic import UNFINISHED
from dlmie.files.schema import Key, check_document
from dlmie.text import bytes_text, format_table
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    import numpy as np

Described = tuple[Mapping[str, object], str]
"""What something holds, as JSON and as text."""

_MODEL = {
    "vocabulary": Key(list, required=False, null=True),
    "encoder": Key(dict, required=False, null=True),
    "meta": Key(dict, required=False, null=True),
}
_SHOWN = 40  # arrays listed before the rest is only counted


@verb("inspect")
@click.argument("path", type=click.Path())
@click.option(
    "--samples", cls=OutputOption, type=click.Path(),
    help="Of labeled images: draw some of each class (.png, .jpg, .pdf or .svg).",
)  # fmt: skip
@OVERWRITE
def command(console: Console, path: str, samples: str | None) -> None:
    """Say what PATH holds: prepared data, features, a model, a run, or a weight file.

    Of weight files (Keras .h5, PyTorch .pth, .safetensors, .npz, .npy) it lists the arrays;
    nothing in them is executed. The name of a network (efficientnet-lite0) lists its layers; the
    name of a captioner that comes with dlmie (flickr8k-coco) shows how it was made.
    """
    if samples is not None:
        claim_drawing(console, "--samples", samples, FIGURES)
    document, text = describe(path)
    if samples is not None:
        if document.get("type") != "labelled":
            raise click.UsageError(f"--samples shows labeled images, which {path} is not")
        draw_samples(Path(path), samples, console.seed)
    console.result(document, text)


def describe(name: str) -> Described:
    """What something holds, as JSON and as text."""
    from dlmie.captioning.captioner import SHIPPED
    from dlmie.captioning.model_files import find_model
    from dlmie.models import ENCODERS

    path = Path(name)
    if path.is_dir():
        return _run(path)
    if not path.exists() and name in ENCODERS:
        return _network(name)
    if not path.exists() and name in SHIPPED:
        return _model(find_model(name))
    from dlmie.files.headers import stated_format

    readers = {
        "dlmie.captions": _captions,
        "dlmie.labelled": describe_labelled,
        "dlmie.features": _features,
        "dlmie-model": _model,
    }
    return readers.get(stated_format(path) or "", _weights)(path)


def _captions(path: Path) -> Described:
    from dlmie.data.captions.dataset import Captions

    with Captions(path) as data:
        splits = {
            split.name: {
                "images": len(split),
                "captions": data.header["splits"][split.name]["captions"],
            }
            for split in data
        }
        words = list(data.vocabulary.words[4:])
        document = {"type": "captions", **data.header, "words": len(data.vocabulary)}
    skipped, problems = document["skipped"], document["problems"]
    pairs = [
        ("prepared data", path),
        *(
            (f"split {name}", f"{n['images']:,} images, {n['captions']:,} captions")
            for name, n in splits.items()
        ),
        ("images", f"{document['size']} × {document['size']} pixels, kept as {document['store']}"),
        ("vocabulary", f"{document['words']:,} words: {', '.join(words[:8])}, …"),
        ("words kept", f"at least {document['min_count']} times in train"),
        ("source", _source(document["source"])),
        ("images left out", f"{len(skipped):,}" if skipped else None),
        ("problems", f"{len(problems):,}" if problems else None),
        ("hash", document["hash"]),
        ("size", bytes_text(path.stat().st_size)),
    ]
    return document, fields(pairs)


def _source(source: JsonObject) -> str:
    files = source.get("files")
    return ", ".join(f"{x['file']} ({x['format']})" for x in files) if files else _line(source)


def _features(path: Path) -> Described:
    from dlmie.data.captions.extraction import Features

    with Features(path, in_memory=False) as cache:
        header, splits, raw = cache.header, cache.splits, cache.nbytes
    document = {"type": "features", **header}
    pairs = [
        ("features", path),
        *_encoder_fields(header.get("encoder")),
        ("each image", f"{' × '.join(map(str, header['shape']))} {header['dtype']}"),
        *((f"split {name}", f"{images:,} images") for name, images in splits.items()),
        ("mirrored too", "yes" if header["flip"] else "no"),
        ("random crops", header.get("crops")),
        ("of data", header["data"]),
        ("size", f"{bytes_text(path.stat().st_size)} ({bytes_text(raw)} unpacked)"),
    ]
    return document, fields(pairs)


def _model(path: Path) -> Described:
    from dlmie.files import containers

    header, arrays = containers.load(path)
    check_document(header, _MODEL, path, WeightsError)
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    vocabulary = header.get("vocabulary") or []
    document = {"type": "model", **header, "vocabulary": len(vocabulary), "arrays": shapes}
    meta = header.get("meta") or {}
    pairs = [
        ("model", path),
        ("kind", header.get("kind") or header.get("network")),
        ("config", _line(header.get("config"))),
        *_encoder_fields(header.get("encoder")),
        ("vocabulary", f"{len(vocabulary):,} words" if vocabulary else None),
        ("environment", header.get("environment")),
        ("captions by", _line(header.get("decoding"))),
        ("recipe", meta.get("recipe")),
        ("dev scores", _scores(meta.get("scores"))),
        ("trained on", meta.get("data")),
        ("made with", _line(meta.get("versions"))),
        ("format", f"version {header['version']}"),
        ("size", bytes_text(path.stat().st_size)),
    ]
    return document, f"{fields(pairs)}\n\n{_arrays(arrays)}"


def _run(path: Path) -> Described:
    from dlmie.training.runs import read_config, read_log

    config = read_config(path)
    epochs = [record for record in read_log(path) if "epoch" in record]
    monitor = config.training.monitor
    best = [r for r in epochs if r.get("best") and isinstance(r.get(monitor), (int, float))]
    document = {
        "type": "run",
        **config.to_json(),
        # As version 0.1 called them.
        "step": config.objective["kind"],
        "optimiser": config.optimizer,
        "epochs": epochs,
    }
    pairs = [
        ("run", path),
        ("model", config.model["kind"]),
        ("config", _line(config.model.get("config"))),
        *_encoder_fields(config.inputs.get("encoder")),
        ("data", config.data.path),
        ("recipe", config.meta.get("recipe")),
        ("epochs", f"{len(epochs)} of {config.training.epochs}"),
        ("best", f"{monitor} {best[-1][monitor]:.4f} after epoch {best[-1]['epoch']}"
         if best else "none yet"),
        ("dev scores", _scores(best[-1]) if best else None),
        ("training", _line(config.training.to_json())),
        ("objective", _line(config.objective)),
        ("optimizer", _optimizer(config.optimizer)),
        ("made with", _line(config.meta.get("versions"))),
    ]  # fmt: skip
    return document, fields(pairs)


def _optimizer(chain: object) -> str:
    """A chain in one line; a mapping of several with their names."""
    if isinstance(chain, Mapping) and "transform" not in chain:
        return "; ".join(f"{name}: {_optimizer(links)}" for name, links in chain.items())
    return "; ".join(_line(link) for link in (chain if isinstance(chain, list) else [chain]))


def _network(name: str) -> Described:
    from dlmie import models

    network = models.encoder(name)
    layers = {layer: list(variable.type.shape[1:]) for layer, variable in network.items()}
    document = {"type": "network", "name": name, "layers": layers, "weights": network.weights}
    return document, network.summary()


def _weights(path: Path) -> Described:
    from dlmie.weights import read, sha256

    if path.name.endswith(UNFINISHED):
        raise DataError(f"{path}: was not finished; run the command that makes it again")
    arrays = read(path)
    shapes = {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in arrays.items()}
    document = {"type": "weights", "sha256": sha256(path), "arrays": shapes}
    total = sum(array.size for array in arrays.values())
    pairs = [
        ("weights", path),
        ("arrays", f"{len(arrays):,}, {total:,} numbers"),
        ("sha256", document["sha256"]),
        ("size", bytes_text(path.stat().st_size)),
    ]
    return document, f"{fields(pairs)}\n\n{_arrays(arrays)}"


def _encoder_fields(encoder: object) -> list[tuple[str, object]]:
    if not encoder:
        return []
    if not isinstance(encoder, Mapping):  # features that another program made
        return [("encoder", str(encoder))]
    weights = encoder.get("weights")
    if not isinstance(weights, Mapping):
        weights = {} if weights is None else {"package": weights}
    origin = weights.get("package") or weights.get("path") or _no_weights(encoder)
    size = encoder.get("size")
    stride = (encoder.get("options") or {}).get("output_stride")
    return [
        (
            "encoder",
            f"{encoder.get('name')}, layer {encoder.get('layer')}"
            + (f", {size} × {size} pixels" if size else "")
            + (f", output stride {stride}" if stride else ""),
        ),
        ("it sees", "the mean of image and mirror image" if encoder.get("average_flip") else None),
        ("its weights", f"{origin} {str(weights.get('sha256') or '')[:12]}".strip()),
        ("fine-tuned from", encoder.get("finetuned")),
    ]


def _no_weights(encoder: Mapping[str, object]) -> str | None:
    """What to say of an encoder without a weight file: nothing of one that dlmie does not know."""
    from dlmie.models import ENCODERS

    return "random" if encoder.get("name") in ENCODERS else None


def _scores(record: object) -> str | None:
    """The numbers of a record of the log that are scores."""
    names = (
        *("bleu_1", "bleu_4", "cider_d", "accuracy", "dev_loss", "reward"),
        *("pixel_frechet", "frechet", "confidence", "diversity"),
    )
    values = record if isinstance(record, Mapping) else {}
    shown = [f"{n} {values[n]:.4f}" for n in names if isinstance(values.get(n), (int, float))]
    return ", ".join(shown) or None


def _line(value: object) -> str:
    """Plain values as one line: ``words 512, hidden 512``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_line(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(map(_line, value))
    return "" if value is None else str(value)


def _arrays(arrays: Mapping[str, np.ndarray]) -> str:
    rows = [(n, " × ".join(map(str, a.shape)) or "()", str(a.dtype)) for n, a in arrays.items()]
    text = format_table(("array", "shape", "type"), rows[:_SHOWN])
    return text + (f"\n… and {len(rows) - _SHOWN:,} more (--json)" if len(rows) > _SHOWN else "")
