"""Classifiers trained, kept, resumed bit for bit and scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classification_cases import CLASSES, make_data, make_step

import dlmie
from dlmie import optim
from dlmie.classification import ClassScores, save_model
from dlmie.classification.model_files import load
from dlmie.classification.step import ClassificationStep
from dlmie.classification.step import compile as compile_step
from dlmie.data import LabelledBatches, LabelledImages, Normalization
from dlmie.data.labelled.batches import load as load_batch
from dlmie.errors import DataError, DlmieError, MisuseError, WeightsError
from dlmie.files import containers
from dlmie.models import LinearSVM, Softmax
from dlmie.training.runs import Run

OPTIONS: dict[str, Any] = {"epochs": 4, "batch": 16, "progress": False, "seed": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classification")


@pytest.fixture(scope="module")
def data(folder: Path) -> LabelledImages:
    return make_data(folder)


@pytest.fixture(scope="module")
def run(data: LabelledImages, folder: Path) -> Run:
    return dlmie.train(make_step(data), data, to=folder / "run", flip=True, shift=1, **OPTIONS)


def state(folder: Path) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in containers.load(folder / "state.h5")[1].items()}


class TestRun:
    def test_it_learns(self, run: Run) -> None:
        epochs = [record for record in run.log if "epoch" in record]
        assert [record["epoch"] for record in epochs] == [1, 2, 3, 4]
        assert run.position.best == max(record["accuracy"] for record in epochs) == 1
        assert epochs[-1]["loss"] < epochs[0]["loss"]
        assert epochs[-1]["train_accuracy"] > 0.9
        assert {"dev_loss", "seconds", "step"} <= set(epochs[0])

    def test_what_is_kept_is_what_was_measured(self, run: Run, data: LabelledImages) -> None:
        model = dlmie.load(run.folder)
        assert isinstance(model, Softmax)
        assert model.classes == list(CLASSES)
        assert model.normalization.kind == "per-channel"
        scores = dlmie.evaluate(model, data["dev"])
        assert isinstance(scores, ClassScores)
        best = [record for record in run.log if record.get("best")][-1]
        assert scores.accuracy == best["accuracy"]
        assert scores.loss == pytest.approx(best["dev_loss"], rel=1e-6)
        assert dlmie.evaluate(str(run.folder), data["dev"]).accuracy == scores.accuracy

    def test_the_configuration_says_all(self, run: Run, data: LabelledImages) -> None:
        config = json.loads((run.folder / "config.json").read_text())
        assert config["task"] == "classification"
        assert config["model"]["kind"] == "softmax"
        assert config["model"]["config"]["regularization"] == 1e-3
        assert config["objective"] == {"kind": "cross-entropy", "seed": 0, "label_smoothing": 0.0}
        assert config["normalization"] == "per-channel"
        assert config["data"]["hash"] == data.hash
        assert config["training"]["shift"] == 1

    def test_the_same_seed_gives_the_same_bits(
        self, run: Run, data: LabelledImages, tmp_path: Path
    ) -> None:
        again = dlmie.train(make_step(data), data, to=tmp_path / "r", flip=True, shift=1, **OPTIONS)
        assert state(again.folder) == state(run.folder)

    def test_two_epochs_and_two_more_are_four(
        self, run: Run, data: LabelledImages, tmp_path: Path
    ) -> None:
        options = {**OPTIONS, "epochs": 2}
        half = dlmie.train(make_step(data), data, to=tmp_path / "r", flip=True, shift=1, **options)
        assert state(half.folder) != state(run.folder)
        dlmie.resume(half.folder, epochs=4, progress=False)
        assert state(half.folder) == state(run.folder)

    def test_a_normalization_of_ones_own_is_resumed(
        self, data: LabelledImages, tmp_path: Path
    ) -> None:
        """As the course does: images that are few, less the mean of many."""
        mean = np.full((4, 4, 3), 50.0)
        own = Normalization("mean-image", data.shape, mean, np.array([40.0, 40.0, 40.0]))
        kept = data.mean_image.copy()
        whole = dlmie.train(
            make_step(data, normalization=own), data, to=tmp_path / "whole", **OPTIONS
        )
        options = {**OPTIONS, "epochs": 1}
        part = dlmie.train(
            make_step(data, normalization=own), data, to=tmp_path / "part", **options
        )
        dlmie.resume(part.folder, epochs=4, progress=False)
        assert state(part.folder) == state(whole.folder)
        np.testing.assert_array_equal(load(part.folder).normalization.mean, mean)
        np.testing.assert_array_equal(data.mean_image, kept)

    def test_a_svm(self, data: LabelledImages, tmp_path: Path) -> None:
        step = make_step(data, kind=LinearSVM, margin=2.0)
        assert step.kind == "hinge"
        run = dlmie.train(step, data, to=tmp_path / "svm", monitor="dev_loss", **OPTIONS)
        assert run.log[-1]["accuracy"] > 0.8
        assert isinstance(dlmie.load(run.folder), LinearSVM)
        config = json.loads((run.folder / "config.json").read_text())
        assert config["objective"]["margin"] == 2.0


class TestStep:
    def test_one_step_of_descent_by_numpy(self, data: LabelledImages) -> None:
        model = Softmax(
            data.shape,
            data.classes,
            normalization=Normalization.of(data, "per-channel"),
            regularization=0.3,
            weight_scale=0.1,
            dtype="float64",
        )
        W, b = model.linear.W.get_value(), model.linear.b.get_value()
        step = compile_step(model, optim.sgd(0.5))
        step.progress = False
        batch = load_batch(data["train"], model.normalization, np.arange(7), "float64")
        result = step(batch)
        x, y = batch.images.reshape(7, -1), batch.labels
        scores = x @ W + b
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        losses = -np.log(p[np.arange(7), y])
        assert result.sums["loss"] == pytest.approx(losses.sum())  # without the penalty
        assert result.sums["train_accuracy"] == (scores.argmax(axis=1) == y).sum()
        assert (result.weight, result.examples) == (7, 7)
        d = (p - np.eye(3)[y]) / 7
        expected = W - 0.5 * (x.T @ d + 2 * 0.3 * W)
        np.testing.assert_allclose(model.linear.W.get_value(), expected, rtol=1e-12)
        expected = b - 0.5 * (d.sum(axis=0) + 2 * 0.3 * b)
        np.testing.assert_allclose(model.linear.b.get_value(), expected, rtol=1e-12, atol=1e-15)

    def test_a_limit_uses_the_first_images(self, data: LabelledImages) -> None:
        normalization = Normalization.of(data)
        made = list(LabelledBatches(data["train"], normalization, batch=8, limit=20))
        index = np.concatenate([batch.index for batch in made])
        assert sorted(index) == list(range(20))

    def test_what_does_not_fit(self, data: LabelledImages) -> None:
        model = Softmax(data.shape, data.classes)
        with pytest.raises(DlmieError, match="no objective 'mse'"):
            compile_step(model, objective="mse")
        with pytest.raises(DlmieError, match="no option 'margin'"):
            compile_step(model, margin=1.0)
        with pytest.raises(DlmieError, match="label_smoothing must be a number from 0 to 1"):
            compile_step(model, label_smoothing=2.0)
        assert isinstance(dlmie.compile(model, objective="hinge"), ClassificationStep)


class TestData:
    def refuse(self, step: ClassificationStep, data: LabelledImages, to: Path, **options: Any):
        with pytest.raises(DlmieError) as caught:
            dlmie.train(step, data, to=to, **{**OPTIONS, **options})
        assert not to.exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_other_data_than_the_model_was_made_for(
        self, data: LabelledImages, tmp_path: Path
    ) -> None:
        to = tmp_path / "run"
        other = compile_step(Softmax(data.shape, ["red", "green", "blue"]))
        assert "has 3 classes (blue, green, red), the model 3 (red" in self.refuse(other, data, to)
        other = compile_step(Softmax((5, 4, 3), data.classes))
        assert "images of (4, 4, 3), the model takes (5, 4, 3)" in self.refuse(other, data, to)
        step = compile_step(Softmax(data.shape, data.classes))
        assert "cannot monitor 'bleu_4'" in self.refuse(step, data, to, monitor="bleu_4")
        assert "no option 'crops'" in self.refuse(step, data, to, crops=3)

    def test_without_dev_only_the_loss_can_be_monitored(
        self, data: LabelledImages, folder: Path, tmp_path: Path
    ) -> None:
        from dlmie.data.labelled.dataset import prepare

        counts = {"train": 30, "test": 60}
        few = prepare(folder / "images", to=tmp_path / "f.h5", splits=counts, progress=False)
        step = make_step(few)
        assert "has no split dev to measure accuracy" in self.refuse(step, few, tmp_path / "run")
        run = dlmie.train(step, few, to=tmp_path / "run", monitor="loss", **OPTIONS)
        assert run.position.best == min(r["loss"] for r in run.log if "epoch" in r)

    def test_data_that_changed(self, run: Run, folder: Path, tmp_path: Path) -> None:
        from dlmie.data.labelled.dataset import prepare

        copy = tmp_path / "run"
        shutil.copytree(run.folder, copy)
        counts = {"train": 59, "dev": 20, "test": 10}
        prepare(folder / "images", to=tmp_path / "o.h5", splits=counts, progress=False)
        with pytest.raises(DataError, match="is not the data this run was trained on"):
            dlmie.resume(copy, epochs=5, data=tmp_path / "o.h5", progress=False)


class TestModelFiles:
    def test_exactly_what_was_saved(self, data: LabelledImages, tmp_path: Path) -> None:
        model = LinearSVM(
            data.shape, data.classes, normalization=Normalization.of(data), weight_scale=0.3
        )
        path = save_model(model, tmp_path / "m.h5", meta={"recipe": "mine"})
        again = load(path)
        assert again.config == model.config
        np.testing.assert_array_equal(again.linear.W.get_value(), model.linear.W.get_value())
        images = data["dev"].images
        np.testing.assert_array_equal(again.normalization(images), model.normalization(images))
        assert containers.load_header(path)["meta"] == {"recipe": "mine"}

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            ({"kind": "show-tell"}, "is not a classifier but a show-tell"),
            ({"classes": None}, "classes must be a list, not null"),
            ({"shape": [4, 4]}, "shape must be a list of 3 values"),
            ({"normalization": {}}, "damaged description"),
            ({"config": {"depth": 3}}, "damaged description"),
            ({"shape": [8, 4, 3]}, r"m\.h5"),
        ],
    )
    def test_a_damaged_header(
        self, data: LabelledImages, tmp_path: Path, damage: dict[str, Any], message: str
    ) -> None:
        path = save_model(Softmax(data.shape, data.classes), tmp_path / "m.h5")
        header, arrays = containers.load(path)
        containers.save(path, arrays, {**header, **damage})
        with pytest.raises(WeightsError, match=message):
            load(path)

    def test_arrays_that_are_missing(self, data: LabelledImages, tmp_path: Path) -> None:
        path = save_model(Softmax(data.shape, data.classes), tmp_path / "m.h5")
        header, arrays = containers.load(path)
        for name, message in (
            ("/linear/b", "/linear/b is missing"),
            ("/normalization/mean", "mean and scale are needed"),
        ):
            containers.save(path, {n: a for n, a in arrays.items() if n != name}, header)
            with pytest.raises(WeightsError, match=message):
                load(path)

    def test_a_run_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="is not a run folder"):
            load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "floor"), [("softmax", 0.38), ("linear-svm", 0.37)])
def test_recipes_on_cifar10(shared: Path, tmp_path: Path, model: str, floor: float) -> None:
    """20,000 of the 49,000 training images; the course's target with all of them is 0.35."""
    import sys

    from click.testing import CliRunner

    from dlmie.cli import main
    from dlmie.data.labelled.dataset import prepare

    sys.path.insert(0, str(shared / "data"))
    try:
        import read_cifar10
    finally:
        sys.path.pop(0)
    read_cifar10.write(tmp_path)
    prepare(tmp_path, to=tmp_path / "c.h5", progress=False).close()
    words = ["train", tmp_path / "c.h5", "--recipe", f"{model}-cifar10", "--to", tmp_path / "run"]
    result = CliRunner().invoke(main, [str(word) for word in [*words, "--json", "--quiet"]])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["best"] >= floor


def test_a_plateau_does_not_lower_the_rate_of_what_improves(
    data: LabelledImages, tmp_path: Path
) -> None:
    def train(mode: str, monitor: str) -> Run:
        model = Softmax(data.shape, data.classes, normalization=Normalization.of(data))
        step = compile_step(model, optim.sgd(optim.plateau(0.01, mode=mode)))
        return dlmie.train(
            step, data, to=tmp_path / mode, monitor=monitor, epochs=1, progress=False
        )

    for mode, monitor, better in (("max", "dev_loss", "lower"), ("min", "accuracy", "higher")):
        with pytest.raises(MisuseError, match=f"{monitor} is better where it is {better}, and"):
            train(mode, monitor)
        assert not (tmp_path / mode).exists()
    run = train("max", "accuracy")
    with pytest.raises(MisuseError, match=r"loss is better .* give it mode='min' in a new run"):
        dlmie.resume(run.folder, epochs=2, set={"monitor": "dev_loss"}, progress=False)
    assert dlmie.resume(run.folder, epochs=2, progress=False).position.epoch == 2
