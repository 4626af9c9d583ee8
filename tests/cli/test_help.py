"""Help is fast and complete; misuse is told in one line with exit code 2."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from typing import Any

import pytest

from dlmie.cli.app import VERBS, main
from dlmie.cli.console import Console
from dlmie.cli.verbs import verb

HEAVY = ("pytensor", "nltk", "h5py", "skimage", "matplotlib", "scipy", "numpy", "tqdm")


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from dlmie.cli import main\n"
        "try: main(['--help'], prog_name='dlmie')\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    best = float("inf")
    for _ in range(3):
        # Processor time: what else runs on the machine must not fail the test.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, used)
    assert done.stdout.rstrip().endswith("[]"), done.stdout
    assert best < 0.5, f"dlmie --help took {best:.2f} s of processor time"


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_command_with_help(name: str, invoke: Any) -> None:
    command = main.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.name == name
    result = invoke(name, "--help")
    assert result.exit_code == 0
    for option in ("--json", "--seed", "--threads", "--quiet", "--debug", "--help"):
        assert option in result.stdout
    assert "Common options" in result.stdout
    assert "object at 0x" not in result.stdout  # a default that is not a plain value


def test_help_of_training_needs_no_pytensor() -> None:
    code = (
        "import sys\n"
        "from dlmie.cli import main\n"
        "try: main(['train', '--help'], prog_name='dlmie')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('pytensor', 'h5py', 'nltk') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("[]")


def test_without_arguments_help_is_shown(invoke: Any) -> None:
    result = invoke()
    assert result.exit_code == 0
    assert "caption" in result.stdout


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "dlmie", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("dlmie ")


def test_unknown_command_is_guessed(fails: Any) -> None:
    assert "did you mean 'caption'?" in fails("capton", code=2)


def test_unknown_option_is_guessed(fails: Any) -> None:
    line = fails("score", "a", "b", "--tokeniser", "words", code=2)
    assert "--tokenizer" in line
    assert "dlmie score --help" in line


def test_bad_numbers_are_misuse(fails: Any) -> None:
    assert "0 is too small" in fails("caption", "run", "x.jpg", "--beam", 0, code=2)
    assert "not a whole number" in fails("caption", "run", "x.jpg", "--beam", "many", code=2)
    assert "too large" in fails("caption", "run", "x.jpg", "--top-p", 1.5, code=2)
    assert "min_length" in fails("caption", "run", "x.jpg", "--min-length", 30, code=2)


class TestErrors:
    """What a command raises, and what the user sees of it."""

    @pytest.fixture
    def raising(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def install(error: BaseException) -> None:
            @verb("doctor")
            def command(console: Console) -> None:
                raise error

            monkeypatch.setattr("dlmie.cli.commands.doctor.command", command)

        return install

    def test_ctrl_c(self, raising: Any, fails: Any) -> None:
        raising(KeyboardInterrupt())
        assert fails("doctor") == "dlmie doctor: interrupted"

    def test_operating_system(self, raising: Any, fails: Any) -> None:
        raising(PermissionError(13, "Permission denied", "/root/x"))
        assert fails("doctor") == "dlmie doctor: /root/x: Permission denied"

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (RuntimeError("can't start new thread"), "no more threads: allow more (ulimit -u)"),
            (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
            (OSError(errno.EMFILE, "Too many open files", "x.h5"), "allow more (ulimit -n)"),
            (OSError(errno.ENFILE, "Too many open files in system"), "allow more (ulimit -n)"),
            (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        ],
        ids=str,
    )
    def test_shortage(self, error: Exception, says: str, raising: Any, fails: Any) -> None:
        raising(error)
        assert says in fails("doctor")

    def test_out_of_memory(self, raising: Any, fails: Any) -> None:
        raising(MemoryError())
        assert "out of memory" in fails("doctor")

    def test_anything_else_is_one_line_too(self, raising: Any, invoke: Any) -> None:
        raising(KeyError("oops"))
        result = invoke("doctor")
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert "unexpected KeyError" in result.stderr
        assert "--debug" in result.stderr

    def test_debug_shows_where(self, raising: Any, invoke: Any) -> None:
        raising(KeyError("oops"))
        for words in (("--debug", "doctor"), ("doctor", "--debug")):
            result = invoke(*words)
            assert isinstance(result.exception, KeyError)
