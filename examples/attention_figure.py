"""Draw where a captioner looked when it said each word.

python examples/attention_figure.py runs/mine photo.jpg attention.png
"""

from __future__ import annotations

import sys

import dlmie
from dlmie.visualize import attend


def main(run: str, photograph: str, picture: str, sentence: str = "") -> None:
    """Of the best caption, or of a sentence that you give."""
    captioner = dlmie.load(run)
    caption = (
        captioner.force(photograph, sentence) if sentence else captioner(photograph, beam=5)[0]
    )
    print(f"{caption.text} ({caption.log_probability:.2f})")
    attend(caption, photograph).save(picture)
    print("wrote", picture)


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[3:] else sys.exit(__doc__)
