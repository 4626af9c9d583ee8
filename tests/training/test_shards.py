"""Batches that are computed in parts: the sums, running statistics and noise of the whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classification_cases import make_data, make_step

import dlmie
from dlmie.classification.step import ClassificationStep
from dlmie.data.labelled.batches import LabelledBatches
from dlmie.data.labelled.dataset import LabelledImages
from dlmie.errors import DlmieError
from dlmie.layers.noise import Noise
from dlmie.models import ConvNet
from dlmie.parallel import Ranks, Shards
from dlmie.training.parallel import share_out


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    return make_data(tmp_path_factory.mktemp("shards"))


def values(step: ClassificationStep) -> dict[str, np.ndarray]:
    return {n: v.get_value() for n, v in step.state.items() if n != "/noise/key"}


def learn(step: ClassificationStep, data: LabelledImages, shards: int | None, batch: int) -> Any:
    share_out(step, Shards.of_rank(Ranks(), shards), Ranks())
    batches = LabelledBatches(
        data["train"], step.model.normalization, batch=batch, shards=step.shards
    )
    return [step(each) for each in batches]


def test_parts_add_up_to_the_batch(colors: LabelledImages) -> None:
    """A last batch of 2 of 29 images leaves two of four shards without any."""
    whole, parted = make_step(colors), make_step(colors)
    expected, found = learn(whole, colors, None, 29), learn(parted, colors, 4, 29)
    assert [r.examples for r in found] == [r.examples for r in expected] == [29, 29, 2]
    for one, other in zip(expected, found, strict=True):
        assert other.weight == one.weight
        for name, total in one.sums.items():
            assert other.sums[name] == pytest.approx(total, abs=1e-4), name
    theirs = values(parted)
    for name, value in values(whole).items():
        np.testing.assert_allclose(theirs[name], value, atol=1e-5, err_msg=name)


def test_one_shard_is_the_whole(colors: LabelledImages) -> None:
    step = make_step(colors)
    parts = step.parts
    share_out(step, Shards.of_rank(Ranks(), 1), Ranks())
    assert step.parts is parts


@pytest.mark.slow
def test_batch_norm_is_of_each_shard(colors: LabelledImages) -> None:
    """The running mean is that of the whole batch; the variance lacks what lies between shards."""
    make = partial(ConvNet, stages=(3, 4), keep=1.0)
    whole, parted = (make_step(colors, kind=make) for _ in range(2))
    learn(whole, colors, None, 60)
    learn(parted, colors, 4, 60)
    one, other = values(whole), values(parted)
    name = "/conv1a/norm/mean"
    np.testing.assert_allclose(other[name], one[name], atol=1e-6)
    name = "/conv1a/norm/variance"
    assert (other[name] < one[name]).all()
    np.testing.assert_allclose(other[name], one[name], rtol=0.1)


def test_a_batch_that_is_not_shared_out_is_an_error(colors: LabelledImages) -> None:
    step = make_step(colors)
    share_out(step, Shards.of_rank(Ranks(), 2), Ranks())
    with pytest.raises(DlmieError, match="not shared out"):
        step({"images": np.zeros((1, 3, 4, 4), "f4"), "labels": np.zeros(1, "i8")})  # type: ignore


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shards": 3}, "power of two"),
        ({"shards": 64, "batch": 32}, "a batch of 32 is too small for 64 shards: raise --batch"),
    ],
)
def test_shards_that_make_no_sense(
    options: dict[str, int], reason: str, colors: LabelledImages, tmp_path: Path
) -> None:
    with pytest.raises(DlmieError, match=reason):
        dlmie.train(make_step(colors), colors, to=tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()


def test_streams_of_noise_differ_and_the_first_is_the_usual_one() -> None:
    from pytensor import tensor as pt

    x = pt.zeros((50,), "float32")
    usual, source = Noise(3), Noise(3, streams=True)
    draw = dlmie.function([], source.uniform_like(x), updates=[(source.key, source.key)])
    found = []
    for number in (0, 1, 2, 1):
        source.use_stream(number)
        found.append(draw())
    np.testing.assert_array_equal(found[0], dlmie.function([], usual.uniform_like(x))())
    np.testing.assert_array_equal(found[1], found[3])
    assert not np.isin(found[0], found[1]).any()
    assert not np.isin(found[1], found[2]).any()
