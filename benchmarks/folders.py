"""Rows of ``dlmie bench``: a folder of JPEGs captioned, from the files to the sentences.

The sentences are not compared: each program resizes photographs in its own way.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from benchmarks.agreement import Disagreement
from benchmarks.decoding import LENGTH, TorchBeam, make_model
from benchmarks.encoders import TorchLite0
from benchmarks.timing import Entry, race, using_threads
from dlmie.captioning.captioner import ImageCaptioner, Member
from dlmie.captioning.decoding import Decoding
from dlmie.captioning.features import encoder_header
from dlmie.captioning.photographs import caption_images
from dlmie.models import EfficientNetLite0
from dlmie.models.captioners.show_attend_tell import ShowAttendTell

BATCH, WORDS = 16, 2500
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def write_folder(folder: Path, images: int) -> list[Path]:
    """JPEGs of 640 × 480 pixels: windows of scikit-image's photographs."""
    sources = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:04}.jpg" for number in range(images)]
    for number, path in enumerate(paths):
        source = sources[number % len(sources)]
        size = np.array(source.size) * rng.uniform(0.5, 1)
        left, top = rng.uniform(0, 1, 2) * (source.size - size)
        box = (left, top, left + size[0], top + size[1])
        source.resize((640, 480), box=box).save(path, quality=90)
    return paths


class TorchCaptioner:
    """The same work in PyTorch: the next batch is read in a thread while one is captioned."""

    def __init__(self, model: ShowAttendTell, encoder: EfficientNetLite0) -> None:
        self.encoder = TorchLite0().eval().to(memory_format=torch.channels_last)
        self.beam = TorchBeam(model)
        self.size = encoder.preprocessing.size

    @torch.inference_mode()
    def __call__(self, paths: Sequence[Path]) -> list[list[int]]:
        said: list[list[int]] = []
        for images in self._read(paths):
            grid = self.encoder.features(images.contiguous(memory_format=torch.channels_last))
            said += self.beam(grid)[0].tolist()
        return said

    def _read(self, paths: Sequence[Path]) -> Iterator[torch.Tensor]:
        batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._load, batches[0])
            for after in [*batches[1:], None]:
                images = coming.result()
                if after is not None:
                    coming = pool.submit(self._load, after)
                yield images

    def _load(self, paths: Sequence[Path]) -> torch.Tensor:
        shape = (self.size, self.size)
        pixels = [
            np.asarray(Image.open(path).convert("RGB").resize(shape, Image.Resampling.BILINEAR))
            for path in paths
        ]
        return (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() - 127) / 128


def folder(images: int) -> Entry:
    """Decode, resize, encode (EfficientNet-Lite0, 7×7 × 1280) and beam search of width 5."""
    with using_threads(), tempfile.TemporaryDirectory() as name:
        return _race_folders(write_folder(Path(name), images))


def _race_folders(paths: list[Path]) -> Entry:
    encoder = EfficientNetLite0()
    model = make_model(encoder["head"], WORDS)
    header = {"encoder": encoder_header(encoder, "head")}
    captioner = ImageCaptioner([Member(model, header, Path("."), {})])
    decoding = Decoding(beam=5, length_norm=0.0, max_length=LENGTH)
    reference = TorchCaptioner(model, encoder)

    def ours() -> list[list[int]]:
        found = caption_images(captioner, paths, decoding, batch=BATCH)
        return [captions[0].words for _, captions in found if not isinstance(captions, Exception)]

    if len(ours()) != len(paths):
        raise Disagreement("dlmie left photographs out")
    entry = race(ours, partial(reference, paths))
    return {**entry, "images_per_second": len(paths) / entry["dlmie_s"]}


ROWS = {"caption_folder": partial(folder, 200)}
