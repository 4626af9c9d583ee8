"""Feature caches: right values, resumed with the same bytes, never mixed, bounded reading."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import dlmie.data.captions.feature_cache as feature_cache
import dlmie.data.captions.feature_pieces as features_module
from dlmie.data.batches import Batches
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features, extract_features
from dlmie.data.images import Preprocessing, preprocess, view_image
from dlmie.data.scenes import prepare_scenes
from dlmie.errors import DataError, DlmieError

PREPROCESSING = Preprocessing(32, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
HEADER = {"encoder": "Tiles", "layer": "means", "weights": "ab" * 32}


def encode(x: np.ndarray) -> np.ndarray:
    """Means of 8×8 tiles and their squares: (n, 6, 4, 4)."""
    n, channels, rows, cols = x.shape
    tiles = x.reshape(n, channels, rows // 8, 8, cols // 8, 8).mean(axis=(3, 5))
    return np.concatenate([tiles, tiles**2], axis=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Captions:
    folder = tmp_path_factory.mktemp("scenes")
    return prepare_scenes(folder / "s.h5", train=45, dev=7, test=3, size=32, progress=False)


def extract(data: Captions, to: Path, **options: Any) -> Features:
    given: dict[str, Any] = {"header": HEADER, "progress": False, "batch": 4, **options}
    return extract_features(data, given.pop("encode", encode), PREPROCESSING, to=to, **given)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "_PIECE_IMAGES", 8)
    monkeypatch.setattr(features_module, "_CHUNK_BYTES", 400)  # two images of 6×4×4 float16


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_reading_gives_what_the_encoder_gave(
    data: Captions, tmp_path: Path, dtype: str, in_memory: bool
) -> None:
    extract(data, tmp_path / "f.h5", flip=True, dtype=dtype).close()
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]
    features = Features(tmp_path / "f.h5", in_memory)
    assert features.shape == (6, 4, 4)
    assert features.splits == {"train": 45, "dev": 7, "test": 3}
    rng = np.random.default_rng(0)
    for split in data:
        pixels = split.load_images(np.arange(len(split)))
        straight = encode(preprocess(pixels, PREPROCESSING)).astype(dtype).astype(np.float32)
        mirrored = encode(preprocess(pixels[:, :, ::-1], PREPROCESSING)).astype(dtype)
        everything = features.read(split.name, np.arange(len(split)))
        assert everything.dtype == np.float32
        np.testing.assert_array_equal(everything, straight)
        for count in (0, 1, 5, 60):  # any order, with repetitions, some mirrored
            indices = rng.integers(0, len(split), count)
            flips = rng.random(count) < 0.5
            expected = np.where(flips[:, None, None, None], mirrored[indices], straight[indices])
            np.testing.assert_array_equal(features.read(split.name, indices, flips), expected)
        np.testing.assert_array_equal(features.read(split.name, [1, 0], True), mirrored[[1, 0]])
    if in_memory:
        features.close()
        assert features.read("dev", [6]).shape == (1, 6, 4, 4)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("in_memory", [True, False])
def test_crops_of_training_images_are_kept(data: Captions, tmp_path: Path, in_memory: bool) -> None:
    extract(data, tmp_path / "f.h5", flip=True, crops=2).close()
    features = Features(tmp_path / "f.h5", in_memory)
    assert features.nbytes == (4 * 45 + 2 * 7 + 2 * 3) * 6 * 4 * 4 * 2
    index, views = np.array([3, 0, 44, 7, 7]), np.array([3, 0, 1, 2, 3])
    pixels = data["train"].load_images(index)
    seen = [view_image(*one) for one in zip(pixels, views, index, strict=True)]
    expected = encode(preprocess(np.stack(seen), PREPROCESSING)).astype(np.float16)
    np.testing.assert_array_equal(features.read("train", index, views), expected)
    with pytest.raises(DataError, match="no features of crop 1 of dev; make them with crops"):
        features.read("dev", [0], 2)
    with pytest.raises(DataError, match="no features of crop 3 of train"):
        features.read("train", [0, 1], [0, 4])
    with pytest.raises(DataError, match="crops is -1"):
        extract(data, tmp_path / "g.h5", crops=-1)
    # A file with more than what is asked for serves; one with less does not.
    assert extract(data, tmp_path / "f.h5", flip=True).header["crops"] == 2
    with pytest.raises(DataError, match="crops is 2, not 4"):
        extract(data, tmp_path / "f.h5", flip=True, crops=4)


def test_the_file_says_what_it_holds(data: Captions, tmp_path: Path) -> None:
    features = extract(data, tmp_path / "f.h5")
    assert features.header["encoder"] == "Tiles"
    assert features.header["preprocessing"] == PREPROCESSING.to_json()
    assert features.header["data"] == data.hash
    assert features.header["dtype"] == "float16"
    assert "6×4×4 float16" in repr(features)
    with h5py.File(tmp_path / "f.h5") as file:
        stored = file["splits/train/features"]
        assert stored.chunks is not None
        assert stored.compression == "gzip"
        assert stored.dtype == np.float16
    features.check_matches({**HEADER, "data": data.hash, "preprocessing": PREPROCESSING.to_json()})


def test_vectors_work_like_grids(data: Captions, tmp_path: Path) -> None:
    features = extract(data, tmp_path / "v.h5", encode=lambda x: x.mean(axis=(2, 3)))
    assert features.shape == (3,)
    assert features.read("train", [3, 9]).shape == (2, 3)


def test_batches_read_from_the_cache(data: Captions, tmp_path: Path) -> None:
    features = extract(data, tmp_path / "f.h5", flip=True)
    for block in (None, 4):
        batches = Batches(data["train"], partial(features.read, "train"), flip=True, block=block)
        for batch in batches:
            expected = features.read("train", batch.image_index, batch.views)
            np.testing.assert_array_equal(batch.inputs, expected)


SCRIPT = """
import os, signal, sys, time
import dlmie.data.captions.feature_pieces as module
from dlmie.data.captions.dataset import Captions
from test_features import encode, extract
module._PIECE_IMAGES, module._CHUNK_BYTES = 4, 400
data, to, mode = Captions(sys.argv[1]), sys.argv[2], sys.argv[3]
def slow(x):
    time.sleep(0.1)
    return encode(x)
if mode.startswith("die at "):
    place, original = mode.removeprefix("die at "), getattr(os, mode.split()[2])
    def die(*names, **options):
        if any(place.split()[1] in str(name) for name in names):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*names, **options)
    setattr(os, place.split()[0], die)
extract(data, to, encode=slow if mode == "slow" else encode, flip=True, crops=1)
"""


def start(data: Captions, to: Path, mode: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(data.path), str(to), mode],
        env=environment, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    error = process.communicate(timeout=120)[1]
    return process.returncode, error.decode()


def test_killed_anywhere_it_resumes_with_identical_bytes(data: Captions, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.h5", tmp_path / "killed.h5"
    assert finish(start(data, whole, "")) == (0, "")
    part = tmp_path / "killed.h5.part"
    for enough in (2, 6):  # pieces after which it is killed, at some moment
        process = start(data, killed, "slow")
        while len(list(part.glob("*.h5"))) < enough:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        finish(process)
    assert not killed.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in part.glob("*.h5")}
    assert len(kept) >= 6
    # Killed while a piece was being written, and while the pieces were being joined.
    for moment in ("link dev-flipped-00000004", "replace dev-flipped-00000004", "replace joined"):
        assert finish(start(data, killed, f"die at {moment}"))[0] == -signal.SIGKILL
        assert not killed.exists()
        now = {path.name: path.stat().st_mtime_ns for path in part.glob("*.h5")}
        assert kept.items() <= now.items()  # nothing was made twice
    assert finish(start(data, killed, "")) == (0, "")
    assert killed.read_bytes() == whole.read_bytes()
    assert not part.exists()


@pytest.mark.usefixtures("small_pieces")
def test_an_interrupted_extraction_encodes_the_rest_only(data: Captions, tmp_path: Path) -> None:
    calls = []

    def interrupted(x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        if len(calls) == 9:
            raise KeyboardInterrupt
        return encode(x)

    with pytest.raises(KeyboardInterrupt):
        extract(data, tmp_path / "f.h5", encode=interrupted)
    with pytest.raises(DataError, match="interrupted: run it again"):
        Features(tmp_path / "f.h5")
    before = calls.copy()
    calls.extend([0] * 9)
    extract(data, tmp_path / "f.h5", encode=interrupted)
    rest = sum(calls[len(before) + 9 :])
    assert rest == 55 - 24  # three pieces of eight were there
    # Complete: opened without encoding anything.
    extract(data, tmp_path / "f.h5", encode=lambda x: 1 / 0)


@pytest.mark.usefixtures("small_pieces")
def test_it_refuses_to_mix(data: Captions, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    features = extract(data, path)
    other = {**HEADER, "layer": "squares", "weights": "cd" * 32}
    with pytest.raises(DataError) as caught:
        extract(data, path, header=other)
    message = str(caught.value)
    assert "layer is 'means', not 'squares'" in message
    assert "weights is abababababab…, not cdcdcdcdcdcd…" in message
    assert "name another file or overwrite it" in message
    assert "\n" not in message
    with pytest.raises(DataError) as caught:
        features.check_matches(
            {"data": "0" * 64, "preprocessing": {**PREPROCESSING.to_json(), "size": 224}, "x": 1}
        )
    message = str(caught.value)
    assert "data is " in message
    assert "preprocessing.size is 32, not 224" in message
    assert "x is not recorded, should be 1" in message
    extract(data, path, header=other, overwrite=True)
    assert Features(path).header["layer"] == "squares"

    # The same for one that is not finished.
    path = tmp_path / "g.h5"
    with pytest.raises(ZeroDivisionError):
        extract(data, path, encode=lambda x: 1 / 0 if x.shape[0] == 3 else encode(x))
    assert len(list((tmp_path / "g.h5.part").glob("*.h5"))) == 6
    with pytest.raises(DataError, match=r"dtype is 'float16', not 'float32'; .*delete g\.h5\.part"):
        extract(data, path, dtype="float32")
    assert extract(data, path, dtype="float32", overwrite=True).header["dtype"] == "float32"


def test_only_one_process_at_a_time(data: Captions, tmp_path: Path) -> None:
    def inner(x: np.ndarray) -> np.ndarray:
        extract(data, tmp_path / "f.h5")
        return encode(x)

    with pytest.raises(DataError, match=r"f\.h5: another process .* \(process \d+\)"):
        extract(data, tmp_path / "f.h5", encode=inner)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (lambda x: encode(x) * 1e6, r"too much for float16; keep these features as float32"),
        (lambda x: encode(x) * np.nan, "not finite for the first images"),
        (lambda x: encode(x)[:1], r"gave \(1, 6, 4, 4\) for the first images"),
        (lambda x: x.mean(axis=(1, 2, 3)), r"gave \(4,\)"),
    ],
)
def test_what_an_encoder_may_not_give(
    data: Captions, tmp_path: Path, encoder: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        extract(data, tmp_path / "f.h5", encode=encoder)
    assert extract(data, tmp_path / "f.h5").splits["train"] == 45  # nothing stands in the way


def test_misuse_is_one_clear_line(data: Captions, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dtype is 'float16' or 'float32', not 'int8'"):
        extract(data, tmp_path / "f.h5", dtype="int8")
    with pytest.raises(DataError, match="batch is 0"):
        extract(data, tmp_path / "f.h5", batch=0)
    with pytest.raises(DataError, match="only JSON values"):
        extract(data, tmp_path / "f.h5", header={"encoder": object()})
    features = extract(data, tmp_path / "f.h5")
    with pytest.raises(DataError, match="has no split 'val'; it has train, dev, test"):
        features.read("val", [0])
    with pytest.raises(DataError, match="no image 7 in dev, which has 7"):
        features.read("dev", [0, 7])
    with pytest.raises(DataError, match="no image -1 in dev"):
        features.read("dev", [-1])
    with pytest.raises(DataError, match="no features of mirrored images"):
        features.read("dev", [0, 1], [False, True])


def test_damaged_files_are_named(data: Captions, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    extract(data, path, dtype="float32").close()
    content = path.read_bytes()
    with pytest.raises(DataError, match=r"none\.h5: no such file$"):
        Features(tmp_path / "none.h5")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"f\.h5 .* is truncated; run dlmie features again"):
        Features(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="not a file that dlmie features writes"):
        Features(path)
    with pytest.raises(DataError, match=r"is a dlmie\.captions file, not a feature cache"):
        Features(data.path)
    with h5py.File(path, "w") as file:
        file["header"] = json.dumps({"format": "dlmie.features", "version": 99})
    with pytest.raises(DataError, match=r"format version 99.*upgrade dlmie"):
        Features(path)
    # One flipped bit in the values: the checksum finds it.
    path.write_bytes(content)
    with h5py.File(path) as file:
        where = file["splits/train/features"].id.get_chunk_info(0).byte_offset
    spoilt = bytearray(content)
    spoilt[where + 100] ^= 4
    path.write_bytes(spoilt)
    with pytest.raises(DataError, match=r"f\.h5: is damaged"):
        Features(path, in_memory=False).read("train", [0])


def test_memory_decides_where_reading_happens(
    data: Captions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.h5"
    features = extract(data, path)
    assert features.nbytes == 55 * 6 * 4 * 4 * 2
    assert feature_cache.available_memory() > 2**20
    monkeypatch.setattr(feature_cache, "available_memory", lambda: 4 * features.nbytes + 4)
    assert Features(path).in_memory
    monkeypatch.setattr(feature_cache, "available_memory", lambda: 4 * features.nbytes - 4)
    assert not Features(path).in_memory
    assert Features(path, in_memory=True).in_memory


def test_a_disk_that_will_be_too_small_is_found_early(
    data: Captions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(features_module, "_PIECE_IMAGES", 8)
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(DataError, match=r"f\.h5: needs .* left; .* go on from f\.h5\.part"):
            extract(data, tmp_path / "f.h5")
        assert len(list((tmp_path / "f.h5.part").glob("*.h5"))) == 1


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("limit", [3000, 30_000])  # in a piece, and while joining
def test_a_full_disk_is_one_clear_line_and_loses_nothing(
    data: Captions, tmp_path: Path, limit: int
) -> None:
    # A limit on the size of files acts like a full disk: writing raises an OSError.
    path = tmp_path / "f.h5"
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    noise = np.random.default_rng(0)

    def noisy(x: np.ndarray) -> np.ndarray:
        return noise.standard_normal((len(x), 6, 4, 4))

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, previous[1]))
        with pytest.raises(DataError) as caught:
            extract(data, path, encode=noisy, flip=True, dtype="float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, ignored)
    message = str(caught.value)
    assert "f.h5 was not written: the disk is full" in message
    assert "run the same again to go on from f.h5.part" in message
    assert "\n" not in message
    assert not path.exists()
    there = len(list((tmp_path / "f.h5.part").glob("*.h5")))
    assert there == (0 if limit == 3000 else 16)
    done = extract(data, path, encode=noisy, flip=True, dtype="float32")
    assert done.read("train", [44]).shape == (1, 6, 4, 4)


def test_progress_tells_size_and_time(
    data: Captions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(data, tmp_path / "f.h5", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "f.h5: 55 images of 6×4×4 float16; at most 10.6 KB" in err
    assert err.count("\n") == 1  # no bar in a log that is done so soon


@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_two_encoders_are_never_mixed(data: Captions, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    calls: list[int] = []

    def stopping(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) > 6:
            raise Stopped
        return encode(x) + 100

    path, part = tmp_path / "f.h5", tmp_path / "f.h5.part"
    with pytest.raises(Stopped):
        extract(data, path, encode=stopping)
    left = list(part.glob("*.h5"))
    assert left
    (part / "header.json").unlink()  # --overwrite was killed while it cleaned up
    other = {**HEADER, "weights": "cd" * 32}
    extract(data, path, header=other, overwrite=True).close()
    extract(data, tmp_path / "clean.h5", header=other).close()
    assert path.read_bytes() == (tmp_path / "clean.h5").read_bytes()


def test_a_cache_is_not_written_over_its_data(data: Captions, tmp_path: Path) -> None:
    link = tmp_path / "link.h5"
    link.symlink_to(data.path)
    for to in (data.path, link):
        with pytest.raises(DlmieError, match="what the command reads"):
            extract(data, to, overwrite=True)
