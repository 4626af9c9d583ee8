"""What one does with classifiers beside training: search, draw, classify, look for neighbors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from classification_cases import make_data

OPTIONS = ("--model", "two-layer", "--hidden", 6, "--epochs", 2, "--batch", 20, "--lr", 0.02)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_data(tmp_path_factory.mktemp("classifiers"))
    made.close()
    return made.path


@pytest.fixture(scope="module")
def run(data: Path, invoke: Any) -> Path:
    to = data.parent / "run"
    result = invoke("train", data, "--to", to, *OPTIONS, "--normalization", "per-channel")
    assert result.exit_code == 0, result.output
    return to


def answer(invoke: Any, *words: Any) -> Any:
    result = invoke(*words, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_grid_is_searched_and_continued(data: Path, invoke: Any, tmp_path: Path) -> None:
    to, figure = tmp_path / "s", tmp_path / "map.png"
    over = ("--over", "lr=1e-5,0.03", "--over", "regularization=0,0.001")
    words = ("search", data, "--to", to, *OPTIONS[:-2], *over)
    found = answer(invoke, *words, "--figure", figure)
    assert [trial["values"] for trial in found["trials"]] == [
        {"lr": lr, "regularization": r} for lr in ("1e-5", "0.03") for r in ("0", "0.001")
    ]
    scores = [trial["score"] for trial in found["trials"]]
    assert found["best"]["score"] == max(scores) > scores[0]
    assert [trial["best"] for trial in found["trials"]].count(True) == 1
    config = json.loads((to / "lr=0.03,regularization=0.001" / "config.json").read_text())
    assert config["model"]["config"]["regularization"] == 0.001
    assert config["model"]["config"]["hidden"] == 6
    assert figure.stat().st_size > 1000
    # Known trials are not made again; one that is not known yet is.
    document = json.loads((to / "search.json").read_text())
    last = document["trials"].pop()
    (to / "search.json").write_text(json.dumps(document))
    before = (to / "lr=1e-5,regularization=0" / "log.jsonl").stat().st_mtime_ns
    again = answer(invoke, *words)
    assert [trial["score"] for trial in again["trials"]] == scores
    assert again["trials"][-1]["values"] == last["values"]
    assert (to / "lr=1e-5,regularization=0" / "log.jsonl").stat().st_mtime_ns == before
    text = invoke(*words, "--quiet").stdout
    assert text.splitlines()[0].split() == ["lr", "regularization", "accuracy"]
    assert text.count("*") == 1


def test_folds_of_drawn_options(data: Path, invoke: Any, tmp_path: Path) -> None:
    words = ("search", data, "--to", tmp_path / "s", *OPTIONS[:-2], "--over", "lr=1e-3..0.1")
    found = answer(invoke, *words, "--random", 1, "--folds", 3)
    (trial,) = found["trials"]
    assert len(trial["scores"]) == 3
    assert trial["score"] == pytest.approx(np.mean(trial["scores"]))
    (folder,) = (tmp_path / "s").glob("lr=*")
    assert sorted(path.name for path in folder.iterdir()) == ["fold0", "fold1", "fold2"]
    config = json.loads((folder / "fold1" / "config.json").read_text())
    assert (config["training"]["folds"], config["training"]["fold"]) == (3, 1)
    log = [json.loads(line) for line in (folder / "fold1" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log if "epoch" in r] == [2, 4]  # 40 images of 60, 20 at a time


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--over", "lr=1..2"), "lr is a range: say how many values to draw (--random N)"),
        (("--over", "depth=1"), "--over depth: dlmie train has no such option"),
        (("--over", "lr=x"), "'x' is not a number"),
        (("--over", "lr=1", "--lr", 2), "--lr is given and searched: give one"),
        (("--over", "norm=batch"), "--norm is not an option of two-layer, which has --hidden"),
        (("--over", "lr=1", "--resume", "a"), "--resume has no meaning in a search"),
        (("--over", "lr=1", "--colour", 2), "dlmie search: no such option '--colour'"),
        (("--over", "optimizer=sgd,adam", "--figure", "f.png"), "numbers, which optimizer is not"),
        (("--over", "lr=1", "--figure", "f.txt"), "--figure f.txt must end in .png, .pdf or .svg"),
    ],
)
def test_searches_that_cannot_be(
    data: Path, fails: Callable[..., str], tmp_path: Path, words: tuple[Any, ...], message: str
) -> None:
    to = tmp_path / "s"
    code = 1 if "range" in message else 2
    line = fails("search", data, "--to", to, "--model", "two-layer", *words, code=code)
    assert message in line
    assert not to.exists()


def test_curves(run: Path, invoke: Any, fails: Callable[..., str], tmp_path: Path) -> None:
    to = tmp_path / "curves.png"
    assert answer(invoke, "curves", run, "--to", to)["runs"] == [str(run)]
    assert to.stat().st_size > 1000
    assert "is not a run folder" in fails("curves", tmp_path, "--to", tmp_path / "c.png")
    line = fails("curves", run, "--to", tmp_path / "c.txt", code=2)
    assert "must end in .png, .pdf or .svg" in line


def test_weights(run: Path, invoke: Any, fails: Callable[..., str], tmp_path: Path) -> None:
    to = tmp_path / "weights.png"
    assert answer(invoke, "weights", run, "--to", to)["units"] == 6
    with PIL.Image.open(to) as picture:
        assert picture.size[0] > 100
    line = fails("weights", "flickr8k", "--to", tmp_path / "w.png")
    assert "flickr8k is not a classifier" in line


def test_errors_and_samples(
    run: Path, data: Path, invoke: Any, fails: Callable[..., str], tmp_path: Path
) -> None:
    samples = tmp_path / "samples.png"
    assert answer(invoke, "inspect", data, "--samples", samples)["type"] == "labelled"
    assert samples.stat().st_size > 1000
    line = fails("inspect", run / "best.h5", "--samples", tmp_path / "no.png", code=2)
    assert "--samples shows labeled images" in line
    line = fails("evaluate", run, run, "--errors", tmp_path / "e.png", code=2)
    assert "--errors shows what one classifier mistakes" in line
    line = fails("evaluate", "flickr8k", "--errors", tmp_path / "e.png", code=2)
    assert "--errors does not apply to captioners" in line
    untrained = tmp_path / "bad"
    invoke("train", data, "--to", untrained, *OPTIONS[:-2], "--lr", 1e-9, "--epochs", 1)
    found = answer(invoke, "evaluate", untrained, "--errors", tmp_path / "e.png")
    assert found["accuracy"] < 1
    assert Path(found["errors"]).stat().st_size > 1000


def test_classify(run: Path, invoke: Any, fails: Callable[..., str], tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    pixels = np.full((20, 30, 3), 90, np.uint8)
    pixels[..., 0] += 70
    PIL.Image.fromarray(pixels).save(photo)
    (found,) = answer(invoke, "classify", run, photo, "--top", 2)
    assert found["image"] == str(photo)
    assert found["top"][0]["label"] == "red"
    assert len(found["top"]) == 2
    assert "red" in invoke("classify", run / "best.h5", photo).stdout
    assert answer(invoke, "classify", run, "--list") == ["blue", "green", "red"]
    (tmp_path / "no.png").write_text("no image")
    result = invoke("classify", run, photo, tmp_path / "no.png", "--json")
    assert result.exit_code == 0
    good, bad = json.loads(result.stdout)
    assert good == found | {"top": good["top"]}
    assert "no.png" in bad["error"]
    line = fails("classify", run, photo, "--encoder", "vgg16", code=2)
    assert "--encoder does not apply to" in line
    assert "name at least one image" in fails("classify", run, code=2)


def test_neighbors(data: Path, invoke: Any, fails: Callable[..., str], tmp_path: Path) -> None:
    figure, drawn = tmp_path / "cv.png", tmp_path / "map.png"
    words = ("neighbors", data, "--k", "1,3,7", "--folds", 4, "--figure", figure, "--map", drawn)
    found = answer(invoke, *words)
    assert (found["remembered"], found["images"]) == (60, 10)
    assert found["accuracy"] == found["accuracies"][str(found["best_k"])]
    assert set(found["cross_validation"]) == {"1", "3", "7"}
    means = {int(k): np.mean(each) for k, each in found["cross_validation"].items()}
    assert means[found["best_k"]] == max(means.values())
    assert figure.stat().st_size > 1000
    with PIL.Image.open(drawn) as picture:
        assert picture.size == (60, 10)
    text = invoke("neighbors", data, "--k", "1", "--metric", "l1", "--split", "dev").stdout
    assert "1 *" in text
    assert "of 20" in text
    assert "give whole numbers above 0" in fails("neighbors", data, "--k", "0,x", code=2)
    assert "k is 50" in fails("neighbors", data, "--k", "50")
