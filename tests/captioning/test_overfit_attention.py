"""SPEC's bug hunt: a model that attends overfits captions at least as well as one that
does not."""

from __future__ import annotations

from typing import Any

import pytest
from captioning_cases import make_cache, make_data

from dlmie import optim
from dlmie.captioning.overfitting import overfit
from dlmie.captioning.step import compile as compile_step
from dlmie.models import ShowAttendTell, ShowTell


def test_attention_overfits_at_least_as_well(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = make_data(tmp_path_factory.mktemp("overfit"))
    cache = make_cache(data, data.path.with_name("blocks.h5"))

    def loss(kind: Any, **options: Any) -> float:
        model = kind(cache.shape, data.vocabulary, embedding=16, hidden=32, dropout=0.0, **options)
        step = compile_step(model, optim.chain(optim.clip_norm(5.0), optim.adam(1e-2)))
        step.progress = False
        few = {"images": 12, "epochs": 80, "batch": 6, "target": 0.0, "progress": False}
        return overfit(step, data, features=cache, **few).loss

    attending, plain = loss(ShowAttendTell, attention=16), loss(ShowTell)
    assert attending < max(plain, 0.05)
    assert plain < 1
