"""``dlmie bench``: speeds side by side with PyTorch."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import click

import dlmie
from dlmie.cli.console import Console, verb
from dlmie.errors import DlmieError
from dlmie.text import format_table, suggest

# What plain `dlmie bench` measures, in this order; the goals are in the rows.
ROWS = (
    *("vgg16_forward", "vgg16_input_gradient", "vgg16_training", "efficientnet_lite0_forward"),
    *("show_attend_tell_step", "show_tell_step", "beam5", "compile_cold", "compile_warm"),
)


@verb("bench")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Measure the other rows as well.")
@click.option("--compile", "with_compile", is_flag=True, help="Add torch.compile everywhere.")
@click.option("--list", "listing", is_flag=True, help="Only say which rows there are.")
@click.pass_context
def command(
    ctx: click.Context,
    console: Console,
    names: tuple[str, ...],
    everything: bool,
    with_compile: bool,
    listing: bool,
) -> None:
    """Measure speed, side by side with PyTorch where it is installed.

    NAMES choose rows; without, those of docs/performance.md are measured, in ten minutes at most.
    The benchmarks are part of the source checkout.
    """
    rows = load_rows()
    chosen = _choose(rows, names, everything)
    if listing:
        console.result(chosen, "\n".join(chosen))
        return
    results = []
    for name in chosen:
        console.note(f"measuring {name} …")
        function = rows[name]
        add = with_compile and "compile" in inspect.signature(function).parameters
        row = function(compile=True) if add else function()
        results.append({"name": name, **row})
    console.result(results, _text(results))


def _folder() -> Path:
    return Path(dlmie.__file__).resolve().parents[1] / "benchmarks"


def load_rows() -> dict[str, Any]:
    """Every row by name: the functions in the ``ROWS`` of each module of ``benchmarks/``."""
    files = sorted(_folder().glob("[a-z]*.py"))
    if not files:
        raise DlmieError(
            "the benchmarks are not part of an installed package: clone the repository, "
            "pip install -e '.[bench]' there, and run dlmie bench again"
        )
    rows: dict[str, Any] = {}
    for path in files:
        for name, function in getattr(_load(path), "ROWS", {}).items():
            rows[name] = function
    return rows


def _load(path: Path) -> Any:
    """A module of the package ``benchmarks``, which lies beside ours in a checkout."""
    name, checkout = f"benchmarks.{path.stem}", str(path.parents[1])
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DlmieError(
            "the benchmarks compare with PyTorch, which is not installed: "
            "run pip install -e '.[bench]' in the checkout"
        ) from error
    if Path(module.__file__ or "").resolve() != path:
        raise DlmieError(f"{path}: another module is called {name}; rename this one")
    return module


def _choose(rows: dict[str, Any], names: tuple[str, ...], everything: bool) -> list[str]:
    for name in names:
        if name not in rows:
            raise click.UsageError(f"there is no row {name!r}{suggest(name, rows)}")
    if names:
        return list(names)
    main = [name for name in ROWS if name in rows]
    return [*main, *(name for name in rows if name not in main)] if everything else main


def _text(results: list[dict[str, Any]]) -> str:
    written = _load(_folder() / "table.py")
    return format_table(written.HEADINGS, [written.cells(row) for row in results])
