"""Teacher forcing: each word is learned from the true words before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pytensor.tensor as pt

from dlmie import optim
from dlmie.compilation import function
from dlmie.data.captions.vocabulary import PAD
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter, View, find_parameters
from dlmie.layers.noise import Noise


class TrainingStep:
    """Teacher-forced training, compiled to one function when first called.

    Parameters
    ----------
    model : Captioner
    optimiser
        A chain of :mod:`dlmie.optim`; default Adam with a learning rate of 4e-4.
    alpha_penalty : float
        Weight of the doubly stochastic penalty Σ_cells (1 - Σ_t α_t)² (Xu et al. 2015, equation
        14); needs a model with attention.
    label_smoothing : float
        Share of each target's probability that goes to all words.
    scheduled_sampling : float
        Share of the previous words that the model replaces by its own (Bengio et al. 2015).
    finetune : str, optional
        Train the encoder, too, from this layer on; batches then hold images, not features of the
        layer that the captioner sees.
    from_layer : str, optional
        With ``finetune``: batches hold the values of this layer of the encoder, which lies before
        that one, not images.  What does not learn need not be computed again in every epoch.
    encoder_lr : float
        Factor on the learning rate of the encoder's parameters.
    seed : int
        Of dropout and everything else that is random in the step.
    """

    #: Name in a run's configuration.
    kind = "teacher-forcing"
    #: Whether to say on standard error that it is being compiled.
    progress = True

    def __init__(
        self,
        model: Any,
        optimiser: Any = None,
        *,
        alpha_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
        finetune: str | None = None,
        from_layer: str | None = None,
        encoder_lr: float = 0.1,
        seed: int = 0,
    ) -> None:
        if from_layer is not None and finetune is None:
            raise DlmieError(
                f"values of {from_layer} are to fine-tune from: say from which layer on (finetune)"
            )
        self.model = model
        self.optimiser = optim.adam(4e-4) if optimiser is None else optimiser
        self.options: dict[str, Any] = {
            "alpha_penalty": alpha_penalty,
            "label_smoothing": label_smoothing,
            "scheduled_sampling": scheduled_sampling,
            "finetune": finetune,
            "from_layer": from_layer,
            "encoder_lr": encoder_lr,
            "seed": seed,
        }
        self.finetune, self.from_layer, self.encoder_lr = finetune, from_layer, encoder_lr
        self.noise = Noise(seed)
        self._build()

    def _build(self) -> None:
        self.features, self.input = self._annotations()
        out = self.model.loss(
            self.features,
            noise=self.noise,
            label_smoothing=self.options["label_smoothing"],
            scheduled_sampling=self.options["scheduled_sampling"],
        )
        self._inputs = [self.input, self.model.tokens]
        self._outputs = [out["sum"], out["words"]]
        objective = (self._likelihood(out) + self._penalties(out)) / out["words"]
        self._finish(objective, out.get("extra_updates", ()))

    def _likelihood(self, out: dict[str, Any]) -> Any:
        """What the words said by people, or by others, cost: a sum over the batch."""
        return out["sum"]

    def _annotations(self) -> tuple[Any, Any]:
        """The annotations, and the input they come from: themselves, or the encoder's."""
        if self.finetune is None:
            return self.model.features, self.model.features
        return self.encoder_view[self.model.layer], self.encoder_view.input

    @cached_property
    def encoder_view(self) -> View:
        """The encoder on what batches hold: images, or values of ``from_layer``."""
        encoder = self.model.encoder
        if encoder is None:
            raise DlmieError("to train the encoder, make the model from its layer: net[...]")
        if self.from_layer is None:
            return encoder
        view = encoder.after(self.from_layer)
        if self.model.layer not in view:
            raise DlmieError(
                f"{self.model.layer} of {encoder.name}, which the captioner sees, does not follow "
                f"from values of {self.from_layer} alone: keep those of a layer before "
                f"{self.finetune}"
            )
        return view

    @cached_property
    def annotate(self) -> Callable[[np.ndarray], np.ndarray]:
        """What the model sees of a batch's inputs, through the encoder as it is now."""
        if self.finetune is None:
            return lambda inputs: inputs
        return function([self.input], self.features, name=f"{self.model.encoder.name} annotations")

    def _penalties(self, out: dict[str, Any]) -> Any:
        total = out.get("extra_loss", 0)  # a model's own term: hard attention's REINFORCE
        if self.options["alpha_penalty"]:
            if "alphas" not in out:
                raise DlmieError(f"alpha_penalty needs attention, and {self.model.kind} has none")
            mask = pt.neq(self.model.tokens[:, 1:].T, PAD)[:, :, None]  # (time, batch, 1)
            attended = (out["alphas"] * pt.cast(mask, self.model.dtype)).sum(axis=0)
            weight = np.asarray(self.options["alpha_penalty"], self.model.dtype)
            total = total + weight * ((1 - attended) ** 2).sum()
        return total

    def _finish(self, objective: Any, extra_updates: Sequence[tuple[Any, Any]] = ()) -> None:
        """The updates of whatever the objective depends on and may be trained."""
        self.extra_updates = list(extra_updates)
        self.parameters = self._trained(objective)
        optimiser = self.optimiser
        if self.finetune is not None:
            # Parameters are named with underscores where the network's name has hyphens.
            where = f"/{self.model.encoder.name.replace('-', '_')}"
            optimiser = optim.chain(optimiser).with_factor(where, self.encoder_lr)
        self.updates = optimiser.updates(objective, self.parameters)

    def _trained(self, objective: Any) -> list[Parameter]:
        tuned, present = self._tuned(), set(find_parameters(self.features))
        if tuned - present:
            raise DlmieError(
                f"values of {self.from_layer} are too late to train {self.finetune} of "
                f"{self.model.encoder.name} from: keep those of a layer before it"
            )
        frozen = present - tuned
        return [p for p in find_parameters(objective, "trainable") if p not in frozen]

    def _tuned(self) -> set[Parameter]:
        """The encoder's parameters that learn."""
        if self.finetune is None:
            return set()
        encoder, first, last = self.model.encoder, self.finetune, self.model.layer
        encoder[first]  # a clear error for an unknown layer
        # What is inside a layer ("block3/expand") stands before it and belongs to it.
        names = list(encoder)
        start = next(i for i, n in enumerate(names) if n == first or n.startswith(f"{first}/"))
        frozen = find_parameters([encoder[n] for n in names[:start]])
        tuned = set(find_parameters(encoder[last], "trainable")) - set(frozen)
        if not tuned:
            raise DlmieError(
                f"there is nothing to train from {first} on: the captioner sees {last} of "
                f"{encoder.name}, so name this layer or one before it that has weights"
            )
        return tuned

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return function(
            self._inputs,
            self._outputs,
            updates=[*self.updates, *self.extra_updates],
            name=f"{self.model.kind} training step",
            progress=self.progress,
        )

    def __call__(self, batch: Any) -> tuple[float, int]:
        """One update of the parameters; returns (summed loss, number of words)."""
        total, words = self._function(batch.inputs, batch.tokens)
        return float(total), int(words)

    @property
    def state(self) -> dict[str, Any]:
        """All shared variables that a checkpoint must hold, by name."""
        named = {str(p.name): p for p in self.parameters}
        extra = {str(variable.name): variable for variable, _ in self.extra_updates}
        return {**named, **self.updates.state, **extra, "/noise/key": self.noise.key}

    def to_json(self) -> dict[str, Any]:
        """What rebuilds this step for the same model."""
        return {
            "step": self.kind,
            "optimiser": self.optimiser.to_json(),
            "objective": self.options,
        }
