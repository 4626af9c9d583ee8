"""The command line: ``dlmie VERB``."""

from dlmie.cli.app import main

__all__ = ["main"]
