"""Search for files that upset a reader, guided by what of dlmie they reach (atheris, libFuzzer).

    pip install atheris
    python tests/fuzz/coverage_guided.py captions -max_total_time=600

It ends at the first error that is not dlmie's own, and keeps the file that caused it. TARGET is one
of ``tests/support/fuzz_targets.py``, whose whole files it starts from; ``weights.npz`` takes those
of one suffix alone. ``tests/fuzz/test_readers.py`` needs no more than pytest, and CI runs it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


def main() -> None:
    """Fuzz the target that the command line names; what follows it is libFuzzer's."""
    name, _, suffix = sys.argv[1].partition(".")
    folder = Path(tempfile.mkdtemp())
    whole, first = folder / "whole", folder / "first"  # which the readers need; which are changed
    whole.mkdir()
    first.mkdir()
    with atheris.instrument_imports(include=["dlmie"]):  # readers import what they need when called
        from fuzz_targets import TARGETS

        target = TARGETS[name]
        target.make(whole)
        for path in target.whole(whole):
            if not suffix or path.suffix == f".{suffix}":
                shutil.copy(path, first)
                target.read(Path(shutil.copy(path, folder)))
    # Some readers go by names, all by suffixes.
    known = sorted(path.name for path in first.iterdir())

    def read(content: bytes) -> None:
        damaged = folder / known[len(content) % len(known)]
        damaged.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(damaged)

    limits = ["-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], str(first), *limits, *sys.argv[2:]], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
