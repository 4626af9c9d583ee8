"""Attention figures of photographs: captioned, or told a sentence, then drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Unpack

from dlmie.captioning.captioner import Image, ImageCaptioner
from dlmie.captioning.decoding import Caption, Decoding
from dlmie.captioning.model_files import load
from dlmie.captioning.photographs import caption_images
from dlmie.data.images import ImageError, ImageSource
from dlmie.errors import DlmieError
from dlmie.files.schema import Key, check_document
from dlmie.typing import JsonObject
from dlmie.visualize.attention.maps import Drawing, attend
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.sources import find_image
from dlmie.weights import sha256


def attend_images(
    captioner: ImageCaptioner,
    images: Iterable[Image],
    decoding: Decoding | None = None,
    *,
    say: str | None = None,
    batch: int = 16,
    **drawing: Unpack[Drawing],
) -> Iterator[tuple[Image, Figure | ImageError]]:
    """Draw where a captioner looks in any number of photographs; memory does not grow with them.

    Parameters
    ----------
    captioner : ImageCaptioner
        From :func:`dlmie.load`; it must attend.
    images : iterable
        What :func:`~dlmie.data.images.load_image` reads, such as paths.
    decoding : Decoding, optional
        How captions are found; by default as the captioner's file says.
    say : str, optional
        Look while saying this sentence, not one that was found.
    batch : int
        Photographs worked on at a time.
    **drawing
        Of :func:`dlmie.visualize.attend`: ``layout``, ``columns``, ``upsampling``, …

    Yields
    ------
    tuple
        The image as it was given, with its figure or the error that says why it has none.

    Raises
    ------
    DlmieError
        The captioner does not attend, or the sentence has no words.
    """
    decoding = captioner.decoding() if decoding is None else decoding
    made_by = {
        "captioner": [
            {"source": member.source, "sha256": sha256(member.path)} for member in captioner.members
        ],
        "decoding": None if say is not None else asdict(decoding),
        "say": say,
    }
    captions = (
        caption_images(captioner, images, decoding, batch=batch)
        if say is None
        else _told(captioner, images, say)
    )
    for image, found in captions:
        if isinstance(found, ImageError):
            yield image, found
            continue
        try:
            figure: Figure | ImageError = attend(found[0], image, made_by=made_by, **drawing)
        except ImageError as error:  # removed since it was captioned
            figure = error
        yield image, figure


def _told(
    captioner: ImageCaptioner, images: Iterable[Image], sentence: str
) -> Iterator[tuple[Image, list[Caption] | ImageError]]:
    for image in images:
        try:
            yield image, [captioner.force(image, sentence)]
        except ImageError as error:
            yield image, error


_DRAWING = {
    "layout": Key(str, required=False),
    "columns": Key(int, low=1, required=False, null=True),
    "upsampling": Key(str, required=False),
    "strength": Key(float, low=0, high=1, required=False),
    "limit": Key(float, low=0, required=False, null=True),
    "pixels": Key(int, low=16, high=10_000, required=False),
}
_KEYS = {
    "network": Key(
        dict,
        keys={
            "captioner": Key(list),
            "decoding": Key(dict, null=True, keys={"banned": Key(list, each=Key(int))}),
            "say": Key(str, null=True),
        },
    ),
    "images": Key(dict, keys={"image": Key(dict)}),
    "arguments": Key(dict, keys=_DRAWING),
}
_MEMBERS = Key(list, each=Key(dict, keys={"source": Key(str), "sha256": Key(str, required=False)}))


def reproduce_attention(
    manifest: JsonObject, *, image: ImageSource | None = None, folder: str | Path | None = None
) -> Figure:
    """Draw an attention figure again from its manifest: the same captioner, image and options.

    Parameters
    ----------
    manifest : mapping
        From :func:`dlmie.visualize.figures.manifests.read_manifest`.
    image : optional
        The photograph, where it has moved, or another one.
    folder : path, optional
        Of the manifest: the photograph is also looked for there.

    Raises
    ------
    DlmieError
        The manifest is of another picture, does not say what captioned, or its image was not found.
    """
    made_by = manifest["network"]
    if manifest["picture"] != "attend" or "captioner" not in made_by:
        raise DlmieError(
            "the manifest names no captioner: only figures of dlmie attend can be reproduced"
        )
    check_document(manifest, _KEYS, "the manifest")
    # Version 0.1 wrote where they are alone.
    members = [{"source": m} if isinstance(m, str) else m for m in made_by["captioner"]]
    check_document({"captioner": members}, {"captioner": _MEMBERS}, "the manifest")
    photograph = find_image(
        "image", manifest["images"]["image"], image, None if folder is None else Path(folder)
    )
    captioner = load([Path(member["source"]) for member in members])
    for there, member in zip(captioner.members, members, strict=True):
        if member.get("sha256") not in (None, found := sha256(there.path)):
            raise DlmieError(
                f"the figure was made with another captioner than {there.path} is now (SHA-256 "
                f"{found[:12]}…, it was {member['sha256'][:12]}…)"
            )
    decoding = None if made_by["decoding"] is None else _decoding(made_by["decoding"])
    drawn = attend_images(
        captioner,
        [photograph],
        decoding,
        say=made_by["say"],
        **{name: value for name, value in manifest["arguments"].items() if name in _DRAWING},
    )
    _, figure = next(drawn)
    if isinstance(figure, ImageError):
        raise figure
    return figure


def _decoding(fields: JsonObject) -> Decoding:
    try:
        return Decoding(**{**fields, "banned": tuple(fields["banned"])})
    except TypeError as error:
        raise DlmieError(f"the manifest's decoding cannot be read: {error}") from None
