"""What an agent plays in: one of Gymnasium's environments by name, as a run's data."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlmie.errors import DataError, DlmieError
from dlmie.models.agents.agent import Spaces
from dlmie.reinforcement.environments.installed import gymnasium
from dlmie.text import nearest
from dlmie.typing import Json

if TYPE_CHECKING:
    from gymnasium import Env


class Environment:
    """An environment by its name, with options behind a question mark.

    It takes the place of a prepared file: ``dlmie.train(step, Environment("CartPole-v1"), to=…)``.

    Parameters
    ----------
    name : str or path
        ``"FrozenLake-v1"``, ``"FrozenLake-v1?is_slippery=false"``.

    Attributes
    ----------
    spaces : Spaces
        What an agent observes and can do in it.
    step_limit : int, optional
        Steps after which an episode is cut off.
    path, hash
        The name, and a checksum of it and of the spaces: what a run's configuration has of it.

    Raises
    ------
    DlmieError
        Gymnasium is not installed, there is no such environment, or its actions or observations are
        of a kind that no agent here takes.
    """

    def __init__(self, name: str | Path) -> None:
        self.name = str(name)
        self.path = Path(self.name)
        self.id, _, query = self.name.partition("?")
        self.options = dict(_option(word, self.name) for word in query.split("&") if word)
        made = self.make()
        self.spaces = _spaces(made, self.name)
        self.step_limit: int | None = made.spec.max_episode_steps if made.spec else None
        made.close()
        text = json.dumps([self.name, self.spaces.to_json(), self.step_limit])
        self.hash = hashlib.sha256(text.encode()).hexdigest()

    def __contains__(self, split: object) -> bool:
        return split in ("train", "dev")  # of both there are as many episodes as one likes

    def make(self, render_mode: str | None = None) -> Env:
        """A new environment."""
        package = gymnasium()
        if render_mode is not None:  # pygame shall draw without a screen, and greet nobody
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
            os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        if ":" not in self.id and self.id not in package.registry:
            hint = nearest(self.id, package.registry)
            raise DataError(f"there is no environment {self.id!r}{hint}")
        try:
            with warnings.catch_warnings():  # an old version that is asked for is what is wanted
                warnings.filterwarnings("ignore", ".*is out of date", DeprecationWarning)
                return package.make(
                    self.id, render_mode=render_mode, disable_env_checker=True, **self.options
                )
        except package.error.DependencyNotInstalled as error:
            raise DlmieError(f"{self.id}: {' '.join(str(error).split())}") from None
        except (package.error.Error, ImportError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"there is no environment {self.id!r}: {text}") from None
        except TypeError as error:
            raise DataError(f"{self.name}: {error}") from None


def _option(word: str, name: str) -> tuple[str, Json]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise DataError(f"{name}: write options as NAME?key=value&key=value, not {word!r}")
    try:
        value: Json = json.loads(text)
    except ValueError:
        value = text
    return key, value


def _spaces(made: Env, name: str) -> Spaces:
    actions = getattr(made.action_space, "n", None)
    if actions is None or getattr(made.action_space, "start", 0) != 0:
        raise DataError(
            f"{name} has actions {made.action_space}; agents here choose among numbered actions"
        )
    states = getattr(made.observation_space, "n", None)
    if states is not None:
        return Spaces((), int(states), int(actions), "int64")
    shape = made.observation_space.shape
    if not shape:
        raise DataError(f"{name} has observations {made.observation_space}: arrays are needed")
    kind = np.dtype(made.observation_space.dtype)
    dtype = "uint8" if kind == np.uint8 else "float32"
    enlarge = int(getattr(made.unwrapped, "enlarged", 1))
    if enlarge > 1:
        shape = (shape[0] // enlarge, shape[1] // enlarge, *shape[2:])
    return Spaces(tuple(map(int, shape)), 0, int(actions), dtype, enlarge)
