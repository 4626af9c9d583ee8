"""ImageNet's classes: their order, and finding one by number or name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlmie.errors import DlmieError
from dlmie.models.encoders import imagenet


def test_a_thousand_different_names() -> None:
    names = imagenet.classes()
    assert len(names) == len({name.lower() for name in names}) == 1000
    assert all(name == name.strip() != "" for name in names)


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "tench"),
        (134, "crane (bird)"),
        (285, "Egyptian cat"),
        (366, "gorilla"),
        (517, "crane (machine)"),
        (604, "hourglass"),
        (683, "oboe"),
        (999, "toilet tissue"),
    ],
)
def test_known_places(index: int, name: str) -> None:
    assert imagenet.classes()[index] == name


def test_order_is_that_of_the_synsets(shared: Path) -> None:
    lines = (shared / "data/weights/imagenet_synsets.txt").read_text().splitlines()
    synonyms = [line.split(" ", 1)[1].lower().split(", ") for line in lines]
    for name, synset in zip(imagenet.classes(), synonyms, strict=True):
        assert re.sub(r" \(\w+\)$", "", name).lower() in synset


@pytest.mark.parametrize("target", [207, "207", " golden retriever ", "Golden Retriever"])
def test_class_by_number_or_name(target: int | str) -> None:
    assert imagenet.class_index(target) == 207


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        (1000, "0 to 999"),
        (-1, "0 to 999"),
        ("golden retreiver", "did you mean 'golden retriever'"),
        ("crane", "'crane (bird)' or 'crane (machine)'"),
        ("zzzzzz", "use its number"),
        ("flamingoo", "dlmie classify --list shows all 1,000"),
    ],
)
def test_unknown_class_is_explained(target: int | str, hint: str) -> None:
    with pytest.raises(DlmieError, match=re.escape(hint)):
        imagenet.class_index(target)


def test_own_names() -> None:
    assert imagenet.class_index("b", ["a", "b"]) == 1
    with pytest.raises(DlmieError, match=r"there is no class 'c'; use its number \(a, b\)"):
        imagenet.class_index("c", ["a", "b"])
