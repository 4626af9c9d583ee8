"""The demo, and training that is interrupted, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from cli_encoder import ENCODER


@pytest.mark.slow
def test_a_small_demo(tmp_path: Path, invoke: Any) -> None:
    words = ("demo", "--to", tmp_path, "--train", 48, "--dev", 8, "--test", 16, "--quiet")
    result = invoke(*words, "--epochs", 1, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert 0 <= document["bleu_4"] < 1
    assert document["protocol"]["split"] == "test"
    assert len(document["examples"]) == 12
    with PIL.Image.open(tmp_path / "captions.png") as sheet:
        assert sheet.width > 800
    assert {"pointing", "pointing_chance"} <= set(document)
    assert "Learning curves" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(document["photographs"]) == 5
    for row in document["photographs"]:
        assert row["caption"]
        assert Path(row["figure"]).is_file()
    assert len(list((tmp_path / "attention").glob("test-*.png"))) == 3
    again = invoke(*words)  # finished: only shows it again
    assert again.exit_code == 0, again.output
    assert "captions.png" in again.stdout
    assert "one sentence said of every scene" in again.stdout


@pytest.mark.slow
def test_the_demo_learns_to_look(tmp_path: Path, invoke: Any) -> None:
    result = invoke("demo", "--to", tmp_path, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["bleu_4"] > 0.6
    assert document["truth"] > 0.8
    assert document["truth_claims"] > 0.95
    assert document["pointing"] > 0.9


@pytest.mark.slow
def test_ctrl_c_saves_and_names_the_way_on(scenes: Path, tmp_path: Path, invoke: Any) -> None:
    to = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "dlmie", "train", str(scenes), "--to", str(to), *ENCODER),
        *("--embedding", "8", "--hidden", "8", "--batch", "8", "--epochs", "100000", "--quiet"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        deadline = time.monotonic() + 120
        log = to / "log.jsonl"  # it is there, and empty, before the first batch
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, err
    assert f"dlmie train --resume {to}" in err
    assert "Traceback" not in err
    lines = log.read_text().splitlines()
    epochs = max(json.loads(line).get("epoch", 0) for line in lines)
    result = invoke("train", "--resume", to, "--epochs", epochs + 1, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["epochs"] == epochs + 1
