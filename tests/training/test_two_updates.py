"""A task with two objectives and two optimizers: a toy GAN that is killed and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_gan.task import Pair

import dlmie
from dlmie.files import containers
from dlmie.training import registry

SUPPORT = Path(__file__).parents[1] / "support"
OPTIONS = {"epochs": 6, "batch": 50, "monitor": "distance", "checkpoint_every": 7, "seed": 3}
SCRIPT = f"""
import os, sys
sys.path.insert(0, {str(SUPPORT)!r})
import dlmie
from dlmie.training import registry
from toy_gan.task import Pair, PairStep
registry.TASKS["toy"] = "toy_gan"
call = PairStep.__call__
def tell(self, batch):
    result = call(self, batch)
    os.write(1, b".")
    return result
PairStep.__call__ = tell
dlmie.train(dlmie.compile(Pair(), seed=1), sys.argv[1], to=sys.argv[2], progress=False, **{OPTIONS})
"""


@pytest.fixture(autouse=True)
def toy_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "toy", "toy_gan")


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.npy"
    np.save(path, np.random.default_rng(0).normal(2.0, 0.3, 500).astype("float32"))
    return path


def start(points: Path, to: Path) -> dlmie.training.runs.Run:
    return dlmie.train(dlmie.compile(Pair(), seed=1), points, to=to, progress=False, **OPTIONS)


def test_both_sides_learn_and_are_logged(points: Path, tmp_path: Path) -> None:
    run = start(points, tmp_path / "run")
    first, *_, last = [record for record in run.log if "epoch" in record]
    assert {"loss", "right", "generator_loss", "distance"} <= set(last)
    assert last["distance"] < 0.6 < first["distance"] + 0.6
    assert run.position.examples == 6 * 500
    _, state = containers.load(tmp_path / "run" / "state.h5")
    for name in (
        "/optimizer/discriminator/adam/m/discriminator/w",
        "/optimizer/generator/adam/m/generator/a",
        "/optimizer/generator/ema/average/generator/b",
    ):
        assert name in state


def test_killed_and_resumed_it_ends_with_the_same_bits(points: Path, tmp_path: Path) -> None:
    whole = start(points, tmp_path / "whole")
    killed = tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(points), str(killed)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.read(25)
        os.kill(process.pid, signal.SIGKILL)
    run = dlmie.resume(killed, progress=False)
    assert run.position.step == whole.position.step == 60
    one, two = (containers.load(f / "state.h5")[1] for f in (whole.folder, killed))
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array, err_msg=name)
    logs = [[{**r, "seconds": 0} for r in x.log if "epoch" in r] for x in (whole, run)]
    assert logs[0] == logs[1]
