"""Images, vocabularies and captions: data sets prepared once and read fast."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "dlmie.data":  # a second copy of every class would follow
    raise ImportError("import this package as dlmie.data, not as data")

if TYPE_CHECKING:
    from dlmie.data.batches import Batch as Batch
    from dlmie.data.batches import Batches as Batches
    from dlmie.data.captions.cs231n import CocoCaptioning as CocoCaptioning
    from dlmie.data.captions.dataset import Captions as Captions
    from dlmie.data.captions.dataset import Record as Record
    from dlmie.data.captions.dataset import write_captions as write_captions
    from dlmie.data.captions.extraction import extract_features as extract_features
    from dlmie.data.captions.feature_cache import Features as Features
    from dlmie.data.captions.tokenizers import tokenize as tokenize
    from dlmie.data.captions.vocabulary import Vocabulary as Vocabulary
    from dlmie.data.images import Preprocessing as Preprocessing
    from dlmie.data.images import load_image as load_image
    from dlmie.data.images import preprocess as preprocess
    from dlmie.data.labelled.batches import LabelledBatches as LabelledBatches
    from dlmie.data.labelled.dataset import LabelledImages as LabelledImages
    from dlmie.data.labelled.normalization import Normalization as Normalization
    from dlmie.data.labelled.tiny_imagenet import TinyImageNet as TinyImageNet
    from dlmie.data.scenes import prepare_scenes as prepare_scenes

# Public names and the module that defines each: h5py and the rest load when first needed.
_PUBLIC = {
    "Batch": "batches",
    "Batches": "batches",
    "Captions": "captions.dataset",
    "CocoCaptioning": "captions.cs231n",
    "Features": "captions.feature_cache",
    "LabelledBatches": "labelled.batches",
    "LabelledImages": "labelled.dataset",
    "Normalization": "labelled.normalization",
    "Preprocessing": "images",
    "Record": "captions.dataset",
    "TinyImageNet": "labelled.tiny_imagenet",
    "Vocabulary": "captions.vocabulary",
    "extract_features": "captions.extraction",
    "load_image": "images",
    "prepare_scenes": "scenes",
    "preprocess": "images",
    "tokenize": "captions.tokenizers",
    "write_captions": "captions.dataset",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"dlmie.data.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'dlmie.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
