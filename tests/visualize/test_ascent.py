"""The loop: values rise, seeds repeat, adjoints are adjoint, rules do their sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_networks import Small, photo

from dlmie.data.images import deprocess, resize_planes, valid_range
from dlmie.errors import DlmieError
from dlmie.visualize.ascent import objectives as o
from dlmie.visualize.ascent import regularizers as r
from dlmie.visualize.ascent.ascend import ascend
from dlmie.visualize.ascent.evaluation import Evaluator
from dlmie.visualize.ascent.optimizers import LBFGS, Adam, Gradient, Progress, schedule
from dlmie.visualize.ascent.parameterizations import Fourier
from dlmie.visualize.ascent.pixels import to_network
from dlmie.visualize.ascent.transforms import Affine, Jitter, Noise, affine_matrix


@pytest.mark.parametrize(
    "rule",
    [Adam(0.05), Gradient(2.0), Gradient(0.02, "rms", 0.9), Progress(0.05, 1e6), LBFGS()],
    ids=lambda rule: type(rule).__name__,
)
def test_every_rule_rises_within_black_and_white(rule: object, small: Small) -> None:
    start = to_network(np.stack([photo(seed=1), photo(seed=2)]), small)
    result = ascend(o.unit(small["logits"], [0, 3]), start, steps=15, optimizer=rule)  # type: ignore[arg-type]
    assert result.images.shape == start.shape
    assert result.values.shape[1] == 2
    assert (result.values[-1] > result.values[0] + 0.02).all()
    low, high = valid_range(small.preprocessing, "float64")
    assert (result.images >= low).all()
    assert (result.images <= high).all()


@pytest.mark.parametrize("kind", ["class", "channel", "energy"])
def test_gradients_go_back_through_efficientnet_in_one_operation(
    efficientnet: Any, kind: str
) -> None:
    """But for its first layer: what makes pictures with this network fast."""
    objective = {
        "class": lambda: o.unit(efficientnet["logits"], 130),
        "channel": lambda: o.channel(efficientnet["block5"], 3),
        "energy": lambda: o.energy(efficientnet["block10"]),
    }[kind]()
    evaluate = Evaluator(objective, (64, 64))
    _, gradient = evaluate(to_network(photo(64, 64)[None], efficientnet))
    assert np.abs(gradient).max() > 0
    names = [type(node.op).__name__ for node in evaluate._run.maker.fgraph.toposort()]
    assert names.count("ConvolutionChainGradient") == 1
    assert names.count("ConvolutionInputGradient") == 1
    assert "ActivationGradient" not in names


def test_same_seed_same_picture(small: Small) -> None:
    start = to_network(photo()[None], small)
    runs = [
        ascend(o.channel(small["conv2"], 1), start, steps=5, transforms=[Jitter(4)], seed=s)
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0].images, runs[1].images)
    assert not np.array_equal(runs[0].images, runs[2].images)


def test_frames_and_stopping(small: Small) -> None:
    start = to_network(photo()[None], small)
    run = ascend(o.energy(small["conv2"]), start, steps=6, frames=(0, 3, 6))
    assert [step for step, _ in run.frames] == [0, 3, 6]
    np.testing.assert_array_equal(run.frames[0][1], start)
    np.testing.assert_array_equal(run.frames[-1][1], run.images)
    short = ascend(
        o.energy(small["conv2"]), start, steps=6, until=lambda step, images, values: step == 2
    )
    assert len(short.values) == 3


def test_the_best_image_of_each_is_kept(small: Small) -> None:
    start = to_network(np.stack([photo(seed=1), photo(seed=2)]), small)
    objective = o.unit(small["logits"], [0, 3])
    kept: dict[int, np.ndarray] = {}
    run = ascend(
        objective, start, steps=6, best=True,
        optimizer=Gradient(40.0),  # steps too long to be all good
        until=lambda step, images, values: bool(kept.setdefault(step, images.copy()) is None),
    )  # fmt: skip
    assert (np.diff(run.values, axis=0) < 0).any()
    values = Evaluator(objective, 16)(run.images)[0]
    assert (values >= run.values.max(axis=0)).all()
    for i, image in enumerate(run.images):
        if values[i] == run.values[:, i].max():
            np.testing.assert_array_equal(image, kept[int(run.values[:, i].argmax())][i])


def test_noise_is_of_its_size_and_new_at_each_step() -> None:
    rng = np.random.default_rng(0)
    flat = np.zeros((2, 3, 40, 40), np.float32)
    draws = [Noise(0.5).draw(rng, (40, 40))[0](flat) for _ in range(2)]
    assert draws[0].dtype == np.float32
    assert draws[0].std() == pytest.approx(0.5, rel=0.05)
    assert not np.array_equal(*draws)


def test_transforms_are_linear_with_exact_adjoints() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 13, 10)), rng.normal(size=(2, 3, 13, 10))
    for transform in (Jitter(5), Affine(0.2, 15)):
        there, back = transform.draw(rng, (13, 10))
        assert (there(x) * y).sum() == pytest.approx((x * back(y)).sum(), rel=1e-5)
    flat = np.full((1, 1, 13, 10), 3.0)
    np.testing.assert_allclose(Affine(0.2, 15).draw(rng, (13, 10))[0](flat), flat, rtol=1e-6)
    same = affine_matrix((13, 10), 1.0, 0.0) @ x[0, 0].ravel()  # type: ignore[operator]
    np.testing.assert_allclose(same, x[0, 0].ravel(), rtol=1e-6)


@pytest.mark.parametrize("size", [(12, 10), (11, 9)])
def test_fourier_pullback_and_encoding(size: tuple[int, int], small32: Small) -> None:
    way = Fourier(small32.preprocessing, size)
    rng = np.random.default_rng(0)
    z = way.random(2, rng, 0.5).astype(np.float64)
    g = rng.normal(size=(2, 3, *size))
    gradient = way.pullback(z, g)
    for place in [(0, 0, 0, 0, 0), (1, 2, 3, 2, 1), (0, 1, 5, size[1] // 2, 0), (1, 0, 4, 1, 0)]:
        d = np.zeros_like(z)
        d[place] = 1e-2
        slope = ((way.decode(z + d).astype(float) - way.decode(z - d)) * g).sum() / 2e-2
        assert gradient[place] == pytest.approx(slope, rel=2e-3, abs=2e-4)
    picture = to_network(photo(*size)[None], small32)
    again = deprocess(way.decode(way.encode(picture)), small32.preprocessing)
    assert np.abs(again.astype(int) - photo(*size)).max() <= 4  # 0 and 255 have no logits


def test_regularizers() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 10, 10))
    g = np.random.default_rng(1).normal(size=x.shape)
    np.testing.assert_allclose(r.Decay(0.25)(x, g, 0), 0.75 * x)
    np.testing.assert_array_equal(r.Blur(1.0, every=4)(x, g, 2), x)
    assert r.Blur(1.0, every=4)(x, g, 3).std() < 0.6 * x.std()
    small = r.ClipNorm(30)(x, g, 0)
    assert (np.square(small).sum(axis=1) == 0).mean(axis=(1, 2)).tolist() == [0.3, 0.3]
    for image, before in zip(small, x, strict=True):
        kept, length = np.square(image).sum(axis=0) > 0, np.linalg.norm(before, axis=0)
        assert length[kept].min() > length[~kept].max()
    useful = r.ClipContribution(90)(x, g, 0)
    assert (np.square(useful).sum(axis=1) > 0).sum() == 20


def test_rules_do_their_sums() -> None:
    g = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(Gradient(10.0).begin()(g, 0), [[6, 8], [0, 0]])
    np.testing.assert_allclose(Progress(2.0, 100).begin()(g, 0), [[6 / 25, 8 / 25], [0, 0]])
    np.testing.assert_allclose(Progress(2.0, 0.01).begin()(g, 0), 0.01 * g)
    heavy = Gradient(schedule(1.0, [(2, 1), (2, 0.1)]), None, momentum=0.5).begin()
    steps = [heavy(g, t)[0, 0] for t in range(4)]
    np.testing.assert_allclose(steps, [3, 4.5, 0.3, 0.45])  # momentum anew when the rate changes
    adam = Adam(0.1).begin()
    np.testing.assert_allclose(adam(g, 0)[0], [0.1, 0.1], rtol=1e-6)


def test_resizing_planes_keeps_constants() -> None:
    flat = np.full((2, 3, 7, 9), 2.5, np.float32)
    for size in ((14, 5), (3, 20)):
        bigger = resize_planes(flat, size)
        assert bigger.shape == (2, 3, *size)
        assert bigger.dtype == np.float32
        np.testing.assert_allclose(bigger, 2.5, rtol=1e-6)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps: int, small: Small) -> None:
    with pytest.raises(DlmieError, match=f"steps must be at least 1, not {steps}"):
        ascend(o.energy(small["conv2"]), to_network(photo()[None], small), steps=steps)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("regularizers", [r.Blur(1.0)]),
        ("transforms", [Jitter(2)]),
        ("best", True),
        ("until", lambda step, images, values: True),
    ],
)
def test_what_lbfgs_cannot_use_is_refused(option: str, value: object, small: Small) -> None:
    start = to_network(photo()[None], small)
    with pytest.raises(DlmieError, match=f"L-BFGS cannot use {option}: .*Adam"):
        ascend(o.energy(small["conv2"]), start, steps=2, optimizer=LBFGS(), **{option: value})  # type: ignore[arg-type]
