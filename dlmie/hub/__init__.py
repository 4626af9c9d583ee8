"""The roof: where models and data meet.

Here are captioners, their files, encoders and evaluation.  Training and resuming are in
:mod:`dlmie.hub.training`, what a run folder says in :mod:`dlmie.hub.runs`, folders of photographs
in :mod:`dlmie.hub.photographs`, figures and pages in :mod:`dlmie.hub.attention` and
:mod:`dlmie.hub.reports`.
"""

from dlmie.hub.captioners import CAPTIONERS, SHIPPED, ImageCaptioner, Member, captioner_class
from dlmie.hub.encoders import Encoder, encoder_from_header, encoder_header
from dlmie.hub.evaluation import (
    caption_split,
    check_features,
    decode_in_batches,
    evaluate,
    score_captions,
    split_reader,
)
from dlmie.hub.model_files import export, find_model, load, save_model, versions

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
