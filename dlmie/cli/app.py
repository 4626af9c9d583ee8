"""The command line: ``dlmie VERB``; one module a verb, loaded when the verb is used."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import warnings
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, TextIO

import click

from dlmie.cli.console import MESSAGE, Console
from dlmie.cli.signals import Stopped, stopping
from dlmie.cli.verbs import DEBUG
from dlmie.launchers import launched
from dlmie.text import for_terminal

# Each verb is the module of the same name in this folder, which defines `command`.
VERBS = {
    "doctor": "Check compiler, BLAS, threads, cache and weights; say how to fix them.",
    "demo": "Train a captioner on made-up scenes in four minutes; show what it says.",
    "prepare": "Read a data set of captioned or labeled images into one file.",
    "features": "Run an encoder over a prepared data set once, for fast training.",
    "train": "Train a captioner, classifier, generator or agent, or continue a run.",
    "search": "Train with many values of some options, and see which are best.",
    "curves": "Draw what runs measured while they trained, side by side.",
    "evaluate": "Score trained models of any kind; print the protocol with the numbers.",
    "sample": "Make images with a trained generator.",
    "play": "Show an episode of an agent as an animated picture.",
    "caption": "Caption images and folders of images.",
    "attend": "Draw where a captioner looks at each word.",
    "report": "Write one HTML page about a captioner: scores, curves, a gallery.",
    "showcase": "Show a captioner's best and worst captions; edit the selection by hand.",
    "score": "Score captions that anyone made against references.",
    "classify": "Name what images show, with an ImageNet network or a classifier of your own.",
    "neighbors": "Classify labeled images by their nearest neighbors; choose k by folds.",
    "weights": "Show the weights of a classifier's first layer as images.",
    "saliency": "Show what in a photograph a class, or a word of a caption, depends on.",
    "fool": "Change a photograph imperceptibly until the network errs.",
    "visualize": "Make the image that a class, a channel or a layer likes best.",
    "activations": "Show how the channels of a layer respond to a photograph.",
    "invert": "Show what a photograph looks like from inside a layer.",
    "dream": "Let a network dream on a photograph.",
    "style": "Paint a photograph in the style of other pictures.",
    "reproduce": "Make a picture again from the manifest beside it.",
    "inspect": "Say what a file or a run of dlmie, or a weight file, holds.",
    "export": "Write a trained captioner as one small file to hand out.",
    "bench": "Measure speed, side by side with PyTorch.",
}

# What several processes do together: ``mpiexec -n 4 dlmie train …``.
PARALLEL_VERBS = ("train", "features", "caption", "classify", "evaluate", "report", "doctor")

# Old names of verbs, understood but not listed; the next release drops them.
OLD_VERBS = {"redo": "reproduce"}


class OneLine(click.ClickException):
    """An error as users see it: one line on standard error."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path

    def show(self, file: IO[str] | None = None) -> None:
        line = for_terminal(f"{self.path}: {self.message}", MESSAGE)
        click.echo(line, file=file, err=file is None)


_NO_THREADS = "the system gives no more threads: allow more (ulimit -u), or --threads 1"


class Misuse(OneLine):
    """The command line does not make sense; a failure of what it asked for has exit code 1."""

    exit_code = 2


class Verbs(click.Group):
    """The group of all verbs: loads one when it is used, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        name = OLD_VERBS.get(name, name)
        if name not in VERBS:
            return None
        return importlib.import_module(f"dlmie.cli.commands.{name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        verb = OLD_VERBS.get(name, name)
        if verb in VERBS and verb not in PARALLEL_VERBS and launched()[0] > 1:
            raise click.UsageError(
                f"{name} runs in one process: start it without mpiexec; several together run "
                + ", ".join(PARALLEL_VERBS),
                ctx,
            )
        if name not in {*VERBS, *OLD_VERBS} and not name.startswith("-"):
            close = difflib.get_close_matches(name, VERBS, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(VERBS)}"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        with _one_line_errors(None):
            return super().make_context(info_name, args, parent, **extra)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; where a launcher started several processes, in all of them together."""
        if launched()[0] == 1:
            return super().main(*args, **extra)
        from dlmie.cli.ranks import run_together

        return run_together(partial(super().main, *args, **{**extra, "standalone_mode": False}))

    def invoke(self, ctx: click.Context) -> object:
        with _one_line_errors(ctx), _one_line_warnings(), stopping():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line_errors(ctx: click.Context | None) -> Iterator[None]:
    """Misuse ends with exit code 2, a failure with 1, each with one line."""
    from dlmie.errors import DlmieError, MisuseError, OutputError

    try:
        yield
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "dlmie"
        message = _lower(error.format_message().strip())
        raise Misuse(f"{message} (see {path} --help)", path) from None
    except (click.ClickException, click.exceptions.Exit):
        raise
    except BaseException as error:
        console = ctx.find_object(Console) if ctx is not None else None
        if isinstance(error, SystemExit | GeneratorExit) or (console and console.debug):
            raise
        path = _path(ctx)
        if isinstance(error, OutputError):
            raise Misuse(str(error), path) from error
        if isinstance(error, Stopped):
            message = f"stopped by {error}"
        elif isinstance(error, KeyboardInterrupt | click.Abort):
            message = "interrupted"
        elif isinstance(error, MisuseError):
            raise Misuse(f"{error} (see {path} --help)", path) from error
        elif isinstance(error, DlmieError):
            message = " ".join(str(error).split("\n"))
        elif isinstance(error, BrokenPipeError):
            raise
        elif isinstance(error, OSError):
            message = _os_error(error)
        elif isinstance(error, RuntimeError) and "start new thread" in str(error):
            message = _NO_THREADS
        elif isinstance(error, MemoryError):
            batch = "a smaller --batch or " if _has_batch(ctx) else ""
            message = f"out of memory: use {batch}smaller images"
        elif isinstance(error, Exception):
            text = " ".join(str(error).split()) or "no message"
            message = (
                f"unexpected {type(error).__name__}: {text[:300]} "
                "(run it again with --debug to see where, and report it)"
            )
        else:
            raise
        raise OneLine(message, path) from error


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Print dlmie's own warnings, from any thread, as users read them: without code."""
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__module__.partition(".")[0] == "dlmie":
            from dlmie.cli.ranks import own_stream

            stream = own_stream(category)
            click.echo(for_terminal(str(message), MESSAGE), file=stream, err=stream is None)
        else:
            before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _path(ctx: click.Context | None) -> str:
    """``dlmie train``: the command that failed."""
    if ctx is None:
        return "dlmie"
    return " ".join(filter(None, [ctx.command_path, ctx.invoked_subcommand]))


def _has_batch(ctx: click.Context | None) -> bool:
    """Whether the command that failed works in batches that an option makes smaller."""
    if ctx is None or not isinstance(ctx.command, Verbs) or ctx.invoked_subcommand is None:
        return False
    command = ctx.command.get_command(ctx, ctx.invoked_subcommand)
    return command is not None and any(param.name == "batch" for param in command.params)


def _os_error(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: allow more (ulimit -n)"
    if error.errno == errno.EAGAIN and error.filename is None:  # of a process that was not begun
        return _NO_THREADS
    if error.filename is None:
        full = error.errno == errno.ENOSPC
        return "the disk is full: free some space" if full else str(error)
    return f"{error.filename}: {error.strerror}"


def _lower(message: str) -> str:
    """A click message in the form of ours: no capital at the start, no full stop at the end."""
    first = message[:1].lower() + message[1:] if message[1:2].islower() else message
    return first.removesuffix(".")


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="dlmie COMMAND --help describes one of them.",
)
@click.version_option(package_name="dlmie", message="dlmie %(version)s")
@DEBUG
@click.pass_context
def main(ctx: click.Context) -> None:
    """Caption photographs, and learn to: deep learning made it easy.

    Start with: dlmie doctor, then dlmie demo.
    """
    ctx.ensure_object(Console)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
