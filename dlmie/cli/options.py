"""Options of commands: numbers within bounds, sections, and what functions and groups declare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import click

from dlmie.cli.signatures import COMPUTED, REQUIRED, parameters
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.training.config import Declared, OptionGroup

F = TypeVar("F", bound=Callable[..., object])


class Number(click.ParamType):
    """A number within bounds that include their ends; in help it is N (whole) or X."""

    def __init__(
        self, kind: type[int] | type[float], low: float | None = None, high: float | None = None
    ) -> None:
        self.kind, self.low, self.high = kind, low, high
        self.name = "n" if kind is int else "x"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        try:
            number = self.kind(value)
        except ValueError:
            what = "a whole number" if self.kind is int else "a number"
            self.fail(f"{value!r} is not {what}", param, ctx)
        if self.low is not None and not number >= self.low:
            self.fail(f"{value} is too small; it must be at least {self.low}", param, ctx)
        if self.high is not None and not number <= self.high:
            self.fail(f"{value} is too large; it must be at most {self.high}", param, ctx)
        return number


def whole(low: int | None = None, high: int | None = None) -> Number:
    """The type of an option that takes a whole number within bounds."""
    return Number(int, low, high)


def real(low: float | None = None, high: float | None = None) -> Number:
    """The type of an option that takes a number within bounds."""
    return Number(float, low, high)


def section(title: str, *decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Apply decorators that add options, which the help then shows under a title."""

    def decorate(function: F) -> F:
        before = list(getattr(function, "__click_params__", []))
        for decorator in reversed(decorators):
            function = decorator(function)
        for param in getattr(function, "__click_params__", []):
            if param not in before:
                param.section = title  # read by VerbCommand
        return function

    return decorate


def flag_of(name: str) -> str:
    """The option as it is typed: ``"top_k"`` → ``"--top-k"``."""
    return "--" + name.replace("_", "-")


Kind: TypeAlias = click.ParamType | type
Text = str | tuple[str, Kind]


def options_of(target: str, /, **texts: Text) -> Callable[[F], F]:
    """Options for some parameters of a function: its defaults and types, our help texts.

    Parameters
    ----------
    target : str
        ``"dlmie.captioning.decoding:Decoding"``.
    **texts
        Help text by parameter name; with a click type, too, where the annotation says too little.

    Examples
    --------
    ::

        @options_of("dlmie.captioning.decoding:Decoding", beam="Hypotheses kept; 1: greedy.")
    """
    known = parameters(target)

    def decorate(function: F) -> F:
        for name, text in reversed(texts.items()):
            help, kind = text if isinstance(text, tuple) else (text, known[name].type)
            if isinstance(kind, type) and kind in (int, float):
                kind = Number(kind)
            if known[name].default is COMPUTED:
                raise LookupError(f"the default of {name} in {target} is not a plain value")
            function = _option(name, known[name].default, help, kind)(function)
        return function

    return decorate


def _option(name: str, default: object, help: str, kind: Kind) -> Callable[[F], F]:
    flag = flag_of(name)
    if kind is bool:
        both = f"{flag}/--no-{flag[2:]}" if default else flag
        return click.option(both, name, default=default, is_flag=True, help=help)
    shown = default is not None and default is not REQUIRED
    return click.option(
        flag,
        name,
        default=default if shown else None,
        required=default is REQUIRED,
        type=kind,
        show_default=shown,
        help=help,
    )


def group_options(
    group: type[OptionGroup], *, skip: Iterable[str] = (), **flags: list[str]
) -> Callable[[F], F]:
    """An option for each declared option of a group that has a help text.

    Parameters
    ----------
    group : type
    skip : iterable of str
        Options to leave out, because another group declares them, too.
    **flags
        Further spellings of an option by its name.
    """
    wanted = [d for d in group.declared() if d.help and d.name not in set(skip)]

    def decorate(function: F) -> F:
        for declared in reversed(wanted):
            function = _declared_option(declared, flags.get(declared.name, []))(function)
        return function

    return decorate


def _declared_option(declared: Declared, more: list[str]) -> Callable[[F], F]:
    flag = flag_of(declared.name)
    if declared.key.kind is bool:
        return click.option(
            flag, declared.name, default=declared.default, is_flag=True, help=declared.help
        )
    kind: click.ParamType | type = declared.key.kind
    if declared.key.kind in (int, float):
        kind = Number(declared.key.kind, declared.key.low, declared.key.high)
    return click.option(
        flag,
        *more,
        declared.name,
        type=kind,
        default=declared.default,
        show_default=declared.default is not None,
        help=declared.help,
    )


def given(ctx: click.Context) -> JsonObject:
    """The options that stand on the command line, without those that have their default."""
    from click.core import ParameterSource

    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    }
