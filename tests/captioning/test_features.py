"""What the features of an encoder are known by, and the encoder made again from that."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlmie.captioning.features import (
    encoder_from_header,
    encoder_header,
    feature_path,
    features_of,
)
from dlmie.data.captions.feature_cache import differences
from dlmie.models import EfficientNetLite0
from dlmie.models.encoders.image_network import Classifier


class _Data:
    path = Path("photographs.h5")


@pytest.fixture(scope="module")
def fine() -> Classifier:
    return EfficientNetLite0(size=64, output_stride=16)


@pytest.fixture(scope="module")
def coarse() -> Classifier:
    return EfficientNetLite0(size=64)


def test_a_finer_grid_comes_back_from_its_header(fine: Classifier) -> None:
    header = encoder_header(fine, "block15")
    assert header["options"] == {"output_stride": 16}
    again = encoder_from_header(header)
    assert again["block15"].type.shape == (None, 320, 4, 4)


def test_an_encoder_without_options_has_the_header_of_before(coarse: Classifier) -> None:
    assert set(encoder_header(coarse, "block15")) == {
        "name", "layer", "size", "weights", "preprocessing",
    }  # fmt: skip


def test_features_of_another_stride_are_told_apart(fine: Classifier, coarse: Classifier) -> None:
    made, plain = (encoder_header(network, "block15") for network in (fine, coarse))
    for header, other in ((made, plain), (plain, made)):
        wanted = features_of(header, "data", 64)["encoder"]
        assert not differences(header, wanted)
        (line,) = differences(other, wanted)
        assert "options" in line
    assert feature_path(_Data, made) != feature_path(_Data, plain)  # type: ignore[arg-type]
