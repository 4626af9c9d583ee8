"""A function as a command: the options that all have, and the files that it writes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator

import click

from dlmie.backends.choice import BACKENDS, current_backend, using_backend
from dlmie.cli.console import Console
from dlmie.cli.options import F, section, whole
from dlmie.cli.threads import use_threads
from dlmie.files.outputs import Outputs
from dlmie.verbosity import announcing


class VerbCommand(click.Command):
    """A command whose help shows its options in sections, the common ones last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                other = "Common options" if "--help" in param.opts else "Options"
                sections.setdefault(getattr(param, "section", other), []).append(record)
        common = sections.pop("Common options", [])
        for title, records in [*sections.items(), ("Common options", common)]:
            with formatter.section(title):
                formatter.write_dl(records)


def verb(
    name: str, *, unknown_options: bool = False, backends: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function one of dlmie's commands; its first argument becomes the `Console`.

    With ``unknown_options`` those are left among its arguments instead of being an error; with
    ``backends`` it has the option ``--backend``.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def checked(console: Console, *arguments: object, **options: object) -> None:
            console.outputs = _check_outputs(click.get_current_context(), console)
            before = announcing.set(console.progress)
            try:
                with using_backend(console.backend or current_backend()):
                    function(console, *arguments, **options)
            finally:
                announcing.reset(before)

        common = [_BACKEND, *_COMMON] if backends else _COMMON
        checked = section("Common options", *common)(checked)
        passed = click.make_pass_decorator(Console, ensure=True)(checked)
        context = {
            "help_option_names": ["-h", "--help"],
            "max_content_width": 100,
            "ignore_unknown_options": unknown_options,
        }
        return click.command(name, cls=VerbCommand, context_settings=context)(passed)

    return decorate


def _set(name: str) -> Callable[[click.Context, click.Parameter, bool | int | str], None]:
    """A callback that notes an option in the console instead of handing it to the command."""

    def callback(ctx: click.Context, param: click.Parameter, value: bool | int | str) -> None:
        if value:
            setattr(ctx.ensure_object(Console), name, value)

    return callback


def _use_threads(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    ctx.ensure_object(Console).threads = value
    use_threads(value)


def _common_flag(*names: str, to: str, help: str) -> Callable[[F], F]:
    return click.option(*names, is_flag=True, expose_value=False, callback=_set(to), help=help)


DEBUG = _common_flag("--debug", to="debug", help="Show where an error came from.")
OVERWRITE = _common_flag(
    "--overwrite", to="overwrite", help="Replace files of other kinds and rows."
)
_BACKEND = click.option(
    "--backend", type=click.Choice(BACKENDS), expose_value=False, callback=_set("backend"),
    help="What computes: c, on processors, or jax, also on a GPU (preview).  [default: c]",
)  # fmt: skip
_COMMON = [
    _common_flag("--json", to="json", help="Print one JSON document."),
    click.option(
        "--seed", "-s", type=whole(0, 2**64 - 1), default=0, show_default=True,
        expose_value=False, callback=_set("seed"), help="Of everything drawn at random.",
    ),
    click.option(
        "--threads", type=whole(1), expose_value=False, callback=_use_threads,
        help="Processor threads to use.  [default: all; of several ranks, each its part]",
    ),
    _common_flag("--quiet", "-q", to="quiet", help="No progress, no notes."),
    DEBUG,
]  # fmt: skip


class OutputOption(click.Option):
    """An option that names a file to write; see :func:`_check_outputs`."""


#: What was written is named by --to; --output is understood everywhere as well.
def output_option(
    help: str, *, required: bool = False, name: str = "to", overwrite: bool = True
) -> Callable[[F], F]:
    """The option that names the file or folder to write, and ``--overwrite`` with it."""
    names = ("--to", "--output") if name == "to" else ("--output", "--to")
    option = click.option(
        *names, "-o", name, cls=OutputOption, type=click.Path(), required=required, help=help
    )
    return (lambda function: option(OVERWRITE(function))) if overwrite else option


def _check_outputs(ctx: click.Context, console: Console) -> Outputs:
    """The files that a command reads and those that it writes, as its command line names them.

    Raises
    ------
    OutputError
        A file would be written that the command reads, or two files to one place.
    """
    named: list[str] = []
    inputs: list[str] = []
    for param in ctx.command.params:
        values = list(_texts(ctx.params.get(param.name or "")))
        if isinstance(param, OutputOption):
            named += values
        else:
            inputs += [*values, *(part for value in values for part in value.split(","))]
    overwrite = console.overwrite or bool(ctx.params.get("overwrite"))
    outputs = Outputs(inputs, overwrite=overwrite)
    for path in named:
        if not os.path.isdir(path):
            outputs.refuse_inputs(path)
    return outputs


def _texts(value: object) -> Iterator[str]:
    """All text in the value of an option."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
