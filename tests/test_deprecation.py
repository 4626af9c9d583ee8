"""Former names of arguments are understood, with a warning that names the present one."""

from __future__ import annotations

import inspect

import pytest

from dlmie.deprecation import renamed_arguments


@renamed_arguments(colour="color", grey="gray")
def paint(size: int, *, color: str = "red", gray: int = 0) -> tuple[int, str, int]:
    return size, color, gray


def test_former_arguments_are_understood() -> None:
    with pytest.warns(DeprecationWarning, match="colour of paint is now called color"):
        assert paint(3, colour="blue") == (3, "blue", 0)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="is now called") as caught:
        assert paint(3, colour="blue", grey=7) == (3, "blue", 7)  # type: ignore[call-arg]
    assert len(caught) == 2


def test_present_arguments_do_not_warn() -> None:
    assert paint(3, color="blue") == (3, "blue", 0)
    assert list(inspect.signature(paint).parameters) == ["size", "color", "gray"]
    with pytest.raises(TypeError, match="hue"):
        paint(3, hue=1)  # type: ignore[call-arg]
