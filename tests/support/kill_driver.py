"""Train in processes that are killed again and again, until a run is finished.

Started by ``test_resume_killed.py`` as a program of its own: it forks its workers, so each has
imported everything already, and none has OpenMP threads to lose in the fork.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import classification_cases
from captioning_cases import make_cache, make_data, make_network_step, make_step

import dlmie
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.data.labelled.dataset import LabelledImages
from dlmie.models import VanillaGAN
from dlmie.training import registry
from dlmie.training.runs import read_config

COMMON: dict[str, Any] = {
    "epochs": 3, "batch": 16, "monitor": "dev_loss", "checkpoint_every": 3, "seed": 4,
    "progress": False,
}  # fmt: skip
OPTIONS: dict[str, Any] = {**COMMON, "decoding": {"beam": 2}}
GAN_OPTIONS: dict[str, Any] = {
    **COMMON, "monitor": "pixel_frechet", "scored_images": 20, "picture_every": 1,
}  # fmt: skip
AGENTS = ("dqn", "q-table", "world-model")
AGENT_OPTIONS: dict[str, Any] = {
    **COMMON, "batch": 2, "monitor": "reward", "episodes": 20, "test_episodes": 4,
}  # fmt: skip


def work(kind: str, folder: Path, said: int) -> None:
    """Begin the run or continue it, telling of every step through the pipe ``said``."""
    if kind == "jax":
        dlmie.use_backend("jax")
    if kind in AGENTS:
        import agent_cases  # which registers an environment
    if (folder / "run" / "config.json").exists():
        task: Any = registry.task(read_config(folder / "run").task)
        rebuild = task.build

        def watched(*arguments: Any) -> Any:
            return watch(rebuild(*arguments), said)

        task.build = watched
        dlmie.resume(folder / "run", progress=False)
        return
    if kind in classification_cases.KINDS:
        labelled = LabelledImages(folder.parent / "colors.h5")
        step = classification_cases.make_step(labelled, kind=classification_cases.KINDS[kind])
        options: dict[str, Any] = {**COMMON, "flip": True, "shift": 1}
        dlmie.train(watch(step, said), labelled, to=folder / "run", **options)
        return
    if kind == "gan":
        labelled = LabelledImages(folder.parent / "colors.h5")
        game = dlmie.compile(VanillaGAN(labelled.shape, latent=4, seed=1), seed=1)
        dlmie.train(watch(game, said), labelled, to=folder / "run", **GAN_OPTIONS)
        return
    if kind in AGENTS:
        step: Any = agent_cases.make_step(kind)
        name = "FrozenLake-v1" if kind == "q-table" else agent_cases.ID
        dlmie.train(watch(step, said), name, to=folder / "run", **AGENT_OPTIONS)
        return
    data = Captions(folder.parent / "scenes.h5")
    options = dict(OPTIONS)
    if kind == "finetune":
        step = make_network_step(data)
    else:
        cache = Features(folder.parent / "blocks.h5", in_memory=kind != "disk")
        options["features"] = cache
        hard = {"hard": True} if kind == "hard" else {}
        step = make_step(data, cache.shape, attend=kind == "hard", model_options=hard)
    dlmie.train(watch(step, said), data, to=folder / "run", **options)


def watch(step: Any, said: int) -> Any:
    """The same step, which tells of each call."""

    class Watched(type(step)):  # type: ignore[misc]
        def __call__(self, batch: Any) -> Any:
            result = super().__call__(batch)
            os.write(said, b".")
            return result

    step.__class__ = Watched
    return step


def attempt(kind: str, folder: Path, steps: int | None) -> bool:
    """One process; killed after ``steps`` steps and a moment.  Whether it came to the end."""
    heard, said = os.pipe()
    complaint = folder / "complaint.txt"
    child = os.fork()
    if child == 0:
        os.close(heard)
        end(kind, folder, said, complaint)
    os.close(said)
    killed = heard_steps(heard, steps)
    if killed:
        time.sleep(random.random() * 0.02)  # in the middle of a step, of saving, of measuring
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(heard)  # not earlier: a worker that still speaks would die of it
    if killed and code == -signal.SIGKILL:
        return False
    if code:
        text = complaint.read_text(encoding="utf-8") if complaint.exists() else "no word of it"
        raise SystemExit(f"the worker in {folder} ended with {code} ({steps=}):\n{text}")
    return True


def end(kind: str, folder: Path, said: int, complaint: Path) -> NoReturn:
    """The whole life of a worker; what it dies of, if not of being killed, is in ``complaint``."""
    code = 1
    try:
        with complaint.open("w", encoding="utf-8") as file:
            faulthandler.enable(file)
            try:
                work(kind, folder, said)
                code = 0
            except BaseException:
                traceback.print_exc(file=file)
    finally:
        os._exit(code)


def heard_steps(heard: int, steps: int | None) -> bool:
    """Wait for so many steps (None: always); whether they came before the worker's end."""
    while steps is None or steps > 0:
        got = os.read(heard, 1 if steps is None else steps)
        if not got:
            return False
        steps = None if steps is None else steps - len(got)
    return True


def main(kind: str, folder: Path, kills: int, seed: int) -> None:
    random.seed(seed)
    if kind in classification_cases.KINDS or kind == "gan":
        classification_cases.make_data(folder)
    elif kind not in AGENTS:
        make_data(folder)
        make_cache(Captions(folder / "scenes.h5"), folder / "blocks.h5")
    (folder / "whole").mkdir()
    (folder / "killed").mkdir()
    attempt(kind, folder / "whole", None)
    done = 0
    while kills:
        done += attempt(kind, folder / "killed", random.randint(1, 11))
        kills -= 1
    attempt(kind, folder / "killed", None)
    sys.stdout.write(f"finished before being killed {done} times\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
