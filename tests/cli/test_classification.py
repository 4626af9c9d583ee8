"""train, evaluate and inspect with classifiers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classification_cases import make_data

from dlmie.data.labelled.normalization import KINDS
from dlmie.files import containers


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_data(tmp_path_factory.mktemp("cli"))
    made.close()
    return made.path


@pytest.fixture(scope="module")
def run(data: Path, invoke: Any) -> Path:
    to = data.parent / "run"
    options = ("--normalization", "per-channel", "--epochs", 3, "--batch", 16, "--lr", 0.05)
    more = ("--regularization", 0.001, "--schedule", "cosine", "--flip", "--shift", 1)
    result = invoke("train", data, "--model", "softmax", "--to", to, *options, *more, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["monitor"] == "accuracy"
    assert document["epochs"] == 3
    assert document["best"] > 0.8
    return to


def test_what_was_asked_for_is_in_the_configuration(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["config"]["regularization"] == 0.001
    assert config["normalization"] == "per-channel"
    assert config["training"]["flip"] is True
    assert config["training"]["batch"] == 16
    assert [link["transform"] for link in config["optimizer"]] == ["clip_norm", "adam"]


def test_evaluate(run: Path, data: Path, invoke: Any) -> None:
    result = invoke("evaluate", run, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = [record for record in logged if record.get("best")][-1]
    assert document["accuracy"] == best["accuracy"]
    assert np.array(document["confusion"]).sum() == 20
    assert set(document["per_class"]) == {"blue", "green", "red"}
    assert document["protocol"]["split"] == "dev"
    result = invoke("evaluate", run, "--split", "test")
    assert "10 images of test" in result.stdout
    assert "most taken for" in result.stdout


def test_several_are_shown_side_by_side(run: Path, data: Path, invoke: Any) -> None:
    result = invoke("evaluate", run, run / "best.h5", "--data", data)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["model", "accuracy", "loss"]
    assert len(result.stdout.splitlines()) == 3


def test_resume(run: Path, data: Path, invoke: Any, tmp_path: Path) -> None:
    options = ("--epochs", 1, "--batch", 16, "--lr", 0.05)
    words = ("train", data, "--model", "linear-svm", "--quiet")
    invoke(*words, "--to", tmp_path / "a", *options)
    result = invoke("train", "--resume", tmp_path / "a", "--epochs", 3, "--quiet")
    assert result.exit_code == 0, result.output
    assert "3 epochs, best accuracy" in result.stdout
    invoke(*words, "--to", tmp_path / "b", "--epochs", 3, *options[2:])
    one, other = (containers.load(tmp_path / name / "state.h5")[1] for name in "ab")
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name


def test_inspect(run: Path, invoke: Any) -> None:
    text = invoke("inspect", run).stdout
    assert "softmax" in text
    assert "best" in text
    assert "accuracy" in text
    document = json.loads(invoke("inspect", run / "best.h5", "--json").stdout)
    assert document["kind"] == "softmax"
    assert document["classes"] == ["blue", "green", "red"]
    assert document["arrays"]["/normalization/mean"] == [3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--beam", 3), "--beam has no meaning for softmax"),
        (("--crops", 3), "--crops has no meaning for softmax"),
        (("--alpha-penalty", 0.5), "--alpha-penalty has no meaning for softmax"),
        (("--encoder", "vgg16"), "--encoder has no meaning for softmax"),
        (("--from", "runs/a"), "--from has no meaning for softmax"),
        (("--teacher", "runs/a"), "--teacher has no meaning for softmax"),
        (("--margin", 2), "--margin has no meaning in cross entropy training"),
        (("--hidden", 10), "--hidden is not an option of softmax, which has --weight-scale"),
        (("--set", "training.crops=1"), "no such setting"),
        (("--normalization", "batch"), "'batch' is not one of"),
        (("--shift", -1), "-1 is too small"),
    ],
)
def test_misuse(
    data: Path,
    fails: Callable[..., str],
    tmp_path: Path,
    words: tuple[Any, ...],
    message: str,
) -> None:
    line = fails("train", data, "--model", "softmax", "--to", tmp_path / "r", *words, code=2)
    assert message in line
    assert not (tmp_path / "r").exists()


def test_options_of_classifiers_mean_nothing_for_captioners(
    data: Path, fails: Callable[..., str], tmp_path: Path
) -> None:
    for words, message in (
        (("--normalization", "none"), "--normalization has no meaning for show-tell"),
        (("--shift", 2), "--shift has no meaning for show-tell"),
        (("--regularization", 0.1), "--regularization is not an option of show-tell"),
    ):
        assert message in fails("train", data, "--to", tmp_path / "r", *words, code=2)


def test_data_of_the_wrong_kind(
    data: Path, scenes: Path, fails: Callable[..., str], tmp_path: Path
) -> None:
    to = ("--to", tmp_path / "r")
    line = fails("train", scenes, "--model", "softmax", *to)
    assert "is a dlmie.captions file, not prepared labeled images" in line
    line = fails("train", data, *to)
    assert "is a dlmie.labelled file, not prepared captions" in line


def test_evaluate_refuses_what_does_not_apply(
    run: Path, fails: Callable[..., str], tmp_path: Path
) -> None:
    assert "--beam does not apply to classifiers" in fails("evaluate", run, "--beam", 3, code=2)
    assert "no split 'held'; it has train, dev, test" in fails("evaluate", run, "--split", "held")
    assert "say what to evaluate on with --data" in fails("evaluate", run / "best.h5", code=2)
    line = fails("evaluate", run, "flickr8k", code=2)
    assert "captioners and classifiers one after the other" in line
    line = fails("evaluate", f"{run},{run}", code=2)
    assert "only captioners decide together: name classifiers with spaces" in line


def test_normalizations_are_those_that_there_are() -> None:
    from dlmie.cli.commands.train import command

    (option,) = (param for param in command.params if param.name == "normalization")
    assert list(option.type.choices) == list(KINDS)  # type: ignore[attr-defined]
