"""Boxes of things in photographs: read from COCO's form, found in captions by their names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlmie.data.captions.boxes import add_boxes
from dlmie.data.captions.categories import category_words
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.records import Record
from dlmie.data.images import save_image
from dlmie.errors import DataError

IMAGES = [
    {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100},
    {"id": 8, "file_name": "b.jpg", "width": 50, "height": 50},
]
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "dog"}]


def box(image: Any, category: Any, bbox: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox}


def write(path: Path, annotations: Any = (), **parts: Any) -> Path:
    document = {
        "images": IMAGES,
        "categories": CATEGORIES,
        "annotations": list(annotations),
        **parts,
    }
    path.write_text(json.dumps(document), "utf-8")
    return path


def records(*names: str, **options: Any) -> list[Record]:
    return [Record(name, Path(name), ["a dog"], "train", **options) for name in names]


def test_boxes_are_fractions_of_the_image(tmp_path: Path) -> None:
    path = write(tmp_path / "boxes.json", [box(7, 3, [20, 50, 100, 25])])
    (a, b, c), problems = add_boxes(records("a.jpg", "b.jpg", "c.jpg"), [path])
    assert not problems
    assert a.objects == [
        {"name": "dog", "words": category_words("dog"), "box": [0.5, 0.1, 0.75, 0.6]}
    ]
    assert b.objects == []  # listed: none of the categories is there
    assert c.objects is None  # not listed: not known


@pytest.mark.parametrize("name", ["folder/a.jpg", "a.jpg"])
def test_images_are_found_by_the_name_of_their_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "boxes.json", [box(7, 1, [0, 0, 200, 100])])
    (record,), _ = add_boxes(records(name), [path])
    assert record.objects is not None
    assert record.objects[0]["box"] == [0, 0, 1, 1]


def test_images_are_found_by_their_number(tmp_path: Path) -> None:
    path = write(tmp_path / "boxes.json", [box(8, 1, [0, 0, 25, 50])])
    (record,), _ = add_boxes(records("COCO_train2014_000000000008.jpg", image_id=8), [path])
    assert record.objects is not None
    assert record.objects[0]["box"] == [0, 0, 1, 0.5]


def test_several_files_are_joined(tmp_path: Path) -> None:
    first = write(tmp_path / "first.json", [box(7, 3, [0, 0, 10, 10])], images=IMAGES[:1])
    second = write(tmp_path / "second.json", [box(8, 3, [0, 0, 10, 10])], images=IMAGES[1:])
    found, _ = add_boxes(records("a.jpg", "b.jpg"), [first, second])
    assert [len(record.objects or []) for record in found] == [1, 1]


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (box(99, 1, [0, 0, 9, 9]), "unknown image or category"),
        (box(7, 2, [0, 0, 9, 9]), "unknown image or category"),
        (box(7, [], [0, 0, 9, 9]), "unknown image or category"),
        (box(7, 1, [0, 0, 9]), r"has the box \[0, 0, 9\], not"),
        (box(7, 1, None), "has the box None"),
        (box(7, 1, [0, 0, 0, 9]), "has the box"),
        (box(7, 1, [300, 0, 9, 9]), "has the box"),  # outside the image
        (box(7, 1, [float("nan"), 0, 9, 9]), "has the box"),
        ("dog", "unknown image or category"),
    ],
)
def test_annotations_that_say_nothing_are_named(tmp_path: Path, annotation: Any, said: str) -> None:
    path = write(tmp_path / "boxes.json", [box(7, 1, [0, 0, 9, 9]), annotation])
    (record,), problems = add_boxes(records("a.jpg"), [path])
    assert len(record.objects or []) == 1
    (line,) = problems
    assert line.startswith("boxes.json: annotations[1] ")
    assert re.search(said, line)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a file of boxes"),
        (json.dumps({"images": [], "annotations": []}), "lists of images, annotations, categories"),
        (
            json.dumps({"images": IMAGES, "annotations": {}, "categories": []}),
            "is not a file of boxes",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        add_boxes(records("a.jpg"), [path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        add_boxes(records("a.jpg"), [tmp_path / "none.json"])


def test_boxes_of_other_images_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "boxes.json", [box(7, 1, [0, 0, 9, 9])])
    with pytest.raises(DataError, match=r"boxes\.json: lists none of the images"):
        add_boxes(records("z.jpg"), [path])


def test_prepared_files_hold_them(tmp_path: Path) -> None:
    for name in ("a.jpg", "c.jpg"):
        save_image(tmp_path / name, np.zeros((32, 64, 3), np.uint8))
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"a.jpg": ["a dog"], "c.jpg": ["a dog"]}))
    boxes = write(tmp_path / "boxes.json", [box(7, 3, [0, 0, 100, 100]), box(7, 9, [0, 0, 1, 1])])
    data = Captions.prepare(
        captions,
        to=tmp_path / "data.h5",
        images=tmp_path,
        splits={"train": ["a.jpg", "c.jpg"]},
        boxes=[boxes],
        size=32,
        min_count=1,
        progress=False,
    )
    objects = data["train"].objects
    assert objects is not None
    assert objects[0] is not None
    assert objects[0][0]["box"] == [0, 0, 1, 0.5]
    assert objects[1] is None
    assert data.header["problems"] == [
        "boxes.json: annotations[1] is of an unknown image or category"
    ]


@pytest.mark.parametrize(
    ("category", "some"),
    [
        ("person", {"man", "women", "child", "player", "people", "persons"}),
        ("motorcycle", {"motorcycle", "motorbike", "bike"}),
        ("sports ball", {"ball", "football"}),
        ("bus", {"bus", "buses"}),
        ("fire hydrant", {"hydrant"}),
        ("toaster", {"toaster", "toasters"}),
        ("washing machine", {"machine", "machines"}),  # none of COCO's
    ],
)
def test_words_of_categories(category: str, some: set[str]) -> None:
    words = category_words(category)
    assert some <= set(words)
    assert all(word.isalpha() and word == word.lower() for word in words)
