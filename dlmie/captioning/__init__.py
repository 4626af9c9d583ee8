"""Captioning: what captioners are trained for, how captions are found and scored, trained models.

What every name here stands for is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from dlmie.captioning.captioner import SHIPPED as SHIPPED
    from dlmie.captioning.captioner import ImageCaptioner as ImageCaptioner
    from dlmie.captioning.captioner import Member as Member
    from dlmie.captioning.evaluation import caption_split as caption_split
    from dlmie.captioning.evaluation import check_features as check_features
    from dlmie.captioning.evaluation import decode_in_batches as decode_in_batches
    from dlmie.captioning.evaluation import evaluate as evaluate
    from dlmie.captioning.evaluation import score_captions as score_captions
    from dlmie.captioning.evaluation import split_reader as split_reader
    from dlmie.captioning.features import Encoder as Encoder
    from dlmie.captioning.features import encoder_from_header as encoder_from_header
    from dlmie.captioning.features import encoder_header as encoder_header
    from dlmie.captioning.model_files import export as export
    from dlmie.captioning.model_files import find_model as find_model
    from dlmie.captioning.model_files import load as load
    from dlmie.captioning.model_files import save_model as save_model

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "captioner": ["SHIPPED", "ImageCaptioner", "Member"],
        "evaluation": [
            "caption_split",
            "check_features",
            "decode_in_batches",
            "evaluate",
            "score_captions",
            "split_reader",
        ],
        "features": ["Encoder", "encoder_from_header", "encoder_header"],
        "model_files": ["export", "find_model", "load", "save_model"],
    },
)
