"""Optimizers: every rule against PyTorch and golden numbers, transforms, state, resume, JSON."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.traversal import ancestors

import dlmie
from dlmie import optim
from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.optim.rules import RULES
from dlmie.training.checkpoint import Checkpoint

GOLDEN = Path(__file__).parents[1] / "golden" / "update_rules.json"

# Learning rate of the comparison with PyTorch, its optimizer; one that solves a quadratic.
CASES: dict[str, tuple[Any, float, Callable[..., Any], float]] = {
    "sgd": (optim.sgd, 0.1, lambda o, p, lr: o.SGD(p, lr), 0.1),
    "momentum": (optim.momentum, 0.1, lambda o, p, lr: o.SGD(p, lr, momentum=0.9), 0.02),
    "nesterov": (
        optim.nesterov,
        0.1,
        lambda o, p, lr: o.SGD(p, lr, momentum=0.9, nesterov=True),
        0.02,
    ),
    "adagrad": (optim.adagrad, 0.1, lambda o, p, lr: o.Adagrad(p, lr), 0.5),
    "adadelta": (
        optim.adadelta,
        1.0,
        lambda o, p, lr: o.Adadelta(p, lr, rho=0.95, eps=1e-6),
        5.0,
    ),
    "rmsprop": (optim.rmsprop, 0.01, lambda o, p, lr: o.RMSprop(p, lr, alpha=0.99), 0.01),
    "graves_rmsprop": (
        # PyTorch adds δ outside the root: the two agree where it vanishes.
        lambda rate: optim.graves_rmsprop(rate, epsilon=1e-24),
        0.01,
        lambda o, p, lr: o.RMSprop(p, lr, alpha=0.95, eps=0, centered=True, momentum=0.9),
        0.001,
    ),
    "adam": (optim.adam, 0.01, lambda o, p, lr: o.Adam(p, lr), 0.05),
    "adamw": (
        lambda rate: optim.adamw(rate, weight_decay=0.1),
        0.01,
        lambda o, p, lr: o.AdamW(p, lr, weight_decay=0.1),
        0.05,
    ),
    "decayed momentum": (
        lambda rate: optim.chain(optim.weight_decay(0.1), optim.momentum(rate)),
        0.1,
        lambda o, p, lr: o.SGD(p, lr, momentum=0.9, weight_decay=0.1),
        0.02,
    ),
}
SHAPES = {"/a/W": (4, 5), "/b/W": (3, 2)}


class Compiled:
    """An optimizer on two float64 matrices; the gradients are inputs of the compiled update."""

    def __init__(self, optimizer: Any) -> None:
        self.params = {
            name: pytensor.shared(np.zeros(shape), name=name, shape=shape)
            for name, shape in SHAPES.items()
        }
        gradients = [pt.dmatrix() for _ in self.params]
        self.updates = optim.chain(optimizer).updates_from(gradients, list(self.params.values()))
        self.step = dlmie.function(gradients, self.updates.learning_rate, updates=self.updates)
        self.first = {k: v.get_value() for k, v in self.updates.state.items()}

    def restart(self, rate: float) -> None:
        for name, value in self.first.items():
            self.updates.state[name].set_value(value)
        self.updates.set_learning_rate(rate)
        rng = np.random.default_rng(0)
        for p in self.params.values():
            p.set_value(rng.normal(size=p.type.shape))


@pytest.fixture(scope="module")
def compiled() -> Callable[[str], Compiled]:
    """Each optimizer of CASES, compiled once for all tests of this file."""
    made: dict[str, Compiled] = {}

    def get(name: str) -> Compiled:
        if name not in made:
            made[name] = Compiled(CASES[name][0](0.5))
        return made[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_as_pytorch(name: str, compiled: Callable[[str], Compiled]) -> None:
    torch = pytest.importorskip("torch")
    _, rate, make, _ = CASES[name]
    ours = compiled(name)
    ours.restart(rate)
    values = [p.get_value() for p in ours.params.values()]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    optimizer, rng = make(torch.optim, theirs, rate), np.random.default_rng(1)
    for _ in range(20):
        gradients = [rng.normal(size=p.type.shape) for p in ours.params.values()]
        assert ours.step(*gradients) == rate
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        for p, q in zip(ours.params.values(), theirs, strict=True):
            np.testing.assert_allclose(p.get_value(), q.detach().numpy(), rtol=1e-9, atol=1e-12)
    assert ours.updates.state["/optimizer/step"].get_value() == 20


@pytest.mark.parametrize("name", CASES)
def test_solves_a_quadratic(name: str, compiled: Callable[[str], Compiled]) -> None:
    ours = compiled(name)
    ours.restart(CASES[name][3])
    rng = np.random.default_rng(2)
    decays = name in ("adamw", "decayed momentum")  # these are pulled from elsewhere towards 0
    aims = [np.zeros(s) if decays else rng.normal(size=s) for s in SHAPES.values()]
    curvatures = [rng.uniform(0.5, 5.0, size=s) for s in SHAPES.values()]
    params = list(ours.params.values())

    def loss() -> float:
        terms = zip(curvatures, params, aims, strict=True)
        return float(sum((c * (p.get_value() - x) ** 2).sum() for c, p, x in terms))

    start = loss()
    for _ in range(600):
        ours.step(
            *(
                c * (p.get_value(borrow=True) - x)
                for c, p, x in zip(curvatures, params, aims, strict=True)
            )
        )
    assert loss() < 1e-3 * start


def line(start: float, stop: float) -> np.ndarray:
    return np.linspace(start, stop, 20).reshape(4, 5)


@pytest.mark.parametrize(
    ("name", "rate", "steps_done", "slots", "answers"),
    [
        (
            "momentum",
            1e-3,
            0,
            {"momentum/v": line(0.6, 0.9)},
            {"W": "sgd_momentum_w", "momentum/v": "sgd_momentum_v"},
        ),
        (
            "rmsprop",
            1e-2,
            0,
            {"rmsprop/s": line(0.6, 0.9)},
            {"W": "rmsprop_w", "rmsprop/s": "rmsprop_cache"},
        ),
        (
            "adam",
            1e-2,
            5,
            {"adam/m": line(0.6, 0.9), "adam/v": line(0.7, 0.5)},
            {"W": "adam_w"},
        ),
    ],
)
def test_golden_numbers(
    name: str,
    rate: float,
    steps_done: int,
    slots: dict[str, np.ndarray],
    answers: dict[str, str],
    compiled: Callable[[str], Compiled],
) -> None:
    ours, golden = compiled(name), json.loads(GOLDEN.read_text())
    ours.restart(rate)
    ours.params["/a/W"].set_value(line(-0.4, 0.6))
    ours.updates.state["/optimizer/step"].set_value(np.asarray(steps_done))
    for slot, value in slots.items():
        ours.updates.state[f"/optimizer/{slot}/a/W"].set_value(value)
    ours.step(line(-0.6, 0.4), np.zeros((3, 2)))
    for what, key in answers.items():
        state = ours.updates.state
        got = ours.params["/a/W"] if what == "W" else state[f"/optimizer/{what}/a/W"]
        np.testing.assert_allclose(got.get_value(), golden[key], rtol=1e-12, atol=1e-14)


def test_graves_form_as_in_the_paper() -> None:
    ours = Compiled(optim.graves_rmsprop(0.01))
    ours.restart(0.01)
    rng, w = np.random.default_rng(3), ours.params["/b/W"].get_value()
    n = g = delta = np.zeros_like(w)
    for _ in range(10):  # equations 38 to 41
        epsilon = rng.normal(size=w.shape)
        n = 0.95 * n + 0.05 * epsilon**2
        g = 0.95 * g + 0.05 * epsilon
        delta = 0.9 * delta - 0.01 * epsilon / np.sqrt(n - g**2 + 1e-4)
        w = w + delta
        ours.step(np.zeros((4, 5)), epsilon)
        np.testing.assert_allclose(ours.params["/b/W"].get_value(), w, rtol=1e-12)


def test_bias_correction_in_single_precision_for_ten_million_steps() -> None:
    p = pytensor.shared(np.zeros((1, 3), "float32"), name="/p", shape=(1, 3))
    updates = optim.chain(optim.adam(1e-3)).updates_from([pt.ones((1, 3), "float32")], [p])
    step = dlmie.function([], [], updates=updates)
    state = updates.state
    rng = np.random.default_rng(0)
    for t in (1, 2, 3, 10, 1000, 10**5, 10**7):
        m, v = rng.uniform(0.5, 2, (2, 1, 3)).astype("float32")
        p.set_value(np.zeros((1, 3), "float32"))
        state["/optimizer/step"].set_value(np.asarray(t - 1))
        state["/optimizer/adam/m/p"].set_value(m)
        state["/optimizer/adam/v/p"].set_value(v)
        step()
        m, v = 0.9 * m.astype("float64") + 0.1, 0.999 * v.astype("float64") + 0.001
        wanted = -1e-3 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(p.get_value(), wanted, rtol=1e-6)
        assert state["/optimizer/step"].get_value() == t


def parameters(dtype: str = "float32") -> list[Any]:
    """Matrices, a row, a vector, a scalar and one whose static shape is unknown."""
    rng = np.random.default_rng(0)
    shapes = {
        "/encoder/W": (4, 3),
        "/decoder/W": (3, 2),
        "/decoder/b": (2,),
        "/decoder/row": (1, 2),
    }
    made = [
        pytensor.shared(rng.normal(size=s).astype(dtype), name=n, shape=s)
        for n, s in {**shapes, "/decoder/gain": ()}.items()
    ]
    made.append(pytensor.shared(rng.normal(size=(1, 2)).astype(dtype), name="/decoder/loose"))
    return made


def quadratic_loss(params: list[Any], dtype: str = "float32") -> tuple[Any, Any]:
    encoder, decoder, b, row, gain, loose = params
    x = pt.matrix("x", dtype=dtype)
    y = pt.tanh(x @ encoder) @ decoder * gain + b + row * pt.specify_shape(loose, (1, 2))
    return x, pt.sum(pt.sqr(y))


EVERYTHING = [
    optim.clip_value(1.0),
    optim.clip_norm(0.5),
    optim.weight_decay(0.01, where="*/W"),
    optim.scale(2.0),
    optim.adam(optim.plateau(optim.linear_warmup(optim.cosine(0.01, 100, warmup=5), 4))),
    optim.weight_decay(0.1, decoupled=True),
    optim.scale_where("/encoder", 0.1),
    optim.ema(0.9),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_single_precision_stays_single(rule: Any) -> None:
    schedule = optim.plateau(optim.linear_warmup(optim.warm_restarts(0.1, 10), 3))
    links = [rule(schedule) if x.name == "adam" else x for x in EVERYTHING]
    _, loss = quadratic_loss(params := parameters())
    updates = optim.chain(*links).updates(loss, params)
    doubles = [
        v
        for v in ancestors([new for _, new in updates] + [updates.learning_rate])
        if getattr(v.type, "dtype", None) == "float64"
    ]
    assert not doubles
    assert all(new.type.dtype == shared.type.dtype for shared, new in updates)


def test_a_parameter_of_any_shape() -> None:
    x, loss = quadratic_loss(params := parameters())
    updates = optim.sgd(0.1).updates(loss, params)
    step = dlmie.function([x], list(updates.gradients.values()), updates=updates)
    before = [p.get_value() for p in params]
    gradients = step(np.ones((6, 4), "float32"))
    for p, value, g in zip(params, before, gradients, strict=True):
        np.testing.assert_allclose(p.get_value(), value - 0.1 * g, rtol=1e-5)


def test_double_precision_on_request() -> None:
    _, loss = quadratic_loss(params := parameters("float64"), "float64")
    updates = optim.chain(*EVERYTHING).updates(loss, params)
    assert not any(
        getattr(v.type, "dtype", None) == "float32" for v in ancestors([new for _, new in updates])
    )


class Run:
    """A little training run with everything in its optimizer."""

    def __init__(self, spec: Any = None) -> None:
        optimizer = optim.from_json(spec) if spec else optim.chain(*EVERYTHING)
        self.params = (everything := parameters())[:2]  # fewer kinds, less to compile
        x, loss = quadratic_loss(everything)
        self.updates = optimizer.updates(loss, self.params)
        self.spec = optimizer.to_json()
        outputs = [loss, self.updates.learning_rate, self.updates.gradient_norm]
        self.step = dlmie.function([x], outputs, updates=self.updates)
        self.state = {**self.updates.state, **{p.name: p for p in self.params}}

    def go(self, first: int, last: int) -> list[Any]:
        record = []
        for i in range(first, last):
            rng = np.random.default_rng(i)
            rate = self.updates.current_learning_rate()
            record.append(self.step(rng.normal(size=(6, 4)).astype("float32")))
            assert record[-1][1] == pytest.approx(rate, rel=1e-5)
            self.updates.report(i % 4)
        return record

    def save(self) -> dict[str, np.ndarray]:
        return {name: np.array(v.get_value()) for name, v in self.state.items()}


def test_resume_is_bit_for_bit_and_nothing_is_double() -> None:
    whole = Run()
    whole.go(0, 6)
    middle, spec = whole.save(), json.loads(json.dumps(whole.spec))
    rest = whole.go(6, 12)
    assert whole.save()["/optimizer/plateau/factor"] < 1

    second = Run(spec)
    assert set(second.state) == set(middle)
    for name, value in middle.items():
        second.state[name].set_value(value)
    for a, b in zip(rest, second.go(6, 12), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, value in whole.save().items():
        again = second.state[name].get_value()
        assert again.dtype == value.dtype
        np.testing.assert_array_equal(again, value, err_msg=name)

    nodes = whole.step.maker.fgraph.apply_nodes
    dtypes = {getattr(v.type, "dtype", "") for n in nodes for v in [*n.inputs, *n.outputs]}
    assert "float64" not in dtypes


def test_state_names() -> None:
    _, loss = quadratic_loss(params := parameters())
    ema = optim.ema(0.9)
    state = optim.chain(optim.clip_norm(1), optim.adam(), ema).updates(loss, params).state
    assert {"/optimizer/step", "/optimizer/learning_rate"} < set(state)
    assert state["/optimizer/adam/m/decoder/W"].type.shape == (3, 2)
    assert "/optimizer/ema/average/decoder/gain" in state
    assert len(state) == 2 + 3 * len(params)
    assert all(v.name == name for name, v in state.items())
    # No name is a folder of another: they are paths in an HDF5 file.
    assert not any(a.startswith(b + "/") for a in state for b in state)


def test_schedule_clipping_and_factors_all_take_effect() -> None:
    # An ancestor's Adam ignored all three, and its step counter stood still.
    schedule = optim.step_decay(0.5, 2, 0.5)
    ours = Compiled(
        optim.chain(optim.clip_norm(1.0), optim.sgd(schedule), optim.scale_where("/b", 0.1))
    )
    ours.restart(0.5)
    a, b = (p.get_value() for p in ours.params.values())
    rng = np.random.default_rng(4)
    for i in range(6):
        size = 10.0 if i % 2 else 1e-3
        g, h = (size * rng.normal(size=s) for s in SHAPES.values())
        shorten = min(1.0, 1.0 / np.sqrt((g**2).sum() + (h**2).sum()))
        rate = 0.5 * 0.5 ** (i // 2)
        assert ours.updates.current_learning_rate() == pytest.approx(rate)
        assert ours.step(g, h) == pytest.approx(rate)
        a, b = a - rate * shorten * g, b - 0.1 * rate * shorten * h
        np.testing.assert_allclose(ours.params["/a/W"].get_value(), a, rtol=1e-12)
        np.testing.assert_allclose(ours.params["/b/W"].get_value(), b, rtol=1e-12)


def test_with_factor_finds_its_place() -> None:
    base = optim.chain(optim.clip_norm(1.0), optim.adam(), optim.ema())
    names = [link["transform"] for link in base.with_factor("/encoder", 0.1).to_json()]
    assert names == ["clip_norm", "adam", "scale_where", "ema"]
    alone = optim.chain(optim.adam()).with_factor("/encoder", 0.1)
    assert alone == optim.chain(optim.adam(), optim.scale_where("/encoder", 0.1))


def test_clip_value_scale_and_ema() -> None:
    ours = Compiled(optim.chain(optim.clip_value(0.5), optim.scale(2.0), optim.sgd(), optim.ema()))
    ours.restart(0.1)
    w, rng = ours.params["/b/W"], np.random.default_rng(5)
    value = average = w.get_value()
    ours.updates.state["/optimizer/ema/average/b/W"].set_value(average)
    assert set(ours.updates.averages) == set(SHAPES)
    for t in range(8):
        g = rng.normal(size=(3, 2))
        ours.step(np.zeros((4, 5)), g)
        value = value - 0.1 * 2 * np.clip(g, -0.5, 0.5)
        decay = min(0.999, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * value
        np.testing.assert_allclose(w.get_value(), value, rtol=1e-12)
        np.testing.assert_allclose(
            ours.updates.averages["/b/W"].get_value(), average, rtol=1e-12, atol=1e-14
        )
    trained = w.get_value()
    with contextlib.suppress(ZeroDivisionError), ours.updates.averaged():
        np.testing.assert_array_equal(w.get_value(), ours.updates.averages["/b/W"].get_value())
        raise ZeroDivisionError  # whatever happens meanwhile
    np.testing.assert_array_equal(w.get_value(), trained)


def test_learning_rate_is_set_on_resume() -> None:
    _, loss = quadratic_loss(params := parameters())
    schedule = optim.plateau(optim.linear_warmup(0.1, 10), 0.5, patience=1)
    updates = optim.adam(schedule).updates(loss, params)
    updates.state["/optimizer/step"].set_value(np.asarray(20))
    assert updates.current_learning_rate() == pytest.approx(0.1)
    assert [updates.report(s) for s in (1, 1, 1)] == [False, True, True]
    assert updates.current_learning_rate() == pytest.approx(0.025)
    updates.set_learning_rate(0.01)
    assert updates.current_learning_rate() == pytest.approx(0.01)
    assert updates.state["/optimizer/plateau/best"].get_value() == 1
    with pytest.raises(DlmieError, match="number ≥ 0"):
        updates.set_learning_rate(-1.0)
    assert not optim.adam().updates(loss, params).report(3.0)


def test_decay_spares_what_is_not_regularizable() -> None:
    params = parameters()
    for p in params:
        p.roles = frozenset({"regularizable"} if p.name.endswith("W") else ())
    zeros = [pt.zeros_like(p) for p in params]
    for decay in (optim.weight_decay(0.1), optim.weight_decay(0.1, decoupled=True)):
        links = [decay, optim.sgd(0.5)]
        updates = optim.chain(*(links if not decay.decoupled else links[::-1]))
        new = dlmie.function([], [v for _, v in updates.updates_from(zeros, params).pairs[:6]])()
        for p, value in zip(params, new, strict=True):
            factor = 0.95 if p.name.endswith("W") else 1.0
            np.testing.assert_allclose(value, factor * p.get_value(), rtol=1e-6)


def test_json_round_trip() -> None:
    optimizers = [optim.chain(*EVERYTHING), optim.adamw(1e-3, weight_decay=0.1)]
    optimizers += [optim.chain(rule(0.25)) for rule in RULES]
    optimizers.append(optim.chain(optim.sgd(), optim.scale_where(["/a", "*/b"], 0.5)))
    for optimizer in optimizers:
        spec = optimizer.to_json()
        text = json.dumps(spec)
        again = optim.from_json(json.loads(text))
        assert json.dumps(again.to_json()) == text
    rate = {"schedule": "cosine", "value": 4e-4, "steps": 9}
    short = [
        {"transform": "clip_norm", "threshold": 5.0},
        {"transform": "adam", "learning_rate": rate},
    ]
    wanted = optim.chain(optim.clip_norm(5.0), optim.adam(optim.cosine(4e-4, 9)))
    assert optim.from_json(short) == wanted
    assert copy.deepcopy(wanted) == wanted


LOSS = pt.sum(pytensor.shared(np.ones(3, "float32"), name="/unused"))


@pytest.mark.parametrize("name", [None, "W", "my weights", "/W"])
def test_any_shared_variable_is_trained(name: str | None, tmp_path: Path) -> None:
    w, other = pytensor.shared(np.ones(3), name=name), pytensor.shared(np.ones(3))
    updates = optim.adam(0.1).updates(((w - 2) ** 2).sum() + (other**2).sum(), [w, other])
    step = function([], updates=updates)
    for _ in range(200):
        step()
    np.testing.assert_allclose(w.get_value(), 2, atol=1e-2)
    np.testing.assert_allclose(other.get_value(), 0, atol=1e-2)
    with pytest.raises(DlmieError, match="name every parameter"):
        Checkpoint(tmp_path / "state.h5", {str(w.name): w, str(other.name): other})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.chain(optim.clip_norm(1)), "needs one rule (sgd, momentum,"),
        (lambda: optim.chain(optim.adam(), optim.sgd()), "not 2: ['adam', 'sgd']"),
        (lambda: optim.chain(optim.scale_where("/a", 1), optim.sgd()), "must stand after sgd"),
        (lambda: optim.chain(optim.sgd(), optim.weight_decay(1)), "must stand before sgd"),
        (lambda: optim.chain(optim.sgd(), optim.ema(), optim.scale(1)), "must stand last"),
        (lambda: optim.chain(optim.adam), "with parentheses"),
        (lambda: optim.clip_norm(0), "threshold=0 must be positive"),
        (lambda: optim.clip_value(-1), "threshold=-1 must be positive"),
        (lambda: optim.weight_decay(-1), "rate=-1"),
        (lambda: optim.ema(1.0), "decay=1.0 must be in [0, 1)"),
        (lambda: optim.adam(-1e-3), "number ≥ 0"),
        (lambda: optim.adam(beta2=1.0), "beta2=1.0 must be in [0, 1)"),
        (lambda: optim.rmsprop(epsilon=-1), "epsilon=-1"),
        (lambda: optim.from_json([{"transform": "adamm"}]), "did you mean 'adam'"),
        (lambda: optim.from_json([{"transform": "adam", "beta3": 1}]), "did you mean 'beta"),
        (lambda: optim.from_json([{"transform": "clip_norm"}]), "missing"),
        (lambda: optim.from_json(["adam"]), "needs the key 'transform'"),
        (lambda: optim.sgd().updates(LOSS, []), "no parameter to train"),
        (lambda: optim.sgd().updates(LOSS, parameters()), "does not depend on /encoder/W, /dec"),
        (lambda: optim.sgd().updates(LOSS, [pt.vector("x")]), "x is no shared variable"),
        (
            lambda: optim.sgd().updates(LOSS, [pytensor.shared(np.arange(2), name="/n")]),
            "/n is int64",
        ),
        (
            lambda: optim.sgd().updates(LOSS, parameters() * 2),
            "two parameters are named /decoder/W",
        ),
        (
            lambda: optim.chain(optim.sgd(), optim.scale_where("/encodr", 0.1)).updates_from(
                parameters(), parameters()
            ),
            "no trained parameter is named '/encodr'; did you mean '/encoder'",
        ),
    ],
)
def test_mistakes_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(DlmieError, match=re.escape(message)):
        make()
