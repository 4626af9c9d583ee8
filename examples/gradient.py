"""The one idea in twenty lines: a saliency map is the gradient of a named variable.

python examples/gradient.py photo.jpg saliency.png
"""

from __future__ import annotations

import sys

import numpy as np
from pytensor.gradient import grad

import dlmie
from dlmie.data.images import load_image, preprocess, save_image
from dlmie.models import EfficientNetLite0


def main(photograph: str, picture: str) -> None:
    """Which pixels does the class depend on that the network is surest of?"""
    net = EfficientNetLite0()
    best = net["logits"].max(axis=1).sum()  # symbolic, like everything up to here
    look = dlmie.function([net.input], [net["probabilities"], grad(best, net.input)])
    probabilities, gradient = look(preprocess(load_image(photograph)[None], net.preprocessing))
    winner = int(probabilities[0].argmax())
    print(f"{net.classes[winner]} ({probabilities[0, winner]:.0%})")
    strength = np.abs(gradient[0]).max(axis=0)  # (rows, columns)
    gray = np.clip(255 * strength / np.quantile(strength, 0.995), 0, 255).astype(np.uint8)
    save_image(picture, np.repeat(gray[:, :, None], 3, axis=2))
    print("wrote", picture)


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[2:] else sys.exit(__doc__)
