"""The one table of models: what commands, files and runs may name.

A file never imports anything by a string that it holds: a name is looked up here, and a class of
one's own is added by :func:`register`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, overload

from dlmie.errors import DlmieError
from dlmie.text import suggest

if TYPE_CHECKING:
    from dlmie.models.agents.agent import Agent
    from dlmie.models.captioners.captioner import Captioner
    from dlmie.models.classifiers.image_classifier import ImageClassifier
    from dlmie.models.encoders.image_network import ImageNetwork
    from dlmie.models.generators.gan import GAN

Role = Literal["encoder", "captioner", "classifier", "agent", "generator"]


@dataclass(frozen=True)
class Entry:
    """Where a model is defined, and what it is for.

    Attributes
    ----------
    role : str
        "encoder", "captioner", "classifier", "agent" or "generator".
    target : str
        ``"module:Class"``, imported when the class is first used.
    layers : mapping
        Of an encoder: the layer that a captioner sees unless another is named, a "vector" for each
        image or a "grid" to attend to.
    objective : str
        What a command trains the model for unless it says otherwise; "": the usual one of its task.
    """

    role: Role
    target: str
    layers: Mapping[str, str] = field(default_factory=dict)
    objective: str = ""

    @property
    def class_name(self) -> str:
        """The name of the class."""
        return self.target.partition(":")[2]


_ENCODERS, _CAPTIONERS = "dlmie.models.encoders", "dlmie.models.captioners"
_CLASSIFIERS = "dlmie.models.classifiers"
_AGENTS, _GENERATORS = "dlmie.models.agents", "dlmie.models.generators"

MODELS: dict[str, Entry] = {
    "efficientnet-lite0": Entry(
        "encoder",
        f"{_ENCODERS}.efficientnet_lite:EfficientNetLite0",
        {"vector": "pool", "grid": "block10"},
    ),
    "efficientnet-lite1": Entry(
        "encoder",
        f"{_ENCODERS}.efficientnet_lite:EfficientNetLite1",
        {"vector": "pool", "grid": "block14"},
    ),
    "efficientnet-lite2": Entry(
        "encoder",
        f"{_ENCODERS}.efficientnet_lite:EfficientNetLite2",
        {"vector": "pool", "grid": "block14"},
    ),
    "vgg16": Entry("encoder", f"{_ENCODERS}.vgg:VGG16", {"vector": "fc7", "grid": "conv5_3"}),
    "vgg19": Entry("encoder", f"{_ENCODERS}.vgg:VGG19", {"vector": "fc7", "grid": "conv5_4"}),
    "squeezenet": Entry(
        "encoder", f"{_ENCODERS}.squeezenet:SqueezeNet", {"vector": "fire9", "grid": "fire9"}
    ),
    "inception-v3": Entry(
        "encoder", f"{_ENCODERS}.inception:InceptionV3", {"vector": "pool", "grid": "mixed10"}
    ),
    "tiny-imagenet": Entry(
        "encoder",
        f"{_ENCODERS}.tiny_imagenet:PretrainedCNN",
        {"vector": "block9", "grid": "block5"},
    ),
    "small-cnn": Entry(
        "encoder", f"{_ENCODERS}.small_cnn:SmallCNN", {"vector": "pool", "grid": "conv8"}
    ),
    "show-tell": Entry("captioner", f"{_CAPTIONERS}.show_tell:ShowTell"),
    "show-attend-tell": Entry("captioner", f"{_CAPTIONERS}.show_attend_tell:ShowAttendTell"),
    "caption-rnn": Entry("captioner", f"{_CAPTIONERS}.caption_rnn:CaptionRNN"),
    "bottleneck-lstm": Entry("captioner", f"{_CAPTIONERS}.bottleneck_lstm:BottleneckLSTM"),
    "softmax": Entry("classifier", f"{_CLASSIFIERS}.linear:Softmax"),
    "linear-svm": Entry("classifier", f"{_CLASSIFIERS}.linear:LinearSVM", objective="hinge"),
    "two-layer": Entry("classifier", f"{_CLASSIFIERS}.fully_connected:TwoLayerNet"),
    "fully-connected": Entry("classifier", f"{_CLASSIFIERS}.fully_connected:FullyConnected"),
    "three-layer-convnet": Entry("classifier", f"{_CLASSIFIERS}.convolutional:ThreeLayerConvNet"),
    "convnet": Entry("classifier", f"{_CLASSIFIERS}.convolutional:ConvNet"),
    "tiny-imagenet-cnn": Entry("classifier", f"{_CLASSIFIERS}.tiny_imagenet:TinyImageNetCNN"),
    "gan": Entry("generator", f"{_GENERATORS}.dense:VanillaGAN"),
    "ls-gan": Entry("generator", f"{_GENERATORS}.dense:LeastSquaresGAN", objective="least-squares"),
    "dc-gan": Entry("generator", f"{_GENERATORS}.convolutional:DCGAN"),
    "wgan-gp": Entry(
        "generator", f"{_GENERATORS}.convolutional:WassersteinGAN", objective="wasserstein"
    ),
    "q-table": Entry("agent", f"{_AGENTS}.tables:QTable", objective="q-learning"),
    "q-network": Entry("agent", f"{_AGENTS}.tables:QNetwork", objective="q-learning"),
    "dqn": Entry("agent", f"{_AGENTS}.deep_q:DQN", objective="deep-q"),
    "policy": Entry("agent", f"{_AGENTS}.policies:Policy", objective="policy-gradient"),
    "world-model": Entry("agent", f"{_AGENTS}.world_model:WorldModel", objective="world-model"),
}
#: The task by which a role is trained.
TASKS: dict[Role, str] = {
    "captioner": "captioning",
    "classifier": "classification",
    "generator": "generation",
    "agent": "reinforcement",
}

# Classes that were registered while the program runs.
_registered: dict[str, type] = {}


def names(role: Role) -> list[str]:
    """The names of the models of a role."""
    return [name for name, entry in MODELS.items() if entry.role == role]


def entry(name: str, role: Role) -> Entry:
    """The entry of a name.

    Raises
    ------
    DlmieError
        There is no such model of this role: names the closest one.
    """
    if name not in names(role):
        own = "" if role == "encoder" else "; one of your own is registered first (dlmie.register)"
        raise DlmieError(f"unknown {role} {name!r}{suggest(name.lower(), names(role))}{own}")
    return MODELS[name]


@overload
def model_class(name: str, role: Literal["encoder"]) -> type[ImageNetwork]: ...
@overload
def model_class(name: str, role: Literal["captioner"]) -> type[Captioner]: ...
@overload
def model_class(name: str, role: Literal["classifier"]) -> type[ImageClassifier]: ...
@overload
def model_class(name: str, role: Literal["generator"]) -> type[GAN]: ...
@overload
def model_class(name: str, role: Literal["agent"]) -> type[Agent]: ...
@overload
def model_class(name: str, role: Role) -> type: ...


def model_class(name: str, role: Role) -> type:
    """The class of a name; raises as :func:`entry` does."""
    module, _, class_name = entry(name, role).target.partition(":")
    if name in _registered:
        return _registered[name]
    found: type = getattr(importlib.import_module(module), class_name)
    return found


def default_layer(encoder: str, *, grid: bool) -> str:
    """The layer of an encoder that a captioner sees by default: with ``grid`` one to attend to."""
    return entry(encoder, "encoder").layers["grid" if grid else "vector"]


def task_of(name: str) -> str:
    """The task by which a model is trained.

    Raises
    ------
    DlmieError
        There is no model of this name that is trained.
    """
    trained = [known for known, entry in MODELS.items() if entry.role in TASKS]
    if name not in trained:
        raise DlmieError(f"unknown model {name!r}{suggest(name.lower(), trained)}")
    return TASKS[MODELS[name].role]


def check_registered(model: object, role: Role) -> None:
    """Refuse a model whose file could not be loaded: its class is not what its ``kind`` names.

    Raises
    ------
    DlmieError
        Names the class and what to do.
    """
    made, kind = type(model), str(getattr(model, "kind", None))
    if kind not in names(role) or model_class(kind, role) is not made:
        raise DlmieError(
            f"nothing could load what {made.__name__} learns: give the class a kind of its own and "
            f"register it, dlmie.register({made.__name__}), before training"
        )


def register(model: type, *, role: Role | None = None) -> type:
    """Make a class of one's own known by its ``kind``, so that runs and files may name it.

    Can be used as a decorator; the module that defines the class must be imported before such a
    file is loaded.

    Parameters
    ----------
    model : class
    role : str, optional
        "captioner", "classifier", "generator" or "agent"; default: by the task of its base class.

    Raises
    ------
    DlmieError
        The class has no ``kind`` of its own, another class has it, or it is not of this role.
    """
    roles = {task: trained for trained, task in TASKS.items()}
    found = roles.get(getattr(model, "task", ""))
    if found is None or role not in (None, found):
        raise DlmieError(f"{model.__name__} must be derived from a {role or 'model'} of dlmie")
    kind = vars(model).get("kind")
    if not isinstance(kind, str):
        raise DlmieError(f"{model.__name__} needs a kind of its own, a name such as 'my-captioner'")
    if kind in MODELS and _registered.get(kind) is not model:
        raise DlmieError(f"there is another {MODELS[kind].role} of kind {kind!r}")
    MODELS[kind] = Entry(found, f"{model.__module__}:{model.__qualname__}")
    _registered[kind] = model
    return model
