"""Batches: every caption once, equal lengths together, an order that resumes, threads that end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlmie.data.batches import Batch, Batches, image_reader
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.vocabulary import END, PAD, START
from dlmie.data.images import Preprocessing, preprocess, view_image
from dlmie.data.prefetch import prefetch
from dlmie.data.scenes import prepare_scenes
from dlmie.errors import DataError


class FakeSplit:
    """Images with random captions; the third word of a caption tells which it is."""

    def __init__(self, images: int = 40, seed: int = 0, most: int = 6) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, most, images)
        self.token_image = np.repeat(np.arange(images), counts)
        self.tokens = [
            np.array([START, 4, 1000 + n, *rng.integers(4, 99, rng.integers(0, 9)), END], np.int32)
            for n in range(len(self.token_image))
        ]
        self.images = images

    def __len__(self) -> int:
        return self.images


class Reader:
    """Inputs that tell which image they are of; remembers what was read at once."""

    def __init__(self) -> None:
        self.calls: list[np.ndarray] = []

    def __call__(self, indices: np.ndarray, flips: np.ndarray) -> np.ndarray:
        assert (np.diff(indices) > 0).all()
        self.calls.append(indices)
        sign = np.where(flips, -1, 1)
        return (sign * (indices + 1.0))[:, None].astype(np.float32)


def same(one: Batch, two: Batch) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in vars(one))


def check(batch: Batch, split: FakeSplit) -> None:
    assert batch.inputs.dtype == np.float32
    assert batch.tokens.dtype == np.int32
    assert len(batch) == len(batch.inputs) == len(batch.image_index)
    np.testing.assert_array_equal(batch.image_index, split.token_image[batch.caption_index])
    sign = np.where(batch.views, -1, 1)
    np.testing.assert_array_equal(batch.inputs[:, 0], sign * (batch.image_index + 1))
    for row, caption in zip(batch.tokens, batch.caption_index, strict=True):
        tokens = split.tokens[caption]
        np.testing.assert_array_equal(row[: len(tokens)], tokens)
        assert (row[len(tokens) :] == PAD).all()


options = st.fixed_dictionaries(
    {
        "batch": st.sampled_from([1, 3, 8, 500]),
        "seed": st.integers(0, 3),
        "by_length": st.booleans(),
        "captions_per_image": st.sampled_from([None, 1, 2]),
        "flip": st.booleans(),
        "prefetch": st.sampled_from([0, 2]),
        "block": st.sampled_from([None, 1, 7, 100]),
        "window": st.sampled_from([1, 2, 50]),
    }
)


@settings(max_examples=40, deadline=None)
@given(options=options, images=st.integers(1, 30), share=st.floats(0, 1))
def test_any_options_give_each_caption_once_and_resume_anywhere(
    options: dict[str, Any], images: int, share: float
) -> None:
    split = FakeSplit(images)
    batches = Batches(split, Reader(), **options)
    first, second = list(batches), list(batches)
    assert (batches.epoch, batches.position) == (2, 0)
    for epoch in (first, second):
        assert len(epoch) == len(batches)
        assert all(0 < len(batch) <= options["batch"] for batch in epoch)
        assert sum(len(batch) < options["batch"] for batch in epoch) <= 1
        for batch in epoch:
            check(batch, split)
        used = np.concatenate([batch.caption_index for batch in epoch])
        assert len(set(used.tolist())) == len(used) == batches.captions
        each = np.bincount(split.token_image[used], minlength=images)
        counts = np.bincount(split.token_image, minlength=images)
        np.testing.assert_array_equal(each, np.minimum(counts, options["captions_per_image"] or 99))
    start = round(share * len(first))
    resumed = Batches(split, Reader(), **options, epoch=0, position=start)
    rest = list(resumed)
    assert len(rest) == len(first) - start
    assert all(map(same, rest, first[start:]))
    assert all(map(same, resumed, second))


def test_position_counts_the_batch_in_hand_and_a_broken_loop_goes_on() -> None:
    split = FakeSplit()
    whole = list(Batches(split, Reader(), batch=4))
    batches = Batches(split, Reader(), batch=4)
    seen = []
    for batch in batches:
        seen.append(batch)
        assert batches.position == len(seen)
        if len(seen) == 5:
            break
    assert (batches.epoch, batches.position) == (0, 5)
    seen += list(batches)
    assert all(map(same, seen, whole))
    assert len(seen) == len(whole)
    # Saved after the last batch and before the end of the epoch: the epoch ends at once.
    ended = Batches(split, Reader(), batch=4, position=len(whole))
    assert list(ended) == []
    assert (ended.epoch, ended.position) == (1, 0)


def test_lengths_are_equal_but_for_the_remains() -> None:
    split = FakeSplit(300)
    batches = list(Batches(split, Reader(), batch=16))
    lengths = [[len(split.tokens[c]) for c in b.caption_index] for b in batches]
    mixed = sorted((min(each), max(each)) for each in lengths if len(set(each)) > 1)
    assert len(mixed) <= 9 * 15 // 16 + 1  # nine lengths leave at most 15 captions each
    for (_, longest), (shortest, _) in pairwise(mixed):
        assert longest <= shortest  # only nearest lengths were merged
    padding = sum(int((b.tokens == PAD).sum()) for b in batches)
    plain = sum(int((b.tokens == PAD).sum()) for b in Batches(split, Reader(), by_length=False))
    assert padding < plain / 10


def test_epochs_and_seeds_differ_and_lengths_come_in_random_order() -> None:
    split = FakeSplit(100)

    def order(**options: int) -> list[list[int]]:
        return [b.caption_index.tolist() for b in Batches(split, Reader(), batch=8, **options)]

    assert order() == order()
    assert order() != order(epoch=1)
    assert order() != order(seed=1)
    widths = [b.tokens.shape[1] for b in Batches(split, Reader(), batch=8)]
    assert widths != sorted(widths)


def test_the_prefetch_depth_changes_nothing() -> None:
    split = FakeSplit()
    plain = list(Batches(split, Reader(), batch=4, prefetch=0, flip=True))
    for depth in (1, 5):
        assert all(map(same, plain, Batches(split, Reader(), batch=4, prefetch=depth, flip=True)))


def test_flips_are_a_random_half_and_another_each_epoch() -> None:
    split = FakeSplit(400, most=2)
    batches = Batches(split, Reader(), flip=True)
    flipped = [
        {int(i) for b in batches for i in b.image_index[b.views == 1]},
        {int(i) for b in batches for i in b.image_index[b.views == 1]},
    ]
    for chosen in flipped:
        assert 150 < len(chosen) < 250
    assert 50 < len(flipped[0] & flipped[1]) < 150
    order = [b.caption_index.tolist() for b in Batches(split, Reader())]
    assert order == [b.caption_index.tolist() for b in Batches(split, Reader(), flip=True)]


def test_crops_are_a_random_half_and_leave_the_flips() -> None:
    split = FakeSplit(600, most=2)
    plain, cropped = (
        Batches(split, Reader(), flip=True),
        Batches(split, Reader(), flip=True, crops=3),
    )
    seen = [cropped.views(epoch) for epoch in (0, 1)]
    for epoch, views in enumerate(seen):
        counts = np.bincount(views, minlength=5)
        assert len(counts) == 5
        assert (counts > [100, 100, 60, 60, 60]).all()
        uncropped = views < 2
        assert (plain.views(epoch)[uncropped] == views[uncropped]).all()
    assert 100 < np.sum(seen[0] == seen[1]) < 300
    for batch in cropped:
        np.testing.assert_array_equal(batch.views, seen[0][batch.image_index])
    assert set(Batches(split, Reader(), crops=1).views(0)) == {0, 2}


def test_images_are_read_in_their_views() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3)).astype(np.uint8)
    split = SimpleNamespace(load_images=lambda indices: images[indices])
    preprocessing = Preprocessing(12)
    read = image_reader(split, preprocessing)
    views, index = np.array([0, 1, 3, 2]), np.array([0, 2, 3, 4])
    expected = [view_image(images[i], v, i) for i, v in zip(index, views, strict=True)]
    np.testing.assert_array_equal(read(index, views), preprocess(np.stack(expected), preprocessing))


def test_one_caption_per_image_takes_others_each_epoch() -> None:
    split = FakeSplit(50)
    batches = Batches(split, Reader(), captions_per_image=1)
    used = [sorted(int(c) for b in batches for c in b.caption_index) for _ in range(30)]
    assert all(len(captions) == 50 for captions in used)
    assert used[0] != used[1]
    assert len({c for captions in used for c in captions}) > 0.95 * len(split.tokens)


def test_windows_read_blocks_and_hold_a_bounded_number_of_images() -> None:
    split, read = FakeSplit(200), Reader()
    batches = Batches(split, read, batch=16, block=10, window=4, prefetch=0)
    indices = [b.caption_index.tolist() for b in batches]
    assert len(read.calls) == 5
    for call in read.calls:
        assert len(call) <= 10 * 4 + 16
        # All but the few that were carried over lie in four blocks, and fill them but for
        # the few that were carried on.
        filled = sorted(np.bincount(call // 10, minlength=20).tolist())
        assert sum(filled[:-4]) < 16
        assert sum(filled[-4:]) > 40 - 16
    assert indices != [b.caption_index.tolist() for b in batches]
    # Resuming reads only what the rest of the window needs.
    read.calls.clear()
    position = len(batches.order(0)[0]) - 1
    next(iter(Batches(split, read, batch=16, block=10, window=4, prefetch=0, position=position)))
    assert len(read.calls[0]) <= 16


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "dlmie-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert threads() == []


def test_leaving_early_ends_the_thread() -> None:
    iterator = iter(Batches(FakeSplit(), Reader(), batch=2))
    assert threads() == []  # nothing starts before it is asked for
    next(iterator)
    assert len(threads()) == 1
    iterator.close()  # type: ignore[attr-defined]
    assert threads() == []
    for _ in Batches(FakeSplit(), Reader(), batch=2):
        break
    assert threads() == []


def test_an_error_in_the_thread_reaches_the_loop_in_its_turn() -> None:
    class Broken(Reader):
        def __call__(self, indices: np.ndarray, flips: np.ndarray) -> np.ndarray:
            if len(self.calls) == 3:
                raise DataError("features.h5: cannot be read")
            return super().__call__(indices, flips)

    batches = Batches(FakeSplit(), Broken(), batch=4)
    seen: list[Batch] = []
    with pytest.raises(DataError, match=r"features\.h5: cannot be read") as caught:
        seen.extend(batches)
    assert batches.position == 3
    assert caught.traceback[-1].name == "__call__"  # the traceback shows where it happened


def test_an_error_in_the_loop_ends_the_thread() -> None:
    def fail() -> None:
        for _ in Batches(FakeSplit(), Reader(), batch=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert threads() == []


def test_prefetch_works_ahead_but_not_further_than_asked() -> None:
    made = []

    def items() -> Iterator[int]:
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            made.append(-1)

    ahead = prefetch(items(), 3)
    assert made == []
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3, 4]  # one handed out, three wait, one in the hand of the thread
    ahead.close()
    assert made[-1] == -1
    assert list(prefetch(iter(()), 2)) == []


def test_images_are_flipped_before_they_are_preprocessed(tmp_path: Path) -> None:
    data = prepare_scenes(tmp_path / "s.h5", train=12, dev=0, test=0, size=32, progress=False)
    split, preprocessing = data["train"], Preprocessing(40, (1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    read = image_reader(split, preprocessing)
    straight, mirrored = read(np.array([4, 7]), np.array([False, True]))
    pixels = split.load_images(np.array([4, 7]))
    np.testing.assert_array_equal(straight, preprocess(pixels[0], preprocessing))
    np.testing.assert_array_equal(mirrored, preprocess(pixels[1, :, ::-1], preprocessing))
    batches = Batches(split, read, batch=10, flip=True)
    assert {b.inputs.shape[1:] for b in batches} == {(3, 40, 40)}
    assert len(batches) == 6
    assert batches.captions == 60
    assert isinstance(data, Captions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"captions_per_image": 0}, "captions_per_image is 0"),
        ({"block": 0}, "block is 0"),
        ({"window": 0}, "window is 0"),
        ({"prefetch": -1}, "prefetch is -1"),
        ({"position": 1000}, "position 1000 is beyond the"),
    ],
)
def test_misuse_is_one_clear_line(options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Batches(FakeSplit(), Reader(), **options)  # type: ignore[arg-type]


def test_no_captions_is_said() -> None:
    empty = FakeSplit(1)
    empty.tokens, empty.token_image = [], np.zeros(0, np.int64)
    with pytest.raises(DataError, match="no captions"):
        Batches(empty, Reader())


def test_planning_half_a_million_captions_is_quick() -> None:
    class Large(FakeSplit):
        def __init__(self) -> None:
            self.images = 100_000
            self.token_image = np.repeat(np.arange(self.images), 5)
            lengths = np.random.default_rng(0).integers(8, 20, 500_000)
            caption = np.full(20, 5, np.int32)
            self.tokens = [caption[:length] for length in lengths]

    read: Callable[..., Any] = partial(np.zeros, dtype=np.float32)
    batches = Batches(Large(), read, block=32, captions_per_image=4)
    start = time.process_time()
    plan = batches.order(0)
    assert time.process_time() - start < 5
    assert sum(map(len, plan)) == len(batches) == 6250


def test_an_array_that_a_batch_has_not_is_a_key_error() -> None:
    empty = np.zeros((0, 1), np.int32)
    batch = Batch(empty, empty, empty[:, 0], empty[:, 0], empty[:, 0])
    assert batch["tokens"] is empty
    for name in ("labels", "__len__"):
        with pytest.raises(KeyError, match=name):
            batch[name]
