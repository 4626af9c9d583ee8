"""Model files of generators: what is saved is loaded, and what is damaged is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlmie
from dlmie.errors import WeightsError
from dlmie.files import containers
from dlmie.generation import load, save_model
from dlmie.models import VanillaGAN


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = VanillaGAN((4, 4, 3), latent=3, seed=1)
    return save_model(model, tmp_path_factory.mktemp("gan") / "m.h5", meta={"recipe": "mine"})


def test_exactly_what_was_saved(file: Path) -> None:
    model, again = VanillaGAN((4, 4, 3), latent=3, seed=1), dlmie.load(file)
    assert again.config == model.config
    for one, other in zip(model.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(one.get_value(), other.get_value())
    assert containers.load_header(file)["meta"] == {"recipe": "mine"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"kind": "softmax"}, "is not a generator but a softmax"),
        ({"shape": None}, "shape must be a list of 3 values, not null"),
        ({"shape": [4, 4]}, "shape must be a list of 3 values"),
        ({"config": []}, "config must be a mapping"),
        ({"config": {"depth": 3}}, "damaged description"),
        ({"config": {"latent": 0}}, "damaged description"),
        ({"shape": [4, 8, 3]}, r"m\.h5"),
    ],
)
def test_a_damaged_header(file: Path, tmp_path: Path, damage: dict[str, Any], message: str) -> None:
    header, arrays = containers.load(file)
    containers.save(tmp_path / "m.h5", arrays, {**header, **damage})
    with pytest.raises(WeightsError, match=message):
        load(tmp_path / "m.h5")
