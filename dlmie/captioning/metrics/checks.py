"""What metrics are given: one caption per image, beside the image's references."""

from __future__ import annotations

from collections.abc import Sequence

from dlmie.errors import DataError

#: One caption as a list of words.
Tokens = Sequence[str]


def check_captions(
    hypotheses: Sequence[object],
    references: Sequence[Sequence[object]],
    meaning: str = "a list of words",
    kind: type | tuple[type, ...] = (list, tuple),
) -> None:
    """Every caption is of the expected kind, every image has one caption and its references."""
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses)} captions but references of {len(references)} images: "
            "give exactly one caption per image"
        )
    if not len(hypotheses):
        raise DataError("there is no caption to score")
    for image, (hypothesis, captions) in enumerate(zip(hypotheses, references, strict=True)):
        if not isinstance(hypothesis, kind):
            raise DataError(
                f"caption {image} is {type(hypothesis).__name__}: give each as {meaning}"
            )
        if isinstance(captions, str) or not all(isinstance(c, kind) for c in captions):
            raise DataError(
                f"references of image {image}: give a list of references, each as {meaning}"
            )
        if not len(captions):
            raise DataError(f"image {image} has no reference: leave it out or add one")
