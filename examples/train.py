"""Train Show, Attend and Tell on a prepared file; run it again to train on.

python examples/train.py scenes.h5 runs/mine [EPOCHS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import dlmie
from dlmie import optim
from dlmie.data import Captions
from dlmie.models import EfficientNetLite0, ShowAttendTell


def main(prepared: str, folder: str, epochs: str = "12") -> None:
    """Make a new run, or continue the one that is there."""
    if Path(folder, "config.json").exists():
        run = dlmie.resume(folder, epochs=int(epochs))
    else:
        data = Captions(prepared)
        net = EfficientNetLite0(size=data.size)
        model = ShowAttendTell(
            net["block10"], data.vocabulary, embedding=128, hidden=256, attention=128, dropout=0.2
        )
        print(model.summary())
        steps = int(epochs) * len(data["train"].tokens) // 64 + 1
        rule = optim.adam(optim.cosine(2e-3, steps, warmup=steps // 20))
        step = dlmie.compile(model, optim.chain(optim.clip_norm(5.0), rule), alpha_penalty=0.5)
        run = dlmie.train(step, data, to=folder, epochs=int(epochs), batch=64, monitor="bleu_4")
    for record in run.log:
        if "epoch" in record:
            print(
                f"epoch {record['epoch']}: loss {record['loss']:.3f}, BLEU-4 {record['bleu_4']:.4f}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[2:] else sys.exit(__doc__)
