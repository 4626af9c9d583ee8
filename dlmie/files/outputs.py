"""What a command may write over: never what it reads, and nothing of another kind unasked."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from dlmie.errors import DlmieError, OutputError

# What files are called in messages; two files are of one kind if they are called the same.
PICTURE = "a picture"
PDF = "a PDF file"
SVG = "an SVG drawing"
HTML = "an HTML page"
TEXT = "text"
TABLE = "a table of captions"
RESULTS = "a JSON list of results"
COCO = "COCO results"
JSON = "a JSON document"
LINES = "JSON lines"
MANIFEST = "a manifest"
RUN = "the configuration of a run"
DATA = "prepared data"
FEATURES = "a feature cache"
MODEL = "a model"
HDF5 = "an HDF5 file"
WEIGHTS = "a weight file or an archive"
BINARY = "a file of another program"

# Kinds that commands read out of the folders they are given.
_SOURCES = (PICTURE, DATA, FEATURES, MODEL, HDF5, WEIGHTS, RUN, LINES)

_MAGIC: tuple[tuple[str, bytes], ...] = (
    (PICTURE, rb"\x89PNG|\xff\xd8\xff|GIF8|BM....\x00\x00|II\*\x00|MM\x00\*|RIFF....WEBP|8BPS"),
    (PICTURE, rb"....ftyp(avi|hei|mif|hev)|\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51|P[1-7]\s"),
    (HDF5, rb"\x89HDF\r\n\x1a\n"),
    (WEIGHTS, rb"PK\x03\x04|PK\x05\x06|\x93NUMPY|\x80[\x02-\x05]|\x1f\x8b|.{7}\x00\{\""),
    (PDF, rb"%PDF"),
)
_FORMATS = {
    "dlmie.captions": DATA,
    "dlmie.labelled": DATA,
    "dlmie.features": FEATURES,
    "dlmie-model": MODEL,
}
_HEAD = 2**16


class Outputs:
    """The files that one command writes, each checked before the work begins.

    Parameters
    ----------
    inputs : iterable of path
        Files and folders that the command reads; names of anything else are left out.
    overwrite : bool
        Whether existing files of other kinds may be replaced. Inputs never are.
    """

    def __init__(
        self, inputs: Iterable[str | os.PathLike[str]] = (), *, overwrite: bool = False
    ) -> None:
        self.overwrite = overwrite
        self._files: dict[tuple[int, int], str] = {}
        self._folders: dict[str, str] = {}
        self._claimed: dict[str, str] = {}
        self.reads(*inputs)

    def reads(self, *paths: str | os.PathLike[str]) -> None:
        """Note more inputs.

        Raises
        ------
        OutputError
            One of them is an output that was named before.
        """
        for path in paths:
            status = _status(path, through=True)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                self._folders[os.path.realpath(path)] = os.fspath(path)
            elif stat.S_ISREG(status.st_mode):
                self._files[status.st_dev, status.st_ino] = os.fspath(path)
        for claimed in self._claimed.values():
            self.refuse_inputs(claimed)

    def writes(self, path: str | os.PathLike[str], kind: str) -> Path:
        """Claim the path of a file that is going to be written.

        Parameters
        ----------
        path : path
        kind : str
            What will be written, one of the constants of this module.

        Returns
        -------
        Path
            The path.

        Raises
        ------
        OutputError
            It is one of the inputs, was claimed before, is a folder, or is a file of another
            kind, or the model of a run, that may not be overwritten.
        """
        self.refuse_inputs(path)
        real = os.path.realpath(path)
        if real in self._claimed:
            raise OutputError(f"two files would be written to {path}: name two")
        found = kind_of(path)
        if found not in (None, kind) and not self.overwrite:
            raise OutputError(
                f"{path} is there and is {found}, not {kind}: name another file, or replace it "
                "with --overwrite"
            )
        if found == MODEL and _is_of_run(real) and not self.overwrite:
            raise OutputError(
                f"{path} is the model of a run: name another file, or replace it with --overwrite"
            )
        if not os.path.exists(real) or os.path.isfile(real):  # devices and pipes take any number
            self._claimed[real] = os.fspath(path)
        return Path(path)

    def refuse_inputs(self, path: str | os.PathLike[str]) -> None:
        """Raise OutputError if a path is a folder or something that the command reads."""
        status = _status(path)
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            raise OutputError(f"{path} is a folder: name a file in it")
        source = self._files.get((status.st_dev, status.st_ino))
        if source is None and stat.S_ISREG(status.st_mode):
            source = self._folder_of(path)
        if source is not None:
            raise OutputError(
                f"{path} is what the command reads ({source}) and would be lost: name another file"
            )

    def _folder_of(self, path: str | os.PathLike[str]) -> str | None:
        """The input folder that a file is read from."""
        parents = Path(os.path.realpath(path)).parents
        folder = next((self._folders[str(p)] for p in parents if str(p) in self._folders), None)
        return folder if folder is not None and kind_of(path) in _SOURCES else None


def _is_of_run(path: str) -> bool:
    """Whether a model lies in the folder of the run that trained it."""
    return kind_of(Path(path).parent / "config.json") == RUN


def _status(path: str | os.PathLike[str], *, through: bool = False) -> os.stat_result | None:
    """What is there; with ``through``, of a path that goes through a file: that archive."""
    try:
        return os.stat(path)
    except NotADirectoryError:
        return _status(os.path.dirname(path), through=True) if through else None
    except (OSError, ValueError):  # not there, or no name of a file at all
        return None


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What a file holds, by its content.

    Returns
    -------
    str or None
        One of the constants of this module; None for what is not there, empty, or not a file.
    """
    status = _status(path)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return BINARY  # nobody may read it
    if not head:
        return None
    for kind, pattern in _MAGIC:
        if re.match(pattern, head, re.DOTALL):
            return _hdf5_kind(path) if kind == HDF5 else kind
    return _text_kind(head)


def _hdf5_kind(path: str | os.PathLike[str]) -> str:
    from dlmie.files.headers import stated_format

    try:
        return _FORMATS.get(str(stated_format(path)), HDF5)
    except DlmieError:
        return HDF5


def _text_kind(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8-sig", "strict" if len(head) < _HEAD else "ignore").lstrip()
    except UnicodeDecodeError:
        return TEXT if head.startswith((b"\xff\xfe", b"\xfe\xff")) else BINARY
    if "\0" in text:
        return BINARY
    start = text[:4096].lower()
    if start.startswith(("<!doctype html", "<html")):
        return HTML
    if start.startswith(("<?xml", "<svg")) and "<svg" in start:
        return SVG
    if re.fullmatch(r"\[?\s*\]?\s*", text):
        return None  # nothing, or an empty list
    if text.startswith("["):
        if re.match(r'\[\s*\{\s*"image"\s*:', text):
            return RESULTS
        return COCO if re.match(r'\[\s*\{\s*"image_id"\s*:', text) else JSON
    if text.startswith("{"):
        return _object_kind(text)
    first = text.splitlines()[0]
    columns = {c.strip() for row in csv.reader([first.replace(";", ",")]) for c in row}
    return TABLE if {"image", "caption"} <= columns else TEXT


def _object_kind(text: str) -> str:
    if '"dlmie-run"' in text:
        return RUN
    if re.match(r'\{\s*"dlmie"\s*:', text) and '"picture"' in text:
        return MANIFEST
    first = text.splitlines()[0]
    return LINES if first.rstrip().endswith("}") and "\n{" in text else JSON
