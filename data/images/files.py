"""Image files written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.images.pixels import ImageError
from dlmie.files import atomic


def save_image(path: str | Path, image: np.ndarray, alpha: np.ndarray | None = None) -> Path:
    """Write pixels as PNG or JPEG, by the suffix; the file appears complete or not at all.

    Parameters
    ----------
    path
        Ends in ``.png``, ``.jpg`` or ``.jpeg``.  Missing folders are made.
    image
        (H, W, 3) or (H, W) ``uint8``.
    alpha
        (H, W) ``uint8``: the opacity, which PNG keeps; JPEG has none.

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
    picture = PIL.Image.fromarray(image)
    if alpha is not None and kind == "PNG":
        if alpha.dtype != np.uint8 or alpha.shape != image.shape[:2]:
            raise ImageError(
                f"{path}: needs opacity of uint8 {image.shape[:2]}, not {alpha.dtype} of shape "
                f"{alpha.shape}"
            )
        picture.putalpha(PIL.Image.fromarray(alpha))
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return atomic.write(path, content.getvalue())
