"""Networks and captioners: definitions only, each a graph of named symbolic variables."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if __name__ != "dlmie.models":  # a second copy of every class would follow
    raise ImportError("import this package as dlmie.models, not as models")

from dlmie.models import registry

if TYPE_CHECKING:
    from dlmie.models.agents.deep_q import DQN as DQN
    from dlmie.models.agents.policies import Policy as Policy
    from dlmie.models.agents.tables import QNetwork as QNetwork
    from dlmie.models.agents.tables import QTable as QTable
    from dlmie.models.agents.world_model import WorldModel as WorldModel
    from dlmie.models.captioners.bottleneck_lstm import BottleneckLSTM as BottleneckLSTM
    from dlmie.models.captioners.caption_rnn import CaptionRNN as CaptionRNN
    from dlmie.models.captioners.show_attend_tell import ShowAttendTell as ShowAttendTell
    from dlmie.models.captioners.show_tell import ShowTell as ShowTell
    from dlmie.models.classifiers.convolutional import ConvNet as ConvNet
    from dlmie.models.classifiers.convolutional import ThreeLayerConvNet as ThreeLayerConvNet
    from dlmie.models.classifiers.fully_connected import FullyConnected as FullyConnected
    from dlmie.models.classifiers.fully_connected import TwoLayerNet as TwoLayerNet
    from dlmie.models.classifiers.linear import LinearSVM as LinearSVM
    from dlmie.models.classifiers.linear import Softmax as Softmax
    from dlmie.models.classifiers.nearest import KNearest as KNearest
    from dlmie.models.classifiers.tiny_imagenet import TinyImageNetCNN as TinyImageNetCNN
    from dlmie.models.encoders.efficientnet_lite import EfficientNetLite0 as EfficientNetLite0
    from dlmie.models.encoders.efficientnet_lite import EfficientNetLite1 as EfficientNetLite1
    from dlmie.models.encoders.efficientnet_lite import EfficientNetLite2 as EfficientNetLite2
    from dlmie.models.encoders.image_network import ImageNetwork as ImageNetwork
    from dlmie.models.encoders.inception import InceptionV3 as InceptionV3
    from dlmie.models.encoders.small_cnn import SmallCNN as SmallCNN
    from dlmie.models.encoders.squeezenet import SqueezeNet as SqueezeNet
    from dlmie.models.encoders.tiny_imagenet import PretrainedCNN as PretrainedCNN
    from dlmie.models.encoders.vgg import VGG16 as VGG16
    from dlmie.models.encoders.vgg import VGG19 as VGG19
    from dlmie.models.generators.convolutional import DCGAN as DCGAN
    from dlmie.models.generators.convolutional import WassersteinGAN as WassersteinGAN
    from dlmie.models.generators.dense import LeastSquaresGAN as LeastSquaresGAN
    from dlmie.models.generators.dense import VanillaGAN as VanillaGAN

_PUBLIC = {
    **{entry.class_name: entry.target.partition(":")[0] for entry in registry.MODELS.values()},
    "ImageNetwork": "dlmie.models.encoders.image_network",
    "KNearest": "dlmie.models.classifiers.nearest",
}
_FORMER = {"Classifier": "ImageNetwork"}
#: Networks by the name that commands and files use.
ENCODERS = {name: registry.MODELS[name].class_name for name in registry.names("encoder")}
__all__ = [*_PUBLIC, "ENCODERS", "encoder"]


def encoder(name: str, **options: object) -> ImageNetwork:
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
    make: Callable[..., ImageNetwork] = registry.model_class(name, "encoder")
    return make(**options)


def __getattr__(name: str) -> object:
    if name in _FORMER:
        warnings.warn(
            f"dlmie.models.{name} is now called {_FORMER[name]}", DeprecationWarning, stacklevel=2
        )
        name = _FORMER[name]
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'dlmie.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
