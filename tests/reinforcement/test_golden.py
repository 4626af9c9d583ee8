"""The reference numbers of the course for agents, through compiled graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from course import assert_matches, course_entry
from pytensor.gradient import grad

from dlmie import optim
from dlmie.compilation import function
from dlmie.losses import huber, policy_gradient, q_targets, squared_error
from dlmie.models import DQN, Policy, QTable
from dlmie.models.agents.agent import Spaces
from dlmie.models.agents.deep_q import dueling
from dlmie.reinforcement import exact
from dlmie.reinforcement.returns import discounted_returns, normalized
from dlmie.reinforcement.step import compile, soft_update

MOVES = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}  # left, down, right, up as (row, column)


def values(spec: Any) -> np.ndarray:
    """An array as an entry describes it."""
    if isinstance(spec, dict):
        low, high, shape = spec["linspace"]
        return np.linspace(low, high, int(np.prod(shape))).reshape(shape)
    return np.asarray(spec, np.float64)


def lake_table(rows: list[str], slippery: bool) -> exact.Table:
    """FrozenLake's transitions, from its rules."""
    size = len(rows)
    table: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {}
    for state in range(size * size):
        row, column = divmod(state, size)
        table[state] = {}
        for action in range(4):
            if rows[row][column] in "GH":
                table[state][action] = [(1.0, state, 0.0, True)]
                continue
            ways = [(action - 1) % 4, action, (action + 1) % 4] if slippery else [action]
            outcomes = []
            for way in ways:
                r = min(max(row + MOVES[way][0], 0), size - 1)
                c = min(max(column + MOVES[way][1], 0), size - 1)
                letter = rows[r][c]
                found = (1 / len(ways), r * size + c, float(letter == "G"), letter in "GH")
                outcomes.append(found)
            table[state][action] = outcomes
    return table


def test_frozen_lake_exact(shared: Path) -> None:
    entry = course_entry(shared, "frozen_lake_exact")
    assert len(entry["expected"]) == 4
    for name, expected in entry["expected"].items():
        size, kind = name.split("_")
        table = lake_table(entry["inputs"]["maps"][size], kind == "slippery")
        start = np.eye(len(table))[0]
        for gamma in (0.95, 0.99):
            found = exact.value_iteration(table, gamma)
            assert_matches(found.max(axis=1), expected[f"V_gamma_{gamma}"], entry["rtol"])
            if f"Q_gamma_{gamma}" in expected:
                assert_matches(found, expected[f"Q_gamma_{gamma}"], entry["rtol"])
        for key, best in expected.items():
            if key.startswith("best_success_within_"):
                steps = int(key.split("_")[3])
                np.testing.assert_allclose(
                    exact.best_reward(table, start, steps), best, rtol=entry["rtol"]
                )


@pytest.mark.parametrize("case", ["not_done", "done"])
def test_q_learning_update(shared: Path, case: str) -> None:
    """A step of gradient descent on the objective is the rule of the course."""
    entry = course_entry(shared, "q_learning_update")
    given = entry["inputs"]
    first, taken = values(given["Q"]), given["step"]
    agent = QTable(Spaces((), *first.shape, "int64"))
    agent.q.set_value(first)
    step = compile(agent, optim.sgd(given["lr"]), gamma=given["gamma"])
    step.progress = False
    step.parts[0](
        {
            "observations": np.array([taken["s"]]),
            "actions": np.array([taken["a"]]),
            "rewards": np.array([taken["r"]]),
            "next_observations": np.array([taken["s2"]]),
            "terminated": np.array([float(case == "done")]),
        }
    )
    found = agent.q.get_value()
    np.testing.assert_allclose(
        found[taken["s"], taken["a"]], entry["expected"][case], rtol=entry["rtol"]
    )
    others = np.ones_like(first, dtype=bool)
    others[taken["s"], taken["a"]] = False
    assert (found[others] == first[others]).all()


def test_dueling_and_double_targets(shared: Path) -> None:
    entry = course_entry(shared, "dueling_and_double_targets")
    given, expected, rtol = entry["inputs"], entry["expected"], entry["rtol"]
    advantages = np.linspace(-2, 3, 12).reshape(3, 4) ** 2
    v, (a, main, target) = pt.dcol("v"), (pt.dmatrix(name) for name in "amt")
    r, done = pt.dvector("r"), pt.dvector("done")
    double = q_targets(r, done, target, main, gamma=given["gamma"])
    plain = q_targets(r, done, target, gamma=given["gamma"])
    run = function([v, a, main, target, r, done], [dueling(v, a), double, plain])
    q_main, q_target = values(given["q_main"]), values(given["q_target"])
    arguments = (values(given["V"]), advantages, q_main, q_target)
    q, twice, once = run(*arguments, values(given["r"]), values(given["done"]))
    assert_matches(q, expected["Q"], rtol)
    assert_matches(twice, expected["double"], rtol)
    assert_matches(once, expected["vanilla"], rtol)


def test_dqn_parameter_count(shared: Path) -> None:
    expected = course_entry(shared, "dqn_parameter_count")["expected"]
    agent = DQN(Spaces((84, 84, 3), 0, 4, "uint8"), dueling=True)
    sizes = {str(p.name): p.get_value().size for p in agent.parameters}
    convolutions = [sizes[f"/main/conv{number}/W"] for number in (1, 2, 3)]
    assert [*convolutions, sizes["/main/dense/W"]] == expected["conv"]
    assert sizes["/main/action/W"] == expected["A"]
    assert sizes["/main/value/W"] == expected["V"]
    assert sum(sizes.values()) == expected["total"]
    assert not set(agent.parameters) & set(agent.target_parameters)


def test_soft_target_update(shared: Path) -> None:
    entry = course_entry(shared, "soft_target_update")
    main, target = pt.dvector("main"), pt.dvector("target")
    run = function([target, main], soft_update(target, main, 0.001))
    found = run(values(entry["inputs"]["target"]), values(entry["inputs"]["main"]))
    assert_matches(found, entry["expected"], entry["rtol"])


def test_discounted_returns(shared: Path) -> None:
    entry = course_entry(shared, "discounted_returns")
    for name, given in entry["inputs"].items():
        found = discounted_returns(given["rewards"], given["gamma"])
        assert_matches(found, entry["expected"][name], entry["rtol"])
        assert_matches(
            normalized(found), entry["expected"][f"{name}_normalised"], entry["rtol"], atol=1e-12
        )


def test_reinforce_loss(shared: Path) -> None:
    entry = course_entry(shared, "reinforce_loss")
    given, expected, rtol = entry["inputs"], entry["expected"], entry["rtol"]
    agent = Policy(Spaces((4,), 0, 2, "float64"), dtype="float64")
    first, second = agent.policy_parameters
    first.set_value(values(given["W1"]))
    second.set_value(values(given["W2"]))
    actions, advantages = pt.lvector("actions"), pt.dvector("advantages")
    logits = agent.scores(agent.observations)
    loss = policy_gradient(logits, actions, advantages)
    outputs = [pt.sigmoid(logits[:, 1] - logits[:, 0]), loss, *grad(loss, [first, second])]
    run = function([agent.observations, actions, advantages], outputs)
    p, total, d_first, d_second = run(
        values(given["S"]), np.array(given["actions"]), values(given["advantages"])
    )
    assert_matches(p, expected["p"], rtol)
    np.testing.assert_allclose(total, expected["loss"], rtol=rtol)
    assert_matches(d_first, expected["dW1"], rtol)
    assert_matches(d_second, expected["dW2"], rtol)


def test_cartpole_dynamics(shared: Path) -> None:
    """Gymnasium's CartPole, as agents play it."""
    gymnasium = pytest.importorskip("gymnasium")
    entry = course_entry(shared, "cartpole_dynamics")
    made = gymnasium.make("CartPole-v1").unwrapped
    made.reset(seed=0)
    made.state = np.array(entry["inputs"]["start"])
    states = [made.state]
    for action in entry["inputs"]["actions"]:
        made.step(action)
        states.append(np.array(made.state))
    assert_matches(np.stack(states), entry["expected"]["states"], entry["rtol"])
    made.reset(seed=0)
    made.state, steps, over = np.zeros(4), 0, False
    while not over:
        _, reward, over, _, _ = made.step(1)
        assert reward == 1.0
        steps += 1
    assert steps == entry["expected"]["steps_until_fall_always_right_from_zero"]
    assert_matches(np.array(made.state), entry["expected"]["fall_state"], entry["rtol"])


def test_errors_of_values() -> None:
    p, t = pt.dvector("p"), pt.dvector("t")
    run = function([p, t], [squared_error(p, t), huber(p, t)])
    square, bounded = run(np.array([0.0, 3.0]), np.array([0.5, 0.0]))
    assert square == pytest.approx((0.25 + 9) / 2)
    assert bounded == pytest.approx((0.125 + 2.5) / 2)
