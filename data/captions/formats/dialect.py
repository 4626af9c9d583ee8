"""How a table is written: its separator, and whether quotation marks enclose cells.

Programs that write CSV enclose a cell in quotation marks where it holds a separator, and double the
marks inside.  Other files hold captions as they are, and a mark is part of the sentence.  A file is
of one kind or the other, so all its lines decide together.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dlmie.data.images import is_image_name

SEPARATORS = ",\t;|"
_LONGEST = 10  # lines that one cell may span

#: Where a row begins (line number from 1), its cells, and what is wrong with it if anything is.
Row = tuple[int, list[str], str | None]


@dataclass(frozen=True)
class Dialect:
    """How the rows of a table are written.

    Attributes
    ----------
    separator
        Between the cells.
    quoted
        Whether quotation marks enclose cells.
    width
        Cells a row.
    key
        The place of the cell that names the image.
    """

    separator: str
    quoted: bool
    width: int
    key: int


def find_dialect(lines: Sequence[str], separator: str, width: int, key: int) -> Dialect:
    """Decide whether quotation marks enclose cells, from all lines."""
    mark = re.escape(separator)
    # A cell in marks that needs them: it holds a separator or a doubled mark.
    needs = re.compile(rf'(?:^|{mark}) *"(?=[^"]*(?:{mark}|""))(?:[^"]|"")*" *(?:$|{mark})')
    # A cell in marks at all.
    encloses = re.compile(rf'(?:^|{mark}) *"(?:[^"]|"")*" *(?={mark}|$)')
    # A mark that begins a cell and does not end on the line.
    opens = re.compile(rf'(?:^|{mark}) *"[^"]*$')
    for_marks = against = enclosed = 0
    for line in lines:
        if '"' not in line:
            continue
        if needs.search(line):
            for_marks += 1
        elif '"' in opens.sub("", encloses.sub("", line)):  # a mark of the sentence
            against += 1
        else:
            enclosed += 1
    for_marks += sum(_spans(first, second, separator, width) for first, second in pairwise(lines))
    if for_marks != against:
        quoted = for_marks > against
    else:  # nothing tells but what is usual, and whether most rows have marks
        quoted = separator == "," or enclosed * 2 > sum(1 for line in lines if line.strip())
    return Dialect(separator, quoted, width, key)


def _spans(first: str, second: str, separator: str, width: int) -> bool:
    """Whether a cell seems to begin in one line, in marks, and to end in the next."""
    return (
        first.count('"') % 2 == 1
        and second.count('"') % 2 == 1
        and first.count(separator) + second.count(separator) == width - 1
        and not second.lstrip().startswith('"')
    )


def read_table(lines: Sequence[str], start: int, dialect: Dialect) -> Iterator[Row]:
    """Give the rows from line ``start`` (from 0) on, blank ones left out.

    A row that cannot be read is the only one lost: reading continues with the next line.
    """
    place = start
    while place < len(lines):
        count, cells, fault = 1, [""], None
        if lines[place].strip():
            count, cells, fault = _row(lines, place, dialect)
            if fault is None and len(cells) != dialect.width:
                fault = (
                    f"has {len(cells)} columns, not {dialect.width} (quote captions that hold "
                    f"{dialect.separator!r})"
                )
            yield place + 1, cells, fault
        place += count


def _row(lines: Sequence[str], place: int, dialect: Dialect) -> tuple[int, list[str], str | None]:
    """How many lines the row takes, its cells and its fault."""
    line = lines[place]
    plain = [cell.strip() for cell in line.split(dialect.separator)]
    if not dialect.quoted or '"' not in line:
        return 1, plain, None
    for count in range(1, _LONGEST + 1):
        if count > 1:
            if place + count > len(lines):
                break
            following = lines[place + count - 1]
            if _begins_row(following, plain, dialect):
                return 1, plain, "a quotation mark is not closed"
        try:
            text = lines[place : place + count]
            cells = _enclosed("\n".join(text), dialect.separator)
        except csv.Error as error:
            if "unexpected end" in str(error):
                continue
            break  # text after the closing mark: the marks belong to the sentence
        return count, cells, None
    if len(plain) == dialect.width and line.count('"') % 2 == 0:
        return 1, plain, None
    return 1, plain, "a quotation mark is not closed"


def _enclosed(text: str, separator: str) -> list[str]:
    lines = [f"{line}\n" for line in text.split("\n")]
    rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True))
    return [cell.strip() for cell in rows[0]]


def _begins_row(line: str, before: list[str], dialect: Dialect) -> bool:
    """Whether a line looks like a row of its own, not like the rest of a cell."""
    cells = [cell.strip() for cell in line.split(dialect.separator)]
    if len(cells) < dialect.width or len(before) <= dialect.key:
        return False
    own, other = cells[dialect.key], before[dialect.key]
    if is_image_name(other):
        return is_image_name(own)
    return own.isdecimal() and other.isdecimal()
