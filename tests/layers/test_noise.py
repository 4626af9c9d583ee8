"""Seeds of every size begin streams of their own, and none goes below zero or runs out."""

from __future__ import annotations

import numpy as np
import pytest

from dlmie.errors import DlmieError
from dlmie.layers.noise import Noise

SEEDS = [0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32, 2**33, 2**63 - 1, 2**63, 2**64 - 1]


def test_seeds_of_64_bits() -> None:
    keys = [int(Noise(seed).key.get_value()) for seed in SEEDS]
    assert keys[:3] == [0, 2**32, (2**31 - 1) << 32]  # as version 0.1 had them
    assert len(set(keys)) == len(SEEDS)
    assert min(keys) >= 0  # NumPy's generators, which self-critical training seeds, take no other
    assert max(keys) <= np.iinfo(np.int64).max - 2**32 + 1


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_other_seeds_are_refused(seed: int) -> None:
    with pytest.raises(DlmieError, match=r"the seed must be from 0 to 2\*\*64 - 1"):
        Noise(seed)
