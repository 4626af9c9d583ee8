"""The files of the cs231n captioning assignments (``coco_captioning/``), read and written.

The layout, for the splits ``train`` and ``val``:

* ``coco2014_captions.h5``: ``train_captions`` (captions, 17) int32 word numbers,
  ``train_image_idxs`` (captions,) and the same for ``val``;
* ``coco2014_vocab.json``: ``idx_to_word``, a list, and ``word_to_idx``;
* ``train2014_vgg16_fc7.h5``, ``val2014_vgg16_fc7.h5``: ``features`` (images, 4096) float32, and
  ``…_fc7_pca.h5``, the same reduced to 512;
* ``train2014_urls.txt``, ``val2014_urls.txt``: one address an image.

The special words are ``<NULL>`` 0, ``<START>`` 1, ``<END>`` 2 and ``<UNK>`` 3: the numbers that
:mod:`dlmie.data.captions.vocabulary` uses, so that captions of the two kinds can be exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.vocabulary import END, PAD, SPECIAL, Vocabulary
from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.files.documents import read_json
from dlmie.files.hdf5 import file_image, numbers, open_hdf5

#: The special words of these files, in the order of their numbers.
CS231N_SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")

SPLITS = ("train", "val")


@dataclass
class CocoCaptioning:
    """The content of a ``coco_captioning`` folder.

    Attributes
    ----------
    captions : dict[str, np.ndarray]
        By split: (captions, length) int32 word numbers, padded with 0.
    image_idxs : dict[str, np.ndarray]
        By split: (captions,) the row of ``features`` that each caption is about.
    features : dict[str, np.ndarray]
        By split: (images, size) float32.
    idx_to_word : list[str]
        The words in the order of their numbers.
    urls : dict[str, list[str]]
        By split: an address an image; empty where the files are absent.

    Examples
    --------
    ::

        data = CocoCaptioning.read("coco_captioning/", max_train=50)
        captions, features, urls = data.minibatch("train", 25, np.random.default_rng(0))
        print(data.decode(captions)[0], urls[0])
    """

    captions: dict[str, np.ndarray]
    image_idxs: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    idx_to_word: list[str]
    urls: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if tuple(self.idx_to_word[:4]) != CS231N_SPECIAL:
            raise DataError(
                f"the vocabulary must begin with {' '.join(CS231N_SPECIAL)}, "
                f"not {self.idx_to_word[:4]}"
            )
        for split, captions in self.captions.items():
            rows, features = self.image_idxs.get(split), self.features.get(split)
            if rows is None or features is None:
                raise DataError(f"{split}: captions without image_idxs or features")
            if captions.ndim != 2 or rows.shape != captions.shape[:1]:
                raise DataError(
                    f"{split}: captions {captions.shape} and image_idxs {rows.shape} do not match"
                )
            if rows.size and not 0 <= rows.min() <= rows.max() < len(features):
                raise DataError(
                    f"{split}: image_idxs run from {rows.min()} to {rows.max()}, "
                    f"but there are features of {len(features)} images"
                )
            if captions.size and not 0 <= captions.min() <= captions.max() < len(self.idx_to_word):
                raise DataError(
                    f"{split}: word number {captions.max()} is outside the vocabulary of "
                    f"{len(self.idx_to_word)} words"
                )

    @classmethod
    def read(
        cls,
        folder: str | Path,
        *,
        pca: bool = True,
        max_train: int | None = None,
        seed: int = 0,
    ) -> CocoCaptioning:
        """Read a folder.

        Parameters
        ----------
        folder
            Holds the files named above.
        pca
            Read the features reduced to 512 numbers, not all 4096.
        max_train
            Keep this many training captions, drawn **with replacement** as the assignment does.
        seed
            Of that draw.

        Raises
        ------
        DataError
            If a file is missing or the files do not fit together.
        """
        folder = Path(folder)
        captions, rows, features, urls = {}, {}, {}, {}
        file = folder / "coco2014_captions.h5"
        for split in SPLITS:
            captions[split] = _read(file, f"{split}_captions").astype(np.int32)
            rows[split] = _read(file, f"{split}_image_idxs").astype(np.int64)
            features[split] = _read(_features_file(folder, split, pca), "features")
            address = folder / f"{split}2014_urls.txt"
            if address.is_file():
                urls[split] = address.read_text("utf-8").split()
        if max_train is not None:
            chosen = np.random.default_rng(seed).integers(len(captions["train"]), size=max_train)
            captions["train"], rows["train"] = captions["train"][chosen], rows["train"][chosen]
        vocabulary = folder / "coco2014_vocab.json"
        try:
            words = read_json(vocabulary)["idx_to_word"]
        except (KeyError, TypeError):
            raise DataError(f"{vocabulary}: is not a vocabulary with 'idx_to_word'") from None
        try:
            return cls(captions, rows, features, list(words), urls)
        except DataError as error:
            raise DataError(f"{folder}: {error}") from None

    @classmethod
    def from_captions(
        cls,
        data: Captions,
        features: Mapping[str, np.ndarray],
        *,
        length: int = 17,
        splits: Mapping[str, str] | None = None,
    ) -> CocoCaptioning:
        """Make it from a prepared data set and one feature vector per image.

        Parameters
        ----------
        data
            A prepared data set.
        features
            ``{"train": (images, size), "dev": …}`` in the order of the images of each split.
        length
            Captions are cut to ``length - 2`` words and padded to ``length`` numbers.
        splits
            Which split becomes which; by default ``{"train": "train", "val": "dev"}``.
        """
        captions, rows = {}, {}
        splits = dict(splits or {"train": "train", "val": "dev"})
        chosen = {}
        for to, name in splits.items():
            split = data[name]
            if name not in features or len(features[name]) != len(split):
                raise DataError(f"needs features of the {len(split)} images of {name!r}")
            table = np.full((len(split.tokens), length), PAD, np.int32)
            for row, tokens in zip(table, split.tokens, strict=True):
                kept = tokens[: length - 1]
                row[: len(kept)] = kept
                if len(kept) < len(tokens):
                    row[length - 1] = END
            captions[to], rows[to] = table, split.token_image.copy()
            chosen[to] = np.asarray(features[name], np.float32)
        words = [*CS231N_SPECIAL, *data.vocabulary.words[len(SPECIAL) :]]
        return cls(captions, rows, chosen, words)

    def write(self, folder: str | Path, *, pca: bool = True) -> Path:
        """Write a folder that :meth:`read` and the assignments' own loaders read.

        ``pca`` says under which of the two names the features are stored.
        """
        folder = Path(folder)
        arrays = {}
        for split in self.captions:
            arrays[f"{split}_captions"] = self.captions[split].astype(np.int32)
            arrays[f"{split}_image_idxs"] = self.image_idxs[split].astype(np.int32)
        _write(folder / "coco2014_captions.h5", arrays)
        for split, features in self.features.items():
            _write(_features_file(folder, split, pca), {"features": features.astype(np.float32)})
            if split in self.urls:
                text = "".join(f"{url}\n" for url in self.urls[split])
                atomic.write_text(folder / f"{split}2014_urls.txt", text)
        content = {"idx_to_word": self.idx_to_word, "word_to_idx": self.word_to_idx}
        atomic.write_json(folder / "coco2014_vocab.json", content)
        return folder

    @property
    def word_to_idx(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.idx_to_word)}

    @property
    def vocabulary(self) -> Vocabulary:
        """The same words with the same numbers, the special ones under dlmie's names."""
        return Vocabulary([*SPECIAL, *self.idx_to_word[len(SPECIAL) :]])

    def minibatch(
        self, split: str, batch: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Draw captions with replacement, as the assignment does.

        Returns
        -------
        tuple[np.ndarray, np.ndarray, list[str]]
            Captions (batch, length), the features of their images (batch, size) and the addresses
            (empty where there are none).
        """
        chosen = rng.integers(len(self.captions[split]), size=batch)
        rows = self.image_idxs[split][chosen]
        urls = self.urls.get(split, [])
        return (
            self.captions[split][chosen],
            self.features[split][rows],
            [urls[r] for r in rows if urls],
        )

    def decode(self, captions: np.ndarray) -> str | list[str]:
        """Turn word numbers into text: ``<NULL>`` dropped, nothing after the first ``<END>``.

        Parameters
        ----------
        captions
            (length,) gives one string, (captions, length) a list.
        """
        captions = np.asarray(captions)
        if captions.ndim == 1:
            words = []
            for number in captions.tolist():
                if number != PAD:
                    words.append(self.idx_to_word[number])
                if number == END:
                    break
            return " ".join(words)
        return [str(self.decode(caption)) for caption in captions]


def _features_file(folder: Path, split: str, pca: bool) -> Path:
    return folder / f"{split}2014_vgg16_fc7{'_pca' if pca else ''}.h5"


def _read(path: Path, name: str) -> np.ndarray:
    with open_hdf5(path, what="a readable HDF5 file") as file:
        try:
            return numbers(file[name])
        except KeyError:
            raise DataError(f"{path}: has no data set {name!r}") from None
        except (OSError, ValueError, TypeError):
            raise DataError(f"{path}: its data set {name!r} is damaged") from None


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    atomic.write(path, file_image(lambda file: file.update(arrays)))
