"""The settings of a run before it is begun: what a recipe, ``--set`` and options amount to.

They are relative: lengths in epochs, an encoder by name, the weights to start with by the run that
holds them.  A task turns them into a :class:`~dlmie.training.config.RunConfig` for certain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dlmie.typing import Json, JsonObject


@dataclass
class Settings:
    """Sections of settings, each a mapping of those that were given.

    Attributes
    ----------
    model : str
        The name of a model in the registry.
    config : dict
        Keyword arguments of the model.
    encoder : dict
        ``name``, ``layer``, ``size`` and ``weights`` of the network that a captioner sees through.
    optimizer : dict
        Of :class:`~dlmie.training.optimizer_options.OptimizerOptions`.
    objective : dict
        Its options; ``kind`` is the objective's name.
    training : dict
        Of the task's options.
    recipe : str, optional
        The name of the recipe they began with.
    normalization : str, optional
        How a classifier's pixels are normalized; by default what suits the task.
    start : path, optional
        A trained model whose weights the run starts with.
    """

    model: str
    config: dict[str, Json] = field(default_factory=dict)
    encoder: JsonObject = field(default_factory=dict)
    optimizer: JsonObject = field(default_factory=dict)
    objective: JsonObject = field(default_factory=dict)
    training: JsonObject = field(default_factory=dict)
    recipe: str | None = None
    normalization: str | None = None
    start: str | None = None

    @classmethod
    def from_recipe(cls, name: str, recipe: JsonObject) -> Settings:
        """The settings that a named recipe has."""
        objective = {"kind": recipe["step"]} if "step" in recipe else {}
        return cls(
            model=recipe["model"],
            config=dict(recipe.get("config", {})),
            encoder=dict(recipe.get("encoder", {})),
            optimizer=dict(recipe.get("optimizer", {})),
            objective={**objective, **recipe.get("objective", {})},
            training=dict(recipe.get("training", {})),
            recipe=name,
            normalization=recipe.get("normalization"),
        )

    @property
    def objective_options(self) -> JsonObject:
        """The objective's options without its name."""
        return {name: value for name, value in self.objective.items() if name != "kind"}
