"""``dlmie doctor``: is everything there that dlmie needs, and what to do if not."""

from __future__ import annotations

import time
import warnings

import click

from dlmie.cli.checks import Check, run_all
from dlmie.cli.console import Console
from dlmie.cli.verbs import verb

_SIGNS = {"ok": "ok", "warning": "!", "problem": "✗"}


@verb("doctor")
@click.option(
    "--warm",
    is_flag=True,
    help="Also compile what caption, attend, classify and saliency need: a minute or two, once.",
)
def command(console: Console, warm: bool) -> None:
    """Check compiler, BLAS, threads, cache and weights; say how to fix what is wrong.

    Ends with exit code 1 if something must be fixed before dlmie can work.
    """
    found: list[Check] = []
    for check in run_all():
        found.append(check)
        if not console.json:
            click.echo(f"{_SIGNS[check.status]:2} {check.name:16} {check.value}")
            if check.fix:
                click.echo(f"{'':20}→ {check.fix}")
    problems = [check for check in found if check.status == "problem"]
    warnings = [check for check in found if check.status == "warning"]
    verdict = (
        f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} to fix"
        if problems
        else "dlmie can work"
    )
    if warnings:
        verdict += f"; {len(warnings)} {'hint' if len(warnings) == 1 else 'hints'} (!)"
    if warm and not problems:
        compile_ahead(console)
    checks = {check.name: check.to_json() for check in found}
    console.result({"healthy": not problems, "checks": checks}, f"\n{verdict}")
    if problems:
        click.get_current_context().exit(1)


def compile_ahead(console: Console) -> None:
    """Compile what the usual commands need, so that the first of them starts at once."""
    import numpy as np

    from dlmie.captioning import compiled_captioners
    from dlmie.captioning.captioner import DEFAULT as CAPTIONER
    from dlmie.captioning.photographs import classify_images
    from dlmie.cli.encoders import DEFAULT, make_network
    from dlmie.visualize import saliency

    start, gray = time.monotonic(), np.full((64, 64, 3), 128, np.uint8)
    captioner = compiled_captioners.load([CAPTIONER])
    captioner(gray)
    compiled_captioners.keep(captioner)
    network, _ = make_network(DEFAULT, "probabilities", None, None)
    list(classify_images(network, [gray], top=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is nothing to see in gray
        saliency(network, gray, 0, samples=1, batch=1)
    console.note(f"compiled ahead in {time.monotonic() - start:.0f} s")
