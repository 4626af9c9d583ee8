"""Training steps of captioners: by the name of an objective and its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pytensor.compile.sharedvalue import SharedVariable

from dlmie import optim
from dlmie.backends.choice import refuse_jax
from dlmie.captioning.annotations import Annotations
from dlmie.captioning.evaluation import reference_words
from dlmie.captioning.model_files import find_model, load
from dlmie.captioning.objectives import Distillation, SelfCritical, TeacherForcing
from dlmie.captioning.options import (
    OBJECTIVES,
    DistillationOptions,
    FineTuning,
    SelfCriticalOptions,
    TeacherForcingOptions,
)
from dlmie.data.captions.attention_targets import AttentionTargets
from dlmie.data.captions.dataset import Captions
from dlmie.errors import DataError, DlmieError, MisuseError
from dlmie.models.captioners.captioner import Captioner
from dlmie.training.config import OptionGroup
from dlmie.training.objective import Objective
from dlmie.training.step import TrainingStep, Update
from dlmie.typing import JsonObject
from dlmie.weights import sha256

DEFAULT_OPTIMIZER = optim.adam(4e-4)


class CaptioningStep(TrainingStep):
    """An update of a captioner, and maybe of the encoder that it sees through.

    Made by :func:`dlmie.compile` or :func:`make_step`.

    Attributes
    ----------
    model : Captioner
    kind : str
        Of the objective: "teacher-forcing", "distillation" or "self-critical".
    options : OptionGroup
        Of the objective, as a run's configuration has them.
    annotations : Annotations
        From what batches hold to what the model sees.
    """

    task: ClassVar[str] = "captioning"
    unit: ClassVar[str] = "words"

    def __init__(
        self,
        model: Captioner,
        objective: Objective,
        optimizer: optim.Chain | optim.Transform,
        annotations: Annotations,
        *,
        kind: str,
        options: OptionGroup,
        seed: int = 0,
    ) -> None:
        self.model, self.kind, self.options = model, kind, options
        self.annotations, self.optimizer = annotations, optim.chain(optimizer)
        chain = self.optimizer
        if isinstance(options, FineTuning) and options.finetune is not None:
            # Parameters are named with underscores where the network's name has hyphens.
            where = f"/{annotations.encoder.name.replace('-', '_')}"
            chain = chain.with_factor(where, options.encoder_lr)
        super().__init__(Update(objective, chain), seed=seed)

    @property
    def objective(self) -> Objective:
        """What is minimized."""
        return self.parts[0].objective

    @property
    def updates(self) -> optim.Updates:
        """What one step changes."""
        return self.parts[0].updates

    @property
    def unsaved(self) -> dict[str, SharedVariable]:
        """Weights that the objective depends on, do not learn, and are in no file."""
        fixed = [*self.model.copied, *self.model.measured]
        kept: dict[str, SharedVariable] = {str(p.name): p for p in fixed}
        encoder = self.model.encoder
        if encoder is None or encoder.weights:
            return kept
        kept |= {str(p.name): p for p in encoder.parameters}
        if isinstance(self.objective, Distillation):
            kept |= {str(copy.name): copy for copy in self.objective.copies.values()}
        return kept

    def describe(self) -> JsonObject:
        """The section ``objective`` of a run's configuration."""
        return {"kind": self.kind, "seed": self.seed, **self.options.to_json()}


def compile(
    model: Captioner,
    optimizer: optim.Chain | optim.Transform | None = None,
    *,
    targets: AttentionTargets | None = None,
    seed: int = 0,
    **options: object,
) -> CaptioningStep:
    """Make a training step by teacher forcing, compiled when it is first called.

    Parameters
    ----------
    model : Captioner
    optimizer : Chain, optional
        A chain of :mod:`dlmie.optim`; default: Adam with a learning rate of 4e-4.
    targets : AttentionTargets, optional
        Where things are in the images, for ``attention_supervision``: see :func:`targets_of`.
    seed : int
        Of dropout and everything else that is random in the step.
    **options
        Fields of :class:`~dlmie.captioning.options.TeacherForcingOptions`: ``alpha_penalty``,
        ``label_smoothing``, ``scheduled_sampling``, ``attention_supervision``,
        ``attention_entropy``, ``finetune``, ``from_layer``, ``encoder_lr``. ``attention_each`` is
        as the targets are.
    """
    chosen = TeacherForcingOptions.of({**options, **_each(targets, options)})
    annotations = _annotations(model, chosen)
    objective = TeacherForcing(
        model,
        annotations,
        alpha_penalty=chosen.alpha_penalty,
        label_smoothing=chosen.label_smoothing,
        scheduled_sampling=chosen.scheduled_sampling,
        attention_supervision=chosen.attention_supervision,
        attention_entropy=chosen.attention_entropy,
        targets=targets,
    )
    kind = "teacher-forcing"
    return _step(model, objective, optimizer, annotations, kind=kind, options=chosen, seed=seed)


def distill(
    model: Captioner,
    optimizer: optim.Chain | optim.Transform | None = None,
    *,
    teachers: Sequence[Captioner],
    origins: Sequence[Mapping[str, str]] = (),
    targets: AttentionTargets | None = None,
    seed: int = 0,
    **options: object,
) -> CaptioningStep:
    """Make a step that also learns what ``teachers`` expect.

    Parameters
    ----------
    model, optimizer, targets, seed
        See :func:`compile`.
    teachers : sequence of Captioner
        Trained; of the same vocabulary and annotations.
    origins : sequence of mapping
        Where each teacher came from, for the run's configuration.
    **options
        Other fields of :class:`~dlmie.captioning.options.DistillationOptions`.
    """
    named = [dict(origin) for origin in origins]
    chosen = DistillationOptions.of({**options, **_each(targets, options), "teachers": named})
    annotations = _annotations(model, chosen)
    objective = Distillation(
        model,
        annotations,
        teachers=teachers,
        teacher_share=chosen.teacher_share,
        alpha_penalty=chosen.alpha_penalty,
        label_smoothing=chosen.label_smoothing,
        attention_supervision=chosen.attention_supervision,
        attention_entropy=chosen.attention_entropy,
        targets=targets,
    )
    kind = "distillation"
    return _step(model, objective, optimizer, annotations, kind=kind, options=chosen, seed=seed)


def reinforce(
    model: Captioner,
    optimizer: optim.Chain | optim.Transform | None = None,
    *,
    references: Sequence[Sequence[Sequence[str]]],
    seed: int = 0,
    **options: object,
) -> CaptioningStep:
    """Make a self-critical step: the CIDEr-D of drawn captions is what is raised.

    Parameters
    ----------
    model, optimizer, seed
        See :func:`compile`.
    references : list of list of list of str
        For each training image the words of its references.
    **options
        Fields of :class:`~dlmie.captioning.options.SelfCriticalOptions`.
    """
    refuse_jax("self-critical training")  # as many rows as a batch has images: ever new shapes
    chosen = SelfCriticalOptions.of(options)
    objective = SelfCritical(
        model,
        references=references,
        samples=chosen.samples,
        temperature=chosen.temperature,
        max_length=chosen.max_length,
    )
    kind, annotations = "self-critical", Annotations(model)
    return _step(model, objective, optimizer, annotations, kind=kind, options=chosen, seed=seed)


def make_step(
    objective: JsonObject,
    model: Captioner,
    optimizer: optim.Chain | optim.Transform,
    data: Captions,
) -> CaptioningStep:
    """The step that the section ``objective`` of a configuration describes.

    The teachers of distillation are named there, by what :func:`dlmie.load` takes or as
    ``{"path", "sha256"}``.
    """
    options = dict(objective)
    kind, seed = options.pop("kind"), options.pop("seed", 0)
    if kind not in OBJECTIVES:
        raise DlmieError(f"there is no objective {kind!r}: known are {', '.join(OBJECTIVES)}")
    if kind == "self-critical":
        references = reference_words(data["train"], data.vocabulary)
        return reinforce(model, optimizer, references=references, seed=seed, **options)
    each = bool(options.get("attention_each"))
    if each and not options.get("attention_supervision"):
        raise MisuseError("--attention-each says how attention is supervised: give its weight, too")
    targets = None
    if options.get("attention_supervision"):
        targets = targets_of(model, data, each=each)
    if kind == "distillation":
        opened = [_open_teacher(source) for source in options.pop("teachers")]
        teachers, origins = [t for t, _ in opened], [origin for _, origin in opened]
        return distill(
            model,
            optimizer,
            teachers=teachers,
            origins=origins,
            targets=targets,
            seed=seed,
            **options,
        )
    return compile(model, optimizer, targets=targets, seed=seed, **options)


def _each(targets: AttentionTargets | None, options: Mapping[str, object]) -> JsonObject:
    """The option that says which targets were given."""
    if targets is None or not options.get("attention_supervision"):
        return {}
    return {"attention_each": targets.each}


def targets_of(model: Captioner, data: Captions, *, each: bool = False) -> AttentionTargets:
    """Where attention should rest in the training images of a data set.

    Parameters
    ----------
    model : Captioner
    data : Captions
    each : bool
        On each of the things that a word names, alike, not on any of them.

    Raises
    ------
    DataError
        The data do not say what is where.
    DlmieError
        The model sees no grid.
    """
    objects = data["train"].objects
    if objects is None:
        raise DataError(
            f"{data.path} does not say what is where: attention supervision needs boxes (dlmie "
            "prepare --boxes)"
        )
    if len(model.annotation_shape) != 3:
        raise DlmieError(f"attention supervision needs attention, and {model.kind} has none")
    rows, columns = model.annotation_shape[1:]
    return AttentionTargets(objects, data.vocabulary, (rows, columns), data.size, each=each)


def _annotations(model: Captioner, options: FineTuning) -> Annotations:
    return Annotations(model, finetune=options.finetune, from_layer=options.from_layer)


def _step(
    model: Captioner,
    objective: Objective,
    optimizer: optim.Chain | optim.Transform | None,
    annotations: Annotations,
    *,
    kind: str,
    options: OptionGroup,
    seed: int,
) -> CaptioningStep:
    chain = DEFAULT_OPTIMIZER if optimizer is None else optimizer
    return CaptioningStep(
        model, objective, chain, annotations, kind=kind, options=options, seed=seed
    )


def _open_teacher(source: str | Mapping[str, str]) -> tuple[Captioner, dict[str, str]]:
    """A trained model to learn from, and what it is known by from now on."""
    known = source if isinstance(source, Mapping) else {"path": source}
    path = find_model(known["path"])
    found = sha256(path)
    if known.get("sha256", found) != found:
        raise DataError(
            f"{path}, a teacher of this run, is not the file it was (its SHA-256 differs): put "
            "the old one back, or start a new run"
        )
    captioner = load(path)
    if captioner.members[0].finetuned:
        raise DlmieError(
            f"{path} was trained together with its encoder and cannot teach one that sees through "
            "another: name a teacher that was trained on features"
        )
    return captioner.model, {"path": str(Path(path).resolve()), "sha256": found}
