"""Score a run with greedy search and two beams: BLEU with its protocol.

python examples/evaluate_bleu.py runs/mine scenes.h5 [SPLIT]
"""

from __future__ import annotations

import sys

import dlmie
from dlmie.data import Captions


def main(run: str, prepared: str, split: str = "dev") -> None:
    """Print one line for each width of the beam, the protocol, and some captions."""
    captioner, images = dlmie.load(run), Captions(prepared)[split]
    for beam in (1, 3, 5):
        scores = dlmie.evaluate(captioner, images, beam=beam)
        print(f"beam {beam}: BLEU-1 {scores.bleu_1:.4f}, BLEU-4 {scores.bleu_4:.4f}, ", end="")
        print(f"ROUGE-L {scores.rouge_l:.4f}, CIDEr-D {scores.cider_d:.4f}")
    print(scores.protocol_line)
    for i in range(min(3, len(images))):
        print(f"{images.names[i]}: {scores.captions[i]}")
        print(f"    a person wrote: {images.references[i][0]}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[2:] else sys.exit(__doc__)
