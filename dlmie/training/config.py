"""What decides a run: options that are declared once, written to ``config.json``, and checked.

A group of options is a frozen dataclass whose fields are made by :func:`option`.  The command line
makes its options from them, recipes and ``--set`` fill them, and ``config.json`` is read back into
them; a value of the wrong kind is an error that names it.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeVar

from dlmie.errors import DlmieError
from dlmie.files.schema import Key, check_document
from dlmie.text import suggest
from dlmie.typing import Json, JsonObject

Options = TypeVar("Options", bound="OptionGroup")
Value = TypeVar("Value")

Links = list[JsonObject] | JsonObject
"""A chain of an optimizer as plain values, or several by name."""


def option(
    default: Value, help: str = "", *, low: float | None = None, high: float | None = None
) -> Value:
    """A field of a group of options.

    Parameters
    ----------
    default
        Its value where nothing is said.
    help : str
        One line for ``--help``; without, the command line has no such option.
    low, high : number, optional
        Bounds, both included.
    """
    metadata = {"help": help, "low": low, "high": high}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=partial(copy, default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Declared:
    """One option as it was declared."""

    name: str
    key: Key  # what its value must be
    default: Json
    help: str

    def check(self, value: Json) -> None:
        """Raise a DlmieError unless a value is of the right kind and within the bounds."""
        if not (value is None and self.key.null) and not self.key.accepts(value):
            raise DlmieError(f"{self.name} must be {self.key.expected}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Base of groups of options: checked when made, and exchanged as plain mappings."""

    def __post_init__(self) -> None:
        for declared in self.declared():
            declared.check(getattr(self, declared.name))

    @classmethod
    def declared(cls) -> Iterator[Declared]:
        """The options, in order."""
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            kind, optional = _plain_kind(hints[field.name])
            default: Json = None
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            elif field.default is not dataclasses.MISSING:
                default = field.default
            low, high = field.metadata.get("low"), field.metadata.get("high")
            key = Key(kind, null=optional, low=low, high=high)
            yield Declared(field.name, key, default, field.metadata.get("help", ""))

    @classmethod
    def names(cls) -> list[str]:
        """The names of the options."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def of(cls: type[Options], values: JsonObject) -> Options:
        """The group from a mapping; a name that it does not know is an error."""
        for name in values:
            if name not in cls.names():
                raise DlmieError(f"there is no option {name!r}{suggest(name, cls.names())}")
        return cls(**values)

    def to_json(self) -> JsonObject:
        """A plain mapping of all options."""
        return dataclasses.asdict(self)

    def changed(self: Options, changes: JsonObject) -> Options:
        """The group with other values."""
        return dataclasses.replace(self, **changes)


def _plain_kind(hint: object) -> tuple[type, bool]:
    """``int | None`` → (int, True); ``Mapping[str, int]`` → (dict, False)."""
    optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        optional = type(None) in typing.get_args(hint)
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    origin = typing.get_origin(hint) or hint
    containers: dict[object, type] = {Mapping: dict, Sequence: list, tuple: list}
    kind = containers.get(origin, origin)
    assert isinstance(kind, type), f"an option cannot be {hint}"
    return kind, optional


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(OptionGroup):
    """How long and by what a run is trained: the options that every task has."""

    epochs: int = option(20, "Passes over the training data.", low=1)
    batch: int = option(64, "Examples in a step.", low=1)
    monitor: str = option("loss", "Score that chooses the best epoch.")
    patience: int | None = option(None, "Stop after so many epochs without a better score.", low=1)
    limit: int | None = option(None, "Use only so many training images.", low=1)
    checkpoint_every: int = option(200, "Steps between checkpoints; 0: only epochs.", low=0)
    keep_epochs: bool = option(False, "Keep the model of each epoch, in RUN/epochs.")
    shards: int | None = option(
        None, "Compute each batch in so many parts: less memory, and the same on 1, 2, 4 … ranks.",
        low=1,
    )  # fmt: skip
    seed: int = option(0, low=0)

    #: Options that decide which examples come in which batch of an epoch.
    ORDER: ClassVar[frozenset[str]] = frozenset({"batch", "limit", "seed"})
    #: Options after whose change scores cannot be compared with earlier ones.
    SCORES: ClassVar[frozenset[str]] = frozenset({"monitor"})


@dataclass(frozen=True)
class TaskOptions:
    """The groups of options of a task.

    Attributes
    ----------
    training : type
        Of ``dlmie.train``.
    objectives : mapping
        For each objective its options; the first is the usual one.
    """

    training: type[TrainingOptions]
    objectives: Mapping[str, type[OptionGroup]]


@dataclass(frozen=True)
class DataSource:
    """The prepared file of a run."""

    path: str
    hash: str


# What every configuration must hold; sections beside these are the task's inputs.
_SECTIONS = {
    "task": Key(str),
    "model": Key(dict, keys={"kind": Key(str)}),
    "objective": Key(dict, keys={"kind": Key(str)}),
    "data": Key(dict, keys={"path": Key(str), "hash": Key(str)}),
    "training": Key(dict),
    "meta": Key(dict),
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run: ``config.json``.

    Attributes
    ----------
    task : str
        "captioning", "classification", …
    model : mapping
        ``kind``, its name in the registry; ``config``, the keyword arguments that make it; and what
        else a task needs to know of it.
    objective : mapping
        ``kind`` and the options of the objective.
    optimizer : list of mappings
        The chain, as :func:`dlmie.optim.from_json` reads it; a mapping of such lists by name where
        a step has several updates.
    data : DataSource
    training : TrainingOptions
        Of the task.
    inputs : mapping
        How the model sees the data: an encoder and its features, a preprocessing.  Each is a
        section of its own in the document.
    meta : mapping
        What does not decide anything: recipe, command line, versions.
    """

    FORMAT: ClassVar[str] = "dlmie-run"
    VERSION: ClassVar[int] = 2

    task: str
    model: JsonObject
    objective: JsonObject
    optimizer: Links
    data: DataSource
    training: TrainingOptions
    inputs: JsonObject
    meta: JsonObject

    @property
    def objective_arguments(self) -> JsonObject:
        """The objective as keyword arguments of ``compile``: its name, its seed, its options."""
        return {("objective" if k == "kind" else k): v for k, v in self.objective.items()}

    def to_json(self) -> JsonObject:
        """The document."""
        return {
            "format": self.FORMAT,
            "version": self.VERSION,
            "task": self.task,
            "model": self.model,
            **self.inputs,
            "objective": self.objective,
            "optimizer": self.optimizer,
            "data": dataclasses.asdict(self.data),
            "training": self.training.to_json(),
            "meta": self.meta,
        }

    @classmethod
    def from_json(
        cls, document: JsonObject, options: type[TrainingOptions], source: str
    ) -> RunConfig:
        """The configuration in a document of the current version.

        Raises
        ------
        DlmieError
            A section is missing or of the wrong kind; names it.
        """
        check_document(document, _SECTIONS, f"{source} is damaged", DlmieError)
        known = {*_SECTIONS, "optimizer", "format", "version"}
        try:
            training = options.of(document["training"])
        except DlmieError as error:
            raise DlmieError(f"{source}: training: {error}") from error
        return cls(
            task=document["task"],
            model=document["model"],
            objective=document["objective"],
            optimizer=document.get("optimizer", []),
            data=DataSource(document["data"]["path"], document["data"]["hash"]),
            training=training,
            inputs={name: document[name] for name in document if name not in known},
            meta=document["meta"],
        )
