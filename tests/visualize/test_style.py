"""Style transfer: its losses against NumPy, cs231n's course, textures, inversion, colors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from skimage import data
from small_networks import Small, photo

from dlmie.data.images import resize_image, valid_range
from dlmie.errors import DlmieError
from dlmie.models import SqueezeNet
from dlmie.visualize.ascent.evaluation import Evaluator, layer_values
from dlmie.visualize.ascent.objectives import feature_match, style_match, total_variation
from dlmie.visualize.ascent.pixels import to_network
from dlmie.visualize.synthesis.style_losses import gram_of
from dlmie.visualize.synthesis.style_presets import LAYERS, PRESETS
from dlmie.visualize.synthesis.style_transfer import keep_colors, shorter_side, stylize, texture

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "squeezenet_style.json"


def test_style_transfer_lowers_its_loss(small32: Small) -> None:
    options = {"longer": 32, "steps": 15, "content_layer": "conv2", "style_layers": ["conv1"]}
    for method in ("adam", "lbfgs"):
        figure = stylize(
            small32, photo(24, 32), [photo(seed=5), photo(seed=6)], style_weights=[3, 1],
            method=method, octaves=1, **options,
        )  # fmt: skip
        results = figure.manifest["results"]
        assert results["last_loss"] < 0.8 * results["first_loss"]
        assert figure.image is not None
        assert figure.image.shape == (24, 32, 3)
    plain = texture(small32, photo(seed=5), octaves=2, frames=4, **options)
    assert plain.image is not None
    assert plain.image.shape == (32, 32, 3)
    assert len(plain.frames) == 4
    painted = stylize(
        small32, photo(24, 32), photo(seed=5), octaves=1, original_colors=True, **options
    )
    assert painted.image is not None
    with pytest.raises(DlmieError, match="2 styles need"):
        stylize(small32, photo(), [photo(), photo()], style_weights=[1])


def test_style_losses_are_numpys(small: Small) -> None:
    content, style = photo(24, 32), [photo(seed=5), photo(30, 20, seed=6)]
    figure = stylize(
        small, content, style, style_weights=[3, 1], content_layer="conv2",
        style_layers=["conv1", "conv2"], content_weight=2.0, style_weight=30.0, variation=6.0,
        longer=32, octaves=1, steps=1, rate=1e-9, start="content",
    )  # fmt: skip
    x, *styles = (to_network(p, small)[None] for p in (content, *style))
    values = figure.manifest["results"]
    wanted = 0.0
    for share, y in zip((0.75, 0.25), styles, strict=True):
        for layer in ("conv1", "conv2"):
            (f,), (a,) = (layer_values(small, [layer], z, any_size=True) for z in (x, y))
            (f, a) = (z[0].reshape(z.shape[1], -1) for z in (f, a))
            (g, a) = (z @ z.T / z.size for z in (f, a))
            wanted += share * 30 / 2 * ((g - a) ** 2).sum() / (a**2).sum()
    span = np.mean([255 / 60, 255 / 55, 255 / 50])
    smooth = sum((np.diff(x, axis=axis) ** 2).sum() for axis in (2, 3)) * 6 / (x.size * span**2)
    assert values["first_loss"] == pytest.approx(wanted + smooth, rel=1e-6)  # the content is x
    assert values["style"] == pytest.approx(wanted, rel=1e-5)
    assert values["variation"] == pytest.approx(smooth, rel=1e-5)
    assert values["content"] < 1e-9


def test_the_course_of_cs231n(small: Small) -> None:
    """SPEC D1: weights of sums, Adam 3.0 then 0.1, pixels within 1.5 until then."""
    style, layers = photo(seed=5), ["conv1", "conv1/pre", "conv2", "conv2/pre"]
    figure = stylize(
        small, photo(24, 32), style, preset="starry", steps=10, longer=32, start="noise",
        content_layer="conv2", style_layers=layers, frames=11, seed=3,
    )  # fmt: skip
    level = np.mean([1 / 60, 1 / 55, 1 / 50]) / np.mean(
        [1 / (255 * s) for s in (0.229, 0.224, 0.225)]
    )
    noise = np.random.default_rng(3).random((1, 3, 24, 32))
    low, high = valid_range(small.preprocessing, "float64")
    x = low + (high - low) * noise
    (f,), (p,) = (
        layer_values(small, ["conv2"], z, any_size=True)
        for z in (x, to_network(photo(24, 32), small)[None])
    )
    wanted = 6e-2 / level**2 * ((f - p) ** 2).sum()
    y = to_network(shorter_side(style, 192), small)[None]
    for layer, weight in zip(layers, (300000, 1000, 15, 3), strict=True):
        g, a = (gram_of(*layer_values(small, [layer], z, any_size=True)) for z in (x, y))
        wanted += weight / level**4 * ((g - a) ** 2).sum()
    smooth = sum((np.diff(x, axis=axis) ** 2).sum() for axis in (2, 3))
    wanted += 2e-2 / level**2 * smooth
    assert figure.manifest["results"]["first_loss"] == pytest.approx(wanted, rel=1e-9)
    # Adam's steps are as long as its rate: 3.0 at first, so that the limit holds, then 0.1.
    frames = [to_network(frame, small) / level for frame in figure.frames]
    rounding = 1 / 50 / level
    assert all(np.abs(frame).max() <= 1.5 + rounding for frame in frames[1:10])
    assert np.abs(frames[10] - frames[9]).max() <= 0.2 + rounding


def test_losses_of_squeezenet_are_pytorchs(shared: Path) -> None:
    """Those of the preset "starry", and their gradients; see make_squeezenet_style.py."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    net = SqueezeNet(shared / "data/weights/squeezenet1_1.npz", size=None)
    waves = np.arange(3 * 64 * 80).reshape(1, 3, 64, 80)
    x, content, style = (100 * np.sin(rate * waves).astype("f") for rate in (0.01, 0.013, 0.37))
    preset, (layer, strokes) = PRESETS["starry"], LAYERS["squeezenet"]
    weights = dict(zip(strokes, preset.style, strict=True))
    (body,) = layer_values(net, [layer], content)
    grams = [gram_of(one) for one in layer_values(net, list(weights), style)]
    np.testing.assert_allclose(grams[1][0, 0, :5], golden["gram"], rtol=1e-4)
    styles = [
        weight * style_match(net[name], gram)
        for (name, weight), gram in zip(weights.items(), grams, strict=True)
    ]
    nothing = 0.0 * feature_match(net[layer], body)  # total variation has no network of its own
    losses = {
        "content": preset.content * feature_match(net[layer], body, relative=False),
        "style": sum(styles, nothing),
        "variation": preset.variation * total_variation() + nothing,
    }
    for name, loss in losses.items():
        (value,), (gradient,) = Evaluator(loss, (64, 80))(x)
        wanted = golden[name]
        assert value == pytest.approx(wanted["loss"], rel=1e-4)
        assert np.linalg.norm(gradient) == pytest.approx(wanted["gradient_norm"], rel=1e-4)
        np.testing.assert_allclose(gradient[:, 30, 40], wanted["gradient"], rtol=1e-3)


def test_a_preset_keeps_the_photograph_where_pixels_are_gray_levels(shared: Path) -> None:
    """Features of Caffe's weights are as much larger as their pixels: the style must not win."""
    net = SqueezeNet(shared / "data/weights/squeezenet1_1.npz", size=None)
    cat = data.chelsea()
    made = stylize(net, cat, data.immunohistochemistry(), preset="starry", longer=96, steps=40)
    assert made.image is not None
    small = resize_image(cat, made.image.shape[:2])
    f, p = (
        layer_values(net, ["fire2"], to_network(z, net)[None], any_size=True)[0]
        for z in (made.image, small)
    )
    assert np.square(f - p).sum() < 0.5 * np.square(p).sum()


def test_inversion_and_texture_leave_a_loss_out(small32: Small) -> None:
    options = {"longer": 32, "octaves": 1, "steps": 5, "content_layer": "conv2"}
    inverted = stylize(small32, photo(24, 32), [], style_weight=0, start="noise", **options)
    found = inverted.manifest["results"]
    assert found["style"] == 0 < found["content"] < found["first_loss"]
    plain = texture(small32, photo(seed=5), variation=0, **options).manifest["results"]
    assert plain["content"] == plain["variation"] == 0 < plain["style"]
    with pytest.raises(DlmieError, match="a style is missing"):
        stylize(small32, photo(), [])


def test_original_colors() -> None:
    kept = keep_colors(photo(8, 8, 1), photo(8, 8, 2)).astype(float)
    weights = np.array([0.299, 0.587, 0.114])
    inside = ((kept > 0) & (kept < 255)).all(axis=2)
    np.testing.assert_allclose((kept @ weights)[inside], (photo(8, 8, 1) @ weights)[inside], atol=1)
