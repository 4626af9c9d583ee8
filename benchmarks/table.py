"""Put the numbers of ``dlmie bench --json`` into a page of the documentation.

    dlmie bench --json > bench.json
    python -m benchmarks.table bench.json docs/performance.md

Rows of the page that were not measured this time keep their numbers.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- rows of dlmie bench -->", "<!-- end of rows -->"
HEAD = "| row | dlmie | PyTorch | channels_last | torch.compile | ratio | goal | spread |"
RULE = "|---|---|---|---|---|---|---|---|"
_TIMES = ("dlmie_s", "torch_eager_s", "torch_channels_last_s", "torch_compile_s")


def line(row: dict[str, Any]) -> str:
    """One row of the table; what was not run is a dash."""
    times = [_seconds(row.get(name)) for name in _TIMES]
    ratio, goal, spread = (row.get(name) for name in ("ratio", "goal", "spread"))
    shown = [
        "–" if ratio is None else f"{ratio:.2f} ×",
        "–" if goal is None else str(goal),
        "–" if spread is None else f"{100 * spread:.0f} %",
    ]
    return "| " + " | ".join([f"`{row['name']}`", *times, *shown]) + " |"


def update(page: str, rows: list[dict[str, Any]], machine: str) -> str:
    """The page with these rows in its table, in their order, older ones kept."""
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    kept = dict(re.findall(r"^(\| `(?:[\w ]+)` \|)(.*)$", old, flags=re.M))
    for row in rows:
        text = line(row)
        first = re.match(r"\| `[\w ]+` \|", text)
        assert first is not None, text
        kept[first[0]] = text[first.end() :]
    table = "\n".join([HEAD, RULE, *(name + numbers for name, numbers in kept.items())])
    return f"{before}{BEGIN}\n{table}\n\nMeasured on {machine}.\n{END}{after}"


def machine() -> str:
    """The processor that this runs on, as it names itself."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.is_file() else []
    name = names[0] if names else platform.processor() or platform.machine()
    from dlmie.compilation import get_threads

    return f"{name}, {get_threads()} threads, Python {platform.python_version()}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} s" if value >= 10 else f"{1000 * value:,.1f} ms"


def main() -> None:
    """``python -m benchmarks.table BENCH_JSON PAGE``."""
    source, page = Path(sys.argv[1]), Path(sys.argv[2])
    rows = json.loads(source.read_text(encoding="utf-8"))
    page.write_text(update(page.read_text(encoding="utf-8"), rows, machine()), encoding="utf-8")


if __name__ == "__main__":
    main()
