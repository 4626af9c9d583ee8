"""train, evaluate, play and inspect with agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

pytest.importorskip("gymnasium")

from agent_cases import ID


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, invoke: Any) -> Path:
    to = tmp_path_factory.mktemp("agents") / "lake"
    name = "FrozenLake-v1?is_slippery=false"
    options = ("--epochs", 2, "--episodes", 150, "--test-episodes", 5, "--epsilon-steps", 1500)
    result = invoke("train", name, "--model", "q-table", "--to", to, *options, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["monitor"] == "reward"
    assert document["best"] == 1
    return to


def test_the_usual_recipe_is_followed(lake: Path) -> None:
    config = json.loads((lake / "config.json").read_text())
    assert config["task"] == "reinforcement"
    assert config["meta"]["recipe"] == "q-table"
    assert config["objective"]["kind"] == "q-learning"
    assert config["objective"]["epsilon_steps"] == 1500
    assert [link["transform"] for link in config["optimizer"]] == ["sgd"]
    assert config["data"]["path"] == "FrozenLake-v1?is_slippery=false"


def test_evaluate(lake: Path, invoke: Any) -> None:
    result = invoke("evaluate", lake, "--episodes", 4, "--seeds", 2, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["reward"] == 1.0
    assert document["optimum"] == 1.0
    assert document["by_seed"] == [1.0, 1.0]
    assert document["protocol"]["episodes"] == 4
    result = invoke("evaluate", lake, "--episodes", 4)
    assert "reward 1.0000 ± 0.0000 over 12 episodes" in result.stdout
    assert "optimum 1.0000" in result.stdout
    result = invoke("evaluate", lake, lake / "best.h5", "--episodes", 2)
    assert result.stdout.splitlines()[-1].startswith("mean ± std")


def test_play(lake: Path, invoke: Any, tmp_path: Path) -> None:
    pytest.importorskip("pygame")
    result = invoke("play", lake, "--to", tmp_path / "episode.gif", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["reward"] == 1.0
    assert document["steps"] == 6  # the shortest way
    with PIL.Image.open(tmp_path / "episode.gif") as image:
        assert image.n_frames == 7


def test_inspect_and_resume(lake: Path, invoke: Any) -> None:
    assert "q-learning" in invoke("inspect", lake).stdout
    result = invoke("train", "--resume", lake, "--quiet")
    assert "its 2 epochs are done" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "CartPole-v1", "--model", "q-table"), "use dqn or policy"),
        (("train", "FrozenLake-v1", "--model", "policy"), "use q-table or q-network"),
        (("train", "FrozenLak-v1", "--model", "q-table"), "no environment 'FrozenLak-v1'"),
        (("train", "FrozenLake-v1", "--model", "q-table", "--flip"), "no meaning for q-table"),
        (("train", "FrozenLake-v1", "--model", "q-table", "--double"), "no meaning in q learning"),
        (("train", "FrozenLake-v1", "--model", "q-table", "--limit", 5), "--episodes"),
        (("train", ID, "--model", "dqn", "--error", "absolute"), "no error 'absolute'"),
    ],
)
def test_misuse_is_one_line(
    words: tuple[Any, ...], message: str, invoke: Any, tmp_path: Path
) -> None:
    result = invoke(*words, "--to", tmp_path / "run")
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_options_of_others_are_refused(lake: Path, invoke: Any, tmp_path: Path) -> None:
    assert "does not apply to agents" in invoke("evaluate", lake, "--beam", 3).stderr
    assert "must end in .gif" in invoke("play", lake, "--to", tmp_path / "a.png").stderr
    wrong = invoke("evaluate", lake, "--data", "CartPole-v1")
    assert "not what the agent was made for" in wrong.stderr
