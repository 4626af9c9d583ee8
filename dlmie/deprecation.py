"""Names that changed: old ones are understood for a release, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Understand former names of keyword arguments.

    Parameters
    ----------
    **names
        The present name by the former one.

    Examples
    --------
    >>> @renamed_arguments(colour="color")
    ... def paint(color: str = "red") -> str:
    ...     return color
    >>> paint(color="blue")
    'blue'
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in [name for name in names if name in kwargs]:
                warnings.warn(
                    f"the argument {old} of {function.__name__} is now called {names[old]}",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
