"""The benchmarks are no part of the package: they are imported from the checkout."""

from __future__ import annotations

from pathlib import Path

from dlmie.cli.commands.bench import use_benchmarks

use_benchmarks(Path(__file__).parents[2] / "benchmarks")
