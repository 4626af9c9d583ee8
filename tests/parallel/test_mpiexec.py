"""Several ranks, as ``mpiexec`` starts them: the same results, and one end for all."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import captioning_cases
import classification_cases
import double_precision
import mpi_programs as mpi
import numpy as np
import PIL.Image
import pytest
from cli_encoder import ENCODER

from dlmie.files import containers
from dlmie.training.runs import read_log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MODEL = ("--embedding", 16, "--hidden", 24, "--batch", 16, "--quiet")
QUICK = ("--set", "training.decoding.beam=1", "--set", "training.checkpoint_every=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes, their features, and a trained captioner: ``run``."""
    mpi.need_mpich()
    folder = tmp_path_factory.mktemp("mpi")
    counts = ("--train", 24, "--dev", 6, "--test", 6)
    mpi.dlmie(1, "prepare", "scenes", "--to", "scenes.h5", *counts, "--quiet", cwd=folder)
    mpi.dlmie(1, *train("run", "--epochs", 2, "--dropout", 0.0), cwd=folder)
    return folder


def train(to: str, *options: object) -> tuple[object, ...]:
    return ("train", "scenes.h5", "--to", to, *ENCODER, *MODEL, *QUICK, *options)


def epochs(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_log(run) if "epoch" in record]


def same_bits(one: Path, other: Path) -> bool:
    for name in ("state.h5", "best.h5"):
        (_, a), (_, b) = containers.load(one / name), containers.load(other / name)
        assert sorted(a) == sorted(b)
        if any(a[key].tobytes() != b[key].tobytes() for key in a):
            return False
    return True


def check_same_learning(
    one: Path, other: Path, tolerance: float, *, ignored: tuple[str, ...] = ("seconds",)
) -> None:
    """Losses and scores agree as far as sums in another order do."""
    ours, theirs = epochs(one), epochs(other)
    assert len(ours) == len(theirs) > 0
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.keys() == its.keys()
        for name in mine.keys() - {*ignored}:
            assert mine[name] == pytest.approx(its[name], abs=tolerance), name


def test_two_ranks_learn_what_one_does(place: Path) -> None:
    mpi.dlmie(2, *train("two", "--epochs", 2, "--dropout", 0.0), cwd=place)
    check_same_learning(place / "run", place / "two", 1e-4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, captioned and labeled, for `double_precision`."""
    folder = tmp_path_factory.mktemp("tiny")
    captioning_cases.make_data(folder)
    classification_cases.make_data(folder)
    return folder


@pytest.mark.parametrize("way", [*double_precision.WAYS, "classifier"])
def test_ways_of_training_are_the_same_with_two_ranks(way: str, tiny: Path) -> None:
    """In double precision, at learning rates that let rounding grow: where a gradient is next to
    nothing, Adam's division makes 1e-10 of 1e-16 within two epochs of fine-tuning.
    """
    for ranks in (1, 2):
        mpi.run(ranks, double_precision.__file__, way, f"{way}-{ranks}", cwd=tiny)
    one, two = (tiny / f"{way}-{ranks}" for ranks in (1, 2))
    (_, ours), (_, theirs) = (containers.load(run / "state.h5") for run in (one, two))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-9, err_msg=name)
    # The reward that is logged is the mean of the ranks' by their words.
    ignored = ("seconds", "loss") if way == "self-critical" else ("seconds",)
    check_same_learning(one, two, 1e-9, ignored=ignored)


def test_dropout_of_two_ranks_is_repeated(place: Path) -> None:
    for to in ("drop-1", "drop-2"):
        mpi.dlmie(2, *train(to, "--epochs", 2, "--dropout", 0.5), cwd=place)
    assert same_bits(place / "drop-1", place / "drop-2")
    assert not same_bits(place / "drop-1", place / "run")


def test_shards_give_the_same_bits_on_any_number_of_ranks(place: Path) -> None:
    options = ("--dropout", 0.5, "--shards", 4)
    for ranks, count in ((1, 2), (2, 2), (4, 1)):
        mpi.dlmie(ranks, *train(f"shards-{ranks}", *options, "--epochs", count), cwd=place)
    mpi.dlmie(2, "train", "--resume", "shards-4", "--epochs", 2, "--quiet", cwd=place)
    for ranks in (2, 4):
        assert same_bits(place / "shards-1", place / f"shards-{ranks}")
        check_same_learning(place / "shards-1", place / f"shards-{ranks}", 0)


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A run of two ranks that nobody stopped."""
    mpi.dlmie(2, *train("whole", "--epochs", 4, "--dropout", 0.2), cwd=place)
    return place / "whole"


def steps(run: Path) -> int:
    """Steps in the last checkpoint; 0 where there is none yet."""
    path = run / "state.h5"
    return int(containers.load(path)[0]["position"]["step"]) if path.exists() else 0


def stop(place: Path, to: str, send: Any) -> subprocess.CompletedProcess[str]:
    """Start two ranks, and stop them after some steps."""
    words = train(to, "--epochs", 4, "--dropout", 0.2)
    with mpi.start(2, "-m", "dlmie", *words, cwd=place) as process:
        mpi.wait_for(lambda: steps(place / to) >= 4, process)
        send(process)
        out, err = process.communicate(timeout=60)  # it hangs no longer than this
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def test_a_rank_that_is_killed_ends_all_and_the_run_goes_on(place: Path, whole: Path) -> None:
    def kill(process: object) -> None:
        mpi.os.kill(mpi.process_of_rank(1, "killed"), signal.SIGKILL)

    assert stop(place, "killed", kill).returncode != 0
    assert len(epochs(place / "killed")) < 4
    mpi.dlmie(2, "train", "--resume", "killed", "--quiet", cwd=place)
    assert same_bits(place / "killed", whole)


def test_ctrl_c_saves_at_one_batch(place: Path, whole: Path) -> None:
    done = stop(place, "stopped", lambda process: process.send_signal(signal.SIGINT))
    assert done.stderr.count("finishing this batch, then saving") == 1
    assert done.stderr.count("continue with: dlmie train --resume stopped") == 1
    assert len(epochs(place / "stopped")) < 4
    mpi.dlmie(2, "train", "--resume", "stopped", "--quiet", cwd=place)
    assert same_bits(place / "stopped", whole)


SCRIPT = """
import sys
from dlmie.parallel import together, world
with together():
    ranks = world()
    assert ranks.everyone(ranks.rank) == [0, 1]
    assert ranks.of_first(ranks.rank) == 0
    assert ranks.agreed("two" if ranks.rank else None) == "two"
    failing = sys.argv[1]
    if failing == "first":
        ranks.on_first(lambda: 1 / 0)
    if failing == "all" or (failing == "one" and ranks.rank == 1):
        raise ValueError("something is wrong")
    ranks.wait()
"""


@pytest.mark.parametrize(
    ("failing", "told"), [("one", "rank 1 of 2 failed"), ("all", ""), ("first", ""), ("none", "")]
)
def test_an_error_ends_all_and_is_told_once(failing: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(SCRIPT)
    with mpi.start(2, "fails.py", failing, cwd=tmp_path) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == (0 if failing == "none" else 1)
    error = "ZeroDivisionError" if failing == "first" else "ValueError: something is wrong"
    assert err.count(error) == (0 if failing == "none" else 1)
    assert told in err
    assert ("which ends the others" in err) == (failing == "one")


def test_what_cannot_be_shared_out_is_refused_once(place: Path) -> None:
    for words, code, reason in (
        (("demo",), 2, "demo runs in one process: start it without mpiexec"),
        (("train", "missing.h5", "--to", "x"), 1, "missing.h5"),
        (train("x", "--shards", 3), 1, "power of two"),
        (train("run"), 1, "run holds a run already"),
    ):
        err = mpi.dlmie(2, *words, cwd=place, code=code).stderr
        assert err.count(reason) == 1, err
    assert not (place / "x").exists()


def test_features_are_byte_for_byte_those_of_one(place: Path) -> None:
    words = ("features", "scenes.h5", *ENCODER, "--flip", "--quiet", "--to")
    for ranks in (1, 2):
        mpi.dlmie(ranks, *words, f"features-{ranks}.h5", cwd=place)
    one, two = ((place / f"features-{n}.h5").read_bytes() for n in (1, 2))
    assert one == two


@pytest.fixture(scope="module")
def photographs(place: Path) -> Path:
    folder = place / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(14):
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:02}.png")
    for name in ("05.png", "11.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


@pytest.mark.parametrize("to", [None, "captions.json"])
def test_photographs_are_captioned_in_order(to: str | None, place: Path, photographs: Path) -> None:
    said = []
    for ranks in (1, 2):
        output = () if to is None else ("--output", f"{ranks}-{to}")
        words = ("caption", "run", photographs.name, "--batch", 3, "--json", "--quiet", *output)
        done = mpi.dlmie(ranks, *words, cwd=place)
        for name in ("05.png", "11.png"):
            assert done.stderr.count(f"photographs/{name}") == 1, done.stderr
        assert done.stderr.count("2 of 14 images could not be read") == 1
        said.append(done.stdout if to is None else (place / f"{ranks}-{to}").read_text())
    assert said[0] == said[1]
    assert len(json.loads(said[0])) == 14


def test_scores_and_reports_are_those_of_one(place: Path) -> None:
    for words in (
        ("evaluate", "run", "--split", "train", "--json", "--export", "coco", "--output", "c.json"),
        ("report", "run", "--split", "dev", "--json", "--output", "report.html"),
    ):
        out = [mpi.dlmie(ranks, *words, "--quiet", cwd=place).stdout for ranks in (1, 2)]
        assert out[0] == out[1]
        assert json.loads(out[0])


@pytest.fixture(scope="module")
def counted(place: Path) -> Path:
    mpi.dlmie(1, "prepare", "scenes", "--labels", "count", "--to", "labels.h5", "--train", 60,
              "--dev", 20, "--test", 10, "--size", 32, "--quiet", cwd=place)  # fmt: skip
    return place / "labels.h5"


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_classifiers(norm: str, place: Path, counted: Path, photographs: Path) -> None:
    options = ("--model", "convnet", "--stages", "3,4", "--norm", norm, "--batch", 20, "--lr", 0.01)
    runs = [f"{norm}-{n}" for n in range(3)]
    for to, ranks in zip(runs, (1, 2, 2), strict=True):
        words = ("train", counted.name, *options, "--epochs", 2, "--quiet", "--to", to)
        mpi.dlmie(ranks, *words, cwd=place)
    assert same_bits(place / runs[1], place / runs[2])
    for words in (("classify", runs[0], photographs.name), ("evaluate", runs[0])):
        out = [mpi.dlmie(ranks, *words, "--json", "--quiet", cwd=place).stdout for ranks in (1, 2)]
        assert out[0] == out[1]
        assert json.loads(out[0])


def test_doctor_tells_of_the_ranks(place: Path) -> None:
    done = mpi.dlmie(2, "doctor", "--json", cwd=place)
    assert json.loads(done.stdout)["checks"]["MPI"]["value"].startswith("2 ranks")
