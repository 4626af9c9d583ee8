"""Charts and figures of classifiers: what is drawn where, and that files are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dlmie.errors import DlmieError
from dlmie.visualize.figures.charts import error_bars, option_map, training_curves
from dlmie.visualize.figures.classifiers import distance_map, misclassified, weight_images
from dlmie.visualize.figures.contact_sheet import class_samples

LOG = [
    {"step": 5, "batch_loss": 2.0},
    {"epoch": 1, "step": 10, "loss": 2.0, "accuracy": 0.3, "seconds": 4.0, "best": True},
    {"epoch": 2, "step": 20, "loss": 1.0, "accuracy": 0.5, "seconds": 6.0},
]


def test_curves_of_runs() -> None:
    chart = training_curves({"a": LOG, "b": [{**LOG[1], "loss": float("nan")}]})
    assert [plot.title for plot in chart.plots] == ["loss", "accuracy"]
    loss, accuracy = chart.plots
    assert loss.lines == {"a": ([1, 2], [2.0, 1.0])}  # what is not finite is left out
    assert accuracy.lines["b"] == ([1], [0.3])
    assert training_curves({"a": LOG}, x="seconds").plots[0].lines["a"][0] == [4.0, 10.0]
    assert training_curves({"a": LOG}, x="step").plots[0].lines["a"][0] == [10, 20]
    with pytest.raises(DlmieError, match="no run has finished an epoch yet"):
        training_curves({"a": LOG[:1]})


def test_error_bars() -> None:
    (plot,) = error_bars({5: [0.2, 0.4], 1: [0.1, 0.1]}).plots
    assert plot.bars is not None
    x, means, deviations = plot.bars
    assert list(x) == [1, 5]
    np.testing.assert_allclose(means, [0.1, 0.3])
    np.testing.assert_allclose(deviations, [0, 0.1])
    assert plot.dots == ([1, 1, 5, 5], [0.1, 0.1, 0.2, 0.4])


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_charts_are_saved(tmp_path: Path, suffix: str) -> None:
    chart = option_map([1e-4, 1e-2], [0, 1], {"accuracy": [0.1, 0.2]}, ("lr", "keep"))
    assert chart.plots[0].logarithmic == ("x",)
    path = chart.save(tmp_path / f"c{suffix}")
    assert path.stat().st_size > 1000
    if suffix != ".svg":
        assert chart.save(tmp_path / f"d{suffix}").read_bytes() == path.read_bytes()
    with pytest.raises(DlmieError, match=r"saved as \.png, \.pdf or \.svg, not '\.jpg'"):
        chart.save(tmp_path / "c.jpg")


def test_weights_are_stretched_one_by_one() -> None:
    weights = np.zeros((3, 2, 2, 3))
    weights[0, 0, 0, 0], weights[0, 1, 1, 2] = -4.0, 4.0
    weights[1, 0, 1, 1] = 1e-3
    figure = weight_images(weights, side=2)
    assert figure.image is not None
    assert figure.image.shape == (2 * 2 + 2, 2 * 2 + 2, 3)
    assert figure.image[0, 0].tolist() == [0, 128, 128]
    assert figure.image[1, 1].tolist() == [128, 128, 255]
    assert figure.image[0, 5].tolist() == [0, 255, 0]
    named = weight_images(weights, ["a", "b", "c"])
    assert [panel.title for panel in named.panels] == ["a", "b", "c"]
    assert weight_images(weights[..., :1]).panels[0].image.shape == (48, 48, 3)
    with pytest.raises(DlmieError, match="weights of 2 channels are not images"):
        weight_images(weights[..., :2])
    with pytest.raises(DlmieError, match="2 names for 3 units"):
        weight_images(weights, ["a", "b"])


def test_what_was_taken_for_what(tmp_path: Path) -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    labels, predicted = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 0, 0, 1])
    figure = misclassified(images, labels, predicted, ["cat", "dog"], each=3)
    assert figure.columns == 2
    cells = [(int(panel.image[0, 0, 0]), panel.title) for panel in figure.panels]
    for_cat, for_dog = cells[0::2], cells[1::2]
    assert {value for value, _ in for_cat} == {3, 4, 255}
    assert {value for value, _ in for_dog} == {1, 5, 255}
    assert for_cat[0][1] == "“cat”\ndog"
    assert for_cat[1][1] == "dog"
    figure.save(tmp_path / "wrong.png")
    with pytest.raises(DlmieError, match="no image was taken for something else"):
        misclassified(images, labels, labels, ["cat", "dog"])


def test_a_distance_is_a_gray_level(tmp_path: Path) -> None:
    figure = distance_map(np.array([[1.0, 3.0], [2.0, 1.0]]))
    with PIL.Image.open(figure.save(tmp_path / "d.png")) as picture:
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[..., 0], [[0, 255], [128, 0]])


def test_samples_of_gray_images() -> None:
    images = np.full((4, 3, 3, 1), 7, np.uint8)
    figure = class_samples(images, np.array([0, 1, 0, 1]), ["a", "b"], classes=2, each=2)
    assert figure.panels[0].image.shape == (3, 3, 3)
    assert sorted(panel.title for panel in figure.panels[:2]) == ["a", "b"]
