"""Photographs in, network inputs out: the only code of dlmie that reads, resizes or scales pixels.

Preparing, training, captioning and picture making all come through :func:`load_image`,
:func:`resize_image` and :func:`preprocess`.  A second way to do any of the three is the usual
reason why a captioner that trained well says the same sentence about every photograph.

Pixels between these functions are always ``uint8`` of shape ``(height, width, 3)``, RGB, 0..255.
"""

from dlmie.data.images.decoding import MAX_PIXELS, ImageSource, image_size, load_image
from dlmie.data.images.files import SUFFIXES, find_images, save_image
from dlmie.data.images.pixels import ImageError
from dlmie.data.images.preprocessing import Preprocessing, deprocess, preprocess
from dlmie.data.images.resizing import resize_image
from dlmie.data.images.views import view_image

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "ImageError",
    "ImageSource",
    "Preprocessing",
    "deprocess",
    "find_images",
    "image_size",
    "load_image",
    "preprocess",
    "resize_image",
    "save_image",
    "view_image",
]
