"""Which kinds of image files can be read, by their names and by their first bytes."""

from __future__ import annotations

import contextlib
import functools
import importlib
from pathlib import Path

# What Pillow lists but cannot decode on its own: it hands them to other programs (EPS runs
# Ghostscript on what the file says) or to handlers that nobody has registered.
_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})

_CONVERT = "convert it to JPEG or PNG"
_HEIF = f"pip install pillow-heif, or {_CONVERT} (heif-convert, or the phone's 'most compatible')"
_RAW = f"a camera's raw data: {_CONVERT} first (darktable, RawTherapee)"
_DRAWING = "a drawing, not pixels: export it as PNG first"
_TOO_NEW = f"this Pillow cannot: pip install -U pillow, or {_CONVERT}"

#: Pictures that Pillow alone cannot read, by suffix, and what to do about it.
_ADVICE = {
    **dict.fromkeys((".heic", ".heif", ".heics", ".heifs", ".hif"), _HEIF),
    **dict.fromkeys((".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2"), _RAW),
    **dict.fromkeys((".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f", ".3fr"), _RAW),
    **dict.fromkeys((".svg", ".svgz", ".eps", ".ps", ".ai", ".wmf", ".emf"), _DRAWING),
    **dict.fromkeys((".jxl", ".jxr", ".wdp", ".hdp", ".exr", ".hdr", ".xcf", ".psb"), _CONVERT),
    **dict.fromkeys((".avif", ".avifs", ".webp", ".jp2", ".j2k", ".jpx", ".qoi"), _TOO_NEW),
}

# How files begin whose names do not say that they are images.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"}
_HEIF_BRANDS = _BRANDS - {b"avif", b"avis"}

# Copies and pieces of files that programs leave behind are not looked into.
_LEFTOVERS = (".part", ".tmp", ".bak", ".crdownload", ".download", "~")


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """The names of Pillow's formats that are decoded."""
    import PIL.Image

    PIL.Image.init()
    return tuple(name for name in PIL.Image.ID if name not in _NOT_DECODED)


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the files that Pillow reads here."""
    import PIL.Image

    readable = set(readable_formats())
    known = PIL.Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in readable)


def is_image_name(name: str) -> bool:
    """Tell whether a name ends as a picture's does, whether or not it can be read here."""
    suffix = Path(name.strip()).suffix.lower()
    return suffix in _ADVICE or suffix in readable_suffixes()


def is_image_file(path: Path) -> bool:
    """Tell whether a file of a folder is a picture: by its name, else by how it begins."""
    if is_image_name(path.name):
        return True
    if path.name.lower().endswith(_LEFTOVERS):
        return False
    try:
        if not path.is_file():  # nor is a pipe opened: it would be waited for
            return False
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return is_image_start(start)


def is_image_start(start: bytes) -> bool:
    """Tell whether a file is a picture by its first 16 bytes."""
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    branded = start[4:8] == b"ftyp" and start[8:12] in _BRANDS
    return webp or branded or start.startswith(_BEGINNINGS)


def advice(name: str, start: bytes) -> str | None:
    """What to do about a picture that was not recognized, by its first bytes or its name."""
    if _is_heif(start):
        return _HEIF
    suffix = Path(name).suffix.lower()
    return None if suffix in readable_suffixes() else _ADVICE.get(suffix)


def add_heif(start: bytes) -> bool:
    """Let Pillow use pillow-heif for a file that begins as HEIF does; False where it cannot."""
    if not _is_heif(start):
        return False
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
        readable_formats.cache_clear()
        readable_suffixes.cache_clear()
        return True
    return False


def _is_heif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS
