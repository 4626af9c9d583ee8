"""Make every picture of docs/gallery: photographs that scikit-image carries, EfficientNet-Lite0.

python examples/gallery.py                # all of them, in full size: about half an hour
python examples/gallery.py dream fool     # some of them
python examples/gallery.py --small        # tiny and quick: that nothing is broken
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from skimage import data

from dlmie.data.images import resize_image
from dlmie.models import EfficientNetLite0
from dlmie.visualize import (
    Figure,
    dream,
    faithfulness,
    fool,
    grid,
    invert,
    saliency,
    stylize,
    texture,
    visualize,
)
from dlmie.visualize.figures import Panel, beside, tile
from dlmie.visualize.objectives import channel, unit

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "gallery"
LARGEST = 200_000  # bytes of a picture
CLASSES = (
    *("flamingo", "tiger", "bee", "monarch butterfly", "goldfish", "strawberry"),
    *("volcano", "pineapple", "jellyfish", "peacock", "lemon", "ladybug"),
)


class Gallery:
    """The pictures by name; ``small`` makes them in seconds."""

    def __init__(self, folder: Path, small: bool) -> None:
        self.folder, self.small = folder, small
        self.net = EfficientNetLite0(size=64 if small else 224)

    def steps(self, full: int) -> int:
        """Steps of an optimisation."""
        return 2 if self.small else full

    def longer(self, full: int) -> int:
        """Pixels of the longer side."""
        return 64 if self.small else full

    def saliency(self) -> Figure:
        """The methods side by side on the cat."""
        options: dict[str, Any] = {"samples": self.steps(25), "steps": 4 if self.small else 128}
        methods = ("smooth-squared", "integrated", "guided", "guided-grad-cam", "grad-cam")
        panels = [Panel(data.chelsea(), "photograph")]
        for method in methods:
            made = saliency(self.net, data.chelsea(), "Egyptian cat", method=method, **options)
            panels.append(Panel(made.overlay().pixels(), method))
        return Figure(None, panels, columns=3, manifest=made.manifest)

    def faithfulness(self) -> Figure:
        """Deletion and insertion curves of four methods."""
        maps = {
            method: saliency(
                self.net, data.chelsea(), method=method, samples=self.steps(25), steps=32
            ).arrays["attribution"]
            for method in ("gradient", "smooth-squared", "grad-cam", "guided")
        }
        return faithfulness(self.net, data.chelsea(), maps, points=self.steps(24))

    def fool(self) -> Figure:
        """The cat becomes a flamingo."""
        made = fool(self.net, data.chelsea(), "flamingo", confidence=0.99, steps=self.steps(100))
        return made.figure()

    def classes(self) -> Figure:
        """Twelve classes from noise."""
        chosen = CLASSES[:2] if self.small else CLASSES
        indices = [self.net.class_index(name) for name in chosen]
        objective = unit(self.net["logits"], indices)
        size = 64 if self.small else 224
        made = visualize(objective, size=size, steps=self.steps(128), progress=True)
        made.image = tile([resize_image(p, min(size, 160)) for p in made.arrays["pixels"]], 4)
        return made

    def channels(self) -> Figure:
        """Four channels of a middle layer."""
        made = visualize(
            channel(self.net["block8"], [3, 17, 40, 77]),
            size=64 if self.small else 160,
            steps=self.steps(100),
        )
        made.image = tile(list(made.arrays["pixels"]), 4)
        return made

    def inversion(self) -> Figure:
        """From shallow to deep."""
        layers = [self.net[name] for name in ("block0", "block4", "block10", "block15")]
        return invert(layers, data.chelsea(), steps=self.steps(150), progress=True)

    def activations(self) -> Figure:
        """The first 240 channels of a layer."""
        return grid(self.net["block5/expand"], data.astronaut())

    def dream(self) -> Figure:
        """The cat, dreamt."""
        return dream(self.net, data.chelsea(), longer=self.longer(451), steps=self.steps(10))

    def dream_rocket(self) -> Figure:
        """The rocket, dreamt."""
        return dream(self.net, data.rocket(), longer=self.longer(560), steps=self.steps(12))

    def guided_dream(self) -> Figure:
        """The rocket, dreamt in the forms of the cat."""
        return dream(
            *(self.net, data.rocket()), guide=data.chelsea(),
            longer=self.longer(480), steps=self.steps(10),
        )  # fmt: skip

    def style(self) -> Figure:
        """The astronaut in the colours and textures of a coffee table."""
        made = stylize(
            *(self.net, data.astronaut(), data.coffee()),
            longer=self.longer(320), steps=self.steps(120),
        )  # fmt: skip
        made.image = beside([panel.image for panel in made.panels])
        return made

    def texture(self) -> Figure:
        """Gravel that never was."""
        gravel = np.repeat(data.gravel()[:256, :256, None], 3, axis=2)
        made = texture(self.net, gravel, longer=self.longer(224), steps=self.steps(120))
        made.image = beside([panel.image for panel in made.panels])
        return made

    def save(self, name: str) -> Path:
        """Make one picture, and write it as JPEG of at most 200 kB with its manifest."""
        from dlmie.visualize.manifests import write_manifest

        make: Callable[[], Figure] = getattr(self, name)
        figure = make()
        image = PIL.Image.fromarray(figure.pixels(110))
        image.thumbnail((900, 900))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.jpg"
        for quality in (90, 80, 70, 55, 40):
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=quality)
            if buffer.tell() < LARGEST:
                break
        path.write_bytes(buffer.getvalue())
        write_manifest(path, figure.manifest)
        return path


PICTURES = (
    *("saliency", "faithfulness", "fool", "classes", "channels", "inversion", "activations"),
    *("dream", "dream_rocket", "guided_dream", "style", "texture"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of docs/gallery.")
    parser.add_argument("names", nargs="*", help=f"Some of: {', '.join(PICTURES)}")
    parser.add_argument("--small", action="store_true", help="Tiny and quick.")
    parser.add_argument("--to", type=Path, default=FOLDER)
    options = parser.parse_args()
    unknown = set(options.names) - set(PICTURES)
    if unknown:
        parser.error(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    gallery = Gallery(options.to, options.small)
    for name in options.names or PICTURES:
        print(gallery.save(name), flush=True)


if __name__ == "__main__":
    main()
