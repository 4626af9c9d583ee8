"""A captioner's report on a split: what it says, how well, and where it looked, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np

import dlmie
from dlmie.captioning.captioner import ImageCaptioner
from dlmie.captioning.decoding import Caption, DecodingOptions
from dlmie.captioning.evaluation import caption_split, score_captions
from dlmie.captioning.metrics import Scores
from dlmie.captioning.model_files import load
from dlmie.data.captions.dataset import Split
from dlmie.data.captions.feature_cache import FeatureSource
from dlmie.files import atomic
from dlmie.training.folders import BEST, CONFIG
from dlmie.training.runs import read_log
from dlmie.typing import Json, JsonObject
from dlmie.visualize.figures.report_page import Example, build_page

RANK_BY = "cider_d"


@dataclass(frozen=True)
class Report:
    """A page about a captioner.

    Attributes
    ----------
    html : str
        All of it: nothing else is loaded.
    scores : Scores
    captions : list of Caption
        What was said of each image of the split.
    """

    html: str
    scores: Scores
    captions: list[Caption]

    def save(self, path: str | Path) -> Path:
        """Write the page; the file has its name only when it is complete."""
        return atomic.write_text(path, self.html)


def report(
    captioner: ImageCaptioner | str | Path | Sequence[str | Path],
    split: Split,
    *,
    features: FeatureSource | None = None,
    bootstrap: int = 0,
    gallery: int | None = None,
    extremes: int = 10,
    thumbnail: int = 160,
    facts: Mapping[str, Json] | None = None,
    progress: bool = False,
    **options: Unpack[DecodingOptions],
) -> Report:
    """Caption a split and write a page about it: scores, learning curves and all examples.

    Parameters
    ----------
    captioner, split, features, bootstrap
        As for :func:`dlmie.evaluate`.
    gallery : int, optional
        Show only so many images, evenly chosen from the best to the worst; default: all. The
        scores are always those of the whole split. An image takes about 10 KB.
    extremes : int
        How many images are shown as the best, and as the worst, by their CIDEr-D.
    thumbnail : int
        Longer side of the photographs in the page, in pixels.
    facts : mapping, optional
        More to say at the end of the page about how it came about.
    **options
        Fields of :class:`~dlmie.captioning.decoding.Decoding`; others are as the model's file says.

    Examples
    --------
    >>> page = report("runs/sat", Captions("flickr8k.h5")["dev"], beam=3)   # doctest: +SKIP
    >>> page.save("report.html")                                            # doctest: +SKIP
    """
    if not isinstance(captioner, ImageCaptioner):
        captioner = load(captioner)
    decoding = captioner.decoding(**options)
    said = caption_split(captioner, split, decoding, features=features, progress=progress)
    scores = score_captions(captioner, split, said, decoding, bootstrap=bootstrap)
    rank_by = RANK_BY if RANK_BY in scores.per_image else "rouge_l"
    model = " + ".join(member.source for member in captioner.members)
    html = build_page(
        title=f"{model} on {split.name}",
        subtitle=f"{captioner.header['kind']}, {scores.protocol['images']:,} images",
        scores=scores.to_json(),
        protocol_line=scores.protocol_line,
        examples=[
            _example(split, scores, said[index], index, rank_by)
            for index in choose(scores.per_image[rank_by], gallery)
        ],
        rank_by=rank_by,
        records=_learned(captioner.members[0].path),
        facts={**(facts or {}), **_facts(captioner, split)},
        extremes=extremes,
        thumbnail=thumbnail,
    )
    return Report(html, scores, said)


def _learned(model: Path) -> list[JsonObject]:
    """The log of the run that a model is the best of; another file in its folder is not."""
    is_best = model.name == BEST and (model.parent / CONFIG).is_file()
    return read_log(model.parent) if is_best else []


def choose(ranks: np.ndarray, count: int | None) -> list[int]:
    """Places of ``count`` images, evenly from the lowest to the highest rank, in their order."""
    if count is None or count >= len(ranks):
        return list(range(len(ranks)))
    order = np.argsort(ranks, kind="stable")
    return sorted(order[np.linspace(0, len(ranks) - 1, count).round().astype(int)].tolist())


def _example(split: Split, scores: Scores, caption: Caption, index: int, rank_by: str) -> Example:
    numbers = {name: float(scores.per_image[name][index]) for name in scores.per_image}
    first = {rank_by: numbers.pop(rank_by)}
    return Example(
        name=split.names[index],
        image=partial(_pixels, split, index),
        words=caption.labels,
        references=split.references[index],
        scores={**first, **numbers, "log_probability": caption.log_probability},
        alphas=caption.alphas,
        gates=caption.gates,
    )


def _pixels(split: Split, index: int) -> np.ndarray:
    return split.load_images([index])[0]


def _facts(captioner: ImageCaptioner, split: Split) -> dict[str, Json]:
    encoders = [member.header.get("encoder") or {} for member in captioner.members]
    seen = [
        f"{e.get('name')} {e.get('layer')} at {e.get('size')}"
        + (f", fine-tuned from {e['finetuned']} on" if e.get("finetuned") else "")
        + (", the mean of image and mirror image" if e.get("average_flip") else "")
        for e in encoders
    ]
    return {
        "captioner": ", ".join(str(member.path) for member in captioner.members),
        "kind": captioner.header["kind"],
        "encoder": "; ".join(dict.fromkeys(seen)),
        "recipe": captioner.header.get("meta", {}).get("recipe"),
        "data": split.data_hash,
        "dlmie": dlmie.__version__,
    }
