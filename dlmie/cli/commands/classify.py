"""``dlmie classify``: the classes that a network sees in images."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import click

from dlmie.cli.console import Console
from dlmie.cli.encoders import DEFAULT, make_network, own_weights_option
from dlmie.cli.options import flag_of, given, options_of, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.files.rows import Row
from dlmie.models import ENCODERS

if TYPE_CHECKING:
    from dlmie.classification.labelling import Label
    from dlmie.data.images import ImageBytes, ImageError

_Image: TypeAlias = "Path | ImageBytes"
_Answers: TypeAlias = "Iterator[tuple[_Image, Sequence[Label] | ImageError]]"


@verb("classify", backends=True)
@click.argument("images", nargs=-1, type=click.Path())
@click.option("--list", "listing", is_flag=True, help="Only say which classes there are.")
@click.option("--encoder", type=click.Choice(list(ENCODERS)), default=DEFAULT, show_default=True,
              help="The network.")  # fmt: skip
@own_weights_option
@options_of(
    "dlmie.captioning.photographs:classify_images",
    top=("Classes named for each image.", whole(1)),
    batch=("Images at a time.", whole(1)),
)
@click.option("--strict", is_flag=True, help="Exit code 1 if any image cannot be read.")
@output_option("Write to this file, not to standard output.", name="output")
def command(
    console: Console,
    images: tuple[str, ...],
    listing: bool,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    top: int,
    batch: int,
    strict: bool,
    output: str | None,
) -> None:
    """Name what IMAGES show: files, and folders with all images in them; - is standard input.

    The default network knows the 1,000 classes of ImageNet. A classifier of your own, a run folder
    or a model file, stands before the images.

    \b
    dlmie classify photo.jpg
    dlmie classify runs/cifar photo.jpg
    """
    from dlmie.cli.output import ImageRun, form_of, open_writer

    own = images[0] if images and _is_model(images[0]) else None
    images = images if own is None else images[1:]
    if not images and not listing:
        raise click.UsageError("name at least one image (or --list)")
    run = None if listing else ImageRun(console, images, strict)
    labeler: _Labeler
    if own is None:
        labeler = _Network(encoder, encoder_weights, encoder_preprocessing)
    else:
        labeler = _Classifier(own)
    if run is None:
        lines = [f"{number:>4}  {name}" for number, name in enumerate(labeler.classes)]
        console.result(labeler.classes, "\n".join(lines))
        return
    kind = form_of(console, output)
    if kind == "csv":
        raise click.UsageError(f"--output {output}: classify writes text or JSON, no tables")
    settings = {**labeler.settings, "top": top, "batch": batch}
    with open_writer(console, kind, (), output, settings) as writer:
        found = labeler.classify(run.images, top=top, batch=batch, done=run.done(writer))
        for path, guesses in found:
            if isinstance(guesses, Exception):
                run.fault(path, guesses, writer)
                continue
            lines = [f"  {100 * g.probability:5.1f} %  {g.label}" for g in guesses]
            item = {"image": str(path), "top": [asdict(g) for g in guesses]}
            writer.add(Row(str(path), item, "\n".join([str(path), *lines]), ()))
    run.finish()


class _Labeler(Protocol):
    """What names images: its classes, what decides its answers, and the answers."""

    classes: list[str]
    settings: Mapping[str, object]

    def classify(
        self, images: Iterable[_Image], *, top: int, batch: int, done: Collection[_Image]
    ) -> _Answers: ...


class _Network:
    """A network for ImageNet."""

    def __init__(self, name: str, weights: str | None, preprocessing: str | None) -> None:
        self.network, _ = make_network(
            name, "probabilities", None, weights, preprocessing=preprocessing
        )
        outputs = self.network["logits"].type.shape[1]
        self.classes = self.network.classes or [f"class {i}" for i in range(outputs)]
        self.settings: Mapping[str, object] = {
            "encoder": name,
            "weights": self.network.weights,
            **self.network.options,
        }

    def classify(
        self, images: Iterable[_Image], *, top: int, batch: int, done: Collection[_Image]
    ) -> _Answers:
        from dlmie.captioning.photographs import classify_images

        return classify_images(self.network, images, top=top, batch=batch, done=done)


class _Classifier:
    """A classifier that someone trained."""

    def __init__(self, name: str) -> None:
        from dlmie import classification
        from dlmie.captioning.model_files import find_model
        from dlmie.weights import sha256

        self.model = classification.load(name)
        self.classes = self.model.classes
        self.settings: Mapping[str, object] = {"model": sha256(find_model(name))}

    def classify(
        self, images: Iterable[_Image], *, top: int, batch: int, done: Collection[_Image]
    ) -> _Answers:
        from dlmie import classification

        return classification.classify(self.model, images, top=top, batch=batch, done=done)


def _is_model(name: str) -> bool:
    """Whether an argument is a trained classifier, not an image or a folder of images."""
    from dlmie.trained import role_of
    from dlmie.training.folders import holds_run

    path = Path(name)
    if not holds_run(path) and path.suffix != ".h5":
        return False
    if role_of(name) != "classifier":
        raise click.UsageError(f"{name} is not a classifier, nor an image")
    for option in given(click.get_current_context()):
        if option.startswith("encoder"):
            raise click.UsageError(
                f"{flag_of(option)} does not apply to {name}, a trained classifier"
            )
    return True
