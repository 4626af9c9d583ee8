"""Readers to be given damaged files: for each, whole files, and how to damage and to read them.

``python fuzz_targets.py TARGET FOLDER FIRST COUNT`` reads so many damaged files, each drawn from
its number, and prints a line for each error that is not dlmie's own. It ends by itself where one of
them takes more than ten seconds of processor time, or more memory than 2 GB.
"""

from __future__ import annotations

import functools
import json
import random
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutations import mutate_bytes, mutate_hdf5, mutate_json

from dlmie.errors import DlmieError

GOLDEN = Path(__file__).parents[1] / "golden"
SECONDS, BYTES = 10, 2 * 2**30  # of processor time for each file; of memory beyond the start's


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes
    ----------
    make : callable
        Puts whole files into a folder.
    read : callable
        Reads one of them.
    suffixes : tuple of str
        Of the files that are damaged.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    suffixes: tuple[str, ...]


def damage(path: Path, rng: random.Random) -> None:
    """Damage a file in the way of its kind."""
    if path.suffix == ".h5":
        mutate_hdf5(path, rng)
    elif path.suffix == ".json":
        path.write_bytes(mutate_json(path.read_bytes(), rng))
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))


# Captions

_WORDS = ("a dog runs", "two cats, asleep", 'she said "hi"', "ein Hund läuft", "一只狗")


def _make_captions(folder: Path) -> None:
    names = [f"{number}.jpg" for number in range(5)]
    pairs = list(zip(names, _WORDS, strict=True))
    _pictures(folder, names)
    written: dict[str, Any] = {
        "mapping.json": {name: [text, text] for name, text in pairs},
        "objects.json": [{"image": name, "caption": text} for name, text in pairs],
        "coco.json": {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [
                {"id": i, "image_id": i, "caption": text} for i, (_, text) in enumerate(pairs)
            ],
        },
        "karpathy.json": {
            "images": [
                {"filename": n, "split": s, "cocoid": i, "sentences": [{"raw": t, "tokens": []}]}
                for i, ((n, t), s) in enumerate(
                    zip(pairs, ["train", "train", "train", "val", "test"], strict=True)
                )
            ]
        },
    }
    for name, document in written.items():
        (folder / name).write_text(json.dumps(document))
    rows = [f'{n},"{t.replace(chr(34), chr(34) * 2)}",train' for n, t in pairs]
    texts = {
        "table.csv": "\n".join(["image,caption,split", *rows]),
        "table.tsv": "\n".join(["image\tcaption", *(f"{n}\t{t}" for n, t in pairs)]),
        "pipes.csv": "\n".join(["image| comment", *(f"{n}| {t}" for n, t in pairs)]),
        "lines.jsonl": "\n".join(json.dumps({"file_name": n, "text": t}) for n, t in pairs),
        "f.token.txt": "\n".join(f"{n}#0\t{t}" for n, t in pairs),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "utf16.csv").write_bytes(texts["table.csv"].encode("utf-16"))


def _read_captions(path: Path) -> None:
    from dlmie.captioning.caption_files import read_captions
    from dlmie.data.captions.dataset import survey

    references = path.parent / "whole" / "mapping.json"
    for read in (
        lambda: survey([path], images=path.parent, progress=False, min_count=1),
        lambda: read_captions(path, [references], subset=True),
        lambda: read_captions(references, [path], subset=True),
        lambda: survey([references], images=path.parent, boxes=[path], progress=False),
    ):
        try:
            read()
        except DlmieError:
            continue


# Files of dlmie

OLD = GOLDEN / "v0.1.0"


def _make_prepared(folder: Path) -> None:
    from dlmie.data.scenes import prepare_scenes

    shutil.copy(OLD / "scenes.h5", folder / "old.h5")
    prepare_scenes(folder / "new.h5", train=4, dev=2, test=1, size=32, progress=False)


def _read_prepared(path: Path) -> None:
    from dlmie.data import Captions

    with Captions(path) as data:
        repr(data)
        for split in data:
            _ = (split.names, split.image_ids, split.references, split.tokens)
            _ = (split.token_image, split.objects)
            if len(split):
                split.load_images([0, len(split) - 1])


def _make_labelled(folder: Path) -> None:
    from classification_cases import make_data

    make_data(folder)
    shutil.rmtree(folder / "images")


def _read_labelled(path: Path) -> None:
    from dlmie.data import LabelledImages

    with LabelledImages(path) as data:
        repr(data)
        _ = (data.channel_mean, data.channel_std, data.classes)
        for split in data:
            _ = (split.labels, split.names, split.mean_image)
            if len(split):
                split.load_images([0, len(split) - 1])


def _make_features(folder: Path) -> None:
    from captioning_cases import make_cache

    from dlmie.data.scenes import prepare_scenes

    shutil.copy(next(OLD.glob("*.features.h5")), folder / "old.h5")
    data = prepare_scenes(folder / "scenes", train=4, dev=2, test=1, size=32, progress=False)
    make_cache(data, folder / "new.h5", flip=True)


def _read_features(path: Path) -> None:
    from dlmie.data import Features

    with Features(path) as cache:
        for split, images in cache.splits.items():
            if images:
                cache.read(split, [0, images - 1])
        cache.check_matches({"data": "x", "encoder": {"name": "nobody"}})


def _make_models(folder: Path) -> None:
    from classification_cases import make_data

    from dlmie.captioning import save_model
    from dlmie.classification.model_files import save_model as save_classifier
    from dlmie.data import Normalization, Vocabulary
    from dlmie.data.captions.vocabulary import SPECIAL
    from dlmie.models import QTable, ShowAttendTell, Softmax
    from dlmie.models.agents.agent import Spaces
    from dlmie.reinforcement.model_files import save_model as save_agent

    words = Vocabulary([*SPECIAL, "a", "dog"])
    model = ShowAttendTell((5, 2, 2), words, embedding=2, hidden=2, attention=2)
    save_model(model, folder / "captioner.h5", encoder=None, decoding={"beam": 2})
    data = make_data(folder)
    classifier = Softmax(data.shape, data.classes, normalization=Normalization.of(data))
    save_classifier(classifier, folder / "softmax.h5")
    agent = QTable(Spaces((), 4, 2, "int64"))
    save_agent(agent, folder / "agent.h5", environment="FrozenLake-v1")
    shutil.rmtree(folder / "images")
    shutil.copy(OLD / "model.h5", folder / "old.h5")


def _read_model(path: Path) -> None:
    import dlmie
    from dlmie.cli.commands.inspect import describe

    for read in (lambda: dlmie.load(path), lambda: describe(str(path))):
        try:
            loaded = read()
        except DlmieError:
            continue
        if hasattr(loaded, "decoding"):
            loaded.decoding()


def _make_runs(folder: Path) -> None:
    for name in ("config.json", "log.jsonl", "state.h5"):
        shutil.copy(OLD / "run" / name, folder / name)


def _read_run(path: Path) -> None:
    from dlmie.cli.commands.inspect import describe
    from dlmie.training.checkpoint import Checkpoint
    from dlmie.training.loop import MainLoop
    from dlmie.training.runs import read_config, read_log, resume

    run = path.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(path.parent / "whole", run)
    shutil.copy(path, run / path.name)
    loop = MainLoop(lambda batch: None, lambda epoch, start: [])  # type: ignore[arg-type,return-value]
    for read in (
        lambda: describe(str(run)),
        lambda: (read_config(run), read_log(run)),
        lambda: Checkpoint(run / "state.h5", {}).restore(loop),
        lambda: resume(run, progress=False),
    ):
        try:
            read()
        except DlmieError:
            continue


def _make_manifests(folder: Path) -> None:
    for place in (
        *OLD.glob("*.json"),
        *sorted((GOLDEN.parents[1] / "docs/gallery").glob("*.json")),
    ):
        if '"picture"' in place.read_text(encoding="utf-8"):
            shutil.copy(place, folder)


def _read_manifest(path: Path) -> None:
    from unittest import mock

    from small_networks import Small

    from dlmie.captioning import figures
    from dlmie.visualize import reproduction
    from dlmie.visualize.figures.manifests import image_paths, read_manifest

    described = read_manifest(path)
    image_paths(described)
    # Up to where the picture would be made, which takes long and is tested elsewhere.
    stubs = {name: _stub(make) for name, make in reproduction._PICTURES.items()}
    for read in (
        lambda: reproduction.reproduce(path, Small(), images=_Any()),
        lambda: figures.reproduce_attention(described, image=np.zeros((8, 8, 3), np.uint8)),
    ):
        try:
            with (
                mock.patch.dict(reproduction._PICTURES, stubs),
                mock.patch.object(reproduction, "_check_model"),
                mock.patch.object(figures, "load", side_effect=DlmieError("no model")),
            ):
                read()
        except DlmieError:
            continue


def _stub(make: Callable[..., Any]) -> Callable[..., None]:
    """A function of the same arguments that makes nothing."""

    @functools.wraps(make)
    def stub(*_: object, **__: object) -> None:
        return None

    return stub


class _Any(dict):
    """An image for whatever is asked for."""

    def get(self, key: object, default: object = None) -> object:
        return np.zeros((16, 16, 3), np.uint8)


# Files of others


def _pictures(folder: Path, names: list[str]) -> None:
    import PIL.Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    for name in names:
        PIL.Image.fromarray(pixels).save(folder / name)


def _make_images(folder: Path) -> None:
    import PIL.Image

    _pictures(folder, ["a.png", "a.jpg", "a.bmp", "a.gif", "a.tif", "a.webp", "a.ppm", "a.tga"])
    gray = np.random.default_rng(0).integers(0, 65536, (7, 5), np.uint16)
    PIL.Image.fromarray(gray).save(folder / "deep.png")
    PIL.Image.fromarray(gray).save(folder / "deep.tif", compression="tiff_lzw")
    palette = PIL.Image.open(folder / "a.png").convert("P")
    palette.save(folder / "palette.png", transparency=3)


def _read_image(path: Path) -> None:
    from dlmie.data.images import image_size, load_image, load_with_alpha

    image_size(path)
    for read in (load_image, load_with_alpha, lambda p: load_image(p, 8)):
        try:
            read(path)
        except DlmieError:
            continue


def _make_weights(folder: Path) -> None:
    import h5py

    for path in (GOLDEN / "weights").iterdir():
        if path.stat().st_size < 100_000:
            shutil.copy(path, folder)
    np.savez(folder / "a.npz", W=np.ones((2, 3)), b=np.zeros(3))
    np.save(folder / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    with h5py.File(folder / "keras.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file.attrs["backend"] = b"theano"
        file.create_group("conv").attrs["weight_names"] = [b"conv/kernel:0"]
        file["conv/conv/kernel:0"] = np.ones((3, 3, 2, 2))


def _read_weights(path: Path) -> None:
    from dlmie.weights import read

    read(path)


def _make_rows(folder: Path) -> None:
    item = '[\n  {\n    "image": "a.jpg",\n    "caption": "a dog"\n  }\n]\n'
    (folder / "captions.json").write_text(item)
    (folder / "captions.csv").write_text("image,rank,caption\na.jpg,1,a dog\n")
    (folder / "captions.txt").write_text("a.jpg: a dog\nb.jpg: a cat\n")


def _read_rows(path: Path) -> None:
    from dlmie.files.outputs import kind_of
    from dlmie.files.rows import JsonList, Row, RowFile, Table, Text

    forms = {".json": JsonList(), ".csv": Table(["image", "rank", "caption"]), ".txt": Text()}
    kind_of(path)
    row = Row("b.jpg", {"image": "b.jpg", "caption": "x"}, "b.jpg: x", [["b.jpg", 1, "x"]])
    for unfinished in (False, True):
        target = path.parent / f"rows{path.suffix}"
        for left in path.parent.glob("rows*"):
            left.unlink()
        shutil.copy(path, f"{target}.part" if unfinished else target)
        try:
            rows = RowFile(target, forms[path.suffix], settings={} if not unfinished else {"a": 1})
            if "b.jpg" not in rows:
                rows.add(row)
            rows.finish()
        except DlmieError:
            continue


TARGETS = {
    "captions": Target(_make_captions, _read_captions, (".json", ".csv", ".tsv", ".jsonl", ".txt")),
    "prepared": Target(_make_prepared, _read_prepared, (".h5",)),
    "labelled": Target(_make_labelled, _read_labelled, (".h5",)),
    "features": Target(_make_features, _read_features, (".h5",)),
    "models": Target(_make_models, _read_model, (".h5",)),
    "runs": Target(_make_runs, _read_run, (".json", ".jsonl", ".h5")),
    "manifests": Target(_make_manifests, _read_manifest, (".json",)),
    "images": Target(
        _make_images, _read_image, (".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".tga")
    ),
    "weights": Target(
        _make_weights, _read_weights, (".h5", ".npz", ".npy", ".pth", ".pt", ".safetensors")
    ),
    "rows": Target(_make_rows, _read_rows, (".json", ".csv", ".txt")),
}


def read_damaged(name: str, folder: Path, number: int) -> str | None:
    """Read the damaged file of a number; return the traceback of an error that is not dlmie's."""
    target, rng = TARGETS[name], random.Random(f"{name} {number}")
    whole = [p for p in sorted((folder / "whole").iterdir()) if p.suffix in target.suffixes]
    source = rng.choice(whole)
    path = Path(shutil.copy(source, folder / source.name))
    damage(path, rng)
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except DlmieError:
        pass
    except Exception:
        return traceback.format_exc()
    finally:
        path.unlink(missing_ok=True)
    return None


def main(name: str, place: str, first: str, count: str) -> None:
    folder = Path(place)
    if not (folder / "whole").exists():
        (folder / "whole").mkdir(parents=True)
        TARGETS[name].make(folder / "whole")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + BYTES, resource.RLIM_INFINITY))
    for number in range(int(first), int(first) + int(count)):
        print("reading", number, flush=True)
        error = read_damaged(name, folder, number)
        if error is not None:
            print(json.dumps({"number": number, "error": error}), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
