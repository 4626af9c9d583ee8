"""Sources whose images are files of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dlmie.data.images import ImageError, image_size, load_image
from dlmie.data.labelled.sources.source import Block, Part, Reading, Source, file_stamp

_BLOCK = 256  # images


class ImageFiles(Source):
    """Labelled image files, all of one size or resized to it.

    A subclass lists the files (:meth:`add`) and then calls :meth:`measure`.

    Parameters
    ----------
    folder : Path
        Where the images are.
    size : int or None
        Height and width in pixels; None leaves them as they are.
    """

    def __init__(self, folder: Path, size: int | None = None) -> None:
        super().__init__()
        self.folder, self.size = folder, size
        self.files: dict[str, list[Path]] = {}

    def add(self, part: str, files: Sequence[Path], labels: Sequence[int]) -> None:
        """Add a part with its files and their labels."""
        names = [path.relative_to(self.folder).as_posix() for path in files]
        self.files[part] = list(files)
        self.parts[part] = Part(np.array(labels, np.int64), names)

    def measure(self) -> None:
        """Find out the size of all images; files that cannot be read have none."""
        if self.size is not None:
            self.shape = (self.size, self.size, 3)
            return
        sizes: dict[tuple[int, int], Path] = {}
        for files in self.files.values():
            for path in files:
                size = image_size(path)
                if size is not None:
                    sizes.setdefault(size, path)
        if len(sizes) > 1:
            (first, one), (second, other) = list(sizes.items())[:2]
            self.errors.append(
                f"{other}: is {_text(second)} pixels and {one.name} is {_text(first)}; "
                "--size N makes all N × N"
            )
        if not sizes and any(self.files.values()):
            self.errors.append(f"{self.folder}: none of its images can be read")
        for rows, columns in sizes:
            self.shape = (rows, columns, 3)

    def blocks(self, reading: Reading) -> Iterator[Block]:
        """Decode the images in threads, some hundreds at a time."""
        with ThreadPoolExecutor(reading.workers) as pool:
            for part, files in self.files.items():
                for start in range(0, len(files), _BLOCK):
                    found: dict[int, np.ndarray] = {}
                    read = pool.map(self._pixels, files[start : start + _BLOCK])
                    for position, pixels in enumerate(read, start):
                        if isinstance(pixels, str):
                            reading.skipped.append(pixels)
                        else:
                            found[position] = pixels
                    yield _block(part, found, self.shape)

    def _pixels(self, path: Path) -> np.ndarray | str:
        """An image, or why it cannot be used."""
        try:
            pixels = load_image(path, self.size)
        except ImageError as error:
            return str(error)
        if pixels.shape != self.shape:
            return f"{path}: is {_text(pixels.shape)} pixels, not {_text(self.shape)}"
        return pixels

    @property
    def origin(self) -> dict[str, object]:
        files = {
            part: [[name, *file_stamp(path)[1:]] for name, path in self._named(part)]
            for part in self.files
        }
        return {"format": self.format, "size": self.size, "files": files}

    def _named(self, part: str) -> Iterator[tuple[str, Path]]:
        names = self.parts[part].names
        assert names is not None, "files have names"
        return zip(names, self.files[part], strict=True)


def _block(part: str, found: Mapping[int, np.ndarray], shape: tuple[int, int, int]) -> Block:
    images = np.stack(list(found.values())) if found else np.empty((0, *shape), np.uint8)
    return Block(part, np.array(list(found), np.int64), images)


def _text(size: Sequence[int]) -> str:
    return f"{size[0]} × {size[1]}"
