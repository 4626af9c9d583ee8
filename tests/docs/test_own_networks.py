"""The network of docs/own_networks.md learns to count, and its schedule restarts."""

from __future__ import annotations

import re
import subprocess
import sys

from docs_blocks import ROOT, blocks


def test_it_learns_to_count() -> None:
    (block,) = blocks(ROOT / "docs" / "own_networks.md", "python")
    # Shorter epochs: three waves all the same.
    text = block.text.replace(
        "BATCHES, TIMES, SIZE, NUMBERS = 7, 100,", "BATCHES, TIMES, SIZE, NUMBERS = 7, 40,"
    )
    assert text != block.text
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = re.findall(r"epoch \d: rate ([\d.]+), ([\d.]+)% right", result.stdout)
    rates, right = zip(*((float(rate), float(share)) for rate, share in found), strict=True)
    assert len(rates) == 7
    # The ends of the waves of 1, 2 and 4 epochs; in between the rate is high again.
    assert max(rates[i] for i in (0, 2, 6)) < 0.0002
    assert min(rates[i] for i in (1, 3, 4)) > 0.004
    assert right[-1] == 100 > right[0]
