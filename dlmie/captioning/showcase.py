"""A choice of what a captioner says well and badly, which can be changed by hand, as one page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
_CAPTION = Key(dict, keys={"caption": Key(str), "score": Key(float)})
_SOURCE = Key(dict, keys={"path": Key(str), "hash": Key(str), "split": Key(str)})
_KEYS = {
    "good": _NAMES,
    "bad": _NAMES,
    "title": Key(str),
    "subtitle": Key(str),
    "rank_by": Key(str),
    "data": _SOURCE,
    "captions": Key(dict, each=_CAPTION),
}


@dataclass(frozen=True)
class ScoredCaption:
    """The caption of an image, and the score by which it was ranked."""

    caption: str
    score: float


@dataclass(frozen=True)
class Source:
    """Where the images are: the prepared file, its hash, and the split."""

    path: str
    hash: str
    split: str


@dataclass(frozen=True)
class Showcase:
    """Which images of a split are shown as good and as bad, and the captions of all of them.

    Attributes
    ----------
    good, bad : list of str
        Names of images, to be exchanged by hand for others of the split.
    captions : dict of str to ScoredCaption
        By name, for each image of the split.
    title, subtitle, rank_by : str
        Of the page.
    data : Source
    """

    FORMAT: ClassVar[str] = "dlmie-showcase"

    good: list[str]
    bad: list[str]
    captions: dict[str, ScoredCaption] = field(repr=False)
    title: str
    subtitle: str
    rank_by: str
    data: Source

    def save(self, path: str | Path) -> Path:
        """Write the choice as JSON: two lists of names first, to be edited."""
        own = asdict(self)
        document = {"format": self.FORMAT, **{key: own[key] for key in _KEYS}}
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
        own: JsonObject = {key: found[key] for key in _KEYS}
        own["data"] = Source(**{key: own["data"][key] for key in ("path", "hash", "split")})
        own["captions"] = {
            name: ScoredCaption(each["caption"], each["score"])
            for name, each in own["captions"].items()
        }
        chosen = cls(**own)
        seen: set[str] = set()
        for name in (*chosen.good, *chosen.bad):
            if name not in chosen.captions:
                raise DataError(
                    f"{path}: {chosen.data.split} has no image {name!r}"
                    f"{suggest(name, list(chosen.captions))}"
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
            It is another split, or of other data.
        """
        if split.data_hash != self.data.hash:
            raise DataError(
                "the showcase was chosen from other data (their hash differs): name the right "
                "file with --data, or choose again"
            )
        if split.name != self.data.split:
            raise DataError(f"the showcase was chosen from {self.data.split}, not {split.name}")
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
        said = self.captions[split.names[index]]
        return Example(
            name=split.names[index],
            image=partial(_pixels, split, index),
            words=said.caption.split(" "),
            references=split.references[index],
            scores={self.rank_by: said.score},
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
    rouge = scores.per_image["rouge_l"]
    best = np.lexsort((-rouge, -ranks)).tolist()[:good]
    worst = [i for i in np.lexsort((rouge, ranks)).tolist() if i not in best]
    names = split.names
    return Showcase(
        good=[names[i] for i in best],
        bad=[names[i] for i in worst[:bad]],
        captions={
            name: ScoredCaption(caption, round(float(rank), 4))
            for name, caption, rank in zip(names, scores.captions, ranks, strict=True)
        },
        title=f"{' + '.join(member.source for member in captioner.members)} on {split.name}",
        subtitle=f"The best and the worst of {len(split):,} captions by {LABELS[rank_by]}; "
        f"{scores.protocol_line}",
        rank_by=rank_by,
        data=Source(str(split.path.resolve()), split.data_hash, split.name),
    )


def _pixels(split: Split, index: int) -> np.ndarray:
    return split.load_images([index])[0]
