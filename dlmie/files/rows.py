"""Results that come one by one, kept as they come: text lines, CSV rows or one JSON list.

A file grows as ``NAME.part`` and takes its name when it is complete. Work that was interrupted, by
Ctrl-C, ``kill -9`` or a full disk, resumes from it. Rows that a complete file already has stay as
they are, whoever wrote or corrected them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.files.documents import json_text, plain_value, read_json
from dlmie.files.locks import acquire
from dlmie.text import printable

# What a spreadsheet would take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARK = "\ufeff"  # by which spreadsheets know that a table is UTF-8


@dataclass(frozen=True)
class Row:
    """The result for one picture.

    Attributes
    ----------
    name : str
        Of the picture.
    item : mapping
        For JSON; holds the name as ``image``.
    text : str
        For text: a line that begins with the name, further ones are indented.
    cells : sequence of sequence
        For tables: one row or more, each begins with the name.
    """

    name: str
    item: Mapping[str, Any]
    text: str
    cells: Sequence[Sequence[Any]]


def failed_row(name: str, reason: str) -> Row:
    """The row of a picture that has no result, for forms that tell of such."""
    return Row(name, {"image": name, "error": reason}, "", ())


class Form(Protocol):
    """How rows stand in a file: as text, as a table, as JSON.

    Attributes
    ----------
    head, between, tail : str
        What stands before, between and after the rows.
    empty : str
        The whole of a file without rows.
    tells_failures : bool
        Whether pictures without a result are in the file, too.
    """

    tells_failures: bool
    head: str
    between: str
    tail: str
    empty: str

    def encode(self, row: Row) -> str:
        """One picture's part of the file."""

    def split(self, text: str) -> list[str]:
        """The pictures' parts of an unfinished file, without one that may be cut off at its end."""

    def names(self, text: str) -> set[str]:
        """Names of the pictures in a complete file; of text, perhaps more than those."""

    def failures(self, text: str) -> dict[str, str]:
        """The pictures among them that have no result, and why."""

    def join(self, earlier: str, parts: Sequence[str]) -> str:
        """A complete file with more pictures."""


class Text:
    """A line for each picture, ``NAME: …``; lines that are indented belong to the one before."""

    tells_failures = False
    head = between = tail = empty = ""

    def failures(self, text: str) -> dict[str, str]:
        return {}

    def encode(self, row: Row) -> str:
        return printable(row.text) + "\n"

    def split(self, text: str) -> list[str]:
        parts: list[str] = []
        for line in io.StringIO(text, newline="\n"):
            if line.startswith("  ") and parts:
                parts[-1] += line
            elif line != "\n":
                parts.append(line)
        return _whole([part for part in parts if part.endswith("\n")])

    def names(self, text: str) -> set[str]:
        found = set()
        for line in text.split("\n"):
            pieces = line.split(": ")
            found |= {": ".join(pieces[:n]) for n in range(1, len(pieces) + 1)}
        return found

    def join(self, earlier: str, parts: Sequence[str]) -> str:
        ended = not earlier or earlier.endswith("\n")
        return earlier + ("" if ended else "\n") + "".join(parts)


class Table:
    """CSV with a head, as spreadsheets open it."""

    tells_failures = False
    between = tail = ""

    def failures(self, text: str) -> dict[str, str]:
        return {}

    def __init__(self, columns: Sequence[str], *, mark: bool = True) -> None:
        self.columns = list(columns)
        self.head = self.empty = (_MARK if mark else "") + self._line(columns)

    def encode(self, row: Row) -> str:
        return "".join(self._line(map(_cell, cells)) for cells in row.cells)

    def split(self, text: str) -> list[str]:
        rows = list(csv.reader(io.StringIO(text.removeprefix(self.head), newline="")))
        whole = rows if text.endswith("\n") else rows[:-1]
        parts: dict[str, str] = {}
        for cells in filter(None, whole):  # not an empty line
            parts[cells[0]] = parts.get(cells[0], "") + self._line(cells)
        return _whole([*parts.values()])

    def names(self, text: str) -> set[str]:
        return {_uncell(row.get("image") or "") for row in self._read(text)}

    def join(self, earlier: str, parts: Sequence[str]) -> str:
        reader = self._read(earlier)
        columns = list(reader.fieldnames or self.columns)
        ended = earlier.endswith("\n")
        output = io.StringIO(newline="")
        end = "\r\n" if "\r\n" in earlier else "\n"
        writer = csv.DictWriter(
            output, columns, restval="", extrasaction="ignore", dialect=reader.dialect,
            lineterminator=end,
        )  # fmt: skip
        for cells in csv.reader(io.StringIO("".join(parts))):
            writer.writerow(dict(zip(self.columns, cells, strict=True)))
        return earlier + ("" if ended else end) + output.getvalue()

    def _read(self, text: str) -> csv.DictReader[str]:
        """A table that perhaps a spreadsheet wrote: its separator, its order of columns."""
        text = text.removeprefix(_MARK)
        first = text.partition("\n")[0]
        separator = max(",;\t", key=first.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
        reader.dialect = _dialect(separator)
        return reader

    def _line(self, cells: Iterable[Any]) -> str:
        output = io.StringIO(newline="")
        csv.writer(output, lineterminator="\n").writerow(cells)
        return output.getvalue()


def _whole(parts: list[str]) -> list[str]:
    """Parts without the last one if some of its lines, one for each caption, may be missing."""
    lines = [part.count("\n") for part in parts]
    return parts if lines and lines[-1] == max(lines[:-1], default=-1) else parts[:-1]


def _dialect(separator: str) -> type[csv.Dialect]:
    class Dialect(csv.excel):
        delimiter = separator

    return Dialect


def _cell(value: Any) -> Any:
    """A file called ``=cmd…`` must not become a formula when a spreadsheet opens the table."""
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.startswith(_FORMULA) else value)


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


class JsonList:
    """One JSON list with an object for each picture; valid at every moment."""

    tells_failures = True
    head, between, tail, empty = "[\n", ",\n", "\n]\n", "[]\n"

    def encode(self, row: Row) -> str:
        return self._part(dict(row.item))

    def split(self, text: str) -> list[str]:
        decoder, found = json.JSONDecoder(), []
        place = text.find("{")
        while place >= 0:
            try:
                item, place = decoder.raw_decode(text, place)
            except ValueError:  # cut off
                break
            found.append(self._part(item))
            place = text.find("{", place)
        return found

    def names(self, text: str) -> set[str]:
        return {str(item["image"]) for item in self._items(text)}

    def failures(self, text: str) -> dict[str, str]:
        items = self._items(text)
        return {str(item["image"]): str(item["error"]) for item in items if "error" in item}

    def join(self, earlier: str, parts: Sequence[str]) -> str:
        anew = {_key(json.loads(part)["image"]): part for part in parts}
        every = []
        for item in self._items(earlier):  # what failed then has its new row in the old place
            again = anew.pop(_key(str(item["image"])), None) if "error" in item else None
            every.append(again or self._part(item))
        every += anew.values()
        return self.head + self.between.join(every) + self.tail if every else self.empty

    def _items(self, text: str) -> list[dict[str, Any]]:
        items = json.loads(text.removeprefix(_MARK)) if text.strip() else []
        if not isinstance(items, list) or not all(
            isinstance(item, dict) and "image" in item for item in items
        ):
            raise ValueError("no list of results")
        return items

    def _part(self, item: Mapping[str, Any]) -> str:
        return textwrap.indent(json_text(item, default=plain_value), "  ")


class RowFile:
    """A file of rows that is being written, locked against other processes.

    Parameters
    ----------
    path : path
        The file.
    form : Form
        How rows stand in it.
    settings : mapping
        JSON values that the rows depend on: an unfinished file is resumed only where they are
        the same.
    overwrite : bool
        Start over, whatever is there.

    Attributes
    ----------
    path, part : Path
        The file, and what it is called until it is complete.
    earlier : str
        What the complete file holds already.
    rows : int
        Pictures in the unfinished file.
    failures : list of str
        Why some of those have no result.

    Raises
    ------
    DataError
        Another process writes the file; it cannot be read or written; what is unfinished was
        begun with other settings.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        form: Form,
        *,
        settings: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.part = self.path.with_name(self.path.name + atomic.UNFINISHED)
        self._note = self.part.with_name(self.part.name + ".json")
        self._form, self._parts = form, list[str]()
        with atomic.explained(path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = acquire(self.part, path)
            try:
                self.earlier = "" if overwrite else _read(self.path)
                known = self._names_in(self.path, self.earlier) if self.earlier else set()
                # What could not be read then is tried again.
                known -= set(map(_key, self._form.failures(self.earlier))) if known else set()
                if not overwrite:
                    self._parts = self._unfinished(json.loads(json_text(settings)))
                self._known = known | self._names_in(self.part, self._content())
                atomic.write_json(self._note, settings)
                self._begin()
            except BaseException:
                if not os.fstat(self._file).st_size:  # of one without rows nothing stays
                    self.part.unlink()
                os.close(self._file)
                raise
        self.failures = [*self._form.failures(self._content()).values()]

    @property
    def rows(self) -> int:
        """Pictures in the unfinished file."""
        return len(self._parts)

    def __contains__(self, name: str) -> bool:
        """Whether the file already has a row for a picture."""
        return _key(printable(name)) in self._known

    def add(self, row: Row) -> None:
        """Write the row of one more picture; it is in the file at once."""
        part = self._form.encode(row)
        before = self._form.between if self._parts else self._form.head
        content = f"{before}{part}{self._form.tail}".encode("utf-8", "surrogatepass")
        with atomic.explained(self.path, self.how_to_go_on()):
            try:
                _put(self._file, content, self._end)
            except OSError:  # a valid file again: the row that did not fit is taken off
                os.ftruncate(self._file, self._end)
                _put(self._file, self._form.tail.encode() if self._parts else b"", self._end)
                raise
        self._parts.append(part)
        self._end += len(content) - len(self._form.tail)

    def fail(self, name: str, reason: str) -> None:
        """Note a picture that has no result, where the file tells of such."""
        if self._form.tells_failures:
            self.add(failed_row(name, reason))

    def finish(self) -> None:
        """Give the file its name, with the rows that it had before."""
        with atomic.explained(self.path, self.how_to_go_on()):
            if not self.earlier:
                if not self._parts:
                    _put(self._file, self._form.empty.encode(), 0)
                atomic.finish(self.part, self.path)
            else:
                if self._parts:
                    joined = self._form.join(self.earlier, self._parts)
                    with atomic.replacing(self.path) as file:
                        file.write(joined.encode("utf-8", "surrogatepass"))
                self.part.unlink()
            self._note.unlink(missing_ok=True)
            os.close(self._file)

    def stop(self) -> None:
        """Leave the file unfinished; of one without rows nothing stays."""
        with contextlib.suppress(OSError):
            if not self._parts:
                self._note.unlink(missing_ok=True)
                self.part.unlink()
            os.close(self._file)

    def how_to_go_on(self) -> str:
        """How to resume an unfinished file, for messages."""
        count = f"{self.rows:,} {'picture' if self.rows == 1 else 'pictures'}"
        return f"{self.part} keeps {count}: the same command continues from there"

    def _unfinished(self, settings: Mapping[str, Any]) -> list[str]:
        """What an interrupted command left."""
        text = self.part.read_bytes().decode("utf-8", "ignore")  # a letter may be cut off
        if not text:
            return []
        begun = read_json(self._note) if self._note.exists() else {}
        if begun != settings:
            there = begun if isinstance(begun, dict) else {}
            changed = [key for key, value in settings.items() if there.get(key) != value]
            raise DataError(
                f"{self.part} was started with other settings ({', '.join(changed)}): finish it "
                "with those, or delete it"
            )
        try:
            return self._form.split(text)
        except (ValueError, csv.Error, RecursionError) as error:
            raise DataError(f"{self.part} is damaged ({error}): delete it") from None

    def _begin(self) -> None:
        """Remove a row that was cut off."""
        content = self._content().encode("utf-8", "surrogatepass")
        _put(self._file, content, 0)
        os.ftruncate(self._file, len(content))
        self._end = len(content) - (len(self._form.tail) if self._parts else 0)

    def _content(self) -> str:
        form = self._form
        return form.head + form.between.join(self._parts) + form.tail if self._parts else ""

    def _names_in(self, path: Path, text: str) -> set[str]:
        try:
            return {_key(printable(name)) for name in self._form.names(text)} if text else set()
        except (ValueError, csv.Error, RecursionError):
            raise DataError(
                f"{path} is no file to add rows to: name another file, or replace it with "
                "--overwrite"
            ) from None


def _key(name: str) -> str:
    """What two names of one picture have in common."""
    return os.path.abspath(name)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "strict")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is not UTF-8 text and cannot be added to: save it as UTF-8, or name another "
            "file"
        ) from None


def _put(descriptor: int, content: bytes, place: int) -> None:
    view = memoryview(content)
    while view:  # one write may take less than all
        count = os.pwrite(descriptor, view, place)
        view, place = view[count:], place + count
