"""What all commands share: their common options, how they print, options from signatures."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import click

from dlmie.cli.signatures import COMPUTED, REQUIRED, parameters
from dlmie.files.documents import json_text, plain_value
from dlmie.files.outputs import Outputs
from dlmie.progress import told
from dlmie.text import for_terminal
from dlmie.typing import JsonObject

F = TypeVar("F", bound=Callable[..., object])

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


class Number(click.ParamType):
    """A number within bounds that include their ends; in help it is N (whole) or X."""

    def __init__(
        self, kind: type[int] | type[float], low: float | None = None, high: float | None = None
    ) -> None:
        self.kind, self.low, self.high = kind, low, high
        self.name = "n" if kind is int else "x"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        try:
            number = self.kind(value)
        except ValueError:
            what = "a whole number" if self.kind is int else "a number"
            self.fail(f"{value!r} is not {what}", param, ctx)
        if self.low is not None and not number >= self.low:
            self.fail(f"{value} is too small; it must be at least {self.low}", param, ctx)
        if self.high is not None and not number <= self.high:
            self.fail(f"{value} is too large; it must be at most {self.high}", param, ctx)
        return number


def whole(low: int | None = None, high: int | None = None) -> Number:
    """The type of an option that takes a whole number within bounds."""
    return Number(int, low, high)


def real(low: float | None = None, high: float | None = None) -> Number:
    """The type of an option that takes a number within bounds."""
    return Number(float, low, high)


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


def section(title: str, *decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Apply decorators that add options, which the help then shows under a title."""

    def decorate(function: F) -> F:
        before = list(getattr(function, "__click_params__", []))
        for decorator in reversed(decorators):
            function = decorator(function)
        for param in getattr(function, "__click_params__", []):
            if param not in before:
                param.section = title  # read by VerbCommand
        return function

    return decorate


def verb(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function one of dlmie's commands; its first argument becomes the `Console`."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def checked(console: Console, *arguments: object, **options: object) -> None:
            console.outputs = _check_outputs(click.get_current_context(), console)
            before = told.set(console.progress)
            try:
                function(console, *arguments, **options)
            finally:
                told.reset(before)

        checked = section("Common options", *_COMMON)(checked)
        passed = click.make_pass_decorator(Console, ensure=True)(checked)
        context = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        return click.command(name, cls=VerbCommand, context_settings=context)(passed)

    return decorate


def _set(name: str) -> Callable[[click.Context, click.Parameter, bool | int], None]:
    """A callback that notes an option in the console instead of handing it to the command."""

    def callback(ctx: click.Context, param: click.Parameter, value: bool | int) -> None:
        if value:
            setattr(ctx.ensure_object(Console), name, value)

    return callback


def _use_threads(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    ctx.ensure_object(Console).threads = value
    # Read by OpenMP and the BLAS when they are loaded, which is after this.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(value)
    if "dlmie.compilation" in sys.modules:  # a second command in one process
        from dlmie.compilation import set_threads

        set_threads(value)


def _common_flag(*names: str, to: str, help: str) -> Callable[[F], F]:
    return click.option(*names, is_flag=True, expose_value=False, callback=_set(to), help=help)


DEBUG = _common_flag("--debug", to="debug", help="Show where an error came from.")
OVERWRITE = _common_flag(
    "--overwrite", to="overwrite", help="Replace files of other kinds and rows."
)
_COMMON = [
    _common_flag("--json", to="json", help="Print one JSON document."),
    click.option(
        "--seed", "-s", type=whole(0, 2**64 - 1), default=0, show_default=True,
        expose_value=False, callback=_set("seed"), help="Of everything drawn at random.",
    ),
    click.option(
        "--threads", type=whole(1), expose_value=False, callback=_use_threads,
        help="Processor threads to use.  [default: all]",
    ),
    _common_flag("--quiet", "-q", to="quiet", help="No progress, no notes."),
    DEBUG,
]  # fmt: skip


Kind: TypeAlias = click.ParamType | type
Text = str | tuple[str, Kind]


def options_of(target: str, /, **texts: Text) -> Callable[[F], F]:
    """Options for some parameters of a function: its defaults and types, our help texts.

    Parameters
    ----------
    target : str
        ``"dlmie.captioning.decoding:Decoding"``.
    **texts
        Help text by parameter name; with a click type, too, where the annotation says too little.

    Examples
    --------
    ::

        @options_of("dlmie.captioning.decoding:Decoding", beam="Hypotheses kept; 1: greedy.")
    """
    known = parameters(target)

    def decorate(function: F) -> F:
        for name, text in reversed(texts.items()):
            help, kind = text if isinstance(text, tuple) else (text, known[name].type)
            if isinstance(kind, type) and kind in (int, float):
                kind = Number(kind)
            if known[name].default is COMPUTED:
                raise LookupError(f"the default of {name} in {target} is not a plain value")
            function = _option(name, known[name].default, help, kind)(function)
        return function

    return decorate


def _option(name: str, default: object, help: str, kind: Kind) -> Callable[[F], F]:
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        both = f"{flag}/--no-{flag[2:]}" if default else flag
        return click.option(both, name, default=default, is_flag=True, help=help)
    shown = default is not None and default is not REQUIRED
    return click.option(
        flag,
        name,
        default=default if shown else None,
        required=default is REQUIRED,
        type=kind,
        show_default=shown,
        help=help,
    )


def given(ctx: click.Context) -> JsonObject:
    """The options that stand on the command line, without those that have their default."""
    from click.core import ParameterSource

    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    }


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


def decoding_options(function: F) -> F:
    """Every option of a search for captions; gather those given with :func:`chosen_decoding`."""
    search = options_of(
        "dlmie.captioning.decoding:Decoding",
        beam=("Captions kept while searching; 1 is greedy search.", whole(1)),
        length_norm="Divide the score by length to this power; 0 favors short captions.",
        samples=("Draw this many captions instead of searching.", whole(0)),
        temperature="Of drawing: below 1 keeps to likely words, above 1 draws rarer ones.",
        top_k=("Draw from the k most probable words; 0: all.", whole(0)),
        top_p=(
            "Draw from the fewest words that have this probability together.",
            real(0, 1),
        ),
    )
    constraints = options_of(
        "dlmie.captioning.decoding:Constraints",
        max_length=("Words at most, the end counted.", whole(1)),
        min_length=("Words at least.", whole(0)),
        allow_unknown="Let <unk> be said.",
        no_repeat_ngram=("Never say so many words in a row twice; 0: may.", whole(0)),
        no_immediate_repeat="Never say a word twice in a row.",
    )
    title = "How captions are found (defaults are those of a model whose file says nothing else)"
    return section(title, search, constraints)(function)


DECODING = (
    *("beam", "length_norm", "samples", "temperature", "top_k", "top_p"),
    *("max_length", "min_length", "allow_unknown", "no_repeat_ngram", "no_immediate_repeat"),
)


def chosen_decoding() -> JsonObject:
    """The decoding options on the command line; the others are the model's own.

    Raises
    ------
    click.UsageError
        Options that exclude each other.
    """
    from dlmie.captioning.decoding import Decoding
    from dlmie.errors import DataError

    ctx = click.get_current_context()
    chosen = {name: value for name, value in given(ctx).items() if name in DECODING}
    try:
        Decoding(**chosen)
    except DataError as error:
        raise click.UsageError(str(error)) from None
    return chosen


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """Lines ``name   value`` with the values below each other; empty values are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown)
