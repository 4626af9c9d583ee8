"""Saliency: every method against its definition, and what must hold of all of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from small_networks import Small, photo

from dlmie.data.images import valid_range
from dlmie.errors import DlmieError
from dlmie.visualize.ascent.evaluation import Evaluator, layer_values
from dlmie.visualize.ascent.objectives import unit
from dlmie.visualize.ascent.pixels import to_network
from dlmie.visualize.attribution import methods
from dlmie.visualize.attribution.faithfulness_curves import faithfulness
from dlmie.visualize.attribution.maps import METHODS, FlatMapWarning, saliency, saliency_rows

SETTINGS = methods.Settings(samples=4, steps=300, patch=4, stride=4)


@pytest.fixture(scope="module")
def x(small: Small) -> np.ndarray:
    return to_network(photo(), small)[None]


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_finite_and_depend_on_the_label(method: str, small: Small) -> None:
    maps = []
    for target in (0, "four"):
        figure = saliency(
            small, photo(20, 30), target, method=method, samples=4, steps=40, patch=4, stride=4
        )
        assert figure.arrays["map"].shape == (20, 30)
        assert figure.image is not None
        assert figure.image.shape == (20, 30, 3)
        assert 0 <= figure.arrays["map"].min() < figure.arrays["map"].max() <= 1
        assert np.isfinite(figure.arrays["attribution"]).all()
        maps.append(figure.arrays["attribution"])
    assert np.abs(maps[0] - maps[1]).max() > 1e-9


def test_the_gradient_is_that_of_finite_differences(small: Small, x: np.ndarray) -> None:
    found = methods.gradient(unit(small["logits"], 2), x, SETTINGS).map
    for row, column in [(3, 4), (8, 8), (0, 15)]:
        slopes = []
        for channel in range(3):
            moved = np.zeros_like(x)
            moved[0, channel, row, column] = 1e-6
            (up,), (down,) = (layer_values(small, ["logits"], x + s * moved) for s in (1, -1))
            slopes.append((up[0, 2] - down[0, 2]) / 2e-6)
        assert found[row, column] == pytest.approx(np.abs(slopes).max(), rel=1e-5)


def test_integrated_gradients_are_complete(small: Small, x: np.ndarray) -> None:
    result = methods.integrated(unit(small["logits"], 1), x, SETTINGS)
    (values,) = layer_values(small, ["logits"], np.concatenate([x, np.zeros_like(x)]))
    rise = values[0, 1] - values[1, 1]
    assert result.results["rise"] == pytest.approx(rise)
    assert result.results["completeness_gap"] < 0.005
    assert result.map.sum() == pytest.approx(rise, rel=0.01)


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_modified_relus_do_what_their_papers_say(method: str, small: Small, x: np.ndarray) -> None:
    # By hand: back through logits, mean, ReLU, conv2, pool, ReLU, conv1.
    pre1, _pool1, pre2 = layer_values(small, ["conv1/pre", "pool1", "conv2/pre"], x)
    W = small.logits.W.get_value()[:, 3]
    g = np.broadcast_to((W / 64)[None, :, None, None], pre2.shape)
    g = modified(method, pre2, g)
    g = transposed_convolution(g, small.conv2.W.get_value())
    spread = np.zeros_like(pre1)
    for i, j in np.ndindex(8, 8):
        block = np.maximum(pre1[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], 0).reshape(6, 4)
        winner = block.argmax(axis=1)
        for c in range(6):
            spread[0, c, 2 * i + winner[c] // 2, 2 * j + winner[c] % 2] += g[0, c, i, j]
    expected = transposed_convolution(modified(method, pre1, spread), small.conv1.W.get_value())
    relu = methods.guided_relu if method == "guided" else methods.deconvnet_relu
    values, found = Evaluator(unit(small["logits"], 3), 16, relu=relu)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
    (plain,) = layer_values(small, ["logits"], x)
    assert values[0] == pytest.approx(plain[0, 3], rel=1e-12)  # the forward pass is the same


def modified(method: str, before: np.ndarray, g: np.ndarray) -> np.ndarray:
    positive = np.maximum(g, 0)
    return positive * (before > 0) if method == "guided" else positive


def transposed_convolution(g: np.ndarray, W: np.ndarray) -> np.ndarray:
    rows, columns = g.shape[2:]
    result = np.zeros((1, W.shape[1], rows + 2, columns + 2))
    for i, j in np.ndindex(3, 3):
        result[0, :, i : i + rows, j : j + columns] += np.tensordot(W[:, :, i, j], g[0], (0, 0))
    return result[:, :, 1:-1, 1:-1]


def test_grad_cam_is_its_formula(small: Small, x: np.ndarray) -> None:
    settings = methods.Settings(layer="conv2")
    (maps,) = layer_values(small, ["conv2"], x)
    weights = small.logits.W.get_value()[:, 2] / 64  # of the mean over 8 × 8 places
    expected = np.maximum(np.tensordot(weights, maps[0], (0, 0)), 0)
    found = methods.grad_cam(unit(small["logits"], 2), x, settings)
    np.testing.assert_allclose(found.map[::15, ::15], expected[::7, ::7], atol=1e-6)
    assert methods.last_maps(small) == "conv2"


def test_occlusion_sees_what_is_hidden(small: Small, x: np.ndarray) -> None:
    settings = methods.Settings(patch=16, stride=4)
    low, high = valid_range(small.preprocessing, x.dtype.name)
    hidden = np.full_like(x, (low + high) / 2)
    for name in ("probabilities", "logits"):
        seen, unseen = (layer_values(small, [name], images)[0][0] for images in (x, hidden))
        for label in range(len(seen)):
            found = methods.occlusion(unit(small[name], label), x, settings).map
            # One patch as large as the image; what rises when it is hidden is none.
            expected = max(float(seen[label] - unseen[label]), 0.0)
            np.testing.assert_allclose(found, np.full(found.shape, expected), atol=1e-6)


def test_a_flat_map_is_a_named_warning_and_never_nan(small: Small) -> None:
    weights = small.logits.W
    before = weights.get_value()
    try:
        weights.set_value(np.zeros_like(before))
        for method in METHODS:
            with pytest.warns(FlatMapWarning, match="is flat"):
                figure = saliency(small, photo(), 1, method=method, samples=2, patch=8, stride=8)
            assert (figure.arrays["map"] == 0).all()
            assert figure.overlay().image is not None
    finally:
        weights.set_value(before)


def test_one_class_is_as_good_as_its_name(small: Small) -> None:
    by_name = saliency(small, photo(), "THREE", method="gradient")
    by_number = saliency(small, photo(), 2, method="gradient")
    np.testing.assert_array_equal(by_name.arrays["map"], by_number.arrays["map"])
    most_likely = saliency(small, photo(), method="gradient").manifest["arguments"]["target"]
    (logits,) = layer_values(small, ["logits"], to_network(photo(), small)[None])
    assert most_likely == logits.argmax()


def test_faithfulness_tells_good_maps_from_bad(small: Small) -> None:
    figure = saliency(small, photo(), method="occlusion", patch=4, stride=2)
    best = figure.arrays["attribution"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = {"occlusion": best, "flat": np.ones((4, 4))}
        curves = faithfulness(small, photo(), maps, points=6, cell=2)
    assert curves.arrays["deletion"].shape == (3, 7)
    np.testing.assert_allclose(curves.arrays["deletion"][:, 0], curves.arrays["insertion"][:, -1])
    assert set(curves.manifest["results"]["areas"]["deletion"]) == {"occlusion", "flat", "random"}
    assert curves.pixels(60).ndim == 3


def test_rows_of_photographs_and_maps(small: Small) -> None:
    figures = [saliency(small, photo(seed=s), s, method="gradient") for s in (0, 1, 2)]
    rows = saliency_rows(figures, titles=[128, 3225, 2417])
    assert rows.columns == 3
    assert [p.title for p in rows.panels] == ["one", "two", "three", "128", "3225", "2417"]
    for above, below, figure in zip(rows.panels[:3], rows.panels[3:], figures, strict=True):
        np.testing.assert_array_equal(above.image, figure.photo)
        np.testing.assert_array_equal(below.image, figure.arrays["map"])


def test_errors(small: Small) -> None:
    with pytest.raises(DlmieError, match="did you mean 'smooth'"):
        saliency(small, photo(), method="smoth")
    with pytest.raises(DlmieError, match="there is no class 7"):
        saliency(small, photo(), 7)
    with pytest.raises(DlmieError, match="has no layer 'conv3'"):
        saliency(small, photo(), method="grad-cam", layer="conv3")
    with pytest.raises(DlmieError, match="not a layer of maps"):
        saliency(small, photo(), method="grad-cam", layer="logits")
    with pytest.raises(DlmieError, match="network or a captioner"):
        saliency(3, photo())
