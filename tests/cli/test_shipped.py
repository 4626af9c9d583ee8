"""The captioners that ship: they load, and attention rests on what is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dlmie import captioning
from dlmie.captioning.captioner import DEFAULT, SHIPPED
from dlmie.data.captions.dataset import prepare


@pytest.mark.parametrize("name", SHIPPED)
def test_they_load_and_are_described(name: str, invoke: Any) -> None:
    model = captioning.load(name).model
    assert len(model.vocabulary) > 2500
    said = invoke("inspect", name)
    assert said.exit_code == 0, said.output
    assert f"{len(model.vocabulary):,} words" in said.stdout


@pytest.mark.slow
def test_attention_rests_on_what_is_named(shared: Path, tmp_path: Path) -> None:
    coco = shared / "data" / "coco"
    if not coco.is_dir():
        pytest.skip("no photographs with boxes here")
    # The photographs of the dev split whose things are known.
    document = json.loads((coco / "captions_dev.json").read_text())
    boxes = json.loads((coco / "instances_dev.json").read_text())
    known = {entry["image_id"] for entry in boxes["annotations"]}
    for part, key in (("images", "id"), ("annotations", "image_id")):
        document[part] = [entry for entry in document[part] if entry[key] in known]
    (tmp_path / "captions_train.json").write_text(json.dumps(document))
    data = prepare(
        tmp_path / "captions_train.json",
        to=tmp_path / "boxed.h5",
        images=coco / "images",
        boxes=[coco / "instances_dev.json"],
        size=288,
        min_count=1,
        progress=False,
    )
    scores = captioning.evaluate(DEFAULT, data["train"], progress=False)
    looked = scores.pointing
    assert looked is not None
    assert looked.words > 80
    assert looked.score > 1.9 * looked.chance
    assert looked.brightest > 0.68
    assert looked.entropy < 0.75
    assert looked.naming > 0.6
