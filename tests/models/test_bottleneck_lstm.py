"""The project's captioner between narrow layers, by the reference numbers of the course."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from course import course_entry, line

import dlmie
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.models.captioners.bottleneck_lstm import BottleneckLSTM

# Where our parameters stand among the project's, in TensorFlow's order.
NAMES = {
    "/image/W": "img_to_bottleneck.W",
    "/image/b": "img_to_bottleneck.b",
    "/first/W": "bottleneck_to_h0.W",
    "/first/b": "bottleneck_to_h0.b",
    "/embedding/W": "embedding",
    "/bottleneck/W": "to_bottleneck.W",
    "/bottleneck/b": "to_bottleneck.b",
    "/output/W": "to_logits.W",
    "/output/b": "to_logits.b",
}


class Words(Vocabulary):
    """So many words, whatever they are."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


def ours(kernel: np.ndarray) -> np.ndarray:
    """TensorFlow's gates i, g, f, o (…, 4 × hidden) in the order i, f, o, g."""
    i, g, f, o = np.split(kernel, 4, axis=-1)
    return np.concatenate([i, f, o, g], axis=-1)


def test_loss_and_scores_of_the_project(shared: Path) -> None:
    entry = course_entry(shared, "hse_decoder_loss")
    described = entry["inputs"]["parameters (linspace over each, C order)"]
    given = {name: line(low, high, *shape) for name, (low, high, shape) in described.items()}
    sizes = {"image_bottleneck": 3, "embedding": 4, "hidden": 5, "output_bottleneck": 3}
    model = BottleneckLSTM((6,), Words(7), **sizes, dtype="float64")
    values = {name: given[theirs] for name, theirs in NAMES.items()}
    values["/lstm/W_x"], values["/lstm/W_h"] = np.split(ours(given["lstm.kernel"]), [4])
    values["/lstm/b"] = ours(given["lstm.bias"])
    values["/lstm/b"][5:10] += 1  # TensorFlow adds it to the forget gate at every step
    assert set(values) == {p.name for p in model.parameters}
    for parameter in model.parameters:
        parameter.set_value(values[str(parameter.name)])
    low, high, shape = entry["inputs"]["images"]["linspace"]
    images, sentences = line(low, high, *shape), np.asarray(entry["inputs"]["sentences"], np.int32)
    out = model.loss()
    run = dlmie.function([model.features, model.tokens], [out.per_word, out.words, out.logits])
    loss, words, logits = run(images, sentences)
    expected = entry["expected"]
    np.testing.assert_allclose(loss, expected["loss"], rtol=entry["rtol"])
    assert words == expected["tokens"]
    last = logits.reshape(4, 3, 7)[-1]
    np.testing.assert_allclose(last, expected["last_logits"], rtol=entry["rtol"], atol=1e-14)


def test_parameters_of_the_project(shared: Path) -> None:
    expected = course_entry(shared, "hse_parameter_count")["expected"]
    model = BottleneckLSTM((2048,), Words(8769))
    sizes = {str(p.name): p.get_value(borrow=True).size for p in model.parameters}
    named = {"img": "/image", "h0": "/first"}
    for theirs in ("img", "h0", "embedding", "lstm", "bottleneck"):
        prefix = named.get(theirs, f"/{theirs}")
        assert sum(n for name, n in sizes.items() if name.startswith(prefix)) == expected[theirs]
    assert sum(sizes.values()) == expected["total"]


def test_large_activations_have_a_derivative() -> None:
    import pytensor.tensor as pt

    from dlmie.layers.parameterless import elu

    x = pt.vector("x", dtype="float64")
    y = elu(x)
    run = dlmie.function([x], [y, pt.grad(y.sum(), x)])
    value, slope = run(np.array([-800.0, -1.0, 0.0, 2.0, 800.0]))
    np.testing.assert_allclose(value, [-1, np.expm1(-1), 0, 2, 800])
    np.testing.assert_allclose(slope, [0, np.exp(-1), 1, 1, 1], atol=1e-12)
