"""Photographs in, network inputs out: the only code of dlmie that reads, resizes or scales pixels.

Preparing, training, captioning and picture making all come through :func:`load_image`,
:func:`resize_image` and :func:`preprocess`.  A second way to do any of the three is the usual
reason why a captioner that trained well says the same sentence about every photograph.

Pixels between these functions are always ``uint8`` of shape ``(height, width, 3)``, RGB, 0..255.
"""

from dlmie.data.images.decoding import (
    MAX_BYTES,
    MAX_PIXELS,
    ImageBytes,
    ImageSource,
    image_size,
    load_image,
    load_with_alpha,
)
from dlmie.data.images.files import save_image
from dlmie.data.images.finding import ImageFolder
from dlmie.data.images.folders import existing_path, find_images
from dlmie.data.images.formats import is_image_name
from dlmie.data.images.names import form_of, is_file, stamp_of
from dlmie.data.images.pixels import ImageError, ImageWarning
from dlmie.data.images.planes import resize_planes
from dlmie.data.images.preprocessing import Preprocessing, deprocess, preprocess, resize_through
from dlmie.data.images.resizing import resize_image
from dlmie.data.images.units import channel_order, gray_level, normalize, pixel_size, valid_range
from dlmie.data.images.views import view_image

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "ImageBytes",
    "ImageError",
    "ImageFolder",
    "ImageSource",
    "ImageWarning",
    "Preprocessing",
    "channel_order",
    "deprocess",
    "existing_path",
    "find_images",
    "form_of",
    "gray_level",
    "image_size",
    "is_file",
    "is_image_name",
    "load_image",
    "load_with_alpha",
    "normalize",
    "pixel_size",
    "preprocess",
    "resize_image",
    "resize_planes",
    "resize_through",
    "save_image",
    "stamp_of",
    "valid_range",
    "view_image",
]
