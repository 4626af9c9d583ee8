"""Parts of a split for cross-validation: every image is left out once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from classification_cases import make_data

from dlmie.data import LabelledBatches, Normalization
from dlmie.data.labelled.folding import fold
from dlmie.errors import DataError


def test_folds_divide_a_split(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    train = data["train"]
    seen: list[int] = []
    for number in range(7):
        rest, part = fold(train, 7, number)
        assert len(rest) + len(part) == len(train) == 60
        assert set(rest.places).isdisjoint(part.places)
        seen += part.places.tolist()
        np.testing.assert_array_equal(part.labels, train.labels[part.places])
        np.testing.assert_array_equal(part.images, train.images[part.places])
        np.testing.assert_array_equal(part.load_images(np.array([2, 0])), part.images[[2, 0]])
        np.testing.assert_array_equal(part.load_images([1]), part.images[[1]])
        for outside in (-1, len(part)):
            with pytest.raises(DataError, match=f"has images 0..{len(part) - 1}, not {outside}.."):
                part.load_images([outside])
        assert part.names == [train.names[place] for place in part.places]
    assert sorted(seen) == list(range(60))
    assert len({fold(train, 7, number)[1].hash for number in range(7)} | {train.hash}) == 8
    normalization = Normalization.of(data)
    batches = list(LabelledBatches(rest, normalization, batch=20, prefetch=0))
    index = np.concatenate([batch.index for batch in batches])
    assert sorted(index) == list(range(len(rest)))
    first = batches[0]
    expected = normalization(train.images[rest.places[first.index]])
    np.testing.assert_array_equal(first.images, expected)


@pytest.mark.parametrize(
    ("folds", "number", "message"),
    [
        (1, 0, "60 images cannot be divided into 1 folds"),
        (61, 0, "60 images cannot be divided into 61 folds"),
        (5, 5, "there is no fold 5; 5 folds are 0 to 4"),
    ],
)
def test_folds_that_are_not(tmp_path: Path, folds: int, number: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fold(make_data(tmp_path)["train"], folds, number)
