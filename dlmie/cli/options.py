"""Options of commands, made from groups of options where those are declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from dlmie.cli.console import F, Number
from dlmie.training.config import Declared, OptionGroup


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
            function = _option(declared, flags.get(declared.name, []))(function)
        return function

    return decorate


def _option(declared: Declared, more: list[str]) -> Callable[[F], F]:
    flag = "--" + declared.name.replace("_", "-")
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
