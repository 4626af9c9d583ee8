"""Which split an image belongs to: names as people write them, and exact shares.

The one place that knows how splits are called: in a column, as a key, in the name of a file, on the
command line.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

from dlmie.errors import DataError

#: The splits that dlmie itself uses, in their order.
SPLITS = ("train", "dev", "test")

#: Shares of the images where nothing names a split: train, dev, test.
SHARES = (80.0, 10.0, 10.0)

# Every usual name, in lower case, without separators and digits.  COCO's "minival" and Karpathy's
# "restval" are halves of the validation images; everybody trains on the second.
_NAMES = {
    "train": ("train", "training", "trainval", "restval", "valminusminival"),
    "dev": ("dev", "devel", "development", "val", "valid", "validation", "minival"),
    "test": ("test", "testing", "eval", "evaluation", "heldout", "holdout", "testdev"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}
_ENDS = re.compile(r"(?:set|split)$")  # testset, train_split

# What a table holds where it holds nothing.
_NOTHING = frozenset({"", "-", "?", "na", "n/a", "nan", "none", "null"})


def resolve_split(value: object) -> str | None:
    """Give the split that a value names, as a column or an option has it.

    Case, blanks around it, separators and the digits at its end do not matter for the usual names:
    ``Train``, ``VAL2014`` and ``validation`` are ``train``, ``dev`` and ``dev``.  Another name is
    kept, in lower case.  Nothing (``""``, ``None``, ``nan``) names no split.

    Examples
    --------
    >>> [resolve_split(value) for value in (" VALID ", "train2014", "Night shots", "")]
    ['dev', 'train', 'night_shots', None]
    """
    if value is None or (isinstance(value, float) and value != value):
        return None
    text = unicodedata.normalize("NFKC", str(value)).strip().casefold()
    if text in _NOTHING:
        return None
    return _usual(re.sub(r"[\W_]+|\d+$", "", text)) or re.sub(r"\s+", "_", text)


def name_of_split(name: object, splits: Collection[str]) -> str:
    """A split of a data set by any of its usual names, unless one is called just so.

    Examples
    --------
    >>> name_of_split("val", ["train", "dev"]), name_of_split("val", ["train", "val"])
    ('dev', 'val')
    """
    return str(name) if name in splits else resolve_split(name) or str(name)


def names_of(split: str) -> tuple[str, ...]:
    """All usual names of a split, in lower case; of another one its own."""
    return _NAMES.get(split, (split,))


def _usual(word: str) -> str | None:
    return _SPLIT_OF.get(word) or _SPLIT_OF.get(_ENDS.sub("", word))


def splits_in_name(name: str) -> set[str]:
    """Give the splits that the name of a file mentions, in whole words.

    A word ends where letters end and where a capital follows small letters; so ``latest.json`` and
    ``contest.json`` mention none.

    Examples
    --------
    >>> names = ("captions_valid.json", "trainImages.txt", "latest.json", "train_val.json")
    >>> [sorted(splits_in_name(name)) for name in names]
    [['dev'], ['train'], [], ['dev', 'train']]
    """
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])", " ", text)
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+", text)]
    joined = "".join(f" {word}" for word in words)
    if " test dev" in joined:  # one split of COCO's
        return {"test"}
    return {split for split in map(_usual, words) if split}


def in_order(splits: Iterable[str]) -> list[str]:
    """Splits in the order in which people expect them: train, dev, test, then others by name."""
    return sorted(splits, key=lambda s: (SPLITS.index(s) if s in SPLITS else len(SPLITS), s))


def parse_shares(shares: Sequence[float]) -> tuple[float, ...]:
    """Check shares of train, dev and test; they need not sum to one.

    Raises
    ------
    DataError
        Unless there are two or three, none is negative and that of train is above zero.
    """
    values = tuple(float(share) for share in shares)
    good = len(values) in (2, 3) and all(0 <= share < float("inf") for share in values)
    if not good or not values[0]:
        raise DataError(
            f"shares are two or three numbers, of train, dev and test, such as 80 10 10; "
            f"not {' '.join(map(str, shares))}"
        )
    return (*values, 0.0)[:3]


def divide(
    names: Iterable[str],
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Divide images among train, dev and test by exact shares.

    The order is drawn from the hashes of the names and the seed: it does not depend on the order
    in which the images come, and with seed 0 it is that of dlmie 0.1.0, whose shares were
    approximate.  Images of one group stay together; shares are then as near as groups allow.

    Parameters
    ----------
    names
        The images.
    shares
        Of train, dev and test; they need not sum to one.
    seed
        Another seed is another division.
    groups
        Group of an image by its name; an image that is not there is a group of its own.

    Returns
    -------
    dict[str, str]
        The split of each image.

    Examples
    --------
    >>> found = divide([f"{number}.jpg" for number in range(20)])
    >>> [list(found.values()).count(split) for split in SPLITS]
    [16, 2, 2]
    """
    members: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        # A group may be called like an image of another one.
        group = f"group {groups[name]}" if groups and name in groups else f"image {name}"
        members.setdefault(group, []).append(name)
    order = sorted(members, key=lambda group: draw(group.partition(" ")[2], seed))
    counts = _exact_counts(sum(map(len, members.values())), parse_shares(shares))
    ends = [sum(counts[: place + 1]) for place in range(len(counts))]
    result: dict[str, str] = {}
    before = 0
    for group in order:
        middle = before + len(members[group]) / 2
        place = next(i for i, end in enumerate(ends) if middle < end)
        result.update(dict.fromkeys(members[group], SPLITS[place]))
        before += len(members[group])
    return result


def _exact_counts(images: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers of images nearest to the shares; where there are enough, none is zero."""
    exact = [images * share / sum(shares) for share in shares]
    counts = [int(number) for number in exact]
    for place in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i]):
        if sum(counts) < images:
            counts[place] += 1
    for place, share in enumerate(shares):
        largest = counts.index(max(counts))
        if share and not counts[place] and counts[largest] > 1:
            counts[place], counts[largest] = 1, counts[largest] - 1
    return counts


def draw(name: str, seed: int = 0) -> bytes:
    """A number below 2⁶⁴ that depends on nothing but the name and the seed, as bytes."""
    text = f"{seed}|{name}" if seed else name
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]
