"""``dlmie demo``: the whole way from a data set to captions and to where the captioner looked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from dlmie.cli.console import Console
from dlmie.cli.options import options_of, whole
from dlmie.cli.runs import start_run
from dlmie.cli.settings import make_settings
from dlmie.cli.verbs import output_option, verb
from dlmie.errors import DlmieError

if TYPE_CHECKING:
    from dlmie.captioning.metrics import Scores
    from dlmie.data.captions.dataset import Captions
    from dlmie.training.runs import Run

_RECIPE = "show-attend-tell-scenes"
_SHIPPED = "flickr8k-coco"
_PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket")  # scikit-image's
_BEAM = 5
_SHOWN = 12  # test scenes on the contact sheet
_DRAWN = 3  # test scenes with a figure of attention


@verb("demo")
@output_option("The folder for everything the demo makes.  [default: demo]", overwrite=False)
@click.option(
    "--train", type=whole(1), default=10_000, show_default=True, help="Scenes to learn from."
)
@options_of(
    "dlmie.data.scenes:prepare_scenes",
    dev=("Scenes to choose the best epoch by.", whole(1)),
    test=("Scenes to score and show.", whole(1)),
)
@click.option("--epochs", type=whole(1), help="Passes over them.  [default: the recipe's]")
def command(console: Console, to: str | None, epochs: int | None, **counts: int) -> None:
    """Train a captioner on made-up scenes, score it, see where it looks: about four minutes.

    Uses the data set that dlmie draws itself and ImageNet features of EfficientNet-Lite0. Then the
    captioner that comes with dlmie describes photographs. Nothing is downloaded. An interrupted
    demo resumes where it stopped.
    """
    folder = Path(to or "demo")
    if folder.exists() and not folder.is_dir():
        raise click.UsageError(f"--to {folder} is a file: name a folder")
    start = time.monotonic()
    say = _numbered(console)

    from dlmie.compilation import need_compiler
    from dlmie.data.scenes import prepare_scenes

    need_compiler()
    say(f"drawing {counts['train']:,} scenes to learn from, and others to test with")
    data = prepare_scenes(
        folder / "scenes.h5",
        seed=console.seed,
        overwrite=False,
        progress=console.progress,
        **counts,
    )
    say("training a captioner that attends to what EfficientNet-Lite0 sees in them")
    run = _train(folder / "run", data, epochs, console)
    say(f"captioning {counts['test']} scenes that it has never seen, and where it looked")
    scenes = _caption_scenes(folder, run, data, console)
    say(f"captioning photographs with the captioner that comes with dlmie, {_SHIPPED}")
    photographs = _caption_photographs(folder, console)
    seconds = time.monotonic() - start
    document = {
        "seconds": seconds,
        "run": run.folder,
        "sheet": scenes.sheet,
        "report": scenes.report,
        **scenes.scores.to_json(),
        "examples": scenes.examples,
        "photographs": photographs,
    }
    console.result(document, _summary(folder, scenes, photographs, seconds, data))


class _Photograph(TypedDict):
    """What came of a photograph, as ``--json`` prints it."""

    image: Path
    caption: str
    figure: Path


@dataclass(frozen=True)
class _Scenes:
    """What came of the test scenes."""

    scores: Scores
    report: Path
    sheet: Path
    examples: list[dict[str, str]]


def _numbered(console: Console) -> Callable[[str], None]:
    count = 0

    def say(text: str) -> None:
        nonlocal count
        count += 1
        console.note(f"{count}. {text}")

    return say


def _train(to: Path, data: Captions, epochs: int | None, console: Console) -> Run:
    """Train, or resume the run of an earlier demo in the same folder."""
    from dlmie.training.runs import resume

    if (to / "config.json").exists():
        run = resume(to, epochs=epochs, progress=console.progress)
    else:
        settings = make_settings({"recipe": _RECIPE, **({"epochs": epochs} if epochs else {})})
        run = start_run(settings, data, to, console)
    if run.stop_reason == "interrupted":
        raise DlmieError("interrupted; the same command resumes where it stopped")
    return run


def _caption_scenes(folder: Path, run: Run, data: Captions, console: Console) -> _Scenes:
    """Score the test scenes; write their report, a contact sheet and figures of attention."""
    from dlmie import captioning
    from dlmie.captioning.reports import report
    from dlmie.cli.pictures import one_line_warnings
    from dlmie.data.captions.extraction import Features
    from dlmie.training.runs import read_config
    from dlmie.visualize import attend
    from dlmie.visualize.figures.contact_sheet import contact_sheet

    split = data["test"]
    page = report(
        captioning.load(run.folder),
        split,
        features=Features(read_config(run.folder).inputs["features"]),
        beam=_BEAM,
        facts={"command": "dlmie demo"},
        progress=console.progress,
    )
    said = page.captions[:_SHOWN]
    images = list(split.load_images(list(range(len(said)))))
    examples = [
        {"image": name, "caption": caption.text}
        for name, caption in zip(split.names, said, strict=False)
    ]
    with one_line_warnings(console):
        for name, caption, image in list(zip(split.names, said, images, strict=False))[:_DRAWN]:
            attend(caption, image).save(_figure(folder, name))
    title = "test scenes, captioned by the model of the demo"
    sheet = contact_sheet(images, [caption.text for caption in said], title=title)
    return _Scenes(
        scores=page.scores,
        report=page.save(folder / "report.html"),
        sheet=sheet.save(folder / "captions.png"),
        examples=examples,
    )


def _caption_photographs(folder: Path, console: Console) -> list[_Photograph]:
    """Caption scikit-image's photographs with the shipped captioner, and draw its attention."""
    import skimage.data

    from dlmie import captioning
    from dlmie.captioning.figures import attend_images
    from dlmie.cli.pictures import one_line_warnings
    from dlmie.data.images import save_image

    paths = [folder / "photographs" / f"{name}.png" for name in _PHOTOGRAPHS]
    for path in paths:
        save_image(path, getattr(skimage.data, path.stem)())
    rows: list[_Photograph] = []
    with one_line_warnings(console):
        captioner = captioning.load(_SHIPPED)
        for path, figure in attend_images(captioner, paths, captioner.decoding(beam=_BEAM)):
            if isinstance(figure, Exception):
                raise figure
            saved = figure.save(_figure(folder, path.stem))
            caption = figure.manifest["results"]["caption"]
            rows.append({"image": path, "caption": caption, "figure": saved})
    return rows


def _figure(folder: Path, name: str) -> Path:
    return folder / "attention" / f"{name}-attention.png"


def _summary(
    folder: Path, scenes: _Scenes, photographs: list[_Photograph], seconds: float, data: Captions
) -> str:
    from dlmie.captioning.metrics import score

    # What a captioner that never looks would get: the same sentence for every scene.
    blind = data["train"].references[0][0]
    split = data["test"]
    unseen = score([blind] * len(split), split.references)
    examples = "\n".join(f"  {row['image']}: {row['caption']}" for row in scenes.examples[:4])
    described = "\n".join(f"  {row['image'].stem}: {row['caption']}" for row in photographs)
    run, coffee = folder / "run", folder / "photographs" / "coffee.png"
    made = {
        scenes.report: "open it in a browser: scores, curves, every scene; point at a word",
        folder / "attention": "where the captioners looked at each word, in figures",
        scenes.sheet: "scenes with their captions",
        run: "the captioner that was trained",
        data.path: "the data set",
    }
    width = max(len(str(path)) for path in made)
    results = "\n".join(f"  {path!s:{width}}  {what}" for path, what in made.items())
    return f"""
{scenes.scores}

For scale, one sentence said of every scene: BLEU-4 {unseen.bleu_4:.4f}, \
CIDEr-D {unseen.cider_d:.4f}.

Scenes, by the captioner that has just learned from others:
{examples}

Photographs, by the one that comes with dlmie:
{described}

done in {seconds:.0f} s; results:
{results}

Try it:
  dlmie caption {_SHIPPED} {coffee} --n-best 3
  dlmie attend {_SHIPPED} {coffee} --say "a cup of coffee on a table" --output coffee.gif
  dlmie evaluate {run} --split test
  dlmie train {data.path} --recipe {_RECIPE} --hidden 512 --to {folder / "larger"}"""
