"""A captioner that takes weights of its encoder has them in new, resumed and saved runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioning_cases import make_data, make_step

from dlmie import captioning
from dlmie.captioning.features import make_features
from dlmie.captioning.model_files import save_model
from dlmie.captioning.objectives.self_critical import SelfCritical
from dlmie.captioning.planning import plan
from dlmie.data.captions.dataset import Captions
from dlmie.errors import DlmieError
from dlmie.models import EfficientNetLite0, ShowAttendTell
from dlmie.training.runs import resume, train
from dlmie.training.settings import Settings

HEAD = {"global_context": 4, "global_head": 1280}
OPTIONS: dict[str, Any] = {"epochs": 1, "batch": 16, "decoding": {"beam": 1}, "progress": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Captions:
    return make_data(tmp_path_factory.mktemp("head"))


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0(size=32, output_stride=16)


@pytest.fixture(scope="module")
def kept(data: Captions, network: EfficientNetLite0) -> Path:
    path = data.path.with_name("block15.h5")
    make_features(data, network, "block15", to=path, progress=False)
    return path


def test_the_head_comes_from_the_encoder_of_kept_features(
    data: Captions, network: EfficientNetLite0, kept: Path
) -> None:
    sizes = {"embedding": 8, "hidden": 12, "attention": 6}
    # The layer and the stride need not be said again: the features know them.
    settings = Settings(model="show-attend-tell", config={**sizes, **HEAD})
    step = plan(settings, data, features=kept).step
    step.progress = False
    head = network.head_on("block15")
    assert head is not None

    def check(model: Any) -> None:
        for parameter, value in zip(model.copied, head, strict=True):
            np.testing.assert_allclose(parameter.get_value(), value, rtol=1e-3, atol=1e-3)

    check(step.model)
    run = train(step, data, to=data.path.with_name("run"), features=kept, **OPTIONS)
    check(captioning.load(run.folder).model)
    again = resume(run.folder, epochs=2, progress=False)
    assert again.folder == run.folder
    check(captioning.load(again.folder).model)


def test_a_model_made_from_a_shape_has_no_head_to_take(
    data: Captions, kept: Path, tmp_path: Path
) -> None:
    step = make_step(data, (320, 2, 2), attend=True, model_options=HEAD)
    with pytest.raises(DlmieError, match=r"global_head takes weights of the encoder: make the mod"):
        train(step, data, to=tmp_path / "run", features=kept, **OPTIONS)


def test_training_goes_on_without_words_of_classes(
    data: Captions, network: EfficientNetLite0, kept: Path, tmp_path: Path
) -> None:
    sizes = {"embedding": 8, "hidden": 12, "attention": 6, "class_words": 0.5}
    model = ShowAttendTell(network["block15"], data.vocabulary, **HEAD, **sizes)
    header = captioning.encoder_header(network, "block15")
    save_model(model, tmp_path / "named.h5", encoder=header)
    notes: list[str] = []
    settings = Settings(model="show-attend-tell", start=str(tmp_path / "named.h5"))
    step = plan(settings, data, features=kept, note=notes.append).step
    assert not step.model.config["class_words"]
    assert "--class-words 0.5" in notes[0]
    mine = {p.name: p.get_value() for p in model.parameters}
    for parameter in step.model.parameters:
        np.testing.assert_array_equal(parameter.get_value(), mine[parameter.name])
    asked = replace(settings, config={"class_words": 0.5})
    with pytest.raises(DlmieError, match=r"goes without class_words: .* dlmie export"):
        plan(asked, data, features=kept)
    with pytest.raises(DlmieError, match="draws captions without class_words"):
        SelfCritical(model, references=data["train"].references)
