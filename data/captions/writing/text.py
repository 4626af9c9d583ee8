"""The text of a prepared data set: the vocabulary, the captions and the header."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlmie.data.captions.records import Record
from dlmie.data.captions.tokenizers import CONTRACT, one_word_note, tokenize
from dlmie.data.captions.vocabulary import END, START, Vocabulary
from dlmie.data.captions.writing.slots import Item, Plan
from dlmie.errors import DataError
from dlmie.files import hdf5
from dlmie.files.checksums import hash_json

if TYPE_CHECKING:
    import h5py

_PIXELS = {"images", "digests", "done"}  # what is written before the text


@dataclass(frozen=True)
class Wording:
    """Captions as words.

    Attributes
    ----------
    words : dict[str, list[list[str]]]
        By split, one list per caption.
    vocabulary : Vocabulary
        Of the training captions.
    mark : str or list
        What stands for the tokenizer in the hash of the data.
    left_out : dict[str, int]
        Training words that are read as ``<unk>``, see :meth:`Vocabulary.left_out`.
    notes : list[str]
        What looks odd.
    """

    words: dict[str, list[list[str]]]
    vocabulary: Vocabulary
    mark: str | list[str | int]
    left_out: dict[str, int]
    notes: list[str]


def split_words(
    records: Mapping[str, Sequence[Record]],
    tokenizer: str,
    min_count: int,
    max_size: int | None,
    vocabulary: Vocabulary | None = None,
) -> Wording:
    """Split all captions into words and count the vocabulary; ``records`` come by split.

    Another data set's ``vocabulary`` is taken as it is, and its tokenizer with it.
    """
    texts = {
        split: [text for record in each for text in record.captions]
        for split, each in records.items()
    }
    contract = CONTRACT if vocabulary is None else vocabulary.contract
    words = {
        split: [tokenize(text, tokenizer, contract) for text in each]
        for split, each in texts.items()
    }
    if vocabulary is None:
        vocabulary = Vocabulary.build(words["train"], min_count, max_size, tokenizer)
    # Data that contract 1 splits alike keep the hash that dlmie 0.1.0 gave them, and so their
    # features.
    alike = tokenizer != "words" or all(
        words[split][place] == tokenize(text, tokenizer, 1)
        for split, each in texts.items()
        for place, text in enumerate(each)
    )
    note = one_word_note([caption for each in words.values() for caption in each], tokenizer)
    return Wording(
        words,
        vocabulary,
        tokenizer if alike else [tokenizer, CONTRACT],
        vocabulary.left_out(words["train"]),
        [note] if note else [],
    )


def text_bytes(plan: Plan, header: Mapping[str, Any]) -> int:
    """Give the space that :func:`write_text` takes at most."""
    size = 1_000_000 + hdf5.text_bytes([json.dumps(header)])
    for item in plan.items():
        record = item.record
        objects = json.dumps(record.objects) if record.objects else ""
        label = str(record.image_id)
        for text in (record.name, str(record.image), objects, label, *record.captions):
            # the text itself, and at most a word number for every second letter
            size += 8 * len(text.encode("utf-8", "surrogatepass")) + 150
    return size


def write_text(
    file: h5py.File,
    plan: Plan,
    header: Mapping[str, Any],
    vocabulary: Vocabulary | None = None,
) -> None:
    """Write everything but the pixels: the file is complete afterwards.

    Parameters
    ----------
    file
        Holds the images that could be used.
    plan
        All images that should have been.
    header
        What the file is to say of itself; hashes and counts are added.
    vocabulary
        Another data set's, to be used here; default: of the training captions.

    Raises
    ------
    DataError
        If no training image could be used.
    """
    kept: dict[str, list[Item]] = {}
    for split, items in plan.splits.items():
        done = file["splits"][split]["done"][()]
        kept[split] = [item for item in items if done[item.slot] == item.stamp]
    if not kept["train"]:
        raise DataError(f"no training image could be used: {header['skipped'][0]['reason']}")
    wording = split_words(
        {split: [item.record for item in items] for split, items in kept.items()},
        header["tokenizer"],
        header["min_count"],
        header["max_size"],
        vocabulary,
    )
    words, vocabulary = wording.words, wording.vocabulary
    folder = _common_folder(plan) if plan.store == "paths" else None
    splits: dict[str, dict[str, Any]] = {}
    for split, items in kept.items():
        group = file["splits"][split]
        for name in set(group) - _PIXELS:
            del group[name]  # of an attempt that was cut off here
        if items:
            _write_split(group, items, words[split], vocabulary, folder)
            splits[split] = {
                "images": len(items),
                "captions": len(words[split]),
                "hash": _split_hash(group, items),
            }
        else:
            del file["splits"][split]
    hashes = {split: entry["hash"] for split, entry in splits.items()}
    complete = {
        **header,
        "folder": None if folder is None else str(folder),
        "splits": splits,
        "notes": [*header["notes"], *wording.notes],
        "vocabulary": {
            "size": len(vocabulary),
            "hash": vocabulary.hash,
            "left_out": wording.left_out,
        },
        "hash": hash_json([header["size"], wording.mark, vocabulary.hash, hashes]),
    }
    for name in ("vocabulary", "header"):
        if name in file:
            del file[name]
    hdf5.create_texts(file, "vocabulary", list(vocabulary.words))
    hdf5.create_text(file, "header", json.dumps(complete, ensure_ascii=False))


def _write_split(
    group: h5py.Group,
    items: list[Item],
    words: list[list[str]],
    vocabulary: Vocabulary,
    folder: Path | None,
) -> None:
    records = [item.record for item in items]
    ids = [np.array([START, *vocabulary.encode(tokens), END], np.int32) for tokens in words]
    labels = [record.image_id for record in records]
    numbers = [label if _is_number(label) else -1 for label in labels]
    counts = [len(record.captions) for record in records]
    hdf5.create_texts(group, "names", [record.name for record in records])
    hdf5.create_texts(group, "references", [text for record in records for text in record.captions])
    if folder is not None:
        hdf5.create_texts(
            group, "paths", [_path(item).relative_to(folder).as_posix() for item in items]
        )
    if any(record.objects is not None for record in records):
        hdf5.create_texts(group, "objects", [json.dumps(record.objects) for record in records])
    group["rows"] = np.array([item.slot for item in items], np.int64)
    group["image_ids"] = np.array(numbers, np.int64)
    if any(label is not None and not _is_number(label) for label in labels):
        hdf5.create_texts(group, "image_labels", [json.dumps(label) for label in labels])
    group["tokens"] = np.concatenate(ids)
    group["token_offsets"] = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    group["token_image"] = np.repeat(np.arange(len(items), dtype=np.int64), counts)


def _is_number(label: str | int | None) -> bool:
    """Whether a label fits where numbers are kept, which -1 means none."""
    return isinstance(label, int) and 0 <= label < 2**63


def _split_hash(group: h5py.Group, items: list[Item]) -> str:
    """Hash names, captions, objects and pixels of one split."""
    records = [item.record for item in items]
    texts = hash_json([[record.name, record.captions, record.objects] for record in records])
    digest = hashlib.sha256(texts.encode("ascii"))
    digest.update(group["digests"][()][[item.slot for item in items]].tobytes())
    return digest.hexdigest()


def _path(item: Item) -> Path:
    assert isinstance(item.record.image, Path), "rendered images have no path"
    return item.record.image.absolute()


def _common_folder(plan: Plan) -> Path:
    return Path(os.path.commonpath(sorted({str(_path(item).parent) for item in plan.items()})))
