"""The options of a search for captions, for several commands."""

from __future__ import annotations

import click

from dlmie.cli.options import F, given, options_of, real, section, whole
from dlmie.typing import JsonObject


def decoding_options(function: F) -> F:
    """Every option of a search for captions; gather those given with :func:`chosen_decoding`."""
    search = options_of(
        "dlmie.captioning.decoding:Decoding",
        beam=("Captions kept while searching; 1 is greedy search.", whole(1)),
        length_norm="Divide the score by length to this power; 0 favors short captions.",
        samples=("Draw this many captions instead of searching.", whole(0)),
        temperature="Of drawing: below 1 keeps to likely words, above 1 draws rarer ones.",
        top_k=("Draw from the k most probable words; 0: all.", whole(0)),
        top_p=(
            "Draw from the fewest words that have this probability together.",
            real(0, 1),
        ),
    )
    constraints = options_of(
        "dlmie.captioning.decoding:Constraints",
        max_length=("Words at most, the end counted.", whole(1)),
        min_length=("Words at least.", whole(0)),
        allow_unknown="Let <unk> be said.",
        no_repeat_ngram=("Never say so many words in a row twice; 0: may.", whole(0)),
        no_immediate_repeat="Never say a word twice in a row.",
    )
    title = "How captions are found (defaults are those of a model whose file says nothing else)"
    return section(title, search, constraints)(function)


DECODING = (
    *("beam", "length_norm", "samples", "temperature", "top_k", "top_p"),
    *("max_length", "min_length", "allow_unknown", "no_repeat_ngram", "no_immediate_repeat"),
)


def chosen_decoding() -> JsonObject:
    """The decoding options on the command line; the others are the model's own.

    Raises
    ------
    click.UsageError
        Options that exclude each other.
    """
    from dlmie.captioning.decoding import Decoding
    from dlmie.errors import DataError

    ctx = click.get_current_context()
    chosen = {name: value for name, value in given(ctx).items() if name in DECODING}
    try:
        Decoding(**chosen)
    except DataError as error:
        raise click.UsageError(str(error)) from None
    return chosen
