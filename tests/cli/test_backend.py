"""Commands with ``--backend jax``: the answers of the C kernels, or one line that says why not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from cli_encoder import ENCODER

from dlmie.backends.choice import current_backend
from dlmie.data.images import load_image

needs_jax = pytest.mark.skipif(not find_spec("jax"), reason="needs JAX: pip install dlmie[gpu]")

Answer = Callable[..., Any]


@pytest.fixture
def answer(invoke: Any) -> Answer:
    """What a command prints as JSON, by a backend."""

    def call(backend: str, *words: object) -> Any:
        result = invoke(*words, "--backend", backend, "--json", "--quiet")
        assert result.exit_code == 0, result.output
        assert current_backend() == "c"  # of this process, as before
        return json.loads(result.stdout)

    return call


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage import data

    path = tmp_path_factory.mktemp("backend") / "cat.png"
    PIL.Image.fromarray(data.chelsea()[::4, ::4]).save(path)
    return path


def test_what_cannot_work_is_one_line(
    fails: Any, scenes: Path, cat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'cuda' is not one of 'c', 'jax'" in fails("classify", cat, "--backend", "cuda", code=2)
    assert "no such option" in fails("prepare", scenes, "--backend", "jax", code=2).lower()
    monkeypatch.setattr("dlmie.backends.choice.find_spec", lambda name: name)
    tuning = ("--model", "show-attend-tell", "--finetune", "block4", *ENCODER)
    line = fails("train", scenes, "--to", tmp_path / "run", *tuning, "--backend", "jax", code=2)
    assert "training the encoder (--finetune) works on the C backend only" in line
    line = fails(
        *("train", "FrozenLake-v1", "--model", "q-table", "--to", tmp_path / "lake"),
        *("--backend", "jax"),
        code=2,
    )
    assert "training an agent works on the C backend only" in line
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "jax", None)
    line = fails("classify", cat, "--backend", "jax")
    assert "the backend jax needs JAX" in line
    assert "-m pip install 'dlmie[gpu]'" in line


@needs_jax
def test_doctor_names_the_devices(answer: Answer, invoke: Any) -> None:
    checks = json.loads(invoke("doctor", "--json").stdout)["checks"]
    assert checks["JAX"]["devices"]


@needs_jax
@pytest.mark.slow
def test_a_captioner_from_features_to_captions(
    answer: Answer, scenes: Path, cat: Path, tmp_path: Path
) -> None:
    written = {}
    for backend in ("c", "jax"):
        features = tmp_path / f"{backend}.features.h5"
        answer(backend, "features", scenes, *ENCODER, "--to", features)
        written[backend] = features
    model = ("--model", "show-attend-tell", "--embedding", 16, "--hidden", 24, "--attention", 8)
    training = ("--lr", 0.01, "--batch", 32, "--epochs", 2)
    run = tmp_path / "run"
    told = answer(
        *("jax", "train", scenes, "--to", run, "--features", written["jax"]),
        *(*ENCODER, *model, *training),
    )
    assert told["epochs"] == 2
    told = answer("jax", "train", "--resume", run, "--epochs", 3)
    assert told["epochs"] == 3
    scores = [
        answer(backend, "evaluate", run, "--split", "dev", "--features", written[backend])
        for backend in ("c", "jax")
    ]
    for key in ("bleu_4", "cider_d"):
        values = [find(document, key) for document in scores]
        assert values[1] == pytest.approx(values[0], abs=1e-6)
    said = [answer(backend, "caption", run, cat, "--beam", 3) for backend in ("c", "jax")]
    assert said[1][0]["caption"] == said[0][0]["caption"]
    assert said[1][0]["log_probability"] == pytest.approx(said[0][0]["log_probability"], abs=1e-3)


def find(document: Any, key: str) -> float:
    """The first number of that name in a document."""
    if isinstance(document, dict):
        if isinstance(document.get(key), int | float):
            return float(document[key])
        for value in document.values():
            try:
                return find(value, key)
            except KeyError:
                continue
    raise KeyError(key)


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("saliency", "CAT", "--method", "gradient"),
        ("saliency", "CAT", "--method", "grad-cam"),
        ("visualize", "--target", 292, "--size", 64, "--steps", 2),
        ("activations", "CAT", "--layer", "block4"),
        ("invert", "CAT", "--layer", "stem", "--steps", 2),
        ("dream", "CAT", "--longer", 64, "--octaves", 1, "--steps", 1),
        ("style", "--content", "CAT", "--style", "ROCKET", "--longer", 64, "--steps", 2),
    ],
    ids=lambda words: str(words[0]),
)
def test_pictures_are_those_of_the_c_kernels(
    words: tuple[object, ...], answer: Answer, cat: Path, tmp_path: Path
) -> None:
    """But for some pixels by one step of 256, where a number is rounded the other way."""
    from skimage import data

    rocket = tmp_path / "rocket.png"
    PIL.Image.fromarray(data.rocket()[::4, ::4]).save(rocket)
    named = {"CAT": cat, "ROCKET": rocket}
    command = [named.get(word, word) for word in words]
    made = []
    for backend in ("c", "jax"):
        out = tmp_path / f"{backend}.png"
        answer(backend, *command, "-o", out)
        made.append(load_image(out).astype(int))
    assert made[0].shape == made[1].shape
    assert np.mean(np.abs(made[0] - made[1])) < 0.5


@needs_jax
@pytest.mark.slow
def test_a_network_is_fooled_alike(answer: Answer, cat: Path, tmp_path: Path) -> None:
    """Pixels follow the signs of gradients, some of which are nearly zero."""
    told = [answer(b, "fool", cat, "-o", tmp_path / f"{b}.png") for b in ("c", "jax")]
    assert told[0]["fooled"]
    assert told[1]["fooled"]
    assert told[1]["to"] == told[0]["to"]
