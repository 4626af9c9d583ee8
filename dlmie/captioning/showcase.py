"""A choice of what a captioner says well and badly, which can be changed by hand, as one page."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Unpack

import numpy as np

from dlmie.captioning.captioner import ImageCaptioner
from dlmie.captioning.decoding import DecodingOptions
from dlmie.captioning.evaluation import evaluate
from dlmie.captioning.model_files import load
from dlmie.data.captions.dataset import Split
from dlmie.data.captions.feature_cache import FeatureSource
from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.files.documents import read_json
from dlmie.files.schema import Key, check_document
from dlmie.text import suggest
from dlmie.typing import JsonObject
from dlmie.visualize.figures.report_page import LABELS, Example
from dlmie.visualize.figures.showcase_page import build_showcase

RANK_BY = "cider_d"

_NAMES = Key(list, each=Key(str))
_SAID = Key(dict, keys={"caption": Key(str), "score": Key(float)})
_KEYS = {
    "good": _NAMES,
    "bad": _NAMES,
    "title": Key(str),
    "subtitle": Key(str),
    "rank_by": Key(str),
    "data": Key(dict, keys={"path": Key(str), "hash": Key(str), "split": Key(str)}),
    "said": Key(dict, each=_SAID),
}


@dataclass(frozen=True)
class Showcase:
    """Which images of a split are shown as good and as bad, and what was said of all of them.

    Attributes
    ----------
    good, bad : list of str
        Names of images, to be exchanged by hand for others of the split.
    said : dict
        For each image of the split its caption and the score by which it was ranked.
    title, subtitle, rank_by : str
        Of the page.
    data : dict
        ``path`` and ``hash`` of the prepared file, and the ``split``.
    """

    FORMAT: ClassVar[str] = "dlmie-showcase"

    good: list[str]
    bad: list[str]
    said: JsonObject = field(repr=False)
    title: str
    subtitle: str
    rank_by: str
    data: dict[str, str]

    def save(self, path: str | Path) -> Path:
        """Write the choice as JSON: two lists of names first, to be edited."""
        document = {
            "format": self.FORMAT,
            "good": self.good,
            "bad": self.bad,
            "title": self.title,
            "subtitle": self.subtitle,
            "rank_by": self.rank_by,
            "data": self.data,
            "said": self.said,
        }
        return atomic.write_json(path, document)

    @classmethod
    def load(cls, path: str | Path) -> Showcase:
        """Read such a choice, as it is now.

        Raises
        ------
        DataError
            It is no such file, or names an image that the split does not have, or one twice.
        """
        document = read_json(path)
        if not isinstance(document, dict) or document.get("format") != cls.FORMAT:
            raise DataError(f"{path} is not a list that dlmie showcase wrote")
        found = check_document(document, _KEYS, path)
        chosen = cls(**{key: found[key] for key in _KEYS})
        seen: set[str] = set()
        for name in (*chosen.good, *chosen.bad):
            if name not in chosen.said:
                raise DataError(
                    f"{path}: {chosen.data['split']} has no image {name!r}"
                    f"{suggest(name, list(chosen.said))}"
                )
            if name in seen:
                raise DataError(f"{path}: {name!r} is listed twice")
            seen.add(name)
        return chosen

    def page(self, split: Split, *, thumbnail: int = 224) -> str:
        """The HTML page.

        Parameters
        ----------
        split : dlmie.data.captions.dataset.Split
            The images; those that the choice was made from.
        thumbnail : int
            Longer side of the photographs in pixels.

        Raises
        ------
        DataError
            The split is of other data.
        """
        if split.data_hash != self.data["hash"]:
            raise DataError(
                "the showcase was chosen from other data (their hash differs): name the right "
                "file with --data, or choose again"
            )
        places = {name: index for index, name in enumerate(split.names)}
        return build_showcase(
            title=self.title,
            subtitle=self.subtitle,
            groups={
                heading: [self._example(split, places[name]) for name in names]
                for heading, names in (("Good", self.good), ("Bad", self.bad))
            },
            ranked_by=LABELS.get(self.rank_by, self.rank_by),
            thumbnail=thumbnail,
        )

    def _example(self, split: Split, index: int) -> Example:
        said = self.said[split.names[index]]
        return Example(
            name=split.names[index],
            image=partial(_pixels, split, index),
            words=said["caption"].split(" "),
            references=split.references[index],
            scores={self.rank_by: said["score"]},
        )


def showcase(
    captioner: ImageCaptioner | str | Path,
    split: Split,
    *,
    good: int = 10,
    bad: int = 10,
    features: FeatureSource | None = None,
    progress: bool = False,
    **options: Unpack[DecodingOptions],
) -> Showcase:
    """Caption a split and choose the best and the worst captions by their CIDEr-D.

    Between equal scores ROUGE-L decides, then the order of the split.

    Parameters
    ----------
    captioner, split, features
        As for :func:`dlmie.evaluate`.
    good, bad : int
        How many images are chosen as the best, and as the worst of the others.
    **options
        Fields of :class:`~dlmie.captioning.decoding.Decoding`; others are as the model's file says.

    Examples
    --------
    >>> chosen = showcase("runs/sat", Captions("flickr8k.h5")["dev"])       # doctest: +SKIP
    >>> page = chosen.page(Captions("flickr8k.h5")["dev"])                  # doctest: +SKIP
    """
    if isinstance(captioner, (str, Path)):
        captioner = load(captioner)
    scores = evaluate(captioner, split, features=features, progress=progress, **options)
    rank_by = RANK_BY if RANK_BY in scores.per_image else "rouge_l"
    ranks = scores.per_image[rank_by]
    order = np.lexsort((scores.per_image["rouge_l"], ranks)).tolist()[::-1]  # the best first
    best, others = order[:good], order[good:]
    names = split.names
    return Showcase(
        good=[names[i] for i in best],
        bad=[names[i] for i in others[::-1][:bad]],
        said={
            name: {"caption": caption, "score": round(float(rank), 4)}
            for name, caption, rank in zip(names, scores.captions, ranks, strict=True)
        },
        title=f"{' + '.join(member.source for member in captioner.members)} on {split.name}",
        subtitle=f"The best and the worst of {len(split):,} captions by {LABELS[rank_by]}; "
        f"{scores.protocol_line}",
        rank_by=rank_by,
        data={"path": str(split.path), "hash": split.data_hash, "split": split.name},
    )


def _pixels(split: Split, index: int) -> np.ndarray:
    return split.load_images([index])[0]
