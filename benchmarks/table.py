"""Put the numbers of ``dlmie bench --json`` into a page of the documentation.

    dlmie bench --json > bench.json
    python -m benchmarks.table bench.json docs/performance.md

Rows of the page that were not measured this time, or failed, keep their numbers.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.rows import GOALS

BEGIN, END = "<!-- rows of dlmie bench -->", "<!-- end of rows -->"
COLUMNS = {
    "dlmie": "dlmie",
    "torch_eager": "PyTorch",
    "torch_channels_last": "channels_last",
    "torch_compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
HEADINGS = ("row", *COLUMNS.values(), "ratio", "goal", "spread", "limit")
HEAD = f"| {' | '.join(HEADINGS)} |"
RULE = "|---" * len(HEADINGS) + "|"


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One row of the table; a dash stands for what was not run."""
    ratios, goals = ([row.get(name), row.get(f"{name}_eager")] for name in ("ratio", "goal"))
    if row["name"] in GOALS and GOALS[row["name"]].seconds is not None:
        goal = f"≤ {row['goal']:g} s"
    else:
        goal = _joined(goals, "{}")
    spread = row.get("spread")
    return (
        row["name"],
        *(_amount(row, column) for column in COLUMNS),
        _joined(ratios, "{:.2f} ×"),
        goal,
        "–" if spread is None else f"{100 * spread:.0f} %",
        _limit(row),
    )


def _joined(values: list[float | None], form: str) -> str:
    """A number and, where the row has one, that against PyTorch without torch.compile."""
    first, eager = ("–" if value is None else form.format(value) for value in values)
    return first if eager == "–" else f"{first}, eager {eager}"


def _amount(row: dict[str, Any], column: str) -> str:
    memory = row.get(f"{column}_gib")
    return _seconds(row.get(f"{column}_s")) if memory is None else f"{memory:.2f} GiB"


def _limit(row: dict[str, Any]) -> str:
    seconds = row.get("limit_s")
    return "–" if seconds is None else f"{_seconds(seconds)} {row['limited_by']}"


def line(row: dict[str, Any]) -> str:
    """One row as a line of Markdown."""
    name, *rest = cells(row)
    return "| " + " | ".join([f"`{name}`", *rest]) + " |"


def update(page: str, rows: list[dict[str, Any]], machine: str) -> str:
    """The page with these rows in its table, in their order, older ones kept."""
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    kept = dict(re.findall(r"^(\| `(?:[\w ]+)` \|)(.*)$", old, flags=re.M))
    for row in rows:
        if row.get("error") is not None:
            continue
        text = line(row)
        first = re.match(r"\| `[\w ]+` \|", text)
        assert first is not None, text
        kept[first[0]] = text[first.end() :]
    table = "\n".join([HEAD, RULE, *(name + numbers for name, numbers in kept.items())])
    return f"{before}{BEGIN}\n{table}\n\nMeasured on {machine}.\n{END}{after}"


def machine() -> str:
    """The name of the processor that this runs on, and its two speeds."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.is_file() else []
    name = names[0] if names else platform.processor() or platform.machine()
    from benchmarks.limits import machine_speed
    from dlmie.compilation import get_threads

    threads = get_threads()
    flops, bandwidth = machine_speed(threads)
    return (
        f"{name}, {threads} threads, {flops / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{bandwidth / 1e9:.0f} GB/s of memory, Python {platform.python_version()}"
    )


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
