"""WorldNavigate, the grid world as one of Gymnasium's environments; it needs Gymnasium."""

from __future__ import annotations

import gymnasium
import numpy as np

from dlmie.reinforcement.environments.grid_world import ACTIONS, GridWorld

ID = "WorldNavigate-v0"
_PIXELS = 84


class WorldNavigate(gymnasium.Env[np.ndarray, np.int64]):
    """A :class:`~dlmie.reinforcement.environments.grid_world.GridWorld` seen as an image.

    Observations are 84 × 84 × 3 pixels of 0 or 255: the board with its border, enlarged by nearest
    neighbor. It never terminates; registered, it is cut off after 50 steps.

    Parameters
    ----------
    size : int
        Of the board, without its border.
    partial : bool
        Show only the 3 × 3 cells around the hero.
    render_mode : str, optional
        "rgb_array" or none.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(
        self, size: int = 5, partial: bool = False, render_mode: str | None = None
    ) -> None:
        self.size, self.partial, self.render_mode = size, partial, render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (_PIXELS, _PIXELS, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)
        cells = 3 if partial else size + 2
        # The pixel that each of the 84 shows; and how often each is shown, where that is equal.
        self._shown = (np.arange(_PIXELS) + 0.5) * cells // _PIXELS
        self._shown = self._shown.astype(np.intp)
        self.enlarged = _PIXELS // cells if _PIXELS % cells == 0 else 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        """Place all things anew."""
        super().reset(seed=seed)
        self.world = GridWorld(self.np_random, self.size)
        return self._observation(), {}

    def step(
        self, action: np.int64 | int
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        """Move the hero."""
        reward = self.world.move(int(action))
        return self._observation(), reward, False, False, {}

    def render(self) -> np.ndarray | None:
        """The observation, as an image."""
        return self._observation() if self.render_mode == "rgb_array" else None

    def _observation(self) -> np.ndarray:
        pixels = self.world.view() if self.partial else self.world.picture()
        return pixels[self._shown[:, None], self._shown]


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=f"{__name__}:{WorldNavigate.__name__}", max_episode_steps=50)
