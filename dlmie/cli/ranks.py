"""A command in several processes: one of them prints, and all end together."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

import click

from dlmie.cli.threads import VARIABLES, use_threads
from dlmie.errors import DlmieError
from dlmie.launchers import launched
from dlmie.parallel import Ranks, together, world
from dlmie.parallel.threads import binding_advice, threads_of_rank


def run_together(command: Callable[[], object]) -> None:
    """Run a command as one of several ranks: rank 0 alone prints, and an error ends all.

    Raises
    ------
    SystemExit
        Always where it failed: with its exit code.
    """
    try:
        ranks = world()
    except DlmieError as error:
        if launched()[1] == 0:
            click.echo(f"dlmie: {error}", err=True)
        raise SystemExit(2) from None
    with together(ranks, show=_show), _silent(unless=ranks.is_first):
        _share_processors(ranks)
        code = command()
        if isinstance(code, int) and code:
            raise SystemExit(code)


def own_stream(category: type[Warning]) -> TextIO | None:
    """Where a silent rank prints a warning after all: of an image, which no other rank reads."""
    if world().is_first:
        return None
    from dlmie.data.images import ImageWarning

    return sys.__stderr__ if issubclass(category, ImageWarning) else None


def _show(error: BaseException) -> None:
    """Print an error as it would be without ranks; what exits has printed its reason already."""
    if isinstance(error, click.ClickException):
        error.show()
    elif not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)


@contextlib.contextmanager
def _silent(*, unless: bool) -> Iterator[None]:
    """Nothing is printed in the block."""
    if unless:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _share_processors(ranks: Ranks) -> None:
    """Use this rank's part of the processors, unless the environment says how many threads."""
    if VARIABLES[0] in os.environ:
        return
    use_threads(threads_of_rank(ranks))
    advice = binding_advice(ranks)
    if advice:
        sys.stderr.write(f"{advice}\n")
