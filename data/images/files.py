"""Image files found in folders, and written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.images.pixels import ImageError
from dlmie.errors import DataError

#: Files of a folder that :func:`find_images` takes for images (compared in lower case).
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
    | {".ppm", ".pgm", ".pbm", ".jp2", ".tga", ".ico"}
)


def find_images(paths: Iterable[str | Path], recursive: bool = True) -> list[Path]:
    """List the images that files and folders stand for, each once.

    A file that is named is taken whatever its name; of a folder, the files with an image's suffix
    (:data:`SUFFIXES`), sorted, hidden ones left out, and those of its sub-folders if ``recursive``.

    Raises
    ------
    DataError
        If a path does not exist or a folder holds no image.

    Examples
    --------
    >>> find_images([])
    []
    """
    found: dict[Path, None] = {}  # a dict keeps the order and drops repetitions
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if path.is_dir():
            inside = sorted(_walk(path, recursive))
            if not inside:
                raise DataError(f"{path}: no image in this folder ({', '.join(sorted(SUFFIXES))})")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"{path}: no such file or folder")
    return list(found)


def save_image(path: str | Path, image: np.ndarray) -> Path:
    """Write pixels as PNG or JPEG, by the suffix; the file appears complete or not at all.

    Parameters
    ----------
    path
        Ends in ``.png``, ``.jpg`` or ``.jpeg``.  Missing folders are made.
    image
        (H, W, 3) or (H, W) ``uint8``.

    Returns
    -------
    Path
        The file written.
    """
    import PIL.Image

    path = Path(path)
    kind = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path}: an image is saved as .png or .jpg, not {path.suffix!r}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ImageError(
            f"{path}: needs uint8 pixels (H, W, 3), not {image.dtype} of shape {image.shape}"
        )
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    with _replacing(path) as file:
        PIL.Image.fromarray(image).save(file, format=kind, **options)
    return path


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """Open a temporary file beside ``path`` that takes its name when the block ends well."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix + ".part")
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files that only the owner can read
        os.replace(temporary, path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)
