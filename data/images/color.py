"""Color profiles: what the numbers of a file mean, and the transform that makes them sRGB."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:  # PIL is imported by the functions that need it
    import PIL.Image

#: From an image in the mode it was made for to one in mode RGB, as sRGB means it.
Transform: TypeAlias = "Callable[[PIL.Image.Image], PIL.Image.Image]"

# What a profile calls its color space → the mode in which Pillow holds such colors.
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}

# A profile that changes no color by more than this is sRGB under one of its many names: its
# colors are taken as they are, which is faster and rounds nothing.
_SAME = 2


class ProfileError(ValueError):
    """A color profile cannot be used: damaged, or for other colors than the image has."""


def kind_of_color(mode: str) -> str:
    """The mode that holds the colors of an image without its alpha: L, RGB, CMYK or LAB."""
    if mode in ("CMYK", "LAB"):
        return mode
    return "L" if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I") else "RGB"


@functools.lru_cache(maxsize=32)
def transform_of(profile: bytes, kind: str) -> tuple[str, Transform] | None:
    """The mode that a profile is for and the transform to sRGB; None where it is sRGB already.

    Parameters
    ----------
    profile
        An ICC profile; empty where the file has none (LAB needs a transform all the same).
    kind
        From :func:`kind_of_color`.  Gray images may have a profile for RGB: gray is a color.

    Raises
    ------
    ProfileError
        In one line, without the name of the image.
    """
    from PIL import ImageCms

    if not profile and kind != "LAB":
        return None
    try:
        if kind == "LAB":  # means the same whatever a profile says
            mode, source = kind, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            mode = _MODES.get(space, space)
            if mode != kind and (kind, mode) != ("L", "RGB"):
                raise ProfileError(f"it is for {space} colors")
        made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except ProfileError:
        raise
    except Exception as error:  # a damaged profile can upset the library in any way
        reason = (str(error).splitlines() or [""])[0]
        raise ProfileError(reason or type(error).__name__) from None

    def apply(image: PIL.Image.Image) -> PIL.Image.Image:
        result = ImageCms.applyTransform(image, made)
        assert result is not None, "only a transform in place gives nothing"
        return result

    return None if _changes_nothing(apply, mode) else (mode, apply)


def _changes_nothing(apply: Transform, mode: str) -> bool:
    import PIL.Image

    steps = np.arange(0, 256, 15, dtype=np.uint8)
    if mode == "L":
        colors = steps[None]
    elif mode == "RGB":
        colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    else:
        return False
    before = PIL.Image.fromarray(colors)
    after = np.asarray(apply(before)).astype(int)
    return bool(np.abs(after - np.asarray(before.convert("RGB"))).max() <= _SAME)
