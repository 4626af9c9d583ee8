"""Captioners that are kept compiled: found, not found, damaged, in the hands of others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dlmie import models
from dlmie.captioning import compiled_captioners, encoder_header, save_model
from dlmie.captioning.captioner import ImageCaptioner
from dlmie.data.captions.vocabulary import SPECIAL, Vocabulary
from dlmie.models.captioners.show_attend_tell import ShowAttendTell
from dlmie.ops.runtime import library

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner with its encoder in one file."""
    network = models.encoder("squeezenet", weights=None, size=32)
    vocabulary = Vocabulary([*SPECIAL, "a", "cat", "dog", "on", "mat"])
    captioner = ShowAttendTell(network["pool1"], vocabulary, embedding=8, hidden=12, attention=6)
    path = tmp_path_factory.mktemp("model") / "captioner.h5"
    header = encoder_header(network, "pool1")
    return save_model(captioner, path, encoder=header, extra=network.parameters)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for captioners beside PyTensor's."""
    if not library.is_prebuilt():
        pytest.skip("the installation brought no kernels")
    monkeypatch.delenv("DLMIE_KERNELS", raising=False)
    monkeypatch.setattr(compiled_captioners, "FOLDER", f"dlmie_captioners_test_{os.getpid()}")
    folder = compiled_captioners._folder()
    if folder is None:
        pytest.skip("PyTensor has settings of the user's")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def load_and_keep(model: Path) -> ImageCaptioner:
    """Load a captioner and keep what its first caption compiles."""
    captioner = compiled_captioners.load([model])
    captioner(IMAGE)
    compiled_captioners.keep(captioner)
    return captioner


def is_compiled(captioner: ImageCaptioner) -> bool:
    return isinstance(captioner.members[0], compiled_captioners.CompiledMember)


def test_what_is_kept_captions_alike(model: Path, kept: Path) -> None:
    before = load_and_keep(model)
    assert not is_compiled(before)
    after = compiled_captioners.load([model])
    assert is_compiled(after)
    for options in ({"beam": 3, "n_best": 3}, {"beam": 1}):
        for one, other in zip(before(IMAGE, **options), after(IMAGE, **options), strict=True):
            assert (one.text, one.log_probability) == (other.text, other.log_probability)
            np.testing.assert_array_equal(one.extras["alphas"], other.extras["alphas"])
    assert after.header == before.header
    assert after.vocabulary == before.vocabulary
    own = after.model.parameters  # its graph is made when it is asked for
    for parameter, other in zip(own, before.model.parameters, strict=True):
        np.testing.assert_array_equal(parameter.get_value(), other.get_value())
    assert compiled_captioners.load([model, model])(IMAGE)[0].text


def test_it_needs_no_pytensor(model: Path, kept: Path) -> None:
    said = load_and_keep(model)(IMAGE)[0]
    script = f"""
import json, sys
import numpy as np
from dlmie.captioning import compiled_captioners
compiled_captioners.FOLDER = {compiled_captioners.FOLDER!r}
image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
said = compiled_captioners.load([{str(model)!r}])(image)[0]
print(json.dumps([said.text, said.log_probability, "pytensor" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [said.text, said.log_probability, False]


def test_of_other_models_and_circumstances_nothing_is_found(
    model: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load_and_keep(model)
    assert is_compiled(compiled_captioners.load([model]))
    changed = tmp_path / "changed.h5"
    changed.write_bytes(model.read_bytes() + b"\0")
    assert compiled_captioners._name(changed) != compiled_captioners._name(model)
    same = shutil.copy(model, tmp_path / "same.h5")
    assert is_compiled(compiled_captioners.load([same]))
    with monkeypatch.context() as patch:
        patch.setenv("PYTENSOR_FLAGS", f"{os.environ.get('PYTENSOR_FLAGS', '')},floatX=float32")
        assert not is_compiled(compiled_captioners.load([model]))
    with monkeypatch.context() as patch:
        files = [*compiled_captioners._own_files(), ["new.py", 1, 1]]
        patch.setattr(compiled_captioners, "_own_files", lambda: files)
        assert not is_compiled(compiled_captioners.load([model]))
    assert is_compiled(compiled_captioners.load([model]))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, None])
def test_a_damaged_file_is_made_anew(model: Path, kept: Path, place: float | None) -> None:
    load_and_keep(model)
    (entry,) = kept.glob("*.npz")
    content = bytearray(entry.read_bytes())
    if place is None:
        entry.write_bytes(content[: len(content) // 2])
    else:
        start = int(place * len(content))
        # More than a header of the archive, which nothing reads.
        for i in range(start, start + 200):
            content[i] ^= 0x55
        entry.write_bytes(content)
    captioner = compiled_captioners.load([model])
    assert not is_compiled(captioner)
    assert not entry.exists()
    compiled_captioners.keep(captioner)  # nothing is compiled of it yet
    assert not entry.exists()
    captioner(IMAGE)
    compiled_captioners.keep(captioner)
    assert is_compiled(compiled_captioners.load([model]))


def test_whatever_byte_is_damaged_the_captions_are_the_same(model: Path, kept: Path) -> None:
    said = load_and_keep(model)(IMAGE)[0]
    (entry,) = kept.glob("*.npz")
    whole, rng = entry.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 40):
        content = bytearray(whole)
        content[place] ^= int(rng.integers(1, 256))
        entry.write_bytes(content)
        found = compiled_captioners._found(entry, model)
        if found is not None:  # a byte that nothing reads
            assert ImageCaptioner([found])(IMAGE)[0].text == said.text


@pytest.mark.slow
def test_a_cache_behind_a_link(model: Path, tmp_path: Path) -> None:
    if not library.is_prebuilt():
        pytest.skip("the installation brought no kernels")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    script = f"""
import numpy as np
from dlmie.captioning import compiled_captioners
image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
captioner = compiled_captioners.load([{str(model)!r}])
captioner(image)
compiled_captioners.keep(captioner)
print(type(compiled_captioners.load([{str(model)!r}]).members[0]).__name__)
"""
    flags = f"base_compiledir={tmp_path / 'link'}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTENSOR_FLAGS": flags},
    )  # fmt: skip
    assert done.stdout.split() == ["CompiledMember"]


def test_what_others_can_write_is_not_used(model: Path, kept: Path) -> None:
    load_and_keep(model)
    (entry,) = kept.glob("*.npz")
    for path, mode in ((entry, 0o666), (kept, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert not is_compiled(compiled_captioners.load([model]))
        assert entry.exists()
        path.chmod(before)
    assert is_compiled(compiled_captioners.load([model]))


def test_users_settings_come_first(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(**variables: str) -> Path | None:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return compiled_captioners._folder()

    assert folder() == kept
    assert folder(DLMIE_KERNELS="0") is None
    assert folder(PYTENSOR_FLAGS="floatX=float32,compiledir=/tmp/mine") is None
    assert folder(PYTENSOR_FLAGS="base_compiledir=/tmp/mine") == Path("/tmp/mine", kept.name)
    assert folder(PYTENSORRC=__file__) is None
    monkeypatch.setattr(library, "is_prebuilt", lambda: False)
    assert folder() is None


def test_weights_of_the_users_own_are_not_kept(model: Path, kept: Path) -> None:
    captioner = compiled_captioners.load([model])
    captioner(IMAGE)
    captioner.members[0].header["encoder"]["weights"] = {"path": "/my.h5", "sha256": "0" * 64}
    compiled_captioners.keep(captioner)
    assert not list(kept.glob("*.npz"))


def test_only_the_latest_are_kept(model: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_captioners, "KEPT", 2)
    kept.mkdir(0o700)
    for number, name in enumerate(("old.npz", "older.npz")):
        (kept / name).touch()
        os.utime(kept / name, (1000 - number, 1000 - number))
    load_and_keep(model)
    names = {path.name for path in kept.glob("*.npz")}
    assert len(names) == 2
    assert "older.npz" not in names
