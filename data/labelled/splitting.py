"""Which image of a source belongs to which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from dlmie.data.labelled.sources import UNDIVIDED, Part
from dlmie.data.splits import divide, in_order
from dlmie.errors import DataError

# What learning rates and the like are chosen by, where a source says nothing of it.
_DEV_SHARE, _DEV_MOST = 10, 1000

LEFT_OUT = ""


def choose_splits(
    parts: Mapping[str, Part], counts: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Assign the images of each part to splits.

    A part keeps its name as split, unless ``counts`` asks for fewer: then its first images count.
    Where there is no "dev", the end of "train" becomes it: as many images as asked for, else a
    tenth of them and at most 1,000. So the 50,000 training images of CIFAR-10 give the course's
    49,000 and 1,000. A source without splits is divided by exact shares (80, 10 and 10 percent), in
    an order drawn from the images' names, or into pieces of the wanted numbers, one after another.

    Parameters
    ----------
    parts
        Of a source.
    counts
        How many images a split is to have: ``{"train": 49_000, "dev": 1_000, "test": 1_000}``.
        Those that are not named keep what is left.

    Returns
    -------
    dict of numpy.ndarray
        By part, the split of each of its images (text); `LEFT_OUT` for those in none.

    Raises
    ------
    DataError
        A split is to have more images than there are, or is not known.

    Examples
    --------
    >>> chosen = choose_splits({"train": Part(np.zeros(20, int))}, {"train": 15})
    >>> [int((chosen["train"] == name).sum()) for name in ("train", "dev", LEFT_OUT)]
    [15, 2, 3]
    """
    counts = dict(counts or {})
    if UNDIVIDED in parts:
        return {UNDIVIDED: _divided(parts[UNDIVIDED], counts)}
    known = {*parts, "dev"}
    for name in set(counts) - known:
        raise DataError(f"there are no images for the split {name!r}, only {', '.join(parts)}")
    chosen = {name: np.full(len(part), name, object) for name, part in parts.items()}
    if "dev" not in parts and "train" in parts:
        total = len(parts["train"])
        dev = counts.pop("dev", min(total // _DEV_SHARE, _DEV_MOST))
        _check("dev", dev, total)
        chosen["train"][total - dev :] = "dev"
    for name, count in counts.items():
        mine = np.flatnonzero(chosen[name] == name)
        _check(name, count, len(mine))
        chosen[name][mine[count:]] = LEFT_OUT
    return chosen


def _divided(part: Part, counts: Mapping[str, int]) -> np.ndarray:
    """Splits of images that have none."""
    total = len(part)
    if not counts:
        names = part.names if part.names is not None else list(map(str, range(total)))
        found = divide(names)
        return np.array([found[name] for name in names], object)
    wanted: Sequence[str] = in_order({*counts})
    rest = total - sum(counts.values())
    if rest < 0:
        raise DataError(f"{sum(counts.values()):,} images are wanted and there are {total:,}")
    train = [] if "train" in counts else ["train"] * rest
    pieces = chain(train, *([name] * counts[name] for name in wanted))
    result = np.full(total, LEFT_OUT, object)
    for position, name in enumerate(pieces):
        result[position] = name
    return result


def _check(name: str, count: int, there: int) -> None:
    if not 0 <= count <= there:
        raise DataError(f"split {name}: {count:,} images are wanted and there are {there:,}")
