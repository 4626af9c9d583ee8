"""Networks and layers: names, roles, shapes, and what each layer computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Variable

import dlmie
from dlmie import optim
from dlmie.errors import DlmieError
from dlmie.graph.network import Network, count, find_parameters, parameter
from dlmie.layers import LSTM, RNN, BatchNorm, Conv2D, Embedding, Linear, fold_batch_norm
from dlmie.layers.attention import AttentionLSTM
from dlmie.text import suggest


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Small(Network):
    """Two convolutions and a linear layer, with a branch inside the second."""

    name = "small-net"

    def __init__(self) -> None:
        made: dict[str, Any] = {"rng": rng()}
        self.first = Conv2D("/small_net/conv1", 3, 4, 3, **made)
        self.second = Conv2D("/small_net/conv2", 4, 5, 3, stride=2, **made)
        self.last = Linear("/small_net/fc", 5, 2, **made)
        super().__init__(pt.tensor("image", dtype="float32", shape=(None, 3, 8, 8)))

    def build(self, x: Variable, *, double: bool = False) -> dict[str, Variable]:
        conv1 = self.first(x)
        pre = self.second(conv1)
        conv2 = pt.maximum(pre, 0) * np.float32(2 if double else 1)
        return {"conv1": conv1, "conv2/pre": pre, "conv2": conv2,
                "fc": self.last(conv2.mean(axis=(2, 3)))}  # fmt: skip


@pytest.fixture(scope="module")
def net() -> Small:
    return Small()


def test_a_network_is_a_mapping_of_named_variables(net: Small) -> None:
    assert list(net) == ["conv1", "conv2/pre", "conv2", "fc"]
    assert "fc" in net
    assert len(net) == 4
    assert net["conv2"].type.shape == (None, 5, 4, 4)
    assert net["conv2"].name == "conv2"
    assert net["conv2"].tag.network is net
    assert net["conv2"].tag.layer == "conv2"


def test_views_are_themselves_and_can_be_keys(net: Small) -> None:
    view = net.on(net.input)
    assert {net: 1, view: 2}[view] == 2
    assert view != net.on(net.input)


def test_unknown_layers_get_a_hint(net: Small) -> None:
    with pytest.raises(DlmieError) as caught:
        net["cnv2"]
    assert str(caught.value) == (
        "small-net has no layer 'cnv2'; did you mean 'conv2'? (known: conv1, conv2, fc)"
    )
    with pytest.raises(DlmieError, match=r"did you mean 'conv2/pre'\? \(known: conv1, conv2/pre,"):
        net["conv2/pro"]
    assert suggest("xyz", ["one", "two"]) == " (known: one, two)"


def test_the_same_parameters_on_another_input(net: Small) -> None:
    x = pt.ftensor4("x")
    view = net.on(x, double=True)
    assert view.input is x
    assert find_parameters(view["fc"]) == net.parameters
    f = dlmie.function([x], [view["conv2"], net.on(x)["conv2"]])
    doubled, plain = f(rng().standard_normal((2, 3, 6, 10)).astype("f"))
    np.testing.assert_array_equal(doubled, 2 * plain)
    assert plain.shape == (2, 5, 3, 5)


def test_parameters_are_found_by_walking_and_by_role(net: Small) -> None:
    names = [p.name for p in net.parameters]
    assert names == sorted(names)
    assert set(names) == {f"/small_net/{x}" for x in
                          ("conv1/W", "conv1/b", "conv2/W", "conv2/b", "fc/W", "fc/b")}  # fmt: skip
    decaying = {p.name for p in find_parameters(net["fc"], "regularizable")}
    assert decaying == {"/small_net/conv1/W", "/small_net/conv2/W", "/small_net/fc/W"}
    assert [p.name for p in find_parameters(net["conv1"])] == names[:2]


def test_a_parameter_keeps_its_type() -> None:
    p = parameter("/a/W", np.zeros((2, 3), "f"), trainable=False, regularizable=True)
    assert p.type.shape == (2, 3)
    assert p.type.dtype == "float32"
    assert p.roles == {"regularizable"}
    assert count(p) == 6
    assert find_parameters([p * 2, p + 1], "trainable") == []
    with pytest.raises(TypeError):
        p.set_value(np.zeros((2, 3)))
    with pytest.raises(TypeError):
        p.set_value(np.zeros((3, 2), "f"))


def test_summary(net: Small) -> None:
    assert net.summary().splitlines() == [
        "layer             shape  parameters",
        "conv1  (batch, 4, 8, 8)         112",
        "conv2  (batch, 5, 4, 4)         185",
        "fc           (batch, 2)          12",
        "total                           309",
    ]


# -- layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_linear_on_any_number_of_axes(ndim: int) -> None:
    layer = Linear("/fc", 3, 2, rng=rng(), b=0.5)
    x = pt.tensor("x", dtype="float32", shape=(None,) * (ndim - 1) + (3,))
    y = layer(x)
    assert y.type.shape[-1] == 2
    values = rng().standard_normal((4, 2, 5, 3)[4 - ndim :]).astype("f")
    expected = values @ layer.W.get_value() + layer.b.get_value()
    result = dlmie.function([x], y)(values)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_no_bias_is_no_parameter() -> None:
    layer = Linear("/fc", 3, 2, rng=rng(), b=None)
    assert [p.name for p in find_parameters(layer(pt.fmatrix()))] == ["/fc/W"]


def test_embedding_takes_ids_of_any_shape() -> None:
    layer = Embedding("/words", 7, 3, rng=rng())
    ids = pt.itensor3("ids")
    values = rng().integers(0, 7, (2, 1, 4)).astype("i4")
    np.testing.assert_array_equal(
        dlmie.function([ids], layer(ids))(values), layer.W.get_value()[values]
    )


def test_batch_norm_trains_like_the_course() -> None:
    layer = BatchNorm("/bn", 4, momentum=0.9, dtype="float64")
    layer.gamma.set_value(np.array([1.0, 2, 0.5, -1]))
    layer.beta.set_value(np.array([0.0, 1, -1, 3]))
    x = pt.dtensor4("x")
    y, updates = layer.train(x)
    train = dlmie.function([x], y, updates=updates)
    test = dlmie.function([x], layer(x))
    random, axes = rng(), (0, 2, 3)
    mean, variance = np.zeros(4), np.ones(4)
    for _ in range(3):
        values = random.standard_normal((5, 4, 3, 2)) * 2 + 1
        m, v = values.mean(axis=axes), values.var(axis=axes)  # biased
        shape = (1, 4, 1, 1)
        normal = (values - m.reshape(shape)) / np.sqrt(v.reshape(shape) + 1e-5)
        gamma, beta = (p.get_value().reshape(shape) for p in (layer.gamma, layer.beta))
        np.testing.assert_allclose(train(values), normal * gamma + beta, rtol=1e-9, atol=1e-9)
        mean, variance = 0.9 * mean + 0.1 * m, 0.9 * variance + 0.1 * v
    np.testing.assert_allclose(layer.mean.get_value(), mean)
    np.testing.assert_allclose(layer.variance.get_value(), variance)
    expected = (values - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-5)
    np.testing.assert_allclose(test(values), expected * gamma + beta, rtol=1e-9)


def test_running_statistics_leave_scale_and_shift_alone() -> None:
    layer, x = BatchNorm("/bn", 3), pt.fmatrix("x")
    y, updates = layer.train(x)
    dlmie.function([x], y, updates=updates)(rng().standard_normal((5, 3)).astype("f") + 4)
    assert layer.gamma.get_value().tolist() == [1, 1, 1]
    assert layer.beta.get_value().tolist() == [0, 0, 0]
    assert layer.mean.get_value().min() > 0.2


def test_batch_norm_of_vectors_in_float32_stays_there() -> None:
    layer, x = BatchNorm("/bn", 3), pt.fmatrix("x")
    y, updates = layer.train(x)
    assert y.type.dtype == layer(x).type.dtype == "float32"
    assert {new.type.dtype for _, new in updates} == {"float32"}
    assert {p.name for p in find_parameters(layer(x), "trainable")} == {"/bn/gamma", "/bn/beta"}
    assert not find_parameters(layer(x), "regularizable")


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_batch_norm_equals_convolution_and_batch_norm(bias: bool) -> None:
    random = rng()
    conv = Conv2D("/conv", 3, 4, 3, rng=random, b=0.3 if bias else None, dtype="float64")
    norm = BatchNorm("/bn", 4, epsilon=1e-3, dtype="float64")
    for p in (norm.gamma, norm.beta, norm.mean, norm.variance):
        p.set_value(random.uniform(0.5, 2, 4))
    W, b = fold_batch_norm(
        conv.W.get_value(),
        None if conv.b is None else conv.b.get_value(),
        *(p.get_value() for p in (norm.gamma, norm.beta, norm.mean, norm.variance)),
        1e-3,
    )
    assert W.dtype == b.dtype == np.float64
    folded = Conv2D("/folded", 3, 4, 3, rng=random, W=W, b=b, dtype="float64")
    x = pt.dtensor4("x")
    one, other = dlmie.function([x], [norm(conv(x)), folded(x)])(
        random.standard_normal((2, 3, 5, 5))
    )
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_layers_take_first_values_of_every_kind() -> None:
    W = np.arange(6, dtype=np.float64).reshape(3, 2)
    layer = Linear("/fc", 3, 2, rng=rng(), W=W, b=[1, 2])
    assert layer.W.get_value().dtype == np.float32
    np.testing.assert_array_equal(layer.W.get_value(), W)
    assert layer.b.get_value().tolist() == [1, 2]


def test_lstm_forgets_little_at_first_and_steps_as_it_runs() -> None:
    lstm = LSTM("/lstm", 3, 4, rng=rng(), dtype="float64")
    assert lstm.b.get_value().tolist() == [0] * 4 + [1] * 4 + [0] * 8  # i, f, o, g
    x = pt.dtensor3("x")
    h, c = lstm(x)
    state = lstm.zeros(x.shape[1])
    stepped = []
    for t in range(3):
        state = lstm.step(x[t], *state)
        stepped.append(state[0])
    values = rng().standard_normal((3, 2, 3))
    whole, last, *steps = dlmie.function([x], [h, c[-1], *stepped, state[1]])(values)
    np.testing.assert_allclose(whole, steps[:3], atol=1e-14)
    np.testing.assert_allclose(last, steps[3], atol=1e-14)


def test_recurrent_matrices_start_orthogonal_gate_by_gate() -> None:
    for layer, gates in ((LSTM("/a", 3, 5, rng=rng()), 4), (RNN("/b", 3, 5, rng=rng()), 1)):
        for gate in np.split(layer.W_h.get_value(), gates, axis=1):
            np.testing.assert_allclose(gate @ gate.T, np.eye(5), atol=1e-5)


def test_a_mask_carries_the_state_over() -> None:
    rnn = RNN("/rnn", 2, 3, rng=rng(), dtype="float64")
    x, mask = pt.dtensor3("x"), pt.dmatrix("mask")
    h = dlmie.function([x, mask], rnn(x, mask=mask))(
        rng().standard_normal((4, 2, 2)), np.array([[1.0, 1], [0, 1], [0, 1], [1, 0]])
    )
    np.testing.assert_array_equal(h[0, 0], h[1, 0])
    np.testing.assert_array_equal(h[0, 0], h[2, 0])
    assert not np.array_equal(h[3, 0], h[2, 0])
    np.testing.assert_array_equal(h[3, 1], h[2, 1])


def test_only_weight_matrices_decay() -> None:
    layer = AttentionLSTM("/lstm", 3, 4, 5, 6, rng=rng())
    x, a = pt.ftensor3("x"), pt.ftensor3("a")
    zeros = pt.zeros((2, 5), "float32")
    seen = layer(x, a, layer.project(a), zeros, zeros)
    names = {p.name for p in find_parameters(seen.h, "regularizable")}
    assert names == {
        f"/lstm/{n}" for n in ("W_x", "W_h", "W_z", "W_q", "v", "W_beta", "annotations/W")
    }
    everything = find_parameters(seen.h)
    before = {p.name: p.get_value() for p in everything}
    # With a gradient of zero only decay moves anything.
    chain = optim.chain(optim.sgd(1.0), optim.weight_decay(0.5, decoupled=True))
    updates = chain.updates_from([pt.zeros_like(p) for p in everything], everything)
    dlmie.function([], updates=list(updates))()
    for p in everything:
        factor = 0.5 if p.name in names else 1.0
        np.testing.assert_allclose(p.get_value(), factor * before[p.name], rtol=1e-6)


def test_the_score_starts_with_weights_that_are_not_zero() -> None:
    layer = AttentionLSTM("/lstm", 3, 4, 5, 64, rng=rng())
    v = layer.v.get_value()
    assert np.abs(v).min() > 0
    assert 0.5 < np.linalg.norm(v) < 2
    unused = AttentionLSTM("/lstm", 3, 4, 5, 64, rng=rng(), score="dot").v
    assert "trainable" not in unused.roles
    with pytest.raises(DlmieError, match="not 'cosine' and 'scalar'"):
        AttentionLSTM("/lstm", 3, 4, 5, 6, rng=rng(), score="cosine")
