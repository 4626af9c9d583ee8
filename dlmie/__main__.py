"""``python -m dlmie VERB``: the same as ``dlmie VERB``."""

from dlmie.cli import main

main(prog_name="dlmie")
