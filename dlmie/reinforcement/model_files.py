"""Model files of agents: parameters, spaces, configuration and the name of the environment."""

from __future__ import annotations

from pathlib import Path

from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers
from dlmie.models import registry
from dlmie.models.agents.agent import Agent, Spaces
from dlmie.training.runs import best_model
from dlmie.typing import JsonObject


def save_model(
    agent: Agent, path: str | Path, *, environment: str, meta: JsonObject | None = None
) -> Path:
    """Write an agent as one file; all that playing with it needs.

    Parameters
    ----------
    agent : Agent
    path : path
    environment : str
        The name of the environment in which it learned.
    meta : mapping, optional
        What else the file says of itself: any JSON values.

    Raises
    ------
    DlmieError
        The disk is full.
    """
    arrays = {str(p.name): p.get_value(borrow=True) for p in agent.parameters}
    header = {
        "kind": agent.kind,
        "config": agent.config,
        "spaces": agent.spaces.to_json(),
        "environment": environment,
        "meta": dict(meta or {}),
    }
    return containers.save(path, arrays, header)


def load(source: str | Path) -> Agent:
    """Load a trained agent: a run folder or a model file.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or not an agent: one line that says which.
    """
    return load_with_environment(source)[0]


def load_with_environment(source: str | Path) -> tuple[Agent, str]:
    """An agent, and the name of the environment in which it learned; raises as `load` does."""
    path = Path(source)
    path = best_model(path) if path.is_dir() else path
    header, arrays = containers.load(path)
    agent, environment = _described(path, header)
    containers.assign(agent.parameters, arrays, path)
    return agent, environment


def _described(path: Path, header: JsonObject) -> tuple[Agent, str]:
    """The agent that a header describes, before it has its weights."""
    kind = header.get("kind")
    if kind not in registry.names("agent"):
        raise WeightsError(f"{path} is not an agent but a {kind}")
    try:
        make = registry.model_class(kind, "agent")
        agent = make(Spaces.from_json(header["spaces"]), **header["config"])
        return agent, str(header["environment"])
    except (KeyError, TypeError, ValueError, AttributeError, MemoryError, DlmieError) as error:
        raise WeightsError(f"{path} has a damaged description ({error})") from error
