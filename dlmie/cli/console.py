"""The only way in which commands print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import click

from dlmie.files.documents import json_text, plain_value
from dlmie.files.outputs import Outputs
from dlmie.text import for_terminal

MESSAGE = 1500  # letters of a message at most: names and headers of others can be of any length


@dataclass
class Console:
    """The common options of a command, and the only way in which it prints.

    Standard output holds the result alone: with ``--json`` one JSON document, else text.
    Progress, notes and warnings go to standard error. Text of others, such as names of files, is
    escaped here: it moves no cursor and rings no bell.

    Attributes
    ----------
    outputs : Outputs
        The files that the command writes; they are claimed there before the work begins.
    """

    json: bool = False
    quiet: bool = False
    debug: bool = False
    overwrite: bool = False
    seed: int = 0
    threads: int | None = None
    backend: str | None = None
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def progress(self) -> bool:
        """Whether to show bars and what is being done."""
        return not self.quiet

    def result(self, value: object, text: str | None = None) -> None:
        """Print the result: ``value`` as JSON, or ``text``."""
        if self.json:
            click.echo(to_json(value))
        elif text:
            click.echo(for_terminal(text))

    def note(self, text: str) -> None:
        """Print a line to standard error, unless ``--quiet``."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print a line to standard error, even with ``--quiet``."""
        click.echo(for_terminal(text, MESSAGE), err=True)

    def problems(self, lines: list[str], more: Mapping[str, object] | None = None) -> None:
        """Print what a check found, in JSON with ``more``; exit with 1 if that is anything."""
        count = f"{len(lines):,} problem{'s' if len(lines) != 1 else ''}"
        document = {"problems": lines, **(more or {})}
        self.result(document, "\n".join([*lines, count]) if lines else "no problems")
        if lines:
            click.get_current_context().exit(1)

    def warn_all(self, title: str, lines: Iterable[str], more: str, limit: int = 20) -> None:
        """List problems under a title; past the limit say how many more and where they are."""
        every = list(lines)
        if not every:
            return
        self.warn(title)
        for line in every[:limit]:
            self.warn(f"  {line}")
        if len(every) > limit:
            self.warn(f"  … and {len(every) - limit:,} more: {more}")


def to_json(value: object, indent: int | None = 2) -> str:
    """Any plain value, NumPy numbers and paths included, as JSON text."""
    return json_text(value, indent=indent, default=plain_value)


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """Lines ``name   value`` with the values below each other; empty values are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown)
