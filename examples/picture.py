"""An image of what a class looks like to a network, and why it sees a class in a photograph.

python examples/picture.py photo.jpg flamingo pictures/ [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

from dlmie.models import EfficientNetLite0
from dlmie.visualize import saliency, visualize
from dlmie.visualize.objectives import unit


def main(photograph: str, target: str, folder: str, steps: str = "160") -> None:
    """Each picture has a manifest beside it that says how it was made."""
    net, to = EfficientNetLite0(), Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    visualize(unit(net["logits"], target), steps=int(steps), progress=True).save(to / "class.png")
    saliency(net, photograph, method="smooth", samples=10).save(to / "saliency.png")
    print("wrote", *sorted(path.name for path in to.iterdir()))


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[3:] else sys.exit(__doc__)
