"""``dlmie bench``: speeds side by side with PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import click

import dlmie
from dlmie.cli.console import Console
from dlmie.cli.verbs import verb
from dlmie.errors import DataError, DlmieError
from dlmie.text import format_table, suggest

PACKAGE = "benchmarks"

Entry: TypeAlias = dict[str, object]
Row: TypeAlias = Callable[..., Entry]


@verb("bench")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Measure the other rows as well.")
@click.option("--compile", "with_compile", is_flag=True, help="Add torch.compile everywhere.")
@click.option("--list", "listing", is_flag=True, help="Only list the names of the rows.")
@click.option(
    "--benchmarks",
    type=click.Path(),
    help="The folder benchmarks of a checkout.  [default: beside dlmie, or in this folder]",
)
def command(
    console: Console,
    names: tuple[str, ...],
    everything: bool,
    with_compile: bool,
    listing: bool,
    benchmarks: str | None,
) -> None:
    """Measure speed, side by side with PyTorch where it is installed.

    NAMES choose rows; without, those of docs/performance.md are measured, in ten minutes at most.
    The benchmarks are part of the source checkout. A row that fails says why in its entry (the
    field error) and the others go on; the exit code is then 1. Networks for images are compared
    with ONNX Runtime and OpenVINO as well; the field not_run says why one of them is left out.
    """
    use_benchmarks(find_benchmarks(benchmarks))
    rows, reasons = load_rows()
    chosen = _choose(rows, reasons, names, everything)
    if listing:
        console.result(chosen, "\n".join(chosen))
        return
    entries = [_measure(console, name, rows[name], with_compile) for name in chosen]
    console.result(entries, _text(entries))
    failed = [str(entry["name"]) for entry in entries if "error" in entry]
    if failed:
        raise DlmieError(f"{len(failed)} of {len(entries)} rows failed: {', '.join(failed)}")


def find_benchmarks(given: str | None = None) -> Path:
    """The folder with the benchmarks: the given one, dlmie's own, or that of the current folder.

    Raises
    ------
    DataError
        There is none.
    """
    if given is not None:
        places = [Path(given), Path(given) / PACKAGE]
    else:
        places = [folder / PACKAGE for folder in (Path(dlmie.__file__).parents[1], Path.cwd())]
    for place in places:
        if (place / "rows.py").is_file():
            return place.resolve()
    if given is not None:
        raise DataError(f"{given}: not the folder benchmarks of a checkout of dlmie (no rows.py)")
    raise DataError(
        "the benchmarks are not part of an installed package: clone the repository and run "
        "dlmie bench in its folder, or name its folder with --benchmarks"
    )


def use_benchmarks(folder: Path) -> None:
    """Make ``folder`` the package ``benchmarks``, whatever else has that name."""
    loaded = sys.modules.get(PACKAGE)
    if loaded is not None and [Path(path) for path in loaded.__path__] == [folder]:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


def load_rows() -> tuple[dict[str, Row], dict[str, str]]:
    """Every row by name, and for each module that could not be imported the reason."""
    rows: tuple[dict[str, Row], dict[str, str]] = _module("rows").load()
    return rows


def _module(name: str) -> ModuleType:
    """A module of the benchmarks."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def _choose(
    rows: dict[str, Row], reasons: dict[str, str], names: tuple[str, ...], everything: bool
) -> list[str]:
    """The names of the rows to measure."""
    for name in names:
        if name not in rows:
            missing = "".join(f"; {m}.py was not loaded: {why}" for m, why in reasons.items())
            raise click.UsageError(f"there is no row {name!r}{suggest(name, rows)}{missing}")
    if names:
        return list(names)
    return list(rows) if everything else [name for name in _module("rows").GOALS if name in rows]


def _measure(console: Console, name: str, row: Row, compile: bool) -> Entry:
    """The row's entry in the result: what it measured, or why it failed."""
    rows = _module("rows")
    console.note(f"measuring {name} …")
    try:
        entry: Entry = rows.measure(name, row, compile)
    except Exception as error:
        if console.debug:
            console.warn(traceback.format_exc())
        entry = rows.failed(name, error)
        console.note(f"{name} failed: {entry['error']}")
    return entry


def _text(entries: list[Entry]) -> str:
    """The table of the documentation, and below it why rows failed, or engines did not run."""
    table = _module("table")
    lines = [format_table(table.HEADINGS, [table.cells(entry) for entry in entries])]
    lines += [f"{entry['name']}: {entry['error']}" for entry in entries if "error" in entry]
    for entry in entries:
        missing = entry.get("not_run")
        if isinstance(missing, dict):
            lines += [f"{entry['name']}: without {name}: {why}" for name, why in missing.items()]
    return "\n".join(lines)
