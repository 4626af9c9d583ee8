"""Captioners that have been compiled once, kept so that the next command starts at once.

To make a model's graphs, rewrite them and link them takes several times as long as a caption, and
comes out the same every time.  What came out is kept in a folder beside PyTensor's cache: the
programs of a captioner (:mod:`dlmie.ops.runtime.programs`) with the arrays they work on.  One that
is loaded from there captions photographs without PyTensor, by the same compiled code and hence
with the same numbers; its symbolic model is made when somebody asks for it.

What is kept is known by the content of the model's file, dlmie's own files, versions, flags and
processor: where one of these differs, it is not found.  It is not used either where another user
could have written it, and one that is damaged is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dlmie
from dlmie.backends.choice import current_backend
from dlmie.captioning.captioner import ImageCaptioner, Member
from dlmie.captioning.encoding import CompiledEncoder
from dlmie.captioning.finding import find_model
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.images import Preprocessing
from dlmie.files import atomic
from dlmie.files.trust import only_ours
from dlmie.models.captioners.decoder import Decoder
from dlmie.ops.runtime import library, prebuilt
from dlmie.ops.runtime.programs import Program
from dlmie.typing import JsonObject
from dlmie.weights import sha256

#: Of the form of what is kept.
VERSION = 2
#: The folder beside PyTensor's.
FOLDER = "dlmie_captioners"
#: Captioners that are kept; the one used longest ago makes room for another.
KEPT = 8

_DOCUMENT = "document"


class CompiledMember(Member):
    """One model of a captioner, compiled before; its graph is made when it is first asked for.

    Its encoder sees photographs, and knows no network.
    """

    def __init__(
        self, path: Path, document: JsonObject, encoder: CompiledEncoder, decoder: Decoder
    ) -> None:
        header: JsonObject = document["header"]
        self.path, self.header, self.decoder = path, header, decoder
        self.encoder: Any = encoder
        self.tuned = document["tuned"]
        self.annotation_shape = tuple(header["annotation_shape"])
        self.vocabulary = Vocabulary.from_json(
            header["vocabulary"],
            header.get("tokenizer", "words"),
            header.get("tokenizer_contract", 1),
        )

    def __getattr__(self, name: str) -> Any:
        if name not in ("model", "arrays"):
            raise AttributeError(name)
        from dlmie.captioning.model_files import load_member

        loaded = load_member(self.path, None)
        self.model, self.arrays = loaded.model, loaded.arrays
        return vars(self)[name]


def load(
    sources: Sequence[str | Path], *, encoder_weights: str | Path | None = None
) -> ImageCaptioner:
    """As :func:`dlmie.captioning.load`, from what is kept where that is possible.

    Changes of the parameters of such a captioner's model do not change its captions.
    """
    if encoder_weights is None and (folder := _folder()) is not None:
        paths = [find_model(source) for source in sources]
        members = []
        for path in paths:
            found = _found(folder / _name(path), path)
            if found is None:
                break
            members.append(found)
        else:
            return ImageCaptioner(members)
    from dlmie.captioning.model_files import load as load_models

    return load_models(sources, encoder_weights=encoder_weights)


def keep(captioner: ImageCaptioner) -> None:
    """Keep what has been compiled of a captioner; do nothing where that cannot be done."""
    new = [m for m in captioner.members if not isinstance(m, CompiledMember)]
    folder = _folder() if new else None
    if folder is None:
        return
    with contextlib.suppress(Exception):  # a caption that was made is not lost to a convenience
        if not _is_pytensors(folder.parent):
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        for member in new:
            path = folder / _name(member.path)
            if _keepable(member) and not path.exists():
                atomic.write(path, _packed(member))
        kept = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-KEPT]:
            path.unlink(missing_ok=True)


def _keepable(member: Member) -> bool:
    """Whether it is compiled, and its file says all that it depends on."""
    compiled = "encoder" in vars(member) and "decoder" in vars(member)
    weights = member.encoder_header["weights"] or {} if compiled else {}
    return compiled and "path" not in weights  # a file of the user's may change or go


def _packed(member: Member) -> bytes:
    import pytensor

    from dlmie.ops.runtime.capture import Archive, capture

    archive, decoder = Archive(), member.decoder
    folder, base = Path(pytensor.config.compiledir), Path(pytensor.config.base_compiledir)
    document = {
        "version": VERSION,
        "header": member.header,
        "tuned": member.tuned,
        "modules": folder.relative_to(base.resolve()).as_posix(),
        "encoder": capture(member.encoder.run, archive),
        "begin": capture(decoder.begin_function, archive),
        "advance": capture(decoder.advance_function, archive),
        "states": decoder.states,
        "extras": decoder.extras,
        "dtype": decoder.dtype,
    }
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    arrays: dict[str, Any] = {_DOCUMENT: text, **archive.arrays}
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _found(entry: Path, path: Path) -> CompiledMember | None:
    """What is kept in a file; None, and no longer there, if it is of no use."""
    if not entry.exists():
        return None
    if not (only_ours(entry) and only_ours(entry.parent) and only_ours(entry.parent.parent)):
        return None
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:  # reading checks the sums
            arrays = {name: stored[name] for name in stored.files}
        document = json.loads(arrays[_DOCUMENT].tobytes())
        modules = entry.parent.parent / document["modules"]
        if not only_ours(modules):
            return None
        encoder, begin, advance = (
            Program(document[name], arrays, modules) for name in ("encoder", "begin", "advance")
        )
        seen = Preprocessing.from_json(document["header"]["encoder"]["preprocessing"])
        flip = bool(document["header"]["encoder"].get("average_flip"))
        found = CompiledMember(
            path,
            document,
            CompiledEncoder(encoder, seen, average_flip=flip),
            Decoder(begin, advance, document["states"], document["extras"], document["dtype"]),
        )
    except Exception:  # whatever a damaged archive makes of itself
        with contextlib.suppress(OSError):
            entry.unlink()
        return None
    with contextlib.suppress(OSError):  # where others may read only
        os.utime(entry)
    return found


def _name(model: Path) -> str:
    digest = hashlib.sha256(f"{sha256(model)} {_circumstances()}".encode())
    return f"{digest.hexdigest()[:32]}.npz"


def _circumstances() -> str:
    """What a program depends on, its model aside."""
    return json.dumps(
        [
            VERSION,
            sorted(_own_files()),
            sys.version,
            platform.platform(),
            prebuilt.processor(),
            os.environ.get("PYTENSOR_FLAGS"),
            [_dated(Path(path)) for path in _origins("pytensor", "numpy", "scipy_openblas32")],
            str(library.build()),
        ]
    )


def _own_files() -> Iterator[list[str | int]]:
    """dlmie's own source files, with sizes and dates."""
    package = Path(dlmie.__path__[0])
    folders = [package, *(package.parent / name for name in ("models", "data"))]
    for folder in folders if (package.parent / "setup.cfg").exists() else folders[:1]:
        for place, names, files in os.walk(folder):
            names[:] = [name for name in names if name != "__pycache__"]
            for file in files:
                if file.endswith((".py", ".c", ".h")):
                    yield _dated(Path(place, file))


def _dated(path: Path) -> list[str | int]:
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]


def _origins(*packages: str) -> Iterator[str]:
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            yield spec.origin


def _folder() -> Path | None:
    """Where captioners are kept; None where PyTensor's settings must be asked for that.

    They are also not kept where the kernels are compiled to the user's wishes, or switched off.
    """
    if os.environ.get("DLMIE_KERNELS", "1") == "0" or not library.is_prebuilt():
        return None
    if current_backend() != "c":
        return None
    base = Path.home() / ".pytensor"
    for setting in os.environ.get("PYTENSOR_FLAGS", "").split(","):
        name, _, value = setting.strip().partition("=")
        if name == "compiledir":
            return None
        if name == "base_compiledir":
            base = Path(value).expanduser()
    return None if library.pytensor_settings() else base / FOLDER


def _is_pytensors(folder: Path) -> bool:
    import pytensor

    return folder.exists() and folder.samefile(pytensor.config.base_compiledir)
