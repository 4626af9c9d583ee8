"""Captioning: objectives, decoding, metrics, trained captioners and their evaluation.

Here are captioners, their files, encoders and evaluation.  Training and resuming are in
:mod:`dlmie.captioning.training`, what a run folder says in :mod:`dlmie.captioning.runs`, folders of
photographs in :mod:`dlmie.captioning.photographs`, figures and pages in
:mod:`dlmie.captioning.figures` and :mod:`dlmie.captioning.reports`.
"""

from dlmie.captioning.captioner import CAPTIONERS, SHIPPED, ImageCaptioner, Member, captioner_class
from dlmie.captioning.evaluation import (
    caption_split,
    check_features,
    decode_in_batches,
    evaluate,
    score_captions,
    split_reader,
)
from dlmie.captioning.features import Encoder, encoder_from_header, encoder_header
from dlmie.captioning.model_files import export, find_model, load, save_model, versions

__all__ = [
    "CAPTIONERS",
    "SHIPPED",
    "Encoder",
    "ImageCaptioner",
    "Member",
    "caption_split",
    "captioner_class",
    "check_features",
    "decode_in_batches",
    "encoder_from_header",
    "encoder_header",
    "evaluate",
    "export",
    "find_model",
    "load",
    "save_model",
    "score_captions",
    "split_reader",
    "versions",
]
