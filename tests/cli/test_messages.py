"""What messages tell users to type is there: options, commands."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dlmie.cli import main
from dlmie.cli.app import VERBS

ROOT = Path(__file__).parents[2]
#: Options of other programs.
OTHERS = {
    "--install",
    "--version",
    "--force-reinstall",
    "--no-",
    "--strip-debug",
    "--bind-to",
    "--map-by",
}
#: What stands behind the program's name in sentences.
WORDS = {"model", "run", "file", "reads", "does", "can", "needs", "compiles", "knows", "wrote"}


def commands() -> dict[str, click.Command]:
    return {name: importlib.import_module(f"dlmie.cli.commands.{name}").command for name in VERBS}


def options() -> set[str]:
    found = {"--help"}
    for command in commands().values():
        for param in command.params:
            found |= {*param.opts, *param.secondary_opts}
    return found


def texts() -> Iterator[tuple[str, str]]:
    """The strings of the package that are no docstrings, with where they stand."""
    for folder in ("dlmie", "data", "models", "visualize"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if not isinstance(node, ast.Constant) or id(node) in alone:
                    continue
                if isinstance(node.value, str):
                    yield f"{path.relative_to(ROOT)}, line {node.lineno}", node.value


def test_options_and_commands_exist() -> None:
    known, wrong = options() | OTHERS, []
    for where, text in texts():
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text):
            if option not in known:
                wrong.append(f"{where}: {option}")
        for word in re.findall(r"(?:run|with|by|, or|:) dlmie ([a-z]+)", text):
            if word not in {*VERBS, *WORDS}:
                wrong.append(f"{where}: dlmie {word}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", VERBS)
def test_out_of_memory_names_only_options_of_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = commands()[name]

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(command, "invoke", fail)
    monkeypatch.setattr(command, "parse_args", lambda ctx, args: [])
    said = CliRunner().invoke(main, [name]).stderr
    assert ("--batch" in said) == any("--batch" in param.opts for param in command.params)
    assert said.count("\n") == 1
