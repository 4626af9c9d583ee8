"""Networks and captioners: definitions only, each a graph of named symbolic variables."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dlmie.errors import DlmieError
from dlmie.text import suggest

if __name__ != "dlmie.models":  # a second copy of every class would follow
    raise ImportError("import this package as dlmie.models, not as models")

if TYPE_CHECKING:
    from dlmie.models.captioners.caption_rnn import CaptionRNN as CaptionRNN
    from dlmie.models.captioners.show_attend_tell import ShowAttendTell as ShowAttendTell
    from dlmie.models.captioners.show_tell import ShowTell as ShowTell
    from dlmie.models.encoders.efficientnet_lite import EfficientNetLite0 as EfficientNetLite0
    from dlmie.models.encoders.image_network import Classifier as Classifier
    from dlmie.models.encoders.squeezenet import SqueezeNet as SqueezeNet
    from dlmie.models.encoders.tiny_imagenet import PretrainedCNN as PretrainedCNN
    from dlmie.models.encoders.vgg import VGG16 as VGG16
    from dlmie.models.encoders.vgg import VGG19 as VGG19

# Public names and the module that defines each: PyTensor is imported when a class is first used.
_PUBLIC = {
    "CaptionRNN": "captioners.caption_rnn",
    "Classifier": "encoders.image_network",
    "EfficientNetLite0": "encoders.efficientnet_lite",
    "PretrainedCNN": "encoders.tiny_imagenet",
    "ShowAttendTell": "captioners.show_attend_tell",
    "ShowTell": "captioners.show_tell",
    "SqueezeNet": "encoders.squeezenet",
    "VGG16": "encoders.vgg",
    "VGG19": "encoders.vgg",
}

# Networks by the name that commands and files use; nothing is imported by a string of a file.
ENCODERS = {
    "efficientnet-lite0": "EfficientNetLite0",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "squeezenet": "SqueezeNet",
    "tiny-imagenet": "PretrainedCNN",
}
__all__ = [*_PUBLIC, "ENCODERS", "encoder"]


def encoder(name: str, **options: Any) -> Classifier:
    """A network by its name in ``ENCODERS``.

    Parameters
    ----------
    name : str
        Such as ``"vgg16"``.
    options
        Of its class, such as ``weights="vgg16.h5"``.

    Raises
    ------
    DlmieError
        An unknown name; says which are known.

    Examples
    --------
    >>> from dlmie import models
    >>> models.encoder("squeezenet")["fire9"].type.shape
    (None, 512, 14, 14)
    """
    if name not in ENCODERS:
        raise DlmieError(f"unknown encoder {name!r}{suggest(name.lower(), ENCODERS)}")
    network: Classifier = __getattr__(ENCODERS[name])(**options)
    return network


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"dlmie.models.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'dlmie.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
