"""The numbers that docs/pictures.md states about pictures, measured.

    python -m benchmarks.picture_quality [classes dreams fooling sentences inversion completeness
        deletion] [--squeezenet FILE] [--photos FOLDER] [--write docs/pictures.md]

EfficientNet-Lite0 on twenty photographs: those that scikit-image carries, whole and in parts, or
the first twenty of a folder.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from skimage import data
from tqdm import tqdm

import dlmie
from dlmie.data.images import find_images, load_image
from dlmie.graph.network import Network
from dlmie.models import EfficientNetLite0, SqueezeNet
from dlmie.visualize import faithfulness, fool, invert, saliency, visualize
from dlmie.visualize.ascent.evaluation import probabilities
from dlmie.visualize.ascent.inputs import class_name, network_input
from dlmie.visualize.ascent.objectives import sentence_with_class_energy, unit
from dlmie.visualize.ascent.transforms import affine_matrix
from dlmie.visualize.attribution.maps import METHODS
from examples import gallery

DREAMT = (*gallery.SENTENCES, "a man is climbing a rock", "a man is riding a bike")
WHOLE = (data.chelsea, data.astronaut, data.coffee, data.rocket)
SENTENCES = (
    "a man is riding a bike",
    "a dog is running through the grass",
    "two children are playing in the water",
    "a man in a red shirt is climbing a rock",
    "a brown dog is jumping over a fence",
    "a woman is sitting on a bench",
    "a boy is playing with a soccer ball",
    "a group of people are standing in the snow",
    "a surfer is riding a wave",
    "a black dog is swimming in the water",
)
LAYERS = ("block0", "block3", "block6", "block9", "block12", "block15")
SHIFT, SCALE = 8, 0.1  # how far the class images are moved, in pixels, and resized
PHOTOS = 20


class Measure:
    """Each method measures one thing and returns it as a Markdown table."""

    def __init__(self, squeezenet: Path | None, photos: Path | None) -> None:
        self.net = EfficientNetLite0()
        self.other = None if squeezenet is None else SqueezeNet(squeezenet)
        self.photos = list(photographs(photos))

    def classes(self) -> str:
        """How confident networks are of the class images, unchanged and moved a little."""
        rows, sure, known = [], 0, []
        for name in tqdm(gallery.CLASSES, "classes"):
            index = self.net.class_index(name)
            image = visualize(unit(self.net["logits"], index)).pixels()
            seen = [probability_of(self.net, moved, index) for moved in movements(image)]
            sure += min(seen) >= 0.9
            row = [name, f"{seen[0]:.3f}", f"{min(seen[1:]):.3f}"]
            if self.other is not None:
                found = class_probabilities(self.other, image)
                rank = 1 + int((found > found[index]).sum())
                known += [name] if rank == 1 else []
                row.append(f"{found[index]:.3f} (rank {rank})")
            rows.append(row)
        head = ["class", "probability", f"least after ±{SHIFT} pixels, ×{1 - SCALE}, ×{1 + SCALE}"]
        every = len(gallery.CLASSES)
        text = f"\n{sure} of {every} have probability 0.9 or more wherever they are moved."
        if self.other is not None:
            head.append("SqueezeNet: probability (rank)")
            text += f" SqueezeNet's first answer is right for {len(known)}: {', '.join(known)}."
        return table(head, rows) + text + "\n"

    def dreams(self) -> str:
        """What captioner and encoder see in images dreamt from sentences."""
        captioner, rows = dlmie.load("flickr8k"), []
        for sentence in tqdm(DREAMT, "dreams"):
            image = visualize(sentence_with_class_energy(captioner, sentence)).pixels()
            found = class_probabilities(self.net, image)
            index = int(found.argmax())
            seen = f"{class_name(self.net, index)} {found[index]:.2f}"
            rows.append([sentence, captioner(image)[0].text, seen])
        return table(["sentence", "caption of the picture", "seen by the encoder"], rows)

    def fooling(self) -> str:
        """Random photographs towards random classes, within 8 gray levels and 100 steps."""
        rng = np.random.default_rng(0)
        rows = []
        for method in ("pgd", "step", "margin"):
            found = []
            for photo in tqdm(self.photos, method):
                target = int(rng.integers(len(self.net.classes or ())))
                made = fool(self.net, photo, target, method=method, steps=100, confidence=0.9)
                found.append(made.manifest["results"])
            steps, largest, rms = (
                [one[key] for one in found] for key in ("steps", "largest_change", "rms_change")
            )
            rows.append(
                [
                    f"`{method}`",
                    f"{sum(one['fooled'] for one in found)} of {len(found)}",
                    f"{np.mean(steps):.1f} ({max(steps)})",
                    f"{max(largest):.0f}",
                    f"{np.mean(rms):.2f}",
                ]
            )
        head = ["method", "fooled", "steps: mean (most)", "largest change", "mean RMS change"]
        return table(head, rows)

    def sentences(self) -> str:
        """Photographs changed within 8 gray levels until the shipped captioner says a sentence."""
        captioner = dlmie.load("flickr8k")
        photos = [photo() for photo in WHOLE]
        rows, found = [], []
        for number, sentence in enumerate(tqdm(SENTENCES, "sentences")):
            made = fool(captioner, photos[number % len(photos)], sentence, steps=100)
            one = made.manifest["results"]
            found.append(one)
            change = f"{one['largest_change']:.0f} / {one['rms_change']:.2f}"
            rows.append([one["from"], sentence, "yes" if one["fooled"] else one["said"],
                         str(one["steps"]), change])  # fmt: skip
        head = ["caption before", "sentence wanted", "said", "steps", "largest / RMS change"]
        success = sum(one["fooled"] for one in found)
        mean = np.mean([one["rms_change"] for one in found])
        most = max(one["largest_change"] for one in found)
        text = (
            f"\n{success} of {len(found)} are said; the mean RMS change is {mean:.2f} gray levels, "
        )
        return table(head, rows) + text + f"the largest change {most:.0f}.\n"

    def inversion(self) -> str:
        """Relative errors of inversions with the default settings, from shallow to deep."""
        rows = []
        for layer in tqdm(LAYERS, "inversion"):
            errors = [
                invert(self.net[layer], photo()).manifest["results"]["errors"][0]
                for photo in (data.chelsea, data.coffee)
            ]
            rows.append([f"`{layer}`", *(f"{error:.4f}" for error in errors)])
        return table(["layer", "cat", "coffee"], rows)

    def completeness(self) -> str:
        """How far integrated gradients are from summing to the increase of the class's score."""
        found = [
            saliency(self.net, photo, method="integrated").manifest["results"]
            for photo in tqdm(self.photos, "integrated")
        ]
        gaps, gradients = ([one[k] for one in found] for k in ("completeness_gap", "gradients"))
        head = ["photographs", "mean gap", "largest gap", "gradients: mean (most)"]
        shares = [f"{100 * f(gaps):.2f} %" for f in (np.mean, np.max)]
        spent = f"{np.mean(gradients):.0f} ({max(gradients)})"
        return table(head, [[str(len(gaps)), *shares, spent]])

    def deletion(self) -> str:
        """Areas under the deletion and insertion curves of every method, and of random maps."""
        found = []
        for photo in tqdm(self.photos, "methods"):
            maps = {
                method: saliency(self.net, photo, method=method).arrays["attribution"]
                for method in METHODS
            }
            curves = faithfulness(self.net, photo, maps, points=12)
            found.append(curves.manifest["results"]["areas"])
        means = {
            kind: {name: np.mean([one[kind][name] for one in found]) for name in found[0][kind]}
            for kind in ("deletion", "insertion")
        }
        order = sorted(means["deletion"], key=lambda name: means["deletion"][name])
        rows = [[f"`{n}`", *(f"{means[kind][n]:.3f}" for kind in means)] for n in order]
        return table(["map", "deletion (low is good)", "insertion (high is good)"], rows)


def photographs(folder: Path | None) -> Iterator[np.ndarray]:
    """Twenty photographs: of a folder, or four of scikit-image's, whole and their four corners."""
    if folder is not None:
        yield from (load_image(path) for path in find_images([folder])[:PHOTOS])
        return
    for photograph in WHOLE:
        photo = photograph()
        yield photo
        rows, columns = (3 * side // 4 for side in photo.shape[:2])
        yield from (photo[:rows, :columns], photo[:rows, -columns:])
        yield from (photo[-rows:, :columns], photo[-rows:, -columns:])


def movements(image: np.ndarray) -> Iterator[np.ndarray]:
    """An image, then shifted in eight directions, smaller and larger."""
    yield image
    for down in (-SHIFT, 0, SHIFT):
        for right in (-SHIFT, 0, SHIFT):
            if down or right:
                yield np.roll(image, (down, right), (0, 1))
    for factor in (1 - SCALE, 1 + SCALE):
        planes = affine_matrix(image.shape[:2], factor, 0.0) @ image.reshape(-1, 3)
        yield planes.reshape(image.shape).round().astype(np.uint8)


def class_probabilities(network: Network, image: np.ndarray) -> np.ndarray:
    """Probabilities of all classes of an image, at the size that the network takes."""
    return probabilities(network, network_input(network, image))[0]


def probability_of(network: Network, image: np.ndarray, index: int) -> float:
    """The probability of one class."""
    return float(class_probabilities(network, image)[index])


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    names = ("classes", "dreams", "fooling", "sentences", "inversion", "completeness", "deletion")
    parser = argparse.ArgumentParser(description="Measure pictures.")
    parser.add_argument("names", nargs="*", choices=[*names, []], help="All of them by default.")
    parser.add_argument("--squeezenet", type=Path, help="Weights of SqueezeNet 1.1.")
    parser.add_argument("--photos", type=Path, help="A folder of photographs.")
    parser.add_argument("--write", type=Path, help="The page to put the tables into.")
    options = parser.parse_args()
    measure = Measure(options.squeezenet, options.photos)
    for name in options.names or names:
        make: Callable[[], str] = getattr(measure, name)
        text = make()
        print(text, flush=True)
        if options.write is not None:
            page = options.write.read_text(encoding="utf-8")
            between = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
            page = re.sub(between, lambda m, text=text: m[1] + text + m[2], page, flags=re.S)
            options.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
