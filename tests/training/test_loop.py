"""The training loop: order, interruption, NaN, patience, logs, progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytest

from dlmie.captioning.task import TASK
from dlmie.errors import DlmieError
from dlmie.files import containers as storage
from dlmie.training.callbacks import JsonLog, ProgressBar, Validation
from dlmie.training.checkpoint import Checkpoint
from dlmie.training.loop import Callback, MainLoop, Record, graceful_interrupt
from dlmie.training.metric import Metric
from dlmie.training.step import StepResult


class Epoch:
    """Batches ``start`` … 3 of an epoch of four."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Any:
        return iter(range(self.start, 4))


class Toy:
    """A "model" of one weight; its loss is 10 a word at first and falls by 1 with each step."""

    def __init__(self) -> None:
        self.weight = pytensor.shared(np.zeros(3, np.float32), name="/weight")
        self.seen: list[tuple[int, int]] = []

    def __call__(self, batch: int) -> StepResult:
        step = int(self.weight.get_value()[0])
        self.weight.set_value(self.weight.get_value() + 1)
        self.seen.append((step, batch))
        return StepResult({"loss": 5.0 * (10 - step)}, 5.0, 2)

    def loop(self, *callbacks: Callback) -> MainLoop:
        return MainLoop(self, lambda epoch, start: Epoch(start), callbacks)


class Diary(Callback):
    def __init__(self, name: str, lines: list[str]) -> None:
        self.name, self.lines = name, lines

    def on_start(self, loop: MainLoop) -> None:
        self.lines.append(f"{self.name} start")

    def on_batch(self, loop: MainLoop, result: StepResult, seconds: float) -> None:
        self.lines.append(f"{self.name} batch {loop.position.step}: {result.sums['loss'] / 5:g}")
        assert (result.weight, result.examples) == (5, 2)
        assert seconds >= 0

    def on_epoch(self, loop: MainLoop, record: Record) -> None:
        self.lines.append(f"{self.name} epoch {record['epoch']}: {record['loss']:g}")
        record[self.name] = True

    def on_stop(self, loop: MainLoop) -> None:
        self.lines.append(f"{self.name} stop: {loop.stop_reason}")


def test_callbacks_are_called_in_order() -> None:
    lines: list[str] = []
    toy = Toy()
    loop = toy.loop(Diary("a", lines), Diary("b", lines))
    here = loop.run(1)
    assert lines[:4] == ["a start", "b start", "a batch 1: 10", "b batch 1: 10"]
    assert lines[-4:] == ["a epoch 1: 8.5", "b epoch 1: 8.5", "a stop: None", "b stop: None"]
    assert (here.epoch, here.batch, here.step) == (1, 0, 4)
    assert (here.weight, here.examples) == (20, 8)
    assert loop.batches_per_epoch == 4
    loop.run(2)
    assert toy.seen == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (5, 1), (6, 2), (7, 3)]


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch(self, loop: MainLoop, result: StepResult, seconds: float) -> None:
        if loop.position.step == self.step:
            loop.stop("enough")


@pytest.mark.parametrize("step", [2, 4, 5])
def test_stopping_and_going_on_in_the_middle_of_an_epoch(step: int, tmp_path: Path) -> None:
    whole, lines = Toy(), []
    whole.loop(Diary("w", lines)).run(2)

    toy, log = Toy(), JsonLog(tmp_path / "log.jsonl", every=1)
    loop = toy.loop(StopAt(step), log)
    checkpoint = Checkpoint(tmp_path / "s.h5", {"/weight": toy.weight}, log=log)
    here = loop.run(2)
    assert loop.stop_reason == "enough"
    # Stopped after an epoch's last batch, its end is still to come.
    assert (here.epoch, here.batch) == {2: (0, 2), 4: (0, 4), 5: (1, 1)}[step]
    checkpoint.save(loop)
    log.write({"lost": True})  # written after the checkpoint: resuming drops it

    again, after = Toy(), []
    log = JsonLog(tmp_path / "log.jsonl", every=1)
    checkpoint = Checkpoint(tmp_path / "s.h5", {"/weight": again.weight}, log=log)
    loop = again.loop(Diary("w", after), log, checkpoint)
    checkpoint.restore(loop)
    loop.run(2)
    assert toy.seen + again.seen == whole.seen
    assert loop.batches_per_epoch == 4
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "batch_loss" in r] == list(range(1, 9))
    assert [r["loss"] for r in records if "epoch" in r] == [8.5, 4.5]
    assert not any("lost" in r for r in records)


def test_a_loss_that_is_not_finite_ends_the_run_and_saves_nothing(tmp_path: Path) -> None:
    toy = Toy()
    checkpoint = Checkpoint(tmp_path / "s.h5", {"/weight": toy.weight}, every=1)
    lines: list[str] = []

    class Diverges(Toy):
        def __call__(self, batch: int) -> StepResult:
            result = toy(batch)
            return StepResult({"loss": float("nan")}, 5.0, 2) if batch == 2 else result

    loop = Diverges().loop(Diary("d", lines), checkpoint)
    with pytest.raises(DlmieError, match=r"loss became nan at step 3: lower the learning rate"):
        loop.run(1)
    header, arrays = storage.load(tmp_path / "s.h5")
    assert header["position"]["step"] == 2
    assert arrays["/weight"].tolist() == [2, 2, 2]
    assert lines[-1].startswith("d stop: failed: DlmieError")


def test_weights_that_became_nan_never_replace_a_checkpoint(tmp_path: Path) -> None:
    toy = Toy()
    # A scalar that is NaN until it is known, as a plateau schedule has, is no matter.
    state = {"/weight": toy.weight, "/best": pytensor.shared(np.asarray(np.nan), name="/best")}
    checkpoint = Checkpoint(tmp_path / "s.h5", state)
    loop = toy.loop(checkpoint)
    loop.run(1)
    before = (tmp_path / "s.h5").read_bytes()
    toy.weight.set_value(np.asarray([1, np.nan, 2], np.float32))
    with pytest.raises(DlmieError, match=r"/weight became NaN before step 5.*last checkpoint is"):
        checkpoint.save(loop)
    assert (tmp_path / "s.h5").read_bytes() == before


def test_an_interrupt_that_meets_an_error_saves_nothing(tmp_path: Path) -> None:
    toy = Toy()
    checkpoint = Checkpoint(tmp_path / "s.h5", {"/weight": toy.weight})

    class Fails(Callback):
        def on_batch(self, loop: MainLoop, result: StepResult, seconds: float) -> None:
            loop.stop("interrupted")
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError):
        toy.loop(Fails(), checkpoint).run(1)
    assert not (tmp_path / "s.h5").exists()


SCRIPT = """
import sys, time, numpy as np, pytensor
from pathlib import Path
from dlmie.training.checkpoint import Checkpoint
from dlmie.training.loop import MainLoop
from dlmie.training.step import StepResult
weight = pytensor.shared(np.zeros(3, np.float32), name="/weight")
def step(batch):
    weight.set_value(weight.get_value() + 1)
    sys.stdout.write(".")
    sys.stdout.flush()
    time.sleep(0.05)
    return StepResult({"loss": 1.0}, 1.0, 1)
path = Path(sys.argv[1])
loop = MainLoop(step, lambda epoch, start: range(10_000), [Checkpoint(path, {"/weight": weight})])
here = loop.run(1)
print(loop.stop_reason, here.step)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_finishes_the_step_saves_and_ends_cleanly(number: int, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    command = [sys.executable, "-c", SCRIPT, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(3)
        process.send_signal(number)
        said, warned = process.communicate(timeout=60)
    assert process.returncode == 0, warned
    reason, steps = said.lstrip(".").split()
    assert reason == "interrupted"
    assert "finishing this batch, then saving" in warned
    header, arrays = storage.load(path)
    assert header["position"]["step"] == int(steps) == arrays["/weight"][0]


def test_a_second_ctrl_c_breaks_off() -> None:
    reasons: list[str] = []
    # A shell's background jobs ignore Ctrl-C: this test is about a Python that does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    with graceful_interrupt(reasons.append):
        press()
        assert reasons == ["interrupted"]
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_other_threads_leave_signals_alone() -> None:
    before, inside = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with graceful_interrupt(lambda reason: None):
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]


def validated(monitor: str, scores: list[float], patience: int | None) -> tuple[MainLoop, Any]:
    given, best, told = iter(scores), [], []
    validation = Validation(
        lambda: {monitor: next(given)},
        monitor=TASK.metric(monitor),
        patience=patience,
        on_best=lambda record: best.append(record["epoch"]),
        after=[told.append],
    )
    loop = Toy().loop(validation)
    loop.run(len(scores))
    return loop, (best, told)


def test_validation_keeps_the_best_and_loses_patience() -> None:
    loop, (best, told) = validated("bleu_4", [0.1, 0.3, 0.2, 0.3, 0.1, 0.9], 3)
    assert best == [1, 2]
    assert loop.position.epoch == 5
    assert loop.position.best == 0.3
    assert loop.stop_reason == "bleu_4 has not improved for 3 epochs (best 0.3000 after epoch 2)"
    assert told == [0.1, 0.3, 0.2, 0.3, 0.1]


@pytest.mark.parametrize("monitor", ["dev_loss", "loss", "perplexity"])
def test_losses_improve_downwards(monitor: str) -> None:
    _, (best, _) = validated(monitor, [3.0, 2.0, 2.5, 1.0], None)
    assert best == [1, 2, 4]


def test_equal_scores_are_decided_by_the_tie_breaker() -> None:
    scores = iter([(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (0.1, 4.0)])
    best: list[float] = []

    def measure() -> dict[str, float]:
        bleu, loss = next(scores)
        return {"bleu_4": bleu, "dev_loss": loss}

    validation = Validation(
        measure,
        monitor=TASK.metric("bleu_4"),
        tie_breaker=TASK.tie_breaker,
        on_best=lambda record: best.append(record["epoch"]),
    )
    Toy().loop(validation).run(4)
    assert best == [1, 2, 4]


def test_without_patience_a_run_goes_on() -> None:
    loop, (best, _) = validated("bleu_4", [0.5, 0.4, 0.4, 0.4], None)
    assert best == [1]
    assert loop.position.epoch == 4
    assert loop.stop_reason is None


def test_a_score_that_is_no_number_is_never_the_best() -> None:
    loop, (best, _) = validated("bleu_4", [float("nan"), 0.2, float("nan"), 0.3], None)
    assert best == [2, 4]
    assert loop.position.best == 0.3


def test_an_unknown_score_is_named() -> None:
    validation = Validation(lambda: {"bleu_4": 0.1}, monitor=Metric("bleu4"))
    with pytest.raises(DlmieError, match=r"cannot monitor 'bleu4': measured are .*bleu_4"):
        Toy().loop(validation).run(1)


def test_the_log_is_cut_back_never_lengthened(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log.jsonl")
    assert log.size() == 0
    log.write({"a": 1})
    size = log.size()
    log.write({"b": 2})
    log.truncate(10_000)
    assert log.size() > size
    log.truncate(size)
    assert (tmp_path / "log.jsonl").read_text() == '{"a": 1}\n'


def test_progress_shows_loss_speed_and_scores(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # in a log there is no bar
    validation = Validation(lambda: {"bleu_4": 0.25}, monitor=Metric("bleu_4"))
    toy = Toy()

    def slow(batch: int) -> StepResult:
        time.sleep(0.15)  # the bar is drawn ten times a second at most
        return toy(batch)

    MainLoop(
        slow, lambda epoch, start: Epoch(start), [validation, ProgressBar(1, unit="words")]
    ).run(1)
    shown = capfd.readouterr().err
    assert "epoch 1/1:  50%|" in shown
    assert "loss 9.500, " in shown  # the mean of the epoch so far
    assert "words/s" in shown
    assert "epoch 1/1: loss 8.5000, bleu_4 0.2500 *" in shown


def test_a_score_that_stays_0_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(3, monitor="bleu_4", tie_breaker=Metric("dev_loss", higher_is_better=False))
    loop = MainLoop(lambda batch: None, lambda epoch, start: Epoch(0))  # type: ignore[arg-type,return-value]
    bar.on_epoch(loop, {"epoch": 1, "bleu_4": 0.0, "dev_loss": 3.0})
    assert "bleu_4 is 0 so far: dev_loss decides which epoch is best" in capsys.readouterr().err
    bar.on_epoch(loop, {"epoch": 2, "bleu_4": 0.1, "dev_loss": 2.0})
    assert "so far" not in capsys.readouterr().err


def test_a_position_of_version_0_1_that_lacks_a_sum_is_damaged(tmp_path: Path) -> None:
    toy = Toy()
    checkpoint = Checkpoint(tmp_path / "s.h5", {"/weight": toy.weight})
    old = {"epoch": 1, "batch": 0, "step": 4, "words": 20, "loss_sum": 30.0}
    position = {**old, "word_sum": 5}
    weight = {"/weight": np.ones(3, np.float32)}
    storage.save(checkpoint.path, weight, {"position": position, "log_bytes": 0})
    loop = toy.loop()
    checkpoint.restore(loop)
    assert (loop.position.epoch_weight, loop.position.sums) == (5, {"loss": 30.0})

    storage.save(checkpoint.path, weight, {"position": old, "log_bytes": 0})
    with pytest.raises(DlmieError, match=r"s\.h5: position\.word_sum is missing"):
        checkpoint.restore(toy.loop())
