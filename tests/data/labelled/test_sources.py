"""Readers of labeled images: every layout, and what is wrong with bad ones, in one line."""

from __future__ import annotations

import gzip
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from labelled_cases import (
    CIFAR_NAMES,
    cifar_batch,
    idx,
    planes,
    python2_pickle,
    write_cifar,
    write_cifar_binary,
    write_class_folders,
    write_image,
    write_mnist,
)

from dlmie.data.labelled.sources import Reading, Source, open_source
from dlmie.data.labelled.sources.drawn_scenes import QUESTIONS, DrawnScenes
from dlmie.data.scenes.pictures import PALETTE
from dlmie.errors import DataError


def images_of(source: Source, part: str) -> np.ndarray:
    """All images of a part, which must be complete and in order."""
    blocks = [block for block in source.blocks(Reading(2)) if block.part == part]
    positions = np.concatenate([block.positions for block in blocks])
    np.testing.assert_array_equal(positions, np.arange(len(source.parts[part])))
    return np.concatenate([block.images for block in blocks])


class TestCifar10:
    def check(self, source: Source, *, named: bool = True) -> None:
        assert source.classes == CIFAR_NAMES
        assert source.shape == (32, 32, 3)
        assert source.errors == []
        train = [cifar_batch(number) for number in range(5)]
        images, labels = (np.concatenate(every) for every in zip(*train, strict=True))
        np.testing.assert_array_equal(source.parts["train"].labels, labels)
        np.testing.assert_array_equal(images_of(source, "train"), images)
        np.testing.assert_array_equal(images_of(source, "test"), cifar_batch(5)[0])
        names = source.parts["train"].names
        assert (names is not None) == named
        if names is not None:
            assert names[21] == "data_batch_2_1.png"

    def test_the_official_pickles_of_python_2(self, tmp_path: Path) -> None:
        self.check(open_source(write_cifar(tmp_path)))

    @pytest.mark.parametrize("protocol", [2, 4])
    def test_pickles_of_python_3(self, tmp_path: Path, protocol: int) -> None:
        def dumps(value: dict[bytes, object]) -> bytes:
            return pickle.dumps({key.decode(): v for key, v in value.items()}, protocol)

        self.check(open_source(write_cifar(tmp_path, dumps=dumps)))

    def test_the_binary_version(self, tmp_path: Path) -> None:
        self.check(open_source(write_cifar_binary(tmp_path)), named=False)

    @pytest.mark.parametrize("write", [write_cifar, write_cifar_binary])
    def test_the_archive_is_read_without_unpacking_it(
        self, tmp_path: Path, write: Callable[[Path], Path]
    ) -> None:
        folder = write(tmp_path / "made")
        path = tmp_path / "cifar.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name in sorted(folder.iterdir(), reverse=True):  # the official order is none
                archive.add(name, f"{folder.name}/{name.name}")
        before = sorted(tmp_path.rglob("*"))
        self.check(open_source(path), named=write is write_cifar)
        assert sorted(tmp_path.rglob("*")) == before

    def test_the_folder_above_will_do(self, tmp_path: Path) -> None:
        write_cifar(tmp_path)
        self.check(open_source(tmp_path))

    def test_missing_files_and_images_are_problems(self, tmp_path: Path) -> None:
        folder = write_cifar(tmp_path)
        (folder / "data_batch_3").unlink()
        (folder / "batches.meta").unlink()
        source = open_source(folder)
        assert source.errors == []
        assert source.problems[2] == "cifar-10-batches-py: data_batch_3 is missing"
        assert source.problems[0].endswith("data_batch_1 has 20 of 10,000 images")
        assert source.classes == CIFAR_NAMES
        assert len(source.parts["train"]) == 80

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_truncated_pickle(self, tmp_path: Path, share: float) -> None:
        path = write_cifar(tmp_path) / "data_batch_2"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        (error,) = open_source(path.parent).errors
        assert error.startswith("cifar-10-batches-py: data_batch_2: is damaged or truncated (")
        assert "\n" not in error

    def test_a_truncated_binary_file(self, tmp_path: Path) -> None:
        path = write_cifar_binary(tmp_path) / "test_batch.bin"
        path.write_bytes(path.read_bytes()[:-1])
        (error,) = open_source(path.parent).errors
        assert "test_batch.bin: is truncated: 61,459 bytes are not a whole number" in error

    def test_a_truncated_archive(self, tmp_path: Path) -> None:
        folder, path = write_cifar(tmp_path / "made"), tmp_path / "cifar.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, folder.name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=r"cifar\.tar\.gz: is damaged or truncated"):
            open_source(path)

    def test_an_archive_of_something_else(self, tmp_path: Path) -> None:
        path = tmp_path / "other.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(write_image(tmp_path / "a.png"), "a.png")
        with pytest.raises(DataError, match="does not hold CIFAR-10; unpack it"):
            open_source(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({b"labels": [10] * 20}, "label 10 of image 0 is not one of 0..9"),
            ({b"labels": [3] * 19 + [-1]}, "label -1 of image 19 is not one of 0..9"),
            ({b"labels": [1] * 19}, "has 20 images and 19 labels"),
            ({b"labels": ["cat"] * 20}, "not a list of whole numbers"),
            ({b"data": np.zeros((20, 1024), np.uint8)}, "20 × 1024 uint8, not n × 3072"),
            ({b"data": np.zeros((20, 3072), np.float32)}, "20 × 3072 float32"),
            ({b"data": [1, 2, 3]}, "has no data and labels"),
            ({b"filenames": [b"a.png"]}, "has 20 images and 1 file names"),
        ],
    )
    def test_wrong_content(self, tmp_path: Path, change: dict[bytes, object], message: str) -> None:
        path = write_cifar(tmp_path) / "data_batch_1"
        images, labels = cifar_batch(0)
        batch = {b"data": planes(images), b"labels": labels.tolist(), **change}
        path.write_bytes(python2_pickle(batch))
        (error,) = open_source(path.parent).errors
        assert "data_batch_1" in error
        assert message in error

    def test_a_pickle_that_wants_to_run_something(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return Path(tmp_path / "made").touch, ()  # type: ignore[return-value]

        path = write_cifar(tmp_path) / "data_batch_1"
        path.write_bytes(pickle.dumps({b"data": Evil()}))
        (error,) = open_source(path.parent).errors
        assert "nothing was executed" in error
        assert not (tmp_path / "made").exists()


class TestMnist:
    @pytest.mark.parametrize("zipped", [True, False])
    def test_the_layout(self, tmp_path: Path, zipped: bool) -> None:
        made = write_mnist(tmp_path, zipped=zipped)
        source = open_source(tmp_path)
        assert source.errors == source.problems == []
        assert source.shape == (6, 5, 1)
        assert source.classes == list("0123456789")
        for part, prefix in (("train", "train"), ("test", "t10k")):
            images, labels = made[prefix]
            np.testing.assert_array_equal(source.parts[part].labels, labels)
            np.testing.assert_array_equal(images_of(source, part), images[..., None])

    def test_names_with_a_dot(self, tmp_path: Path) -> None:
        made = write_mnist(tmp_path, zipped=False)
        for path in list(tmp_path.iterdir()):
            path.rename(tmp_path / path.name.replace("-idx", ".idx"))
        images = images_of(open_source(tmp_path), "train")
        np.testing.assert_array_equal(images, made["train"][0][..., None])

    def error(self, folder: Path) -> str:
        (error,) = open_source(folder).errors
        assert "\n" not in error
        return error

    def test_what_is_wrong_is_named(self, tmp_path: Path) -> None:
        write_mnist(tmp_path)
        labels = tmp_path / "train-labels-idx1-ubyte.gz"
        content = gzip.decompress(labels.read_bytes())
        labels.write_bytes(gzip.compress(content[:-1]))
        assert "train-labels-idx1-ubyte.gz: is truncated: 1 bytes are missing" in self.error(
            tmp_path
        )
        labels.write_bytes(gzip.compress(content + b"\0"))
        assert "longer than its header says" in self.error(tmp_path)
        labels.write_bytes(gzip.compress(idx(np.full(30, 11))))
        assert "label 11 of image 0 is not one of 0..9" in self.error(tmp_path)
        labels.write_bytes(gzip.compress(idx(np.zeros(29))))
        assert "has 29 labels for 30 images" in self.error(tmp_path)
        labels.write_bytes(gzip.compress(idx(np.zeros((5, 6)))))
        assert "not an idx file of bytes with 1 axes" in self.error(tmp_path)
        labels.write_bytes(gzip.compress(content)[:-9])
        assert "is damaged or truncated" in self.error(tmp_path)
        labels.write_bytes(b"<html>")
        assert "is damaged or truncated" in self.error(tmp_path)
        labels.unlink()
        assert "the labels that belong to it are missing" in self.error(tmp_path)

    def test_images_that_end_too_early(self, tmp_path: Path) -> None:
        write_mnist(tmp_path, zipped=False)
        path = tmp_path / "train-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match="is truncated: 100 bytes are missing"):
            images_of(open_source(tmp_path), "train")

    def test_a_header_that_claims_everything_allocates_nothing(self, tmp_path: Path) -> None:
        write_mnist(tmp_path, zipped=False)
        for name, axes in (("images-idx3", 3), ("labels-idx1", 1)):
            head = bytes((0, 0, 8, axes)) + b"\xff" * 4 * axes
            (tmp_path / f"train-{name}-ubyte").write_bytes(head + bytes(50))
        assert "train-labels-idx1-ubyte: is truncated" in self.error(tmp_path)


class TestImageFolder:
    def test_without_splits(self, tmp_path: Path) -> None:
        source = open_source(write_class_folders(tmp_path))
        assert source.errors == source.problems == []
        assert source.classes == ["cat", "dog"]
        assert source.shape == (4, 4, 3)
        (part,) = source.parts.values()
        assert part.names is not None
        assert sorted(part.names)[:2] == ["cat/0.png", "cat/1.png"]
        assert part.names != sorted(part.names)  # one class after the other would be no order
        images = images_of(source, "")
        for name, label, image in zip(part.names, part.labels, images, strict=True):
            folder, number = name.removesuffix(".png").split("/")
            assert source.classes[label] == folder
            assert image[0, 0, 0] == 100 * label + int(number)

    def test_with_splits_of_other_names(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "Train", count=4)
        write_class_folders(tmp_path / "valid", ["dog"], count=2)
        write_class_folders(tmp_path / "notes", ["x"], count=1)
        write_image(tmp_path / "Train" / "loose.png")
        source = open_source(tmp_path)
        assert {name: len(part) for name, part in source.parts.items()} == {"train": 8, "dev": 2}
        assert source.parts["dev"].labels.tolist() == [1, 1]
        assert source.problems == [
            f"{tmp_path / 'Train'}: 1 images are in no class; left out",
            f"{tmp_path / 'notes'}: is not a split; left out",
        ]

    def test_images_in_folders_of_a_class(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "data")
        write_image(tmp_path / "data" / "cat" / "more" / "deep" / "1.png")
        write_image(tmp_path / "data" / ".hidden" / "1.png")
        source = open_source(tmp_path / "data")
        assert len(source.parts[""]) == 21
        assert source.classes == ["cat", "dog"]

    def test_gray_and_transparent_images_become_rgb(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, count=1)
        PIL.Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "cat" / "0.png")
        PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "dog" / "0.png")
        images = images_of(open_source(tmp_path), "")
        assert sorted(image.mean() for image in images) == [9, 255]

    def test_sizes_that_differ_need_one(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path)
        write_image(tmp_path / "dog" / "wide.png", size=(4, 6))
        (error,) = open_source(tmp_path).errors
        assert "4 × 6" in error
        assert "4 × 4" in error
        assert "--size" in error
        source = open_source(tmp_path, size=5)
        assert source.errors == []
        assert images_of(source, "").shape == (21, 5, 5, 3)

    def test_an_image_that_cannot_be_read_is_left_out(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path)
        (tmp_path / "cat" / "3.png").write_bytes(b"broken")
        (tmp_path / "dog" / "4.png").write_bytes(b"")
        source, state = open_source(tmp_path), Reading(2)
        blocks = list(source.blocks(state))
        assert sum(len(block.images) for block in blocks) == 18
        assert sorted(line.split(":")[0] for line in state.skipped) == [
            str(tmp_path / "cat" / "3.png"),
            str(tmp_path / "dog" / "4.png"),
        ]

    @pytest.mark.parametrize("inside", ["", "train"])
    def test_an_empty_class(self, tmp_path: Path, inside: str) -> None:
        write_class_folders(tmp_path / inside)
        (tmp_path / inside / "emu").mkdir()
        (error,) = open_source(tmp_path).errors
        assert error == f"{tmp_path / inside / 'emu'}: holds no images; fill or remove this class"

    def test_a_class_that_train_does_not_have(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "train")
        write_class_folders(tmp_path / "test", ["cat", "emu"])
        (error,) = open_source(tmp_path).errors
        assert error == f"{tmp_path / 'test' / 'emu'}: is not a class of train (cat, dog)"

    def test_two_folders_of_one_split(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "train")
        write_class_folders(tmp_path / "val")
        write_class_folders(tmp_path / "dev")
        with pytest.raises(DataError, match="and dev are both the split dev"):
            open_source(tmp_path)

    def test_no_image_can_be_read(self, tmp_path: Path) -> None:
        for path in write_class_folders(tmp_path).rglob("*.png"):
            path.write_bytes(b"broken")
        assert open_source(tmp_path).errors == [f"{tmp_path}: none of its images can be read"]

    def test_images_without_classes(self, tmp_path: Path) -> None:
        write_image(tmp_path / "1.png")
        with pytest.raises(DataError, match="no labeled images that are known"):
            open_source(tmp_path)


class TestTinyImageNet:
    def test_the_folder_is_recognized(self, tmp_path: Path) -> None:
        (tmp_path / "wnids.txt").write_text("n2\nn1\n")
        (tmp_path / "words.txt").write_text("n1\tcrane, bird\nn2\tcrane, machine\n")
        for number, wnid in enumerate(("n2", "n1")):
            write_image(tmp_path / "train" / wnid / "images" / "a.png", number, (64, 64))
            (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("a.png\t0\t0\t1\t1\n")
        write_image(tmp_path / "val" / "images" / "v.png", 5, (64, 64))
        (tmp_path / "val" / "val_annotations.txt").write_text("v.png\tn1\t0\n")
        write_image(tmp_path / "test" / "images" / "t.png", 6, (64, 64))
        source = open_source(tmp_path)
        assert source.format == "tiny-imagenet"
        assert source.errors == source.problems == []
        assert source.classes == ["crane (n2)", "crane (n1)"]
        assert source.parts["train"].labels.tolist() == [0, 1]
        assert source.parts["dev"].labels.tolist() == [1]
        assert set(source.parts) == {"train", "dev"}  # nobody knows the labels of test
        assert images_of(source, "dev")[0, 0, 0, 0] == 5


class TestDrawnScenes:
    @pytest.mark.parametrize("question", list(QUESTIONS))
    def test_labels_are_true_and_all_classes_there(self, question: str) -> None:
        source = DrawnScenes(question, {"train": 120, "dev": 10, "test": 0})
        assert set(source.parts) == {"train", "dev"}
        assert set(source.parts["train"].labels) == set(range(len(source.classes)))
        images = images_of(source, "train")
        assert images.shape == (120, 32, 32, 3)
        again = DrawnScenes(question, {"train": 3}, size=32)
        np.testing.assert_array_equal(images_of(again, "train"), images[:3])

    def test_the_color_that_is_named_is_in_the_picture(self) -> None:
        source = DrawnScenes("color", {"train": 40})
        images = images_of(source, "train").astype(int)
        right = 0
        for image, label in zip(images, source.parts["train"].labels, strict=True):
            distance = {
                name: np.sort(np.abs(image - color).sum(axis=2), axis=None)[:20].mean()
                for name, color in PALETTE.items()
            }
            right += min(distance, key=distance.__getitem__) == source.classes[label]
        assert right >= 34  # of 40: shades vary, and backgrounds have colors too

    def test_what_cannot_be_drawn(self) -> None:
        with pytest.raises(DataError, match="by shape, color, count, not by 'size'"):
            DrawnScenes("size", {"train": 1})
        with pytest.raises(DataError, match="16 pixels"):
            DrawnScenes("shape", {"train": 1}, size=16)
        with pytest.raises(DataError, match="seed -1"):
            DrawnScenes("shape", {"train": 1}, seed=-1)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "nothing")


def test_a_size_where_images_have_theirs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a size of their own"):
        open_source(write_cifar(tmp_path), size=64)
