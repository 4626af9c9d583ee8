"""Networks for the tests of pictures, made once."""

from __future__ import annotations

from typing import Any

import pytest
from small_networks import Small


@pytest.fixture(scope="session")
def small() -> Small:
    """A small network in float64."""
    return Small("float64")


@pytest.fixture(scope="session")
def small32() -> Small:
    """The same in float32."""
    return Small("float32")


@pytest.fixture(scope="session")
def efficientnet() -> Any:
    """EfficientNet-Lite0 with its real weights, for images of any size."""
    from dlmie.models import EfficientNetLite0

    return EfficientNetLite0()
