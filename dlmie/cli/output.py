"""Results that come one after the other: text lines, CSV rows or one JSON list, to a place."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, cast

import click

from dlmie.cli.console import Console, to_json
from dlmie.cli.images import find_sources
from dlmie.errors import DataError
from dlmie.text import printable

# What a spreadsheet would take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Writer(Protocol):
    """Takes one result after the other."""

    def add(self, item: Any, text: str, rows: Sequence[Sequence[Any]]) -> None:
        """One result: as JSON, as text, as rows of a table."""


@contextlib.contextmanager
def open_writer(
    console: Console, kind: str, head: Sequence[str], path: str | None
) -> Iterator[Writer]:
    """A writer of "text", "csv" or "json" to a file, or to standard output.

    Everything is written as it comes. A file has its name only when it is complete.
    """
    with _open(path, "utf-8-sig" if kind == "csv" else "utf-8") as file:
        if kind == "csv":
            yield _Csv(file, head)
        elif kind == "json":
            with _json_list(file) as writer:
                yield writer
        else:
            yield _Text(file)
    if path is not None:
        console.note(f"wrote {path}")


@contextlib.contextmanager
def _open(path: str | None, encoding: str) -> Iterator[IO[str]]:
    if path is None:
        yield cast(IO[str], _Standard())
        return
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # With the mark that tells Excel that a CSV file is UTF-8.
        with open(part, "w", encoding=encoding, newline="") as file:
            yield file
        os.replace(part, target)
    except OSError as error:
        if error.filename not in (None, str(part), str(target), str(target.parent)):
            raise  # not about this file
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)


class _Standard(io.TextIOBase):
    """Standard output, whatever it is at the moment; each piece is shown at once."""

    def write(self, text: str) -> int:
        click.echo(text, nl=False)
        return len(text)


class _Text:
    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def add(self, item: Any, text: str, rows: Sequence[Sequence[Any]]) -> None:
        self.file.write(printable(text) + "\n")


class _Csv:
    def __init__(self, file: IO[str], head: Sequence[str]) -> None:
        self.rows = csv.writer(file, lineterminator="\n")
        self.rows.writerow(head)

    def add(self, item: Any, text: str, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            self.rows.writerow([_cell(value) for value in row])


def _cell(value: Any) -> Any:
    """A file called ``=cmd…`` must not become a formula when a spreadsheet opens the table."""
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.startswith(_FORMULA) else value)


@contextlib.contextmanager
def _json_list(file: IO[str]) -> Iterator[Writer]:
    class Json:
        before = "["

        def add(self, item: Any, text: str, rows: Sequence[Sequence[Any]]) -> None:
            file.write(self.before + "\n" + textwrap.indent(to_json(item), "  "))
            self.before = ","

    writer = Json()
    try:
        yield writer
    finally:  # one JSON document, also when something fails half-way
        file.write("[]\n" if writer.before == "[" else "\n]\n")


class ImageRun:
    """The images of a command: finds them, and keeps account of those that cannot be read."""

    def __init__(self, console: Console, paths: Sequence[str], strict: bool) -> None:
        self.console, self.strict = console, strict
        self.images = find_sources(paths)
        odd = sum(str(image) != printable(str(image)) for image in self.images)
        if odd:
            console.warn(
                f"{odd:,} file name{'s are' if odd > 1 else ' is'} not UTF-8: written with \\x.. "
                "for the other bytes"
            )
        self.bad: list[str] = []

    def fault(self, error: Exception) -> None:
        """Note an image that is left out, and say so."""
        self.bad.append(str(error))
        if len(self.images) > 1:  # else it is what the command fails with
            self.console.warn(f"left out: {error}")

    def finish(self) -> None:
        """Say how many were left out; fail if none was usable, or if any was not and strict."""
        if not self.bad:
            return
        count = f"{len(self.bad):,} of {len(self.images):,} images could not be read"
        if len(self.bad) == len(self.images):
            raise DataError(self.bad[0] if len(self.bad) == 1 else f"{count}: nothing was done")
        if self.strict:
            raise DataError(f"{count} (--strict)")
        self.console.warn(count)
