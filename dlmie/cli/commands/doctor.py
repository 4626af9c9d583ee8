"""``dlmie doctor``: is everything there that dlmie needs, and what to do if not."""

from __future__ import annotations

import click

from dlmie.cli.checks import Check, run_all
from dlmie.cli.console import Console, verb

_SIGNS = {"ok": "ok", "warning": "!", "problem": "✗"}


@verb("doctor")
def command(console: Console) -> None:
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
    checks = {check.name: check.to_json() for check in found}
    console.result({"healthy": not problems, "checks": checks}, f"\n{verdict}")
    if problems:
        click.get_current_context().exit(1)
