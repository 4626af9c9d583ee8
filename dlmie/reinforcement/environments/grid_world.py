"""The course's grid world: a hero, four goals and two fires on a small board."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from dlmie.errors import DlmieError

HERO, GOAL, FIRE = "hero", "goal", "fire"
#: The order in which things are placed on a new board.
_PLACED = (HERO, GOAL, FIRE, GOAL, FIRE, GOAL, GOAL)
_CHANNEL = {HERO: 2, GOAL: 1, FIRE: 0}
_REWARD = {GOAL: 1.0, FIRE: -1.0}
# Up, down, left, right, as (x, y).
_MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))
ACTIONS = len(_MOVES)


@dataclass
class Thing:
    """One cell that is taken."""

    kind: str
    x: int
    y: int

    @property
    def place(self) -> tuple[int, int]:
        """Its cell."""
        return self.x, self.y


class GridWorld:
    """A board of ``size × size`` cells with a border.

    The hero moves up, down, left or right (0 to 3); at a wall it stays. Where it comes upon a goal
    (+1) or a fire (-1), it gets that reward, and another thing of the same kind appears on a free
    cell. The world never ends.

    Parameters
    ----------
    generator : numpy.random.Generator
        Of places.
    size : int
        At least 3, so that all things have room.

    Attributes
    ----------
    things : list of Thing
        The hero first.
    """

    def __init__(self, generator: np.random.Generator, size: int = 5) -> None:
        if size < 3:
            raise DlmieError(f"a grid world of size {size} has no room: it must be at least 3")
        self.size, self._generator = size, generator
        self.things: list[Thing] = []
        for kind in _PLACED:
            self.things.append(Thing(kind, *self._free_cell()))

    def _free_cell(self) -> tuple[int, int]:
        """Any cell that nothing is on."""
        taken = {thing.place for thing in self.things}
        cells = itertools.product(range(self.size), range(self.size))
        free = [cell for cell in cells if cell not in taken]
        return free[self._generator.integers(len(free))]

    @property
    def hero(self) -> Thing:
        """The one that moves."""
        return self.things[0]

    def move(self, action: int) -> float:
        """Do an action; its reward."""
        hero, (dx, dy) = self.hero, _MOVES[action]
        hero.x = min(max(hero.x + dx, 0), self.size - 1)
        hero.y = min(max(hero.y + dy, 0), self.size - 1)
        for thing in self.things[1:]:
            if thing.place == hero.place:
                self.things.remove(thing)
                self.things.append(Thing(thing.kind, *self._free_cell()))
                return _REWARD[thing.kind]
        return 0.0

    def picture(self) -> np.ndarray:
        """The board with its white border, a pixel for each cell: (size + 2, size + 2, 3) uint8.

        The hero is blue, goals are green, fires red, free cells black.
        """
        pixels = np.full((self.size + 2, self.size + 2, 3), 255, np.uint8)
        pixels[1:-1, 1:-1] = 0
        for thing in self.things:
            pixels[thing.y + 1, thing.x + 1, _CHANNEL[thing.kind]] = 255
        return pixels

    def view(self) -> np.ndarray:
        """The 3 × 3 pixels of the picture around the hero."""
        return self.picture()[self.hero.y : self.hero.y + 3, self.hero.x : self.hero.x + 3]
