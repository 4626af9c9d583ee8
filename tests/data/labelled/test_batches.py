"""Batches of labeled images: order, resuming, normalization and random views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from labelled_cases import write_class_folders, write_image

from dlmie.data import LabelledBatches, LabelledImages, Normalization
from dlmie.data.labelled.batches import LabelledBatch, batches_in_order, shifted
from dlmie.data.labelled.dataset import prepare
from dlmie.errors import DataError

PLAIN = {"batch": 8, "seed": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """45 training images of 4 × 4 pixels, each of its own color."""
    folder = tmp_path_factory.mktemp("labelled")
    write_class_folders(folder / "pets", ["cat", "dog", "emu"], 15)
    return prepare(folder / "pets", to=folder / "p.h5", splits={"train": 45}, progress=False)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """Forty images with one bright pixel at the left."""
    folder = tmp_path_factory.mktemp("left")
    for number in range(40):
        path = write_image(folder / "pets" / "cat" / f"{number}.png")
        pixels = np.zeros((5, 5, 3), np.uint8)
        pixels[2, 1] = 255
        PIL.Image.fromarray(pixels).save(path)
    return prepare(folder / "pets", to=folder / "l.h5", splits={"train": 40}, progress=False)


def batches(data: LabelledImages, **options: object) -> LabelledBatches:
    normalization = Normalization.of(data)
    return LabelledBatches(data["train"], normalization, **{**PLAIN, **options})  # type: ignore[arg-type]


def contents(made: list[LabelledBatch]) -> list[tuple[bytes, bytes, bytes]]:
    return [(b["images"].tobytes(), b["labels"].tobytes(), b["index"].tobytes()) for b in made]


class TestOrder:
    def test_each_image_once_per_epoch_with_its_label(self, data: LabelledImages) -> None:
        made = list(batches(data))
        assert [len(batch) for batch in made] == [8, 8, 8, 8, 8, 5]
        index = np.concatenate([batch["index"] for batch in made])
        assert sorted(index) == list(range(45))
        assert index.tolist() != sorted(index)
        labels = np.concatenate([batch["labels"] for batch in made])
        np.testing.assert_array_equal(labels, data["train"].labels[index])
        images = np.concatenate([batch["images"] for batch in made])
        assert images.shape == (45, 3, 4, 4)
        assert images.dtype == np.float32
        expected = data["train"].images[index].transpose(0, 3, 1, 2)
        np.testing.assert_allclose(images, expected - data.mean_image.transpose(2, 0, 1), atol=1e-5)

    def test_seed_and_epoch_decide(self, data: LabelledImages) -> None:
        made = batches(data)
        first, second = list(made), list(made)
        assert contents(first) != contents(second)
        assert contents(second) == contents(list(batches(data, epoch=1)))
        assert contents(first) != contents(list(batches(data, seed=4)))
        assert contents(first) == contents(list(batches(data, prefetch=0)))

    @pytest.mark.parametrize("position", [0, 1, 4, 6])
    def test_resuming(self, data: LabelledImages, position: int) -> None:
        options = {"flip": True, "shift": 2, "epoch": 1}
        whole = contents(list(batches(data, **options)))
        rest = batches(data, position=position, **options)
        assert contents(list(rest)) == whole[position:]
        assert (rest.epoch, rest.position) == (2, 0)

    def test_the_position_counts_the_batch_at_hand(self, data: LabelledImages) -> None:
        made = batches(data)
        for number, _ in enumerate(made, 1):
            assert (made.epoch, made.position) == (0, number)
            if number == 3:
                break
        rest = contents(list(batches(data, epoch=made.epoch, position=made.position)))
        assert rest == contents(list(batches(data)))[3:]

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("batch", 0, "batch is 0; it must be at least 1"),
            ("shift", -1, "shift is -1"),
            ("epoch", -1, "epoch is -1"),
            ("position", 7, "position 7 is beyond the 6 batches"),
        ],
    )
    def test_options_out_of_range(
        self, data: LabelledImages, option: str, value: int, message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            batches(data, **{option: value})

    def test_to_evaluate_they_come_in_order(self, data: LabelledImages) -> None:
        made = list(batches_in_order(data["train"], Normalization.of(data), batch=20))
        index = np.concatenate([batch.index for batch in made])
        np.testing.assert_array_equal(index, np.arange(45))

    def test_an_unknown_array(self, data: LabelledImages) -> None:
        with pytest.raises(KeyError):
            next(iter(batches(data)))["tokens"]


class TestViews:
    def places(self, data: LabelledImages, **options: object) -> list[tuple[int, int]]:
        """Where the bright pixel is in each image, by the image's place in the split."""
        normalization = Normalization.of(data, "none")
        made = LabelledBatches(data["train"], normalization, batch=16, **options)  # type: ignore[arg-type]
        found = {}
        for batch in made:
            for index, image in zip(batch.index, batch.images, strict=True):
                spots = np.argwhere(image[0] == 255)
                assert len(spots) <= 1
                found[int(index)] = tuple(spots[0].tolist()) if len(spots) else (-1, -1)
        return [found[index] for index in range(len(found))]

    def test_half_are_mirrored_another_half_each_epoch(self, left: LabelledImages) -> None:
        first = self.places(left, flip=True)
        assert set(first) == {(2, 1), (2, 3)}
        assert 10 < first.count((2, 3)) < 30
        assert self.places(left, flip=True, epoch=1) != first
        assert set(self.places(left)) == {(2, 1)}

    def test_shifts_move_in_all_directions(self, left: LabelledImages) -> None:
        places = self.places(left, shift=1)
        assert set(places) <= {(row, col) for row in (1, 2, 3) for col in (0, 1, 2)}
        assert len(set(places)) >= 7

    def test_what_was_read_stays_as_it_is(self, left: LabelledImages) -> None:
        before = left["train"].images.copy()
        self.places(left, flip=True, shift=1)
        np.testing.assert_array_equal(left["train"].images, before)

    def test_windows(self) -> None:
        images = np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
        (corner,) = shifted(images, np.array([[0, 2]]), 1)
        assert corner[0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
        np.testing.assert_array_equal(shifted(images, np.array([[1, 1]]), 1), images)


class TestNormalization:
    def test_per_channel(self, data: LabelledImages) -> None:
        x = Normalization.of(data, "per-channel")(data["train"].images, "float64")
        np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-12)
        np.testing.assert_allclose(x.std(axis=(0, 2, 3)), 1, rtol=1e-12)

    def test_mean_image_in_double_precision(self, data: LabelledImages) -> None:
        x = Normalization.of(data)(data["train"].images, "float64")
        expected = data["train"].images - data.mean_image
        np.testing.assert_array_equal(x, expected.transpose(0, 3, 1, 2))

    @pytest.mark.parametrize("kind", ["mean-image", "per-channel", "none"])
    def test_kept_with_a_model(self, data: LabelledImages, kind: str) -> None:
        made = Normalization.of(data, kind)
        again = Normalization.from_json(made.to_json(), made.arrays)
        images = data["train"].images
        np.testing.assert_array_equal(made(images), again(images))
        assert again.kind == kind

    def test_what_does_not_fit(self, data: LabelledImages) -> None:
        normalization = Normalization.of(data)
        with pytest.raises(DataError, match=r"expected uint8 images of .* not float32"):
            normalization(data["train"].images.astype(np.float32))
        with pytest.raises(DataError, match=r"not uint8 of \(4, 5, 3\)"):
            normalization(np.zeros((2, 4, 5, 3), np.uint8))
        with pytest.raises(DataError, match="unknown normalization 'mean'; did you mean"):
            Normalization.of(data, "mean")
        with pytest.raises(DataError, match="mean and scale are needed"):
            Normalization.from_json({"kind": "none", "shape": [4, 4, 3]}, {})
        with pytest.raises(DataError, match="do not fit images"):
            Normalization("none", (4, 4, 3), np.zeros(2), np.ones(3))
        with pytest.raises(DataError, match="the scale positive"):
            Normalization("none", (4, 4, 3), np.zeros(3), np.zeros(3))

    def test_images_of_another_data_set(self, data: LabelledImages, tmp_path: Path) -> None:
        write_image(tmp_path / "o" / "a" / "0.png", size=(8, 8))
        other = prepare(tmp_path / "o", to=tmp_path / "o.h5", splits={"train": 1}, progress=False)
        with pytest.raises(DataError, match="do not fit a model of"):
            LabelledBatches(other["train"], Normalization.of(data))
