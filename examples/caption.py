"""Caption photographs, files and folders: the three best captions of each.

python examples/caption.py runs/mine photo.jpg photos/
"""

from __future__ import annotations

import sys

import dlmie
from dlmie.captioning.decoding import Decoding
from dlmie.captioning.photographs import caption_images
from dlmie.data.images import ImageError, find_images


def main(run: str, *photographs: str) -> None:
    """Print captions with their log-probabilities; name images that cannot be read."""
    captioner = dlmie.load(run)
    decoding = Decoding(beam=5, n_best=3, no_immediate_repeat=True)
    for path, captions in caption_images(captioner, find_images(photographs), decoding):
        if isinstance(captions, ImageError):
            print("left out:", captions)
            continue
        print(path)
        for caption in captions:
            print(f"  {caption.log_probability:8.2f}  {caption.text}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[2:] else sys.exit(__doc__)
