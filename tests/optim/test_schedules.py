"""Schedules: shapes, bounds, agreement of NumPy, compiled graph and PyTorch, plateaus, JSON."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlmie
from dlmie import optim
from dlmie.errors import DlmieError
from dlmie.optim import schedules

EVERY = [
    optim.constant(0.3),
    optim.step_decay(0.3, 7, 0.5),
    optim.step_decay(0.3, [5, 9, 31], 0.1),
    optim.exponential_decay(0.3, 0.9, every=4),
    optim.cosine(0.3, 60, warmup=10, final=0.01),
    optim.cosine(0.3, 60),
    optim.warm_restarts(0.3, 10, t_mult=2, final=0.03),
    optim.warm_restarts(0.3, 7, t_mult=1),
    optim.warm_restarts(0.3, 3, t_mult=3),
    optim.linear_warmup(optim.step_decay(0.3, 20), 10),
    optim.linear_warmup(0.3, 4),
    optim.plateau(optim.linear_warmup(0.3, 4)),
]
rates = st.floats(1e-6, 10.0)
steps = st.integers(0, 10**7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_compiled_graph_agrees_with_numpy(dtype: str) -> None:
    step = pytensor.shared(np.asarray(0, "int64"))
    outputs = [pt.as_tensor_variable(schedule.share(step, dtype, pt)) for schedule in EVERY]
    assert {x.dtype for x in outputs} == {dtype}
    read = dlmie.function([], outputs)
    for number in (0, 1, 4, 5, 9, 10, 29, 30, 31, 59, 60, 69, 70, 10**4, 10**7):
        step.set_value(np.asarray(number, "int64"))
        wanted = [schedule(number) / schedule.peak for schedule in EVERY]
        tolerance = 1e-6 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(read(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_an_array_of_steps_is_every_step(schedule: optim.Schedule) -> None:
    curve = schedule(np.arange(80))
    assert curve.shape == (80,)
    assert curve.dtype == np.float64
    np.testing.assert_allclose(curve, [schedule(i) for i in range(80)], rtol=1e-14)
    assert isinstance(schedule(3), float)


@given(st.sampled_from(EVERY), steps)
def test_between_zero_and_the_peak(schedule: optim.Schedule, step: int) -> None:
    assert 0 <= schedule(step) <= schedule.peak * (1 + 1e-12)


@given(rates, st.integers(1, 10**6), st.floats(0, 1), st.data())
def test_cosine(peak: float, length: int, share: float, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, length - 1))
    schedule = optim.cosine(peak, length, warmup=warmup, final=share * peak)
    assert schedule(warmup) == pytest.approx(peak)
    assert schedule(length) == pytest.approx(share * peak, abs=1e-12 * peak)
    assert schedule(length + 1000) == schedule(length)
    a, b = sorted(data.draw(st.tuples(steps, steps)))
    if warmup <= a:
        assert schedule(a) >= schedule(b) - 1e-12 * peak
    if b < warmup:
        assert schedule(a) <= schedule(b)


@given(rates, st.integers(1, 1000), st.integers(1, 5), st.integers(0, 8), st.floats(0, 1))
def test_warm_restarts_start_each_cycle_at_the_peak(
    peak: float, length: int, mult: int, cycle: int, share: float
) -> None:
    schedule = optim.warm_restarts(peak, length, t_mult=mult, final=share * peak)
    start, last = sum(length * mult**i for i in range(cycle)), length * mult**cycle
    assert schedule(start) == pytest.approx(peak)
    # SGDR, equation 5, inside the cycle and on its last step.
    for inside in (last // 3, last - 1):
        wave = (1 + math.cos(math.pi * inside / last)) / 2
        wanted = share * peak + (1 - share) * peak * wave
        assert schedule(start + inside) == pytest.approx(wanted, rel=1e-9, abs=1e-12 * peak)
    assert schedule(start + last) == pytest.approx(peak)


@given(rates, st.integers(1, 1000), st.floats(0.01, 1), steps)
def test_decays(peak: float, every: int, factor: float, step: int) -> None:
    stairs = optim.step_decay(peak, every, factor)
    smooth = optim.exponential_decay(peak, factor, every)
    assert stairs(step) == pytest.approx(peak * factor ** (step // every))
    assert smooth(step) == pytest.approx(peak * factor ** (step / every))
    assert smooth(step) <= stairs(step) * (1 + 1e-9)


@given(rates, st.integers(1, 1000), steps)
def test_warmup_rises_linearly_then_follows(peak: float, length: int, step: int) -> None:
    inner = optim.exponential_decay(peak, 0.5, 100)
    schedule = optim.linear_warmup(inner, length)
    if step < length:
        assert schedule(step) == pytest.approx(peak * (step + 1) / length)
    else:
        assert schedule(step) == inner(step - length)


def test_pytorch_has_the_same_curves() -> None:
    torch = pytest.importorskip("torch")
    kinds = torch.optim.lr_scheduler
    pairs = [
        (optim.step_decay(0.3, 7, 0.5), lambda o: kinds.StepLR(o, 7, 0.5)),
        (optim.step_decay(0.3, [5, 9, 31]), lambda o: kinds.MultiStepLR(o, [5, 9, 31], 0.1)),
        (optim.exponential_decay(0.3, 0.9), lambda o: kinds.ExponentialLR(o, 0.9)),
        (optim.cosine(0.3, 50, final=0.01), lambda o: kinds.CosineAnnealingLR(o, 50, 0.01)),
        (
            optim.warm_restarts(0.3, 6, t_mult=2, final=0.01),
            lambda o: kinds.CosineAnnealingWarmRestarts(o, 6, 2, 0.01),
        ),
        (
            optim.linear_warmup(0.3, 10),
            lambda o: kinds.LinearLR(o, start_factor=0.1, total_iters=9),
        ),
    ]
    for ours, theirs in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        scheduler = theirs(optimizer)
        for step in range(50):
            assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), ours
            optimizer.step()
            scheduler.step()


def plateau_state(schedule: schedules.Plateau) -> dict:
    return {k: pytensor.shared(v) for k, v in schedule.start("float32").items()}


def reports(schedule: schedules.Plateau, scores: list[float]) -> list[bool]:
    state = plateau_state(schedule)
    return [schedule.report(score, state) for score in scores]


def test_plateau_cuts_after_patience_reports_without_a_best() -> None:
    schedule = optim.plateau(0.1, 0.8, patience=2)
    assert reports(schedule, [1, 2, 2, 1, 3, 3, 3]) == [False] * 3 + [True] + [False] * 2 + [True]
    assert reports(optim.plateau(0.1, patience=1, mode="min"), [3, 2, 2, 1]) == [0, 0, 1, 0]
    assert reports(optim.plateau(0.1, patience=1, threshold=0.5), [1, 1.4, 2]) == [0, 1, 0]
    assert reports(optim.plateau(0.1, patience=2), [math.nan] * 3) == [False, True, False]
    cooling = optim.plateau(0.1, patience=1, cooldown=2)
    assert reports(cooling, [1, 1, 1, 1, 1]) == [False, True, False, False, True]


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 5), st.integers(0, 3))
def test_plateau_properties(scores: list[float], patience: int, cooldown: int) -> None:
    schedule = optim.plateau(0.1, 0.5, patience=patience, cooldown=cooldown, minimum=0.1)
    state, cuts = plateau_state(schedule), []
    for i, score in enumerate(scores):
        before = float(state["factor"].get_value())
        cut = schedule.report(score, state)
        factor = float(state["factor"].get_value())
        assert cut == (factor < before)
        cuts += [i] * cut
        assert factor == pytest.approx(max(0.5 ** len(cuts), 0.1))
    assert all(b - a >= patience + cooldown for a, b in itertools.pairwise(cuts))
    if scores:
        assert state["best"].get_value() == max(scores)
    rising = np.cumsum(np.ones(20))
    assert not any(reports(schedule, list(rising)))


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_json_round_trip(schedule: optim.Schedule) -> None:
    assert schedules.from_json(json.loads(json.dumps(schedule.to_json()))) == schedule
    assert optim.constant(0.1).to_json() == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.constant(-1), "number ≥ 0, not -1"),
        (lambda: optim.constant("0.1"), "number ≥ 0"),
        (lambda: optim.constant(math.nan), "number ≥ 0"),
        (lambda: optim.cosine(0.1, 10, warmup=10), "less than steps=10"),
        (lambda: optim.cosine(0.1, 10, final=0.2), "final=0.2"),
        (lambda: optim.step_decay(0.1, 0), "must be positive"),
        (lambda: optim.step_decay(0.1, [5, 3]), "must rise"),
        (lambda: optim.step_decay(0.1, [0]), "must rise"),
        (lambda: optim.step_decay(0.1, 5, 1.5), "factor=1.5"),
        (lambda: optim.exponential_decay(0.1, 0.0), r"factor=0\.0"),
        (lambda: optim.warm_restarts(0.1, 0), "must be whole"),
        (lambda: optim.warm_restarts(0.1, 5, t_mult=1.5), "must be whole"),
        (lambda: optim.linear_warmup(0.1, 0), "must be positive"),
        (lambda: optim.linear_warmup(optim.plateau(0.1), 5), "outermost"),
        (lambda: optim.plateau(0.1, mode="up"), "use 'max' or 'min'"),
        (lambda: schedules.from_json({"schedule": "cosin", "value": 1}), "did you mean 'cosine'"),
        (
            lambda: schedules.from_json({"schedule": "cosine", "value": 1, "step": 3}),
            "did you mean 'steps'",
        ),
        (lambda: schedules.from_json({"schedule": "cosine", "value": 1}), "missing"),
        (lambda: schedules.from_json({"value": 1}), "needs the key 'schedule'"),
    ],
)
def test_mistakes_are_named(make: object, message: str) -> None:
    with pytest.raises(DlmieError, match=message):
        make()  # type: ignore[operator]
