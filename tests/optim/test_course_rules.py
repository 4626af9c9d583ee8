"""One step of the course's update rules, with the state that it begins with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from course import assert_matches, course_entry, line

from dlmie import optim
from dlmie.compilation import function


@pytest.mark.parametrize(
    ("entry", "rule", "slots", "answers"),
    [
        ("adam_moments", optim.adam(1e-2), {"m": (0.6, 0.9), "v": (0.7, 0.5)}, ("m", "v")),
        ("adagrad_step", optim.adagrad(1e-2, epsilon=1e-8), {"s": (0.6, 0.9)}, ("w", "s")),
        ("nesterov_step", optim.nesterov(1e-3, momentum=0.9), {"v": (0.6, 0.9)}, ("w", "v")),
    ],
)
def test_rules(
    shared: Path,
    entry: str,
    rule: optim.Rule,
    slots: dict[str, tuple[float, float]],
    answers: tuple[str, ...],
) -> None:
    golden = course_entry(shared, entry)
    w = pytensor.shared(line(-0.4, 0.6, 4, 5), name="/w")
    loss = (w * pt.constant(line(-0.6, 0.4, 4, 5))).sum()  # so that this is its gradient
    updates = optim.chain(rule).updates(loss, [w])
    state = {name.rsplit("/", 2)[-2]: variable for name, variable in updates.state.items()}
    for name, ends in slots.items():
        state[name].set_value(line(*ends, 4, 5))
    function([], [], updates=list(updates))()
    for name in answers:
        theirs = {"s": "cache"}.get(name, name)
        found = w.get_value() if name == "w" else state[name].get_value()
        assert_matches(np.asarray(found), golden["expected"][theirs], golden["rtol"])
