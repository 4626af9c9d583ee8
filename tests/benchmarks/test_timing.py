"""How often a row is timed, and what its entry holds; the clock is made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.agreement import EVERY_ELEMENT, Disagreement
from benchmarks.timing import Budget, race


class Clock:
    """A clock that only runs that are timed move on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def run(self, *seconds: float, result: float = 1.0) -> Callable[[], np.ndarray]:
        """A run that takes these seconds, call after call, the last one for all others."""
        left = list(seconds)

        def call() -> np.ndarray:
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return np.full(3, result)

        return call


def test_the_first_calls_only_warm_up() -> None:
    clock = Clock()
    entry = race(clock.run(100, 1), clock.run(100, 2), clock=clock)
    assert (entry["dlmie_s"], entry["torch_eager_s"], entry["rounds"]) == (1, 2, 7)


@pytest.mark.parametrize(
    ("one_round", "rounds"),
    [(0.001, 7), (4.2, 7), (5.0, 6), (9.0, 3), (25.0, 3), (600.0, 3)],
)
def test_as_many_rounds_as_the_budget_allows(one_round: float, rounds: int) -> None:
    clock = Clock()
    run = clock.run(one_round / 2)
    entry = race(run, run, clock=clock, budget=Budget(seconds=30, most=7, fewest=3))
    assert entry["rounds"] == rounds
    assert entry["budget_s"] == 30


def test_the_ratio_is_against_the_fastest_of_pytorch() -> None:
    clock = Clock()
    others = {"channels_last": clock.run(3), "compiled": clock.run(8)}
    ample = Budget(seconds=1000)
    entry = race(clock.run(2, 2, 1, 2, 4), clock.run(6), clock=clock, budget=ample, **others)
    assert entry["dlmie_s"] == 4
    assert entry["torch_compile_s"] == 8
    assert entry["ratio"] == 3 / 4
    assert entry["spread"] == 3 / 4
    assert race(clock.run(1), clock.run(1), clock=clock)["torch_channels_last_s"] is None


def test_the_ratio_is_against_other_engines_as_well() -> None:
    clock = Clock()
    engines = {"openvino_s": clock.run(5), "onnxruntime_s": clock.run(3)}
    entry = race(clock.run(2), clock.run(8), engines=engines, clock=clock)
    assert (entry["onnxruntime_s"], entry["openvino_s"], entry["ratio"]) == (3, 5, 1.5)
    assert race(clock.run(1), clock.run(1), clock=clock)["openvino_s"] is None


def test_wrong_numbers_are_not_timed() -> None:
    clock = Clock()
    calls: list[int] = []
    wrong = clock.run(1, result=1.1)

    def ours() -> np.ndarray:
        calls.append(1)
        return wrong()

    with pytest.raises(Disagreement, match="dlmie and PyTorch differ"):
        race(ours, clock.run(1), tolerance=EVERY_ELEMENT, clock=clock)
    assert len(calls) == 1


def test_pytorch_must_do_the_same_work_in_its_other_ways() -> None:
    clock = Clock()
    with pytest.raises(Disagreement, match="PyTorch with channels_last differ"):
        race(
            *(clock.run(1), clock.run(1)),
            channels_last=clock.run(1, result=2.0),
            tolerance=EVERY_ELEMENT,
            clock=clock,
        )
    entry = race(clock.run(1), clock.run(1), tolerance=EVERY_ELEMENT, clock=clock)
    assert entry["agreement"]["share"] == 1
    assert entry["agreement"]["norm"] == 0
