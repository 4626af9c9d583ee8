"""Model files of agents: parameters, spaces, configuration and the name of the environment."""

from __future__ import annotations

from pathlib import Path

from dlmie.files import containers
from dlmie.files.schema import Key
from dlmie.models import registry
from dlmie.models.agents.agent import Agent, Spaces
from dlmie.models.agents.deep_q import DQN
from dlmie.training.model_files import read_model, write_model
from dlmie.typing import JsonObject

_SPACES = {
    "shape": Key(list, each=Key(int, low=1, high=100_000)),
    "states": Key(int, low=0, high=1_000_000_000),
    "actions": Key(int, low=1, high=1_000_000),
    "dtype": Key(str),
    "enlarge": Key(int, low=1, high=100_000),
}
_HEADER = {
    "spaces": Key(dict, keys=_SPACES),
    "config": Key(dict),
    "environment": Key(str),
}


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
        The disk is full, or the class is not registered: nothing could load the file.
    """
    facts: JsonObject = {"spaces": agent.spaces.to_json(), "environment": environment}
    return write_model(agent, "agent", path, facts, meta=meta)


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
    file = read_model(source, "agent", _HEADER)
    header = file.header
    with file.described():
        make = registry.model_class(header["kind"], "agent")
        agent = make(Spaces.from_json(header["spaces"]), **header["config"])
    containers.assign(agent.parameters, file.arrays, file.path)
    if isinstance(agent, DQN):
        agent.synchronize()  # a file has the main network alone
    return agent, header["environment"]
