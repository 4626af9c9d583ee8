"""``dlmie score``: score captions that anyone made."""

from __future__ import annotations

from pathlib import Path

import click

from dlmie.cli.console import Console
from dlmie.cli.options import options_of, whole
from dlmie.cli.tables import reading_options
from dlmie.cli.verbs import verb
from dlmie.data.captions.tokenizers import TOKENIZERS


@verb("score")
@click.argument("hypotheses", type=click.Path())
@click.argument("references", type=click.Path(), nargs=-1, required=True)
@options_of(
    "dlmie.captioning.metrics:score",
    tokenizer=("How captions are split into words.", click.Choice(TOKENIZERS)),
    bootstrap=("Resamplings for 95 % confidence intervals; 0: none.", whole(0)),
)
@options_of(
    "dlmie.captioning.caption_files:read_captions",
    subset="Leave out images that have references but no caption.",
)
@reading_options
def command(
    console: Console,
    hypotheses: str,
    references: tuple[str, ...],
    subset: bool,
    encoding: str | None,
    image_column: str | None,
    caption_column: tuple[str, ...],
    tokenizer: str,
    bootstrap: int,
) -> None:
    """Score the captions of the file HYPOTHESES against REFERENCES.

    \b
    HYPOTHESES                              REFERENCES
    [{"image_id": 1, "caption": "…"}, …]    {"annotations": [{"image_id", "caption"}, …]}
    {"image": "caption", …}                 {"image": ["reference", …], …}
    what caption and evaluate write         all that prepare reads
    text, one caption per line                one text file or more, line by line as HYPOTHESES

    The named kinds mix freely; images are matched by id or name. BLEU-1..4 is NLTK's unsmoothed
    corpus BLEU; ROUGE-L and CIDEr-D are coco-caption's.
    """
    from dlmie.captioning.caption_files import read_captions
    from dlmie.captioning.metrics import score
    from dlmie.data.captions.formats import Reading

    captions = read_captions(
        Path(hypotheses),
        [Path(path) for path in references],
        subset=subset,
        reading=Reading(encoding, image_column, caption_column),
    )
    for note in captions.notes:
        console.note(note)
    scores = score(
        captions.hypotheses,
        captions.references,
        tokenizer=tokenizer,
        bootstrap=bootstrap,
        seed=console.seed,
    )
    console.result(scores.to_json(), str(scores))
