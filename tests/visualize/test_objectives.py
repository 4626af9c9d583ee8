"""Objectives against NumPy and finite differences; batches; JSON; errors."""

from __future__ import annotations

import numpy as np
import pytest
from pytensor.graph.traversal import ancestors
from small_networks import Small

import dlmie
from dlmie.errors import DlmieError
from dlmie.visualize.ascent import objectives as o
from dlmie.visualize.ascent.evaluation import Evaluator, layer_values


def make_all(net: Small) -> dict[str, o.Objective]:
    rng = np.random.default_rng(1)
    conv2 = rng.random((1, 8, 8, 8))
    return {
        "unit": o.unit(net["logits"], 3),
        "channel": o.channel(net["conv2"], 2),
        "neuron": o.neuron(net["conv2"], 2, 3, 4),
        "middle": o.neuron(net["conv2"], 1),
        "direction": o.direction(net["conv2"], rng.normal(size=8)),
        "energy": o.energy(net["conv2"]),
        "class_energy": o.class_energy(net["logits"]),
        "feature_match": -o.feature_match(net["conv2"], conv2),
        "absolute": -o.feature_match(net["conv2"], conv2, relative=False),
        "style_match": -o.style_match(net["conv1"], rng.random((1, 6, 6))),
        "total_variation": o.unit(net["logits"], 0) - 1e-2 * o.total_variation(),
        "tv_1.5": o.unit(net["logits"], 0) - 1e-2 * o.total_variation(1.5),
        "alpha_norm": o.unit(net["logits"], 0) - 1e-3 * o.alpha_norm(6),
        "sum": 0.5 * (o.channel(net["conv1"], 1) + o.energy(net["conv2"]) / 3),
    }


KINDS = list(make_all(Small()))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_finite_differences(kind: str, small: Small) -> None:
    objective = make_all(small)[kind]
    evaluate = Evaluator(objective, 16)
    rng = np.random.default_rng(0)
    x, step = rng.normal(size=(2, 3, 16, 16)), 1e-6
    _, gradient = evaluate(x)
    for place in [(0, 0, 3, 5), (1, 2, 8, 8), (0, 1, 0, 15)]:
        moved = np.zeros_like(x)
        moved[place] = step
        expected = (evaluate(x + moved)[0] - evaluate(x - moved)[0])[place[0]] / (2 * step)
        assert gradient[place] == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_do_not_touch_each_other(kind: str, small: Small) -> None:
    evaluate = Evaluator(make_all(small)[kind], 16)
    x = np.random.default_rng(0).normal(size=(3, 3, 16, 16))
    values, gradient = evaluate(x)
    assert values.shape == (3,)
    for i in range(3):
        value, one = evaluate(x[i : i + 1])
        np.testing.assert_allclose(value, values[i : i + 1], rtol=1e-10)
        np.testing.assert_allclose(one, gradient[i : i + 1], rtol=1e-9, atol=1e-12)


def test_values_are_those_of_numpy(small: Small) -> None:
    x = np.random.default_rng(2).normal(size=(2, 3, 16, 16))
    conv1, conv2, logits = layer_values(small, ["conv1", "conv2/pre", "logits"], x)
    (after,) = layer_values(small, ["conv2"], x)
    rng = np.random.default_rng(1)
    target, style, vector = rng.random((2, 8, 8, 8)), rng.random((1, 6, 6)), rng.normal(size=8)
    flat = conv1.reshape(2, 6, -1)
    grams = np.stack([f @ f.T / (6 * 256) for f in flat])
    down, right = np.diff(x, axis=2), np.diff(x, axis=3)
    both = np.zeros_like(x)
    both[:, :, :-1] += down**2
    both[:, :, :, :-1] += right**2
    expected = {
        o.unit(small["logits"], [1, 4]): logits[[0, 1], [1, 4]],
        o.unit(small["logits"], "four"): logits[:, 3],
        o.channel(small["conv2"], 5): conv2[:, 5].mean(axis=(1, 2)),
        o.neuron(small["conv2"], 5): conv2[:, 5, 4, 4],
        o.direction(small["conv2"], vector): conv2.mean((2, 3)) @ vector / np.linalg.norm(vector),
        o.energy(small["conv2"]): (after**2).mean(axis=(1, 2, 3)) / 2,
        o.class_energy(small["logits"]): np.log(np.exp(logits).sum(axis=1)),
        o.feature_match(small["conv2"], target): ((after - target) ** 2).sum((1, 2, 3))
        / (target**2).sum((1, 2, 3)),
        o.style_match(small["conv1"], style): ((grams - style) ** 2).sum((1, 2)),
        o.energy(small["conv2"]) - o.total_variation(): (after**2).mean((1, 2, 3)) / 2
        - (down**2).sum((1, 2, 3))
        - (right**2).sum((1, 2, 3)),
        o.energy(small["conv2"]) - o.total_variation(1): (after**2).mean((1, 2, 3)) / 2
        - np.sqrt(both + 1e-8).sum((1, 2, 3)),
        o.energy(small["conv2"]) - o.alpha_norm(6): (after**2).mean((1, 2, 3)) / 2
        - (x**6).sum((1, 2, 3)),
    }
    for objective, value in expected.items():
        np.testing.assert_allclose(Evaluator(objective, 16)(x)[0], value, rtol=1e-9)


def test_objectives_stay_in_float32(small32: Small) -> None:
    for objective in make_all(small32).values():
        view = small32.on(small32.input)
        wide = [
            v
            for v in ancestors([objective.on(view, objective.data_inputs())])
            if getattr(v.type, "dtype", "") == "float64" and v.type.ndim
        ]
        assert not wide, (objective, wide)


def test_another_unit_needs_no_compilation(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    Evaluator(o.unit(small["logits"], 0), 16)
    from dlmie.visualize.ascent import evaluation

    monkeypatch.setattr(evaluation, "function", None)
    x = np.ones((1, 3, 16, 16))
    a = Evaluator(o.unit(small["logits"], 1), 16)(x)
    b = Evaluator(o.unit(small["logits"], 2), 16)(x)
    assert a[0] != b[0]


def test_json_makes_the_same_objective(small: Small) -> None:
    objective = o.channel(small["conv2"], 3) - 2 * o.total_variation(1.5) + o.energy(small["conv1"])
    again = o.from_json(objective.to_json(), small)
    assert again.key == objective.key
    assert str(again) == str(objective)
    assert str(again) == "channel(conv2, 3) - 2 × total_variation(1.5) + energy(conv1)"
    with pytest.raises(DlmieError, match="cannot be reproduced"):
        o.from_json((-o.feature_match(small["conv2"], np.ones((1, 8, 8, 8)))).to_json(), small)


def test_word_likelihood_follows_the_captioner(small: Small) -> None:
    from dlmie.data.captions.vocabulary import END, START, Vocabulary
    from dlmie.models import ShowTell

    vocabulary = Vocabulary.build([["a", "red", "dog"]], min_count=1)
    model = ShowTell(small["conv2"], vocabulary, embedding=5, hidden=6, dtype="float64")
    ids = vocabulary.encode(["a", "dog"])
    tokens = np.array([[START, *ids, END]], np.int32)
    features = small["conv2"]
    run = dlmie.function([small.input, model.tokens], model.loss(features, model.tokens).each)
    x = np.random.default_rng(3).normal(size=(2, 3, 16, 16))
    each = run(x, np.repeat(tokens, 2, axis=0))
    whole = Evaluator(o.caption_log_likelihood(model, features, tokens), 16)(x)
    word = Evaluator(o.caption_log_likelihood(model, features, tokens, 1), 16)(x)
    np.testing.assert_allclose(whole[0], -each.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(word[0], -each[1], rtol=1e-9)
    assert np.abs(word[1]).max() > 0


def test_errors_say_what_is_wrong(small: Small) -> None:
    with pytest.raises(DlmieError, match="did you mean 'conv2'"):
        small["conv_2"]
    with pytest.raises(DlmieError, match="0 to 4"):
        o.unit(small["logits"], 5)
    with pytest.raises(DlmieError, match="did you mean 'three'"):
        o.unit(small["logits"], "thre")
    with pytest.raises(DlmieError, match="layer of maps"):
        o.unit(small["conv1"], 1)
    with pytest.raises(DlmieError, match="no row 99"):
        o.neuron(small["conv1"], 1, 99, 0)
    with pytest.raises(DlmieError, match="no row 7: they are 0 to 3 for images of this size"):
        Evaluator(o.neuron(small["conv2"], 1, 7, 0), 8)
    with pytest.raises(DlmieError, match="not a layer of a network"):
        o.unit(small["conv1"] * 2, 1)
    with pytest.raises(DlmieError, match="needs a layer"):
        _ = o.total_variation().network
    with pytest.raises(DlmieError, match="at least 8 × 8 pixels, not 4 × 16"):
        Evaluator(o.energy(small["conv1"]), (4, 16))


@pytest.mark.parametrize(("old", "new"), o.FORMER_NAMES.items())
def test_former_names_of_objectives_are_understood(old: str, new: str) -> None:
    from dlmie.visualize import objectives

    for module in (o, objectives):
        with pytest.warns(DeprecationWarning, match=new):
            assert getattr(module, old) is getattr(module, new)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            getattr(module, "nothing")  # noqa: B009


def test_manifests_of_version_0_1_name_objectives_that_load(small: Small) -> None:
    old = [(0.5, "evidence", {"layer": "logits"}), (1.0, "unit", {"layer": "logits", "index": 3})]
    assert str(o.from_json(old, small)) == "0.5 × class_energy(logits) + unit(logits, 3)"
