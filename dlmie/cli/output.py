"""Results that come one after the other, written as they come: to a file or standard output."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Protocol, cast

import click

from dlmie.cli.console import Console
from dlmie.cli.images import find_sources
from dlmie.data.images import ImageBytes
from dlmie.errors import DataError
from dlmie.files import outputs
from dlmie.files.atomic import explained
from dlmie.files.rows import Form, JsonList, Row, RowFile, Table, Text, failed_row
from dlmie.parallel import world
from dlmie.text import printable

_SUFFIXES = {".csv": "csv", ".json": "json"}
_KINDS = {"csv": outputs.TABLE, "json": outputs.RESULTS, "text": outputs.TEXT}


def form_of(console: Console, path: str | None, *, as_csv: bool = False) -> str:
    """``"text"``, ``"csv"`` or ``"json"``: by the options, else by the suffix of the file.

    Raises
    ------
    click.UsageError
        The options exclude each other, or the suffix of the file.
    """
    if as_csv and console.json:
        raise click.UsageError("--csv and --json exclude each other")
    asked = "csv" if as_csv else "json" if console.json else None
    suffix = _SUFFIXES.get(Path(path or "").suffix.lower())
    if asked is not None and suffix is not None and asked != suffix:
        raise click.UsageError(f"--{asked} and {path} do not agree: name a file .{asked}")
    return asked or suffix or "text"


class Writer(Protocol):
    """Takes one result after the other."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a result of this picture already."""

    failures: list[str]
    """Why images of an interrupted command, whose results are here, have none."""

    def add(self, row: Row) -> None:
        """One result."""

    def fail(self, name: str, reason: str) -> None:
        """No result, and why; written in JSON only."""


@contextlib.contextmanager
def open_writer(
    console: Console,
    kind: str,
    head: Sequence[str],
    path: str | None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Writer]:
    """A writer of "text", "csv" or "json" to a file, or to standard output.

    Everything is written as it comes. A file has its name only when it is complete; what is in it
    when the command is interrupted stays, and is resumed where ``settings`` are the same.
    """
    first = world().is_first
    if path is None or _is_device(path):
        with _streamed(path if first else None, _form(kind, head, mark=False)) as stream:
            yield stream
        return
    console.outputs.writes(path, _KINDS[kind])
    files: list[RowFile] = []

    def open_file() -> None:
        own, overwrite = settings or {}, console.outputs.overwrite
        files.append(RowFile(path, _form(kind, head), settings=own, overwrite=overwrite))

    world().on_first(open_file)
    if not first:
        with _streamed(None, _form(kind, head)) as stream:
            yield stream
        return
    (rows,) = files
    if rows.rows:
        console.note(f"continuing after the {rows.rows:,} pictures in {rows.part}")
    if rows.earlier:
        console.warn(f"{path} has rows, which stay (--overwrite starts over)")
    try:
        yield rows
        rows.finish()
    except BaseException:
        if rows.rows:
            console.warn(rows.how_to_go_on())
        rows.stop()
        raise
    console.note(f"wrote {path}")


@contextlib.contextmanager
def _streamed(path: str | None, form: Form) -> Iterator[_Stream]:
    with _opened(path) as file:
        stream = _Stream(file, form)
        try:
            yield stream
        finally:  # one JSON document, also when something fails half-way
            stream.end()


def _form(kind: str, head: Sequence[str], *, mark: bool = True) -> Form:
    if kind == "csv":
        return Table(head, mark=mark)
    return JsonList() if kind == "json" else Text()


def _is_device(path: str) -> bool:
    """Whether a path is a pipe or a device, such as /dev/stdout: nothing to resume."""
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[IO[str]]:
    if path is None:
        yield cast(IO[str], _Standard())
        return
    with explained(path), open(path, "w", encoding="utf-8", newline="") as file:
        yield file


class _Standard(io.TextIOBase):
    """Standard output, whatever it is at the moment; each piece is shown at once."""

    def write(self, text: str) -> int:
        click.echo(text, nl=False)
        return len(text)


class _Stream:
    """Rows that nothing keeps but whoever reads them."""

    def __init__(self, file: IO[str], form: Form) -> None:
        self.file, self.form, self.rows = file, form, 0
        self.failures: list[str] = []

    def __contains__(self, name: str) -> bool:
        return False

    def add(self, row: Row) -> None:
        self.file.write(
            (self.form.between if self.rows else self.form.head) + self.form.encode(row)
        )
        self.rows += 1

    def fail(self, name: str, reason: str) -> None:
        if self.form.tells_failures:
            self.add(failed_row(name, reason))

    def end(self) -> None:
        self.file.write(self.form.tail if self.rows else self.form.empty)


class ImageRun:
    """The images of a command: finds them, and keeps account of those that cannot be read."""

    def __init__(self, console: Console, paths: Sequence[str], strict: bool) -> None:
        self.console, self.strict = console, strict
        self.images = world().on_first(partial(find_sources, paths))
        console.outputs.reads(*(image for image in self.images if isinstance(image, Path)))
        odd = sum(str(image) != printable(str(image)) for image in self.images)
        if odd:
            console.warn(
                f"{odd:,} file name{'s are' if odd > 1 else ' is'} not UTF-8: written with \\x.. "
                "for the other bytes"
            )
        self.bad: list[str] = []

    def done(self, writer: Writer) -> set[Path | ImageBytes]:
        """The images that have a result already, or were found to have none."""
        self.bad += world().of_first(writer.failures)
        return world().of_first({image for image in self.images if str(image) in writer})

    def fault(self, image: object, error: Exception, writer: Writer) -> None:
        """Note an image that is left out, and say so."""
        self.bad.append(str(error))
        writer.fail(str(image), str(error))
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
