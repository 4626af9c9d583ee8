"""What labeled images come in, one module per format; a format is recognized by its content.

To add one, write a :class:`~dlmie.data.labelled.sources.source.Source` and a ``matches(path)`` that
looks at the content, and list them in :func:`open_source`.
"""

from __future__ import annotations

from pathlib import Path

from dlmie.data.labelled.sources.source import UNDIVIDED, Block, Part, Reading, Source
from dlmie.errors import DataError

__all__ = ["UNDIVIDED", "Block", "Part", "Reading", "Source", "holds_labels", "open_source"]


def holds_labels(path: Path) -> bool:
    """Whether this is a source of labeled images: a folder or an archive.

    Captions come in files of text.
    """
    from dlmie.data.labelled.sources import cifar10

    return path.is_dir() or (path.is_file() and cifar10.matches(path))


def open_source(path: str | Path, *, size: int | None = None) -> Source:
    """Recognize a source of labeled images by its content.

    Parameters
    ----------
    path
        A folder or an archive.
    size
        Height and width to which image files are resized; None leaves them as they are.

    Raises
    ------
    DataError
        It is missing, or nothing that is known; or ``size`` is given where images have theirs.
    """
    from dlmie.data.labelled.sources import cifar10, image_folder, mnist, tiny_imagenet

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if tiny_imagenet.matches(path):
        return tiny_imagenet.TinyImageNetFolder(path, size)
    for module, kind in ((cifar10, cifar10.Cifar10), (mnist, mnist.Mnist)):
        if module.matches(path):
            if size is not None:
                raise DataError(f"{path}: its images have a size of their own; leave out size")
            return kind(path)
    if image_folder.matches(path):
        return image_folder.ImageFolder(path, size)
    raise DataError(
        f"{path}: holds no labeled images that are known (CIFAR-10, MNIST, Tiny-ImageNet, or a "
        "folder of images for each class); of captioned images, name the captions file"
    )
