"""What the features of an encoder are known by, and the encoder made again from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlmie.captioning.features import (
    encoder_from_header,
    encoder_header,
    feature_path,
    features_of,
)
from dlmie.data.captions.feature_cache import differences
from dlmie.models import EfficientNetLite0
from dlmie.models.encoders.image_network import ImageNetwork


class _Data:
    path = Path("photographs.h5")


@pytest.fixture(scope="module")
def fine() -> ImageNetwork:
    return EfficientNetLite0(size=64, output_stride=16)


@pytest.fixture(scope="module")
def coarse() -> ImageNetwork:
    return EfficientNetLite0(size=64)


def test_a_finer_grid_comes_back_from_its_header(fine: ImageNetwork) -> None:
    header = encoder_header(fine, "block15")
    assert header["options"] == {"output_stride": 16}
    again = encoder_from_header(header)
    assert again["block15"].type.shape == (None, 320, 4, 4)


def test_an_encoder_without_options_has_the_header_of_before(coarse: ImageNetwork) -> None:
    assert set(encoder_header(coarse, "block15")) == {
        "name", "layer", "size", "weights", "preprocessing",
    }  # fmt: skip


def test_features_of_another_stride_are_told_apart(
    fine: ImageNetwork, coarse: ImageNetwork
) -> None:
    made, plain = (encoder_header(network, "block15") for network in (fine, coarse))
    for header, other in ((made, plain), (plain, made)):
        wanted = features_of(header, "data", 64)["encoder"]
        assert not differences(header, wanted)
        (line,) = differences(other, wanted)
        assert "options" in line
    assert feature_path(_Data, made) != feature_path(_Data, plain)  # type: ignore[arg-type]


def test_random_encoders_of_two_seeds_do_not_share_features() -> None:
    one, again, other = (
        encoder_header(EfficientNetLite0(size=64, weights=None, seed=seed), "block5")
        for seed in (1, 1, 2)
    )
    cache = features_of(one, "data", 64)
    assert differences(cache, features_of(again, "data", 64)) == []
    assert differences(cache, features_of(other, "data", 64))[0].startswith("encoder.drawn is ")
    data: Any = _Data()
    assert len({feature_path(data, header) for header in (one, again, other)}) == 2
    # Version 0.1 did not say which random weights: its runs go on with the features they had.
    old = {key: value for key, value in one.items() if key != "drawn"}
    assert differences(features_of(old, "data", 64), features_of(old, "data", 64)) == []
    assert differences(cache, features_of(old, "data", 64)) == []


def test_a_preprocessing_of_ones_own_comes_back(tmp_path: Path) -> None:
    path = EfficientNetLite0(size=64, weights=None).save(tmp_path / "weights.h5")
    chosen = EfficientNetLite0(path, size=64, preprocessing="caffe")
    plain = EfficientNetLite0(path, size=64)
    header = encoder_header(chosen, "block5")
    assert encoder_from_header(header).preprocessing == chosen.preprocessing
    wanted = features_of(header, "data", 64)["encoder"]
    assert differences(encoder_header(plain, "block5"), wanted)
    # What training saw counts, whatever a later dlmie would assume of the file.
    seen = {**encoder_header(plain, "block5"), "preprocessing": chosen.preprocessing.to_json()}
    assert encoder_from_header(seen).preprocessing == chosen.preprocessing
