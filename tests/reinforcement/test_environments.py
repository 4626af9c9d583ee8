"""WorldNavigate, environments by name, and those of the older interface."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from dlmie.errors import DataError, DlmieError
from dlmie.models import DQN, Policy, QTable
from dlmie.models.agents.agent import Spaces
from dlmie.reinforcement.environments.grid_world import FIRE, GOAL, HERO, GridWorld, Thing

gymnasium = pytest.importorskip("gymnasium")

from dlmie.reinforcement import Environment  # noqa: E402
from dlmie.reinforcement.environments import register_older  # noqa: E402
from dlmie.reinforcement.episodes import Player, Use  # noqa: E402

NAVIGATE = "WorldNavigate-v0"


def world(seed: int = 0, size: int = 5) -> GridWorld:
    return GridWorld(np.random.default_rng(seed), size)


def test_things_are_placed_on_different_cells() -> None:
    for seed in range(50):
        things = world(seed).things
        assert [thing.kind for thing in things] == [HERO, GOAL, FIRE, GOAL, FIRE, GOAL, GOAL]
        assert len({thing.place for thing in things}) == 7


def test_every_cell_is_as_likely() -> None:
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[world(seed).hero.place] += 1
    expected = 2000 / 25
    assert ((counts - expected) ** 2 / expected).sum() < 51.2  # chi², 24 degrees: 99.9 %


@pytest.mark.parametrize(("action", "place"), [(0, (2, 1)), (1, (2, 3)), (2, (1, 2)), (3, (3, 2))])
def test_moves(action: int, place: tuple[int, int]) -> None:
    grid = world()
    grid.things = [Thing(HERO, 2, 2)]
    assert grid.move(action) == 0
    assert grid.hero.place == place


def test_walls_stop_the_hero_without_a_penalty() -> None:
    for action, corner in ((0, (0, 0)), (2, (0, 0)), (1, (4, 4)), (3, (4, 4))):
        grid = world()
        grid.things = [Thing(HERO, *corner)]
        assert grid.move(action) == 0
        assert grid.hero.place == corner


@pytest.mark.parametrize(("kind", "reward"), [(GOAL, 1.0), (FIRE, -1.0)])
def test_what_is_reached_is_rewarded_and_comes_again(kind: str, reward: float) -> None:
    seen = set()
    for seed in range(300):
        grid = world(seed)
        grid.things = [Thing(HERO, 0, 0), Thing(kind, 1, 0), Thing(GOAL, 4, 4)]
        assert grid.move(3) == reward
        assert [thing.kind for thing in grid.things] == [HERO, GOAL, kind]
        places = [thing.place for thing in grid.things]
        assert len(set(places)) == 3
        seen.add(places[2])
    assert len(seen) == 25 - 2  # all cells but those of the hero and of the other thing


def test_picture() -> None:
    grid = world()
    grid.things = [Thing(HERO, 0, 0), Thing(GOAL, 4, 1), Thing(FIRE, 2, 4)]
    pixels = grid.picture()
    assert pixels.shape == (7, 7, 3)
    assert (pixels[[0, -1]] == 255).all()
    assert (pixels[:, [0, -1]] == 255).all()
    inside = pixels[1:-1, 1:-1]
    assert inside[0, 0].tolist() == [0, 0, 255]
    assert inside[1, 4].tolist() == [0, 255, 0]
    assert inside[4, 2].tolist() == [255, 0, 0]
    assert inside.sum() == 3 * 255
    np.testing.assert_array_equal(grid.view(), pixels[:3, :3])


def test_a_small_board_is_refused() -> None:
    with pytest.raises(DlmieError, match="at least 3"):
        world(size=2)


def test_observations_are_enlarged_pictures() -> None:
    environment = Environment(NAVIGATE)
    made = environment.make()
    observation, _ = made.reset(seed=3)
    picture = made.unwrapped.world.picture()
    assert observation.shape == (84, 84, 3)
    np.testing.assert_array_equal(observation, picture.repeat(12, axis=0).repeat(12, axis=1))
    # An agent stores one pixel of each cell, and loses nothing.
    assert environment.spaces == Spaces((7, 7, 3), 0, 4, "uint8", 12)
    player = Player(made, environment.spaces, seed=0, use=Use.TRAINING)
    np.testing.assert_array_equal(player.observed(observation), picture)


@pytest.mark.parametrize(("size", "enlarged"), [(4, 14), (5, 12), (6, 1)])
def test_sizes_of_boards(size: int, enlarged: int) -> None:
    spaces = Environment(f"{NAVIGATE}?size={size}").spaces
    assert spaces.enlarge == enlarged
    assert spaces.shape[0] * enlarged == 84


def test_partial_view() -> None:
    environment = Environment(f"{NAVIGATE}?partial=true")
    made = environment.make()
    observation, _ = made.reset(seed=0)
    assert observation.shape == (84, 84, 3)
    assert environment.spaces.shape == (3, 3, 3)
    assert observation[42, 42].tolist() == [0, 0, 255]  # the hero is in the middle


def test_it_never_terminates_and_is_cut_off_after_50_steps() -> None:
    made = Environment(NAVIGATE).make()
    made.reset(seed=0)
    ends = [made.step(int(action))[2:4] for action in np.random.default_rng(0).integers(4, size=50)]
    assert ends == [(False, False)] * 49 + [(False, True)]


def test_an_episode_follows_from_seed_and_number() -> None:
    environment = Environment(NAVIGATE)

    def play(seed: int, number: int) -> list[float]:
        player = Player(environment.make(), environment.spaces, seed=seed, use=Use.TRAINING)
        _, generator = player.begin(number)
        return [player.step(int(generator.integers(4)))[1] for _ in range(50)]

    assert play(0, 7) == play(0, 7)
    assert play(0, 7) != play(0, 8)
    assert play(0, 7) != play(1, 7)


def test_known_spaces() -> None:
    lake = Environment("FrozenLake-v1")
    assert lake.spaces == Spaces((), 16, 4, "int64")
    assert lake.step_limit == 100
    for version in ("v0", "v1"):  # of which the first is out of date, and what was asked for
        assert Environment(f"CartPole-{version}").spaces == Spaces((4,), 0, 2, "float32")
    sure = Environment("FrozenLake-v1?is_slippery=false&map_name=8x8")
    assert sure.spaces.states == 64
    assert sure.hash != Environment("FrozenLake-v1?map_name=8x8").hash


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FrozenLake", "no environment 'FrozenLake'; did you mean 'FrozenLake-v1'"),
        ("Nothing-v0", "no environment 'Nothing-v0'"),
        ("no_such_module:Nothing-v0", "no environment 'no_such_module:Nothing-v0': No module"),
        ("FrozenLake-v1?slippery", "NAME[?]key=value"),
        ("FrozenLake-v1?wet=true", "wet"),
        ("Pendulum-v1", "choose among numbered actions"),
    ],
)
def test_bad_names_are_one_line(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Environment(name)
    assert "\n" not in str(caught.value)


def test_agents_say_which_environments_are_theirs() -> None:
    with pytest.raises(DlmieError, match="use dqn or policy"):
        QTable(Spaces((4,), 0, 2))
    for make in (DQN, Policy):
        with pytest.raises(DlmieError, match="use q-table or q-network"):
            make(Spaces((), 16, 4, "int64"))


class Older:
    """Counts to three, as environments of gym did before 0.26."""

    observation_space = gymnasium.spaces.Box(0, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, cut: bool = False) -> None:
        self.cut, self.seeds = cut, list[int]()

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def reset(self) -> np.ndarray:
        self.count = 0
        return np.zeros(1, np.float32)

    def step(self, action: int) -> Any:
        self.count += action
        info = {"TimeLimit.truncated": True} if self.cut else {}
        return np.full(1, self.count, np.float32), 1, self.count == 3, info


@pytest.fixture
def registered() -> Any:
    register_older("Older-v0", Older, steps=20)
    yield
    del gymnasium.registry["Older-v0"]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("cut", [False, True])
def test_older_environments(cut: bool) -> None:
    environment = Environment(f"Older-v0?cut={str(cut).lower()}")
    player = Player(environment.make(), environment.spaces, seed=0, use=Use.TEST)
    player.begin(0)
    assert len(player.made.unwrapped.older.seeds) == 1
    ends = [player.step(1)[2:] for _ in range(3)]
    assert ends == [(False, False)] * 2 + [(not cut, cut)]


def test_without_gymnasium() -> None:
    """Everything can be imported; what needs it says how to install it."""
    code = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "import dlmie.reinforcement.task, dlmie.models.agents.world_model\n"
        "from dlmie.reinforcement import Environment\n"
        "from dlmie.errors import DlmieError\n"
        "try: Environment('FrozenLake-v1')\n"
        "except DlmieError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "agents need Gymnasium: install it with pip install 'dlmie[agents]'"
    assert done.stdout.strip() == expected
