"""Which rows there are, with and without PyTorch, and that their checks can fail."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import rows
from benchmarks.agreement import Disagreement
from dlmie.cli.commands.bench import use_benchmarks
from dlmie.errors import DataError


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch is not installed, and no benchmark is loaded that has imported it."""
    for name in [n for n in sys.modules if n.startswith("benchmarks.")]:
        if name not in ("benchmarks.rows", "benchmarks.timing", "benchmarks.agreement"):
            monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)

    class Refuse:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] == "torch":
                raise ModuleNotFoundError(f"No module named {name!r}", name="torch")

    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])


@pytest.mark.usefixtures("no_torch")
def test_without_pytorch_each_row_says_so_and_those_that_need_it_not_are_there() -> None:
    found, reasons = rows.load()
    assert set(found) >= set(rows.GOALS)
    assert "pip install torch" in reasons["encoders"]
    assert "compiling" not in reasons
    with pytest.raises(rows.Unavailable, match="not installed: pip install torch"):
        found["vgg16_training"]()


def test_a_module_that_cannot_be_loaded_loses_only_its_own_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.import_module

    def broken(name: str) -> Any:
        if name == "benchmarks.compiling":
            raise ImportError("cannot import name 'step'")
        return real(name)

    monkeypatch.setattr(rows.importlib, "import_module", broken)
    found, reasons = rows.load()
    assert reasons["compiling"] == "ImportError: cannot import name 'step'"
    assert "memory_vgg16_training" in found
    with pytest.raises(rows.Unavailable, match="cannot import name"):
        found["compile_warm"]()


def test_every_row_with_a_goal_is_in_its_module() -> None:
    pytest.importorskip("torch")
    found, reasons = rows.load()
    assert not reasons
    assert list(found)[: len(rows.GOALS)] == list(rows.GOALS)
    for name, goal in rows.GOALS.items():
        assert name in importlib.import_module(f"benchmarks.{goal.module}").ROWS


def test_entries_have_all_fields_whatever_happens() -> None:
    measured = rows.measure("vgg16_forward", lambda: {"dlmie_s": 1.0, "ratio": 2.0})
    failed = rows.failed("vgg16_forward", DataError("the file\nis gone"))
    for entry in (measured, failed):
        assert {*rows.COLUMNS, "name", "ratio", "goal", "spread"} <= set(entry)
        assert entry["goal"] == 1.7
    assert failed["error"] == "the file is gone"
    assert "error" not in measured
    assert rows.failed("beam5", ValueError("a\n b"))["error"] == "ValueError: a b"
    assert rows.failed("beam5", MemoryError())["error"] == "MemoryError"
    assert rows.failed("efficientnet_lite0_forward", MemoryError())["goal_eager"] == 1.9


@pytest.fixture
def small() -> Any:
    """A convolution that is measured in a moment."""
    pytest.importorskip("torch")
    return importlib.import_module("benchmarks.convolution"), (2, 5, 7, 12)


def test_a_right_kernel_is_measured(small: Any) -> None:
    module, sizes = small
    entry = module.compare(module.Layer(*sizes))
    assert entry["agreement"]["share"] == 1
    assert entry["ratio"] > 0


@pytest.mark.parametrize("work", ["forward", "input_gradient", "weight_gradient"])
def test_a_wrong_kernel_is_caught(small: Any, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, sizes = small
    right = module.function

    def wrong(inputs: Any, output: Any) -> Any:
        run = right(inputs, output)

        def call(*arrays: np.ndarray) -> np.ndarray:
            result = run(*arrays)
            result[..., -1] = 0  # it forgets the last column
            return result

        return call

    monkeypatch.setattr(module, "function", wrong)
    row = partial(module.compare, module.Layer(*sizes), work)
    with pytest.raises(Disagreement, match="dlmie and PyTorch differ"):
        row()


@pytest.mark.parametrize(
    ("part", "sizes"),
    [
        ("embedding_gradient", {"words": 50}),
        ("cross_entropy", {"rows": 4, "words": 11}),
        ("adam", {"words": 10}),
    ],
)
def test_the_parts_of_a_training_step_agree(part: str, sizes: dict[str, int]) -> None:
    pytest.importorskip("torch")
    measure = getattr(importlib.import_module("benchmarks.recurrent_parts"), part)
    assert measure(**sizes)["agreement"]["share"] == 1


def test_a_wrong_gradient_through_max_pools_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    encoders = importlib.import_module("benchmarks.encoders")
    module = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype("float32")
    (right,) = encoders._input_gradient(module, torch.from_numpy(x))
    case = encoders.Case(
        *(lambda: [right.numpy()], module, x, encoders._input_gradient),
        encoders.THROUGH_MAX_POOLS,
    )
    assert case.race()["agreement"]["norm"] < 1e-6
    wrong = right.numpy().copy()
    wrong[:, 1] *= 1.1
    case = encoders.Case(
        *(lambda: [wrong], module, x, encoders._input_gradient), encoders.THROUGH_MAX_POOLS
    )
    with pytest.raises(Disagreement, match="of the norm"):
        case.race()


def test_another_folder_takes_the_place_of_the_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = sys.modules["benchmarks"]
    for name in [name for name in sys.modules if name.startswith("benchmarks.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "benchmarks", loaded)  # and back again after the test
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "rows.py").write_text("GOALS = {}\n")
    use_benchmarks(folder)
    assert importlib.import_module("benchmarks.rows").GOALS == {}
