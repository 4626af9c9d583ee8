"""Names of splits as people write them, and exact shares where nobody names one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlmie.data.splits import SPLITS, divide, parse_shares, resolve_split, splits_in_name
from dlmie.errors import DataError


@pytest.mark.parametrize(
    ("values", "split"),
    [
        (("train", "Train", " TRAIN ", "training", "train2014", "restval", "train_set"), "train"),
        (("dev", "VAL", "Valid", "validation", "val 2017", "development", "Validation-Set"), "dev"),
        (("test", "Test\t", "TESTING", "test-dev", "evaluation", "ｔｅｓｔ"), "test"),
        (("Night Shots",), "night_shots"),
        (("", "  ", None, float("nan"), "NaN", "None", "n/a", "-"), None),
    ],
)
def test_values(values: tuple[object, ...], split: str | None) -> None:
    assert [resolve_split(value) for value in values] == [split] * len(values)


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        *(
            (name, {"train"})
            for name in ("captions_train2014", "trainImages", "TRAIN", "COCOTrain")
        ),
        *((name, {"dev"}) for name in ("captions_valid", "validation-v2", "my.val.2", "DevSet")),
        *((name, {"test"}) for name in ("test", "image_info_test-dev2017", "captionsTest")),
        *((name, set()) for name in ("latest", "contest_2024", "restrain", "valley", "étrain")),
        ("train_val", {"train", "dev"}),
    ],
)
def test_names_of_files(name: str, splits: set[str]) -> None:
    assert splits_in_name(name) == splits


def counts(found: dict[str, str]) -> list[int]:
    return [list(found.values()).count(split) for split in SPLITS]


class TestShares:
    @pytest.mark.parametrize(
        ("images", "expected"),
        [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (10, [8, 1, 1]), (200, [160, 20, 20])],
    )
    def test_they_are_exact(self, images: int, expected: list[int]) -> None:
        assert counts(divide(map(str, range(images)))) == expected

    @given(
        st.integers(3, 400),
        st.lists(st.floats(0.1, 9), min_size=2, max_size=3),
        st.integers(0, 9),
    )
    def test_no_split_is_off_by_more_than_one(
        self, images: int, shares: list[float], seed: int
    ) -> None:
        found = counts(divide(map(str, range(images)), shares=shares, seed=seed))
        assert sum(found) == images
        exact = [images * share / sum(shares) for share in [*shares, 0][:3]]
        # At most one more where a share would else have got nothing.
        assert all(abs(a - b) < 3 for a, b in zip(found, exact, strict=True))
        assert all(count > 0 for count, share in zip(found, shares, strict=False) if share)

    def test_the_order_of_the_images_does_not_matter_but_the_seed_does(self) -> None:
        names = [f"{number}.jpg" for number in range(60)]
        first = divide(names)
        assert divide(reversed(names)) == first
        assert divide(names, seed=1) != first
        assert counts(divide(names, seed=1)) == counts(first)

    def test_images_of_a_group_stay_together(self) -> None:
        names = [f"{number}.jpg" for number in range(200)]
        groups = {name: str(int(name[:-4]) // 7) for name in names[:190]}
        found = divide(names, groups=groups)
        for group in set(groups.values()):
            assert len({found[name] for name in groups if groups[name] == group}) == 1
        assert all(abs(a - b) <= 7 for a, b in zip(counts(found), [160, 20, 20], strict=True))

    @pytest.mark.parametrize("shares", [(), (1,), (0, 1, 1), (1, -1), (1, 1, 1, 1), (1, 1e999)])
    def test_bad_shares(self, shares: tuple[float, ...]) -> None:
        with pytest.raises(DataError, match="80 10 10"):
            parse_shares(shares)
