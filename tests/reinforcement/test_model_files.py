"""Model files of agents: what is saved is loaded, and what is damaged is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlmie
from dlmie.errors import WeightsError
from dlmie.files import containers
from dlmie.models import DQN, Policy
from dlmie.models.agents.agent import Spaces
from dlmie.reinforcement.model_files import load, load_with_environment, save_model

SPACES = Spaces((2,), 0, 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    agent = Policy(SPACES, hidden=4, seed=1)
    return save_model(agent, tmp_path / "m.h5", environment="Mine-v0", meta={"recipe": "mine"})


def test_exactly_what_was_saved(file: Path) -> None:
    agent, again = Policy(SPACES, hidden=4, seed=1), dlmie.load(file)
    assert (again.config, again.spaces) == (agent.config, SPACES)
    for one, other in zip(agent.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(one.get_value(), other.get_value())
    assert load_with_environment(file)[1] == "Mine-v0"
    assert containers.load_header(file)["meta"] == {"recipe": "mine"}


def test_main_and_target_network_are_loaded_as_equals(tmp_path: Path) -> None:
    path = save_model(DQN(SPACES, hidden=4, seed=1), tmp_path / "m.h5", environment="Mine-v0")
    agent = dlmie.load(path)
    for main, target in zip(agent.parameters, agent.target_parameters, strict=True):
        np.testing.assert_array_equal(main.get_value(), target.get_value())
        assert main.get_value(borrow=True) is not target.get_value(borrow=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"kind": "softmax"}, "is not an agent but a softmax"),
        ({"spaces": {"shape": [2]}}, "spaces.states is missing"),
        ({"spaces": {**SPACES.to_json(), "actions": 1}}, "damaged description"),
        ({"spaces": {**SPACES.to_json(), "dtype": "text"}}, "damaged description"),
        ({"environment": None}, "environment must be text, not null"),
        ({"config": {"depth": 3}}, "damaged description"),
        ({"spaces": {**SPACES.to_json(), "shape": [3]}}, r"m\.h5"),
    ],
)
def test_a_damaged_header(file: Path, damage: dict[str, Any], message: str) -> None:
    header, arrays = containers.load(file)
    containers.save(file, arrays, {**header, **damage})
    with pytest.raises(WeightsError, match=message):
        load(file)
