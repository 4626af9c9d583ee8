"""What the documentation says exists: links, commands, options, make targets, recipes, names."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path
from typing import Any

import click
import pytest
from docs_blocks import PAGES, ROOT, SET_UP, Block, blocks, words

from dlmie.cli.app import PARALLEL_VERBS, VERBS, main

COMMANDS = [
    pytest.param(block, command, id=f"{block}-{command[:40]}")
    for page in PAGES
    for block in blocks(page, "console")
    for command in block.commands
]
PYTHON = [pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page, "python")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """Of the headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize(("block", "command"), COMMANDS)
def test_commands_exist(block: Block, command: str) -> None:
    for part in re.split(r"\s(?:&&|\|)\s", command):
        check_command(words(part))


def check_command(line: list[str]) -> None:
    if line[0] == "mpiexec":
        line = line[line.index("dlmie") :]
        assert line[1] in PARALLEL_VERBS
    if line[0].endswith("dlmie"):
        check_dlmie(line[1:])
    elif line[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
        assert line[1] in targets
    elif line[0] == ".ci/run":
        text = (ROOT / ".ci/run").read_text()
        for stage in line[1:]:
            assert f"run_{stage}()" in text
    elif line[0] == "python" and line[1] == "-m" and line[2] == "benchmarks":
        raise AssertionError("name the benchmark: python -m benchmarks.NAME")
    elif line[0] == "python" and line[1] == "-m" and line[2].startswith("benchmarks."):
        assert (ROOT / (line[2].replace(".", "/") + ".py")).is_file()
    elif line[0] == "python":
        assert (ROOT / line[1]).is_file(), line
    else:
        assert " ".join([*line, ""]).startswith(SET_UP), f"{line[0]}: no test knows this command"


def check_dlmie(line: list[str]) -> None:
    """The verb exists, the options exist, and their values are possible; nothing runs."""
    if not line or line[0].startswith("-"):
        assert set(line) <= {"--help", "--version"}
        return
    assert line[0] in VERBS, f"there is no dlmie {line[0]}"
    context = click.Context(main)
    command = main.get_command(context, line[0])
    assert command is not None
    inner = click.Context(command, info_name=line[0], **command.context_settings)
    line = line[: line.index(">")] if ">" in line else line
    values, _, _ = command.make_parser(inner).parse_args(args=line[1:])
    for param in command.get_params(inner):
        value: Any = values.get(param.name or "")
        if value is not None and not repr(value).startswith("Sentinel"):
            param.type_cast_value(inner, value)
    if line[0] == "search":  # the others are those of train
        check_dlmie(["train", values["data"], *values["options"]])
    recipe = values.get("recipe")
    if recipe is not None and "RECIPE" not in recipe:
        from dlmie.models.recipes import RECIPES

        assert recipe in RECIPES


@pytest.mark.parametrize("block", PYTHON)
def test_python_names_exist(block: Block) -> None:
    """Every name that an example imports from dlmie is there."""
    import importlib

    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dlmie"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or importlib.import_module(name), name


def test_the_version_stands_in_one_place() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    version = config["metadata"]["version"]
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{'Unreleased' if 'dev' in version else version}]" in changelog


def test_warnings_are_errors() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    filters = config["tool:pytest"]["filterwarnings"].split("\n")
    kept = [line for line in filters if line.strip() and line.strip() != "error"]
    assert "error" in [line.strip() for line in filters]
    # Every exception is about one message; none silences a whole kind of warning.
    for line in kept:
        action, message, *_ = line.strip().split(":")
        assert action == "ignore"
        assert len(message) > 5, line


def test_the_tests_that_pains_names_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs/pains.md").read_text())
    assert len(named) > 30
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"\bdef {test}\(", text), test


def test_changelog_and_license_are_there() -> None:
    for name in ("CHANGELOG.md", "LICENSE", "CITATION.cff", "CONTRIBUTING.md"):
        assert (ROOT / name).stat().st_size > 200


def test_nothing_names_a_machine() -> None:
    """No path of somebody's home or checkout stands in what is published."""
    private = re.compile(r"/(?:root|home/\w+|Users/\w+)/")
    folders = ("dlmie", "models", "visualize", "data", "benchmarks", "examples", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    text = {".py", ".c", ".h", ".md", ".html", ".js", ".css", ".json", ".cfg", ".toml"}
    for path in [*paths, *ROOT.glob("*.*")]:
        if path.suffix in text and path.is_file():
            found = private.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(ROOT)} names {found[0]}"
