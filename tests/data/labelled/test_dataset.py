"""Prepared labeled images: splits, the file, and what happens to bad files and full disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from labelled_cases import (
    cifar_batch,
    write_cifar,
    write_cifar_binary,
    write_class_folders,
    write_image,
    write_mnist,
)

from dlmie.data import LabelledImages, prepared
from dlmie.data.labelled import dataset
from dlmie.data.labelled.dataset import check, prepare, prepare_labelled_scenes
from dlmie.data.labelled.sources import Part
from dlmie.data.labelled.splitting import choose_splits
from dlmie.errors import DataError
from dlmie.files.hdf5 import create_text


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 with 20 images per file, prepared with the last 7 of train as dev."""
    folder = tmp_path_factory.mktemp("cifar")
    counts = {"train": 90, "dev": 7, "test": 15}
    prepare(write_cifar(folder), to=folder / "cifar.h5", splits=counts, progress=False)
    return folder / "cifar.h5"


def counted(**sizes: int) -> dict[str, Part]:
    return {name: Part(np.zeros(size, np.int64)) for name, size in sizes.items()}


class TestSplits:
    def sizes(self, chosen: dict[str, np.ndarray]) -> dict[str, int]:
        names = np.concatenate(list(chosen.values())).tolist()
        return {name: names.count(name) for name in sorted(set(names))}

    def test_a_source_without_dev_gives_it_the_end_of_train(self) -> None:
        chosen = choose_splits(counted(train=50_000, test=10_000))
        assert self.sizes(chosen) == {"train": 49_000, "dev": 1_000, "test": 10_000}
        assert set(chosen["train"][49_000:]) == {"dev"}
        assert self.sizes(choose_splits(counted(train=30))) == {"train": 27, "dev": 3}

    def test_the_numbers_of_the_course(self) -> None:
        counts = {"train": 49_000, "dev": 1_000, "test": 1_000}
        chosen = choose_splits(counted(train=50_000, test=10_000), counts)
        assert self.sizes(chosen) == {"": 9_000, **counts}
        assert set(chosen["test"][:1_000]) == {"test"}

    def test_dev_is_the_same_whatever_train_is(self) -> None:
        few = choose_splits(counted(train=100), {"train": 10, "dev": 20})["train"]
        assert few.tolist() == ["train"] * 10 + [""] * 70 + ["dev"] * 20

    def test_splits_of_the_source_stay(self) -> None:
        chosen = choose_splits(counted(train=20, dev=10, test=5), {"dev": 4})
        assert self.sizes(chosen) == {"": 6, "dev": 4, "test": 5, "train": 20}

    def test_no_dev_if_none_is_wanted(self) -> None:
        assert self.sizes(choose_splits(counted(train=20), {"dev": 0})) == {"train": 20}

    def test_an_undivided_source_is_split_by_names(self) -> None:
        names = [f"cat/{number}.png" for number in range(1000)]
        chosen = choose_splits({"": Part(np.zeros(1000, np.int64), names)})[""]
        counts = [chosen.tolist().count(split) for split in ("train", "dev", "test")]
        assert counts == [800, 100, 100]
        backwards = choose_splits({"": Part(np.zeros(1000, np.int64), names[::-1])})[""]
        assert backwards[::-1].tolist() == chosen.tolist()

    def test_an_undivided_source_in_pieces(self) -> None:
        chosen = choose_splits(counted(**{"": 10}), {"dev": 2, "test": 3})[""]
        assert chosen.tolist() == ["train"] * 5 + ["dev"] * 2 + ["test"] * 3

    @pytest.mark.parametrize(
        ("parts", "counts", "message"),
        [
            (counted(train=10), {"train": 11}, "split train: 11 images are wanted and there are 9"),
            (counted(train=10), {"dev": 11}, "split dev: 11 images are wanted and there are 10"),
            (counted(train=10), {"train": 9, "dev": 2}, "split train: 9 .* there are 8"),
            (counted(train=10), {"trian": 1}, "no images for the split 'trian', only train"),
            (counted(**{"": 10}), {"train": 8, "dev": 3}, "11 images are wanted .* there are 10"),
        ],
    )
    def test_more_than_there_is(
        self, parts: dict[str, Part], counts: dict[str, int], message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            choose_splits(parts, counts)


class TestFile:
    def test_what_it_holds(self, cifar: Path) -> None:
        images, labels = (
            np.concatenate(every) for every in zip(*map(cifar_batch, range(5)), strict=True)
        )
        with LabelledImages(cifar) as data:
            train, dev, test = (data[name] for name in ("train", "dev", "test"))
            assert data.splits == ["train", "dev", "test"]
            assert (len(train), len(dev), len(test), len(data)) == (90, 7, 15, 112)
            np.testing.assert_array_equal(train.images, images[:90])
            np.testing.assert_array_equal(train.labels, labels[:90])
            np.testing.assert_array_equal(dev.images, images[93:])
            np.testing.assert_array_equal(test.labels, cifar_batch(5)[1][:15])
            assert train.labels.dtype == np.int64
            assert dev.names[-1] == "data_batch_5_19.png"
            assert train.classes[3] == data.classes[3] == "cat"
            assert data.shape == train.shape == (32, 32, 3)
            assert "train 90, dev 7, test 15; 10 classes; 32×32×3" in repr(data)

    def test_the_statistics_of_train(self, cifar: Path) -> None:
        data = LabelledImages(cifar)
        pixels = data["train"].images.astype(np.float64)
        np.testing.assert_allclose(data.mean_image, pixels.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(data.channel_mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-14)
        np.testing.assert_allclose(data.channel_std, pixels.std(axis=(0, 1, 2)), rtol=1e-13)
        assert data["dev"].mean_image is data.mean_image

    def test_loading_some(self, cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        train = LabelledImages(cifar)["train"]
        wanted = [80, 3, 3, 41]
        expected = train.images[wanted]
        np.testing.assert_array_equal(train.load_images(wanted), expected)
        monkeypatch.setattr(dataset, "IN_MEMORY", 0)
        large = LabelledImages(cifar)["train"]
        np.testing.assert_array_equal(large.load_images(wanted), expected)
        assert "images" not in vars(large)
        with pytest.raises(DataError, match=r"train has images 0\.\.89, not 5\.\.90"):
            train.load_images([5, 90])

    def test_either_version_has_the_same_hash(self, cifar: Path, tmp_path: Path) -> None:
        folder = write_cifar_binary(tmp_path)
        counts = {"train": 90, "dev": 7, "test": 15}
        with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        data = prepare(tmp_path / "c.tar.gz", to=tmp_path / "c.h5", splits=counts, progress=False)
        assert data.hash == LabelledImages(cifar).hash
        other = prepare(folder, to=tmp_path / "d.h5", splits={"train": 89}, progress=False)
        assert other.hash != data.hash

    def test_of_images_without_splits(self, tmp_path: Path) -> None:
        folder = write_class_folders(tmp_path / "pets", ["cat", "dog", "emu"], 30)
        data = prepare(folder, to=tmp_path / "pets.h5", progress=False)
        assert sum(len(split) for split in data) == 90
        for split in data:
            for name, label, image in zip(split.names, split.labels, split.images, strict=True):
                assert name.startswith(data.classes[label])
                assert image[0, 0, 0] == 100 * label + int(name[4:-4])
        again = prepare(folder, to=tmp_path / "again.h5", progress=False)
        assert again.hash == data.hash

    def test_one_channel(self, tmp_path: Path) -> None:
        write_mnist(tmp_path / "mnist")
        data = prepare(tmp_path / "mnist", to=tmp_path / "m.h5", progress=False)
        assert data["train"].images.shape == (27, 6, 5, 1)
        assert data.mean_image.shape == (6, 5, 1)
        assert data["test"].names[:2] == ["0", "1"]

    def test_scenes(self, tmp_path: Path) -> None:
        options = {"train": 20, "dev": 5, "test": 0, "progress": False}
        data = prepare_labelled_scenes(tmp_path / "s.h5", labels="color", **options)  # type: ignore[arg-type]
        assert {split.name: len(split) for split in data} == {"train": 20, "dev": 5}
        assert data.header["source"]["question"] == "color"
        assert prepare_labelled_scenes(  # nothing to do
            tmp_path / "s.h5", labels="color", **options  # type: ignore[arg-type]
        ).hash == data.hash  # fmt: skip

    def test_images_that_cannot_be_used_are_left_out(self, tmp_path: Path) -> None:
        folder = write_class_folders(tmp_path / "pets")
        bad = folder / "cat" / "3.png"
        bad.write_bytes(b"broken")
        data = prepare(folder, to=tmp_path / "pets.h5", splits={"train": 20}, progress=False)
        assert len(data["train"]) == len(data["train"].labels) == len(data["train"].names) == 19
        assert data.header["skipped"] == [f"{bad}: is not an image that can be read"]
        assert data.header["splits"]["train"]["per_class"] == [9, 10]
        with pytest.raises(DataError, match=r"cat/3\.png: is not an image"):
            prepare(folder, to=tmp_path / "strict.h5", strict=True, progress=False)
        assert not (tmp_path / "strict.h5").exists()


class TestWriting:
    def test_again_is_nothing_to_do(self, tmp_path: Path) -> None:
        folder, to = write_cifar(tmp_path), tmp_path / "c.h5"
        prepare(folder, to=to, progress=False).close()
        before = to.stat().st_mtime_ns
        prepare(folder, to=to, progress=False).close()
        assert to.stat().st_mtime_ns == before
        with pytest.raises(DataError, match="exists and holds something else"):
            prepare(folder, to=to, splits={"train": 5}, progress=False)
        data = prepare(folder, to=to, splits={"train": 5}, overwrite=True, progress=False)
        assert len(data["train"]) == 5

    def test_a_source_with_errors_writes_nothing(self, tmp_path: Path) -> None:
        folder = write_cifar(tmp_path)
        for name in ("data_batch_2", "test_batch"):
            (folder / name).write_bytes(b"broken")
        with pytest.raises(DataError, match=r"data_batch_2: .* \(1 more; --check lists all\)"):
            prepare(folder, to=tmp_path / "c.h5", progress=False)
        assert {path.name for path in tmp_path.iterdir()} == {"cifar-10-batches-py"}

    def test_an_error_on_the_way_leaves_nothing(self, tmp_path: Path) -> None:
        write_mnist(tmp_path / "mnist", zipped=False)
        images = tmp_path / "mnist" / "t10k-images-idx3-ubyte"
        images.write_bytes(images.read_bytes()[:-1])
        with pytest.raises(DataError, match="is truncated"):
            prepare(tmp_path / "mnist", to=tmp_path / "m.h5", progress=False)
        assert {path.name for path in tmp_path.iterdir()} == {"mnist"}

    def test_a_full_disk_is_one_line_to_the_end_of_the_process(self, tmp_path: Path) -> None:
        # A limit on the size of files acts like a full disk.
        script = """
import resource, signal, sys
from dlmie.data.labelled.dataset import prepare
from dlmie.errors import DataError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))
try:
    prepare(sys.argv[1], to=sys.argv[2], progress=False)
except DataError as error:
    print(error)
"""
        to = tmp_path / "to" / "c.h5"
        command = [sys.executable, "-c", script, str(write_cifar(tmp_path)), str(to)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"{to} was not written: the disk is full")
        assert done.stderr == ""
        assert os.listdir(to.parent) == []

    def test_no_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = type("Usage", (), {"free": 1000})
        monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(DataError, match=r"needs .* and the disk has 1\.0 KB left"):
            prepare(write_cifar(tmp_path), to=tmp_path / "c.h5", progress=False)


class TestDamage:
    def test_a_byte_that_changed(self, cifar: Path, tmp_path: Path) -> None:
        content = bytearray(cifar.read_bytes())
        place = content.find(cifar_batch(0)[0][0].tobytes())
        content[place + 100] ^= 1
        path = tmp_path / "c.h5"
        path.write_bytes(content)
        data = LabelledImages(path)
        with pytest.raises(DataError, match=r"c\.h5: is damaged \(.*; run dlmie prepare again"):
            data["train"].images  # noqa: B018

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
    def test_a_truncated_file(self, cifar: Path, tmp_path: Path, share: float) -> None:
        path = tmp_path / "c.h5"
        path.write_bytes(cifar.read_bytes()[: int(share * cifar.stat().st_size)])
        with pytest.raises(DataError, match=r"c\.h5"):
            LabelledImages(path)

    def test_labels_that_name_no_class(self, cifar: Path, tmp_path: Path) -> None:
        path = tmp_path / "c.h5"
        path.write_bytes(cifar.read_bytes())
        with h5py.File(path, "r+") as file:
            file["splits/dev/labels"][2] = 10
        data = LabelledImages(path)
        assert len(data["train"]) == 90
        with pytest.raises(DataError, match=r"dev: label 10 of image 2 is not one of 0\.\.9"):
            data["dev"]

    def test_arrays_that_do_not_belong_together(self, cifar: Path, tmp_path: Path) -> None:
        path = tmp_path / "c.h5"
        path.write_bytes(cifar.read_bytes())
        with h5py.File(path, "r+") as file:
            del file["mean_image"]
            file["mean_image"] = np.zeros((2, 2, 3))
        with pytest.raises(DataError, match=r"c\.h5: is "):
            LabelledImages(path)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("classes", ["cat", 7], "classes.1 must be text, not 7"),
            ("classes", ["cat"], "is damaged"),
            ("shape", [32, 32], "shape must be a list of 3 values"),
            ("hash", None, "hash must be text, not null"),
            ("splits", {"train": {"images": 1}}, "splits.train.per_class is missing"),
        ],
    )
    def test_a_header_that_was_changed(
        self, key: str, value: object, message: str, cifar: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "c.h5"
        path.write_bytes(cifar.read_bytes())
        with h5py.File(path, "r+") as file:
            header = json.loads(file["header"][()].tobytes())
            del file["header"]
            create_text(file, "header", json.dumps({**header, key: value}))
        with pytest.raises(DataError, match=re.escape(message)):
            LabelledImages(path)

    def test_another_file(self, tmp_path: Path) -> None:
        from dlmie.data.scenes import prepare_scenes

        prepare_scenes(tmp_path / "s.h5", train=2, dev=0, test=0, progress=False).close()
        with pytest.raises(DataError, match=r"is a dlmie\.captions file, not prepared labeled"):
            LabelledImages(tmp_path / "s.h5")

    def test_a_split_that_is_not_there(self, cifar: Path) -> None:
        data = LabelledImages(cifar)
        with pytest.raises(DataError, match="no split 'night'; it has train, dev, test"):
            data["night"]
        assert "dev" in data
        assert "Validation" in data
        assert data["val"] is data["dev"]  # as of captions
        data.close()
        with pytest.raises(DataError, match="was closed; open it again"):
            data["test"]


class TestCheck:
    def test_everything_is_listed_and_nothing_written(self, tmp_path: Path) -> None:
        folder = write_class_folders(tmp_path)
        (folder / "cat" / "3.png").write_bytes(b"broken")
        (folder / "emu").mkdir()
        write_image(folder / "loose.png")
        before = sorted(tmp_path.rglob("*"))
        problems = check(folder, progress=False)
        assert len(problems) == 3
        for word, problem in zip(("emu", "in no class", "3.png"), problems, strict=True):
            assert word in problem
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_good_source_has_none(self, tmp_path: Path) -> None:
        write_mnist(tmp_path)
        assert check(tmp_path, progress=False) == []

    def test_what_only_reading_finds(self, tmp_path: Path) -> None:
        write_mnist(tmp_path, zipped=False)
        images = tmp_path / "train-images-idx3-ubyte"
        images.write_bytes(images.read_bytes()[:-1])
        (problem,) = check(tmp_path, progress=False)
        assert "is truncated" in problem


def test_the_course_numbers_of_cifar10(shared: Path, tmp_path: Path) -> None:
    """The images that are here, as the course splits them: its labels of dev, its first pixels."""
    sys.path.insert(0, str(shared / "data"))
    try:
        import read_cifar10
    finally:
        sys.path.pop(0)
    read_cifar10.write(tmp_path)
    counts = {"train": 20_000, "dev": 1_000, "test": 1_000}
    data = prepare(tmp_path, to=tmp_path / "c.h5", splits=counts, progress=False)
    assert data["train"].labels[:8].tolist() == [6, 9, 9, 4, 1, 1, 2, 7]
    assert data["test"].labels[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]
    assert data.header["splits"]["dev"]["per_class"] == [
        *(87, 119, 79, 112, 78, 98, 102, 107, 113, 105)
    ]
    expected, numbers, _ = read_cifar10.read()
    np.testing.assert_array_equal(data["dev"].images, expected[numbers >= 49_000])
