"""Documents that anyone may have changed: the first wrong key is named, nothing is unexpected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dlmie.captioning.model_files import load
from dlmie.data.captions.dataset import Captions, Record, write_captions
from dlmie.data.captions.extraction import Features, extract_features
from dlmie.data.images import Preprocessing
from dlmie.errors import DataError, DlmieError, WeightsError
from dlmie.files import containers, hdf5
from dlmie.files.schema import Key, check_document
from dlmie.visualize.figures.manifests import read_manifest

KEYS = {
    "name": Key(str),
    "size": Key(int, low=1, high=10),
    "rate": Key(float, low=0, required=False, null=True),
    "training": Key(dict, required=False, keys={"batch": Key(int)}),
    "shape": Key(list, required=False, each=Key(int, low=1)),
    "dtype": Key(str, required=False, among=("float16", "float32")),
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": {"batch": "x"}}, 'training.batch must be a whole number, not "x"'),
        ({"training": {"batch": True}}, "training.batch must be a whole number, not true"),
        ({"training": {}}, "training.batch is missing"),
        ({"training": []}, "training must be a mapping, not []"),
        ({"name": None}, "name must be text, not null"),
        ({"size": 0}, "size must be a whole number from 1 to 10, not 0"),
        ({"size": 1.5}, "size must be a whole number from 1 to 10, not 1.5"),
        ({"rate": float("nan")}, "rate must be a number, at least 0, not NaN"),
        ({"shape": [3, -1]}, "shape.1 must be a whole number, at least 1, not -1"),
        ({"dtype": "f8"}, "dtype must be 'float16' or 'float32', not \"f8\""),
        ({"name": {"x" * 99: 1}}, "name must be text, not "),
    ],
)
def test_the_key_is_named(changes: dict[str, Any], says: str) -> None:
    document = {"name": "n", "size": 3, **changes}
    with pytest.raises(DataError) as caught:
        check_document(document, KEYS, "x.json")
    assert str(caught.value).startswith(f"x.json: {says}")
    assert len(str(caught.value)) < 150


def test_what_is_right_passes() -> None:
    document = {"name": "n", "size": 10, "rate": 1, "training": {"batch": 1, "more": []}}
    assert check_document(document, KEYS, "x.json") is document
    check_document({**document, "rate": None, "shape": [1], "dtype": "float32"}, KEYS, "x.json")
    for value in ([], None, "text", 3):
        with pytest.raises(DataError, match="the document must be a mapping"):
            check_document(value, KEYS, "x.json")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def picture(value: int) -> Any:
        return lambda: np.full((8, 8, 3), value, np.uint8)

    records = [Record(f"{n}.png", picture(n), [f"a dog {n}", "a cat"], "train") for n in range(4)]
    path = tmp_path_factory.mktemp("schema") / "x.h5"
    return write_captions(records, path, size=8, min_count=1, progress=False)


def changed(source: Path, to: Path, **changes: Any) -> Path:
    """A copy with other values in its header, or other arrays in its training split."""
    to.write_bytes(source.read_bytes())
    with h5py.File(to, "r+") as file:
        for name, value in changes.items():
            if name in file.get("splits/train", ()):
                del file[f"splits/train/{name}"]
                if isinstance(value, list):
                    hdf5.create_texts(file["splits/train"], name, value)
                elif value is not None:
                    file[f"splits/train/{name}"] = value
            else:
                header = json.loads(hdf5.read_text(file["header"])) | {name: value}
                del file["header"]
                hdf5.create_text(file, "header", json.dumps(header))
    return to


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "8"), ("size", -1), ("splits", []), ("splits", {"train": 3}),
        ("splits", {"train": {"images": "4", "captions": 8, "hash": ""}}), ("hash", 7),
        ("tokenizer", None), ("folder", 3), ("skipped", ["x"]), ("problems", {}),
    ],
)  # fmt: skip
def test_headers_of_prepared_data(name: str, value: Any, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"x\.h5: {name}.* must be "):
        Captions(changed(prepared, tmp_path / "x.h5", **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_image", np.full(8, 99)), ("token_image", np.full(8, -1)),
        ("token_image", np.zeros(3, int)), ("token_image", np.zeros((4, 2), int)),
        ("token_image", np.zeros(8)), ("token_image", None),
        ("token_offsets", np.arange(9)[::-1]), ("token_offsets", np.full(9, 10**9)),
        ("tokens", np.full(40, 10**6)), ("tokens", np.full(40, -1)),
        ("rows", np.full(4, 99)), ("rows", np.full(4, -1)), ("rows", np.zeros(1, int)),
        ("names", ["a"]), ("references", ["a"]), ("names", np.zeros(4)), ("references", None),
        ("images", np.zeros((4, 3, 3, 3), np.uint8)), ("images", np.zeros((4, 8, 8, 3))),
        ("image_ids", np.zeros(2, int)),
    ],
)  # fmt: skip
def test_data_sets_fit_each_other(name: str, value: Any, prepared: Path, tmp_path: Path) -> None:
    split = Captions(changed(prepared, tmp_path / "x.h5", **{name: value}))["train"]
    with pytest.raises(DataError, match=r"x\.h5.*(damaged|does not fit)|is not UTF-8"):
        _use(split)


def _use(split: Any) -> None:
    assert split.names is not None
    assert split.references
    assert split.tokens
    assert split.image_ids
    split.load_images(range(len(split)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", 3), ("shape", [0]), ("shape", ["6"]), ("splits", {"train": -1}), ("splits", 1),
        ("dtype", "float64"), ("flip", 1), ("crops", "2"), ("data", None),
    ],
)  # fmt: skip
def test_headers_of_features(name: str, value: Any, prepared: Path, tmp_path: Path) -> None:
    with Captions(prepared) as data:
        made = tmp_path / "f.h5"
        extract_features(
            data, lambda x: x.mean(axis=(2, 3)), Preprocessing(8), to=made, progress=False,
            header={"encoder": "mean", "layer": "x", "weights": ""},
        ).close()  # fmt: skip
    with pytest.raises(DataError, match=rf"x\.h5: {name}.* must be "):
        Features(changed(made, tmp_path / "x.h5", **{name: value}))


@pytest.mark.parametrize(
    "header",
    [
        {}, {"kind": 3}, {"config": []}, {"annotation_shape": [1, "2"]}, {"vocabulary": [1]},
        {"vocabulary": {}}, {"encoder": "x"}, {"encoder": {"name": 1}}, {"tokenizer": 5},
    ],
)  # fmt: skip
def test_headers_of_models(header: dict[str, Any], tmp_path: Path) -> None:
    right = {"kind": "show-tell", "config": {}, "annotation_shape": [4], "vocabulary": ["a"]}
    document = {**right, **header} if header else {}
    path = containers.save(tmp_path / "m.h5", {}, document)
    with pytest.raises(WeightsError, match=r"m\.h5: .*(must be|is missing)"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "1"}, {"format": None}, {"format": -1}, {"picture": 3}, {"network": []},
        {"images": "x"}, {"arguments": None}, {"file": 7},
    ],
)  # fmt: skip
def test_manifests(changes: dict[str, Any], tmp_path: Path) -> None:
    document = {"dlmie": "0", "format": 1, "picture": "dream", "network": {}, "images": {},
                "arguments": {}, "results": {}, "file": "a.png", **changes}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document))
    name = next(iter(changes))
    with pytest.raises(DataError, match=rf"a\.json: {name} must be"):
        read_manifest(tmp_path / "a.png")


def test_a_reported_manifest(shared: Path) -> None:
    with pytest.raises(DataError, match=r'man\.json: format must be a whole number.*, not "1"'):
        read_manifest(shared / "cases/inputs/damaged/man.json")


@pytest.mark.parametrize("name", ["deep.json", "bigint.json"])
def test_reported_documents_are_one_line(name: str, shared: Path) -> None:
    with pytest.raises(DlmieError, match=rf"{name}: is not") as caught:
        read_manifest(shared / "cases/inputs/damaged" / name)
    assert "\n" not in str(caught.value)
