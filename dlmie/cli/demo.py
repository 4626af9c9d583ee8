"""``dlmie demo``: the whole way from a data set to captions, on made-up scenes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from dlmie.cli.common import Console, options_of, output_option, verb, whole
from dlmie.cli.train import make_settings, start_run
from dlmie.errors import DlmieError

_RECIPE = "show-tell-scenes"
_SHOWN = 12  # test scenes on the contact sheet


@verb("demo")
@output_option("The folder for everything the demo makes.  [default: demo]")
@options_of(
    "dlmie.data.scenes:prepare_scenes",
    train=("Scenes to learn from.", whole(1)),
    dev=("Scenes to choose the best epoch by.", whole(1)),
    test=("Scenes to score and show.", whole(1)),
)
@click.option("--epochs", type=whole(1), help="Passes over them.  [default: the recipe's]")
def command(console: Console, to: str | None, epochs: int | None, **counts: int) -> None:
    """Train a captioner on made-up scenes, score it and let it caption: two minutes.

    Uses the data set that dlmie draws itself and ImageNet features of EfficientNet-Lite0; nothing
    is downloaded. Interrupted, it goes on where it stopped.
    """
    folder = Path(to or "demo")
    start = time.monotonic()
    say = _numbered(console)

    from dlmie import hub
    from dlmie.data.features import Features
    from dlmie.data.scenes import prepare_scenes

    say(f"drawing {counts['train']:,} scenes to learn from, and others to test with")
    data = prepare_scenes(
        folder / "scenes.h5", seed=console.seed, progress=console.progress, **counts
    )
    say("training a captioner on what EfficientNet-Lite0 sees in them")
    run = _train(folder / "run", data, epochs, console)
    say(f"captioning {counts['test']} scenes that it has never seen")
    captioner, split = hub.load(run.folder), data["test"]
    features = Features(_config(run.folder)["features"])
    scores = hub.evaluate(captioner, split, features=features, beam=5, progress=console.progress)
    sheet = _draw(folder, split, scores.captions)
    seconds = time.monotonic() - start
    document = {
        "seconds": seconds,
        "run": run.folder,
        "sheet": sheet,
        **scores.to_json(),
        "examples": [
            {"image": name, "caption": caption}
            for name, caption in zip(split.names, scores.captions[:_SHOWN], strict=False)
        ],
    }
    console.result(document, _summary(folder, sheet, scores, seconds, data))


def _train(to: Path, data: Any, epochs: int | None, console: Console) -> Any:
    """Train, or go on where an earlier demo in the same folder stopped."""
    from dlmie import hub_training

    if (to / "config.json").exists():
        run = hub_training.resume(to, epochs=epochs, progress=console.progress)
    else:
        settings = make_settings({"recipe": _RECIPE, **({"epochs": epochs} if epochs else {})})
        run = start_run(settings, data, to, console)
    if run.stop_reason == "interrupted":
        raise DlmieError("interrupted; the same command goes on where it stopped")
    return run


def _numbered(console: Console) -> Any:
    count = 0

    def say(text: str) -> None:
        nonlocal count
        count += 1
        console.note(f"{count}. {text}")

    return say


def _config(run: Path) -> dict[str, Any]:
    from dlmie.hub_training import read_config

    return read_config(run)


def _draw(folder: Path, split: Any, captions: list[str]) -> Path:
    from dlmie.visualize.sheets import contact_sheet

    shown = list(range(min(_SHOWN, len(split))))
    images = list(split.load_images(shown))
    title = "test scenes, captioned by the model of the demo"
    return contact_sheet(images, captions[: len(shown)], title=title).save(folder / "captions.png")


def _summary(folder: Path, sheet: Path, scores: Any, seconds: float, data: Any) -> str:
    from dlmie.metrics import score

    # What a captioner that never looks would get: the same sentence for every scene.
    blind = data["train"].references[0][0]
    split = data["test"]
    unseen = score([blind] * len(split), split.references)
    examples = "\n".join(
        f"  {name}: {caption}"
        for name, caption in zip(split.names, scores.captions[:4], strict=False)
    )
    return f"""
{scores}

For scale, one sentence said of every scene: BLEU-4 {unseen.bleu_4:.4f}, \
CIDEr-D {unseen.cider_d:.4f}.

{examples}

done in {seconds:.0f} s; results:
  {sheet}  scenes with their captions
  {folder / "run"}  the trained captioner
  {data.path}  the data set

Try it:
  dlmie evaluate {folder / "run"} --split test --beam 5
  dlmie train {folder / "scenes.h5"} --recipe {_RECIPE} --hidden 512 --to {folder / "larger"}
  dlmie evaluate {folder / "run"} {folder / "larger"} --split test"""
