"""Readers to be given damaged files: for each, whole files, and how to damage and to read them.

``python fuzz_targets.py TARGET FOLDER FIRST COUNT`` reads so many damaged files, each drawn from
its number, and prints a line for each error that is not dlmie's own. It ends by itself where one of
them takes more than ten seconds of processor time or two minutes, or more memory than 2 GB.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import re
import resource
import shutil
import signal
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
PATIENCE = 120  # seconds for each file: what waits takes no processor time

Reading = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes
    ----------
    make : callable
        Puts whole files into a folder. Each of them is read in one of the ways at least, and in
        each way one of them, so that damage is what keeps them from being read.
    readings : tuple of callable
        The ways to read one of them.
    suffixes : tuple of str
        Of the files that are damaged.
    refused : frozenset of str
        Names of whole files that are read, and then refused: they are of what is not here.
    """

    make: Callable[[Path], object]
    readings: tuple[Reading, ...]
    suffixes: tuple[str, ...]
    refused: frozenset[str] = frozenset()

    def read(self, path: Path) -> None:
        """Read a file in every way; errors of dlmie are as they should be."""
        for reading in self.readings:
            with contextlib.suppress(DlmieError):
                reading(path)

    def whole(self, folder: Path) -> list[Path]:
        """The files of a folder that are damaged."""
        return [path for path in sorted(folder.iterdir()) if path.suffix in self.suffixes]


class Reached(DlmieError):
    """What a reading leads to, where that is left out: it takes long, or needs other files."""


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
    written["boxes.json"] = {
        "images": [{**image, "width": 12, "height": 9} for image in written["coco.json"]["images"]],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4]}],
        "categories": [{"id": 1, "name": "dog"}],
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


def _survey(path: Path) -> None:
    from dlmie.data.captions.checking import survey

    survey([path], images=path.parent / "whole", progress=False, min_count=1)


def _survey_boxes(path: Path) -> None:
    from dlmie.data.captions.checking import survey

    whole = path.parent / "whole"
    survey([whole / "mapping.json"], images=whole, boxes=[path], progress=False)


def _read_candidates(path: Path) -> None:
    from dlmie.captioning.caption_files import read_captions

    read_captions(path, [path.parent / "whole" / "mapping.json"], subset=True)


def _read_references(path: Path) -> None:
    from dlmie.captioning.caption_files import read_captions

    # One caption for each image: such are scored.
    read_captions(path.parent / "whole" / "objects.json", [path], subset=True)


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
        with contextlib.suppress(DlmieError):  # they are of other data
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


def _load_model(path: Path) -> None:
    import dlmie

    loaded = dlmie.load(path)
    if hasattr(loaded, "decoding"):
        loaded.decoding()


def _describe(path: Path) -> None:
    from dlmie.cli.commands.inspect import describe

    describe(str(path))


def _make_runs(folder: Path) -> None:
    for name in ("config.json", "log.jsonl", "state.h5"):
        shutil.copy(OLD / "run" / name, folder / name)


def _run_with(path: Path) -> Path:
    """A run with this file in place of its own."""
    run = path.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(path.parent / "whole", run)
    shutil.copy(path, run / path.name)
    return run


def _describe_run(path: Path) -> None:
    _describe(_run_with(path))


def _read_config_and_log(path: Path) -> None:
    from dlmie.training.runs import read_config, read_log

    run = _run_with(path)
    read_config(run)
    read_log(run)


def _restore(path: Path) -> None:
    from dlmie.files import containers
    from dlmie.training.checkpoint import Checkpoint, KeptArray
    from dlmie.training.loop import MainLoop

    _, arrays = containers.load(path.parent / "whole" / "state.h5")
    names = {name: name.replace("/optimiser/", "/optimizer/") for name in arrays}
    state = {names[name]: KeptArray(array.copy()) for name, array in arrays.items()}
    loop = MainLoop(lambda batch: None, lambda epoch, start: [])  # type: ignore[arg-type,return-value]
    Checkpoint(_run_with(path) / "state.h5", state).restore(loop)


def _resume(path: Path) -> None:
    from unittest import mock

    from dlmie.training import registry
    from dlmie.training.runs import resume

    captioning = type(registry.task("captioning"))
    with mock.patch.object(captioning, "build", side_effect=Reached("training")):
        resume(_run_with(path), data=OLD / "scenes.h5", progress=False)


def _make_manifests(folder: Path) -> None:
    gallery = GOLDEN.parents[1] / "docs" / "gallery"
    saliency = []
    for place in (*OLD.glob("*.json"), *sorted(gallery.glob("*.json"))):
        text = place.read_text(encoding="utf-8")
        if '"picture"' not in text or '"faithfulness"' in text:  # which cannot be reproduced
            continue
        # The layers of a network that is quickly made.
        text = re.sub(r'"(block\d+|head|fire\d+|conv\d_\d)[^"]*"', '"conv2"', text)
        (folder / place.name).write_text(text, encoding="utf-8")
        if (manifest := json.loads(text))["picture"] == "saliency":
            saliency.append(manifest)
    rows = {**saliency[0], "picture": "saliency_rows", "images": {}}
    rows["arguments"] = {"rows": saliency, "titles": ["a", "b"], "colours": "hot"}
    (folder / "rows.json").write_text(json.dumps(rows))


def _reproduce(path: Path) -> None:
    from unittest import mock

    from small_networks import Small

    from dlmie.visualize import reproduction
    from dlmie.visualize.figures.manifests import image_paths, read_manifest

    described = read_manifest(path)
    image_paths(described)
    # Up to where the picture would be made, which takes long and is tested elsewhere.
    stubs = {name: _stub(make) for name, make in reproduction._PICTURES.items()}
    with (
        mock.patch.dict(reproduction._PICTURES, stubs),
        mock.patch.object(reproduction, "saliency_rows", _stub(reproduction.saliency_rows)),
        mock.patch.object(reproduction, "describe_model", return_value=described["network"]),
    ):
        reproduction.reproduce(path, Small(), images=_Any())


def _reproduce_attention(path: Path) -> None:
    from unittest import mock

    from dlmie.captioning import figures
    from dlmie.visualize.figures.manifests import read_manifest

    with mock.patch.object(figures, "load", side_effect=Reached("a captioner")):
        figures.reproduce_attention(read_manifest(path), image=np.zeros((8, 8, 3), np.uint8))


def _stub(make: Callable[..., Any]) -> Callable[..., None]:
    """A function of the same arguments that makes nothing."""

    @functools.wraps(make)
    def stub(*_: object, **__: object) -> None:
        return None

    return stub


class _Any(dict):
    """An image for whatever is asked for."""

    def __bool__(self) -> bool:
        return True

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


def _image_size(path: Path) -> None:
    from dlmie.data.images import image_size

    image_size(path)


def _load_image(path: Path) -> None:
    from dlmie.data.images import load_image

    load_image(path)


def _load_with_alpha(path: Path) -> None:
    from dlmie.data.images import load_with_alpha

    load_with_alpha(path)


def _load_small(path: Path) -> None:
    from dlmie.data.images import load_image

    load_image(path, 8)


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


def _read_complete(path: Path) -> None:
    from dlmie.files.outputs import kind_of

    kind_of(path)
    _add_row(path, "")


def _read_unfinished(path: Path) -> None:
    _add_row(path, ".part")


def _add_row(path: Path, ending: str) -> None:
    """Add a row to a file that is there under a name with this ending."""
    from dlmie.files.rows import JsonList, Row, RowFile, Table, Text

    forms = {".json": JsonList(), ".csv": Table(["image", "rank", "caption"]), ".txt": Text()}
    target = path.parent / f"rows{path.suffix}"
    for left in path.parent.glob("rows*"):
        left.unlink()
    shutil.copy(path, f"{target}{ending}")
    rows = RowFile(target, forms[path.suffix], settings={})
    if "b.jpg" not in rows:
        rows.add(Row("b.jpg", {"image": "b.jpg", "caption": "x"}, "b.jpg: x", [["b.jpg", 1, "x"]]))
    rows.finish()


def _make_arrays(folder: Path) -> None:
    names = ["0.jpg", "1.jpg"]
    for kind in (np.savez, np.savez_compressed):
        kind(folder / f"{kind.__name__}.npz", **{name: np.ones((2, 3)) for name in names})
    np.save(folder / "a.npy", np.arange(12, dtype=np.float32).reshape(2, 6))
    (folder / "names.list").write_text("\n".join(names))


def _read_arrays(path: Path) -> None:
    from dlmie.data.captions.given_features import named_arrays

    names = path.parent / "whole" / "names.list"
    for array in named_arrays(path, names if path.suffix == ".npy" else None).values():
        array.sum()


TARGETS = {
    "captions": Target(
        _make_captions,
        (_survey, _survey_boxes, _read_candidates, _read_references),
        (".json", ".csv", ".tsv", ".jsonl", ".txt"),
    ),
    "prepared": Target(_make_prepared, (_read_prepared,), (".h5",)),
    "labelled": Target(_make_labelled, (_read_labelled,), (".h5",)),
    "features": Target(_make_features, (_read_features,), (".h5",)),
    "models": Target(_make_models, (_load_model, _describe), (".h5",)),
    "runs": Target(
        _make_runs,
        (_describe_run, _read_config_and_log, _restore, _resume),
        (".json", ".jsonl", ".h5"),
    ),
    "manifests": Target(
        _make_manifests,
        (_reproduce, _reproduce_attention),
        (".json",),
        # Of a larger network, of a captioner, of an image that is absent.
        refused=frozenset({"classes.json", "inversion_filter.json", "rows.json", "sentence.json"}),
    ),
    "images": Target(
        _make_images,
        (_image_size, _load_image, _load_with_alpha, _load_small),
        (".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".tga"),
    ),
    "weights": Target(
        _make_weights, (_read_weights,), (".h5", ".npz", ".npy", ".pth", ".pt", ".safetensors")
    ),
    "rows": Target(_make_rows, (_read_complete, _read_unfinished), (".json", ".csv", ".txt")),
    "arrays": Target(_make_arrays, (_read_arrays,), (".npz", ".npy")),
}


def read_damaged(name: str, folder: Path, number: int) -> str | None:
    """Read the damaged file of a number; return the traceback of an error that is not dlmie's."""
    target, rng = TARGETS[name], random.Random(f"{name} {number}")
    source = rng.choice(target.whole(folder / "whole"))
    path = Path(shutil.copy(source, folder / source.name))
    damage(path, rng)
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    signal.alarm(PATIENCE)  # which ends the process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except Exception:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
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
