"""Fooling, class images, inversion, grids, dreams, style: each does what it says, and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import Small, photo

from dlmie.data.images import load_image, save_image
from dlmie.errors import DataError, DlmieError
from dlmie.visualize.ascent.evaluation import Evaluator, layer_values, probabilities
from dlmie.visualize.ascent.layers import each_scale, last_at
from dlmie.visualize.ascent.objectives import channel, energy, total_variation, unit
from dlmie.visualize.ascent.pixels import to_network
from dlmie.visualize.ascent.presets import PRESETS
from dlmie.visualize.attribution.activations import grid
from dlmie.visualize.attribution.maps import saliency, saliency_rows
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.reproduction import redo, reproduce
from dlmie.visualize.synthesis.adversarial import FoolingWarning, fool
from dlmie.visualize.synthesis.class_images import visualize
from dlmie.visualize.synthesis.deepdream import Tiles, dream, enlarge
from dlmie.visualize.synthesis.inversion import invert
from dlmie.visualize.synthesis.style_losses import gram_of
from dlmie.visualize.synthesis.style_transfer import stylize, texture

KINDS = [
    ("pgd", "linf"),
    ("pgd", "l2"),
    ("step", "linf"),
    ("margin", "linf"),
]


@pytest.mark.parametrize(("method", "norm"), KINDS)
def test_fooling_fools_as_saved(method: str, norm: str, small: Small, tmp_path: Path) -> None:
    budget = 60.0 if norm == "linf" else 40.0  # the small network is hard to move
    figure = fool(
        small, photo(), method=method, norm=norm, budget=budget, confidence=0.3, steps=200,
        rate=200.0 if method == "margin" else None,
    )  # fmt: skip
    results = figure.manifest["results"]
    assert results["fooled"]
    saved = load_image(figure.save(tmp_path / "fooled.png"))
    share = probabilities(small, to_network(saved, small)[None])[0]
    assert small.classes[share.argmax()] == results["to"] != results["from"]
    assert share.max() == pytest.approx(results["probability_after"], rel=1e-6)
    change = np.abs(saved.astype(float) - photo())
    assert results["largest_change"] == change.max()
    if method == "pgd" and norm == "linf":
        assert change.max() <= 60
    if norm == "l2":
        assert np.sqrt((change**2).mean()) <= 40.02  # rounded to bytes
    assert len(figure.panels) == 4


def test_fooling_that_fails_warns(small: Small) -> None:
    with pytest.warns(FoolingWarning, match="larger budget"):
        figure = fool(small, photo(), method="fgsm", budget=1)
    assert not figure.manifest["results"]["fooled"]
    assert figure.manifest["results"]["largest_change"] == 1
    with pytest.warns(FoolingWarning):
        figure = fool(small, photo(), method="fgsm", budget=1.7)
    assert figure.manifest["results"]["largest_change"] == 1  # not 2, as rounding would have it
    with pytest.raises(DlmieError, match=r"budget 0\.5: a saved picture changes by whole"):
        fool(small, photo(), budget=0.5)
    true = figure.manifest["results"]["from"]
    with pytest.raises(DlmieError, match="already sees"):
        fool(small, photo(), true)
    with pytest.raises(DlmieError, match="did you mean 'pgd'"):
        fool(small, photo(), method="pdg")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_raises_its_objective(preset: str, efficientnet: Any) -> None:
    # The papers' rates are for networks of this kind.
    objective = unit(efficientnet["logits"], [130, 292])
    figure = visualize(objective, size=64, preset=preset, steps=60, seed=3)
    results = figure.manifest["results"]
    assert results["last"] > results["first"] + 0.5  # the papers take up to 1000 steps
    assert figure.arrays["pixels"].shape == (2, 64, 64, 3)
    assert figure.arrays["pixels"].std() > 5  # not blank
    assert results["labels"] == ["flamingo", "tiger"]


def test_the_way_to_a_picture_is_shown(small32: Small) -> None:
    figure = visualize(unit(small32["logits"], "two"), size=16, steps=8, preset="cs231n", frames=5)
    titles = [panel.title for panel in figure.panels]
    assert titles == [f"two\nIteration {i} / 8" for i in (0, 2, 4, 6, 8)]
    np.testing.assert_array_equal(figure.panels[-1].image, figure.image)


def test_octaves_frames_and_channels(small32: Small) -> None:
    figure = visualize(
        channel(small32["conv2"], 3) - 1e-6 * total_variation(), size=(16, 24), octaves=2, steps=6,
        frames=4, preset="cs231n", jitter=2,
    )  # fmt: skip
    assert figure.image is not None
    assert figure.image.shape == (16, 24, 3)
    assert len(figure.frames) == 4
    assert figure.manifest["results"]["labels"] == ["channel 3 of conv2"]
    with pytest.raises(DlmieError, match="did you mean 'fourier'"):
        visualize(energy(small32["conv1"]), preset="furier")
    held = figure.manifest["arguments"]["preset"]
    assert (held["steps"], held["jitter"], held["blur_every"]) == (6, 2, 10)
    with pytest.raises(DlmieError, match="not settings of a picture from noise"):
        visualize(energy(small32["conv1"]), preset={**held, "blurr": 1})


@pytest.mark.parametrize(("method", "most"), [("lbfgs", 0.05), ("adam", 0.7), ("mahendran", 0.1)])
def test_inversion_comes_close(method: str, most: float, small32: Small) -> None:
    figure = invert(small32["conv1"], photo(), method=method, steps=80, repeats=2, frames=3)
    errors = figure.manifest["results"]["errors"]
    assert min(errors) < most
    losses = figure.arrays["values"]
    assert (losses[-1] < 0.8 * losses[0]).all()
    assert len(figure.frames) == 3


def test_inversion_of_several_layers_and_single_filters(small32: Small) -> None:
    strip = invert([small32["conv1"], small32["conv2"]], photo(), steps=5)
    assert strip.image is not None
    assert strip.image.shape == (16, 3 * 16 + 2 * 4, 3)
    assert strip.manifest["results"]["layers"] == ["conv1", "conv2"]
    (maps,) = layer_values(small32, ["conv2"], to_network(photo(), small32)[None])
    alive = int(maps[0].mean(axis=(1, 2)).argmax())
    one = invert(small32["conv2"], photo(), channels=[alive], steps=60)
    assert one.manifest["results"]["errors"][0] < 0.1
    with pytest.raises(DlmieError, match="0 to 7"):
        invert(small32["conv2"], photo(), channels=[8], steps=5)


def test_activation_grid(small: Small) -> None:
    figure = grid(small["conv2"], photo(20, 30), columns=4, cell=8, channels=[1, 5])
    assert figure.image is not None
    assert figure.image.shape == (2 * 8 + 2, 4 * 8 + 3 * 2, 3)
    (maps,) = layer_values(small, ["conv2"], to_network(photo(20, 30), small)[None][:, :, :16, :16])
    assert figure.arrays["maps"].shape == maps.shape[1:]
    assert [p.title for p in figure.panels][1::2] == ["channel 1", "channel 5"]
    with pytest.raises(DlmieError, match="0 to 7"):
        grid(small["conv2"], photo(), channels=[9])


def test_tiles_agree_with_the_whole_inside(small: Small) -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 96, 130))
    objective = channel(small["conv1"], 2)
    tiles = Tiles(objective, 64)
    assert tiles.borders(130) == [(0, 43), (43, 87), (87, 130)]
    _, parts = tiles(x)
    _, whole = Evaluator(objective)(x)
    inside = np.s_[:, :, 2:46, 2:41]
    ratio = parts[inside] / whole[inside]  # means over a tile and over the whole differ in size
    np.testing.assert_allclose(ratio, 96 * 130 / (48 * 43), rtol=1e-9)


def test_dream_strengthens_its_objective_without_seams(small32: Small) -> None:
    sky = np.full((90, 140, 3), 120, np.uint8)
    figure = dream(
        energy(small32["conv2"]), sky, octaves=2, steps=12, tile=64, smooth=(), jitter=8, seed=1
    )
    assert figure.image is not None
    assert figure.image.shape == sky.shape
    values = figure.arrays["values"]
    assert values[-1] > values[0]
    # Steps across the borders of tiles, which never stay, are no larger than elsewhere.
    steps = np.abs(np.diff(figure.image.astype(float), axis=1)).mean(axis=(0, 2))
    edges = [47, 93]
    others = np.delete(steps, [e + d - 1 for e in edges for d in (-1, 0, 1)])
    assert steps[[e - 1 for e in edges]].mean() < others.mean() + 4 * others.std()


def test_guided_dream_zoom_and_defaults(small32: Small) -> None:
    figure = dream(small32, photo(70, 70), guide=photo(seed=9), octaves=1, steps=3, zoom=2)
    assert len(figure.frames) == 4
    assert all(f.shape == (70, 70, 3) for f in figure.frames)
    assert set(figure.manifest["images"]) == {"image", "guide"}
    assert enlarge(photo(40, 60), 2.0).shape == (40, 60, 3)
    with pytest.raises(DlmieError, match="at least 8 × 8 pixels, not 4 × 20"):
        dream(small32, photo(4, 20))


def test_style_losses_are_numpys(small: Small) -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16))
    (features,) = layer_values(small, ["conv1"], x)
    flat = features[0].reshape(6, -1)
    np.testing.assert_allclose(gram_of(features)[0], flat @ flat.T / flat.size)


def test_default_layers(small: Small) -> None:
    assert last_at(small, 8) == "conv2"
    assert last_at(small, 1) == "conv1"
    assert each_scale(small) == ["conv2"]


def pictures(net: Small, path: Path) -> dict[str, Figure]:
    return {
        "saliency": saliency(net, path, method="smooth", samples=3, seed=5),
        "rows": saliency_rows(
            [saliency(net, path, target, method="gradient") for target in (0, "two")],
            titles=["128", "3225"],
        ),
        "fool": fool(net, path, budget=60, confidence=0.3),
        "visualize": visualize(channel(net["conv2"], 1), size=16, steps=4, seed=2),
        "invert": invert(net["conv1"], path, steps=4),
        "strip": invert([net["conv1"], net["conv2"]], path, steps=3),
        "grid": grid(net["conv2"], path),
        "dream": dream(energy(net["conv2"]), path, octaves=2, steps=2, seed=4),
        "guided": dream(net["conv2"], path, guide=path, octaves=1, steps=2),
        "stylize": stylize(net, path, [path], longer=32, octaves=1, steps=3),
        "texture": texture(net, path, longer=32, octaves=1, steps=3),
    }


@pytest.mark.filterwarnings("ignore::dlmie.visualize.synthesis.adversarial.FoolingWarning")
def test_reproduce_makes_the_same_picture(small32: Small, tmp_path: Path) -> None:
    path = save_image(tmp_path / "photo.png", photo(36, 40))
    for name, figure in pictures(small32, path).items():
        saved = figure.save(tmp_path / f"{name}.png")
        again = reproduce(saved.with_suffix(".json"), small32)
        np.testing.assert_array_equal(again.pixels(), figure.pixels(), err_msg=name)
    save_image(path, photo(36, 40, seed=8))
    with pytest.raises(DataError, match="has changed"):
        reproduce(tmp_path / "saliency.png", small32)
    path.unlink()
    with pytest.raises(DataError, match="was not found"):
        reproduce(tmp_path / "saliency.png", small32)
    other = reproduce(tmp_path / "saliency.png", small32, images={"image": photo(36, 40)})
    np.testing.assert_array_equal(other.image, load_image(tmp_path / "saliency.png"))


def test_the_old_name_is_deprecated(small32: Small) -> None:
    figure = visualize(channel(small32["conv2"], 1), size=16, steps=1)
    with pytest.warns(DeprecationWarning, match="reproduce"):
        again = redo(figure.manifest, small32)
    np.testing.assert_array_equal(again.image, figure.image)


def test_reproduce_refuses_what_it_does_not_know(small32: Small) -> None:
    manifest = visualize(channel(small32["conv2"], 1), size=16, steps=1).manifest
    with pytest.raises(DlmieError, match="no picture 'system'"):
        reproduce({**manifest, "picture": "system"}, small32)
    described = {**manifest["network"], "weights": {"sha256": "f" * 64}}
    with pytest.raises(DlmieError, match="was made with small"):
        reproduce({**manifest, "network": described}, small32)
