"""How batches are cut, sums are added, and work is dealt out: without MPI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlmie.errors import DlmieError
from dlmie.launchers import launched
from dlmie.parallel import WHOLE, Ranks, Shards, in_turns, together
from dlmie.parallel.sums import add_pairwise
from dlmie.parallel.threads import binding_advice, processors, threads_of_rank


class Pretended(Ranks):
    """One of several ranks, which hears from the others what it is told to."""

    def __init__(self, rank: int, size: int, said: Callable[[Any], list[Any]] | None = None):
        super().__init__()
        self.rank, self.size = rank, size
        self.said = said or (lambda value: [value] * size)

    def everyone(self, value: Any) -> list[Any]:
        return self.said(value)


@settings(deadline=None)
@given(rows=st.integers(0, 40), power=st.integers(0, 4), split=st.integers(0, 4))
def test_every_row_is_in_one_shard(rows: int, power: int, split: int) -> None:
    ranks = 2 ** min(power, split)
    seen: list[int] = []
    for rank in range(ranks):
        shards = Shards.of_rank(Pretended(rank, ranks), 2**power)
        own, sizes = shards.rows(rows).tolist(), shards.sizes(rows)
        assert len(sizes) == 2**power // ranks
        if sum(sizes):
            assert len(own) == sum(sizes)
            seen += own
        else:
            assert own == [0]  # it stands in, and does not count
    assert sorted(seen) == list(range(rows))


def test_shards_do_not_depend_on_who_computes_them() -> None:
    alone = Shards.of_rank(Ranks(), 4)
    together_ = [Shards.of_rank(Pretended(rank, 2), 4).rows(11) for rank in range(2)]
    assert np.concatenate(together_).tolist() == alone.rows(11).tolist()


def test_one_rank_computes_whole_batches() -> None:
    assert Shards.of_rank(Ranks()) == WHOLE == Shards.of_rank(Ranks(), 1)
    assert WHOLE.rows(3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "count", "reason"),
    [(1, 6, "power of two"), (4, 2, "2 shards cannot be divided among 4 ranks"), (3, 4, "3 ranks")],
)
def test_shards_that_cannot_be_dealt_out(size: int, count: int, reason: str) -> None:
    with pytest.raises(DlmieError, match=reason):
        Shards.of_rank(Pretended(0, size), count)


@settings(deadline=None)
@given(power=st.integers(0, 5), data=st.data())
def test_sums_of_parts_are_the_same_bits(power: int, data: st.DataObject) -> None:
    count = 2**power
    ranks = 2 ** data.draw(st.integers(0, power))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    parts = (rng.normal(size=(count, 7)) * 10.0 ** rng.integers(-6, 6, (count, 7))).astype("f4")
    (alone,) = add_pairwise([part.copy()] for part in parts)
    own = np.split(parts.copy(), ranks)
    of_ranks = [add_pairwise([part] for part in block) for block in own]
    (shared,) = add_pairwise(of_ranks)
    assert alone.tobytes() == shared.tobytes()
    np.testing.assert_allclose(alone, parts.astype("f8").sum(axis=0), rtol=1e-3, atol=1.0)


def test_work_is_dealt_out_and_answers_come_in_order() -> None:
    """Three ranks, one after the other: what each makes is handed to the next round."""
    made: dict[int, list[str]] = {}

    def work(items: Iterator[int]) -> Iterator[str]:
        return (f"{item}!" for item in items)

    for rank in range(3):
        rounds: list[Any] = []

        def said(value: Any, rounds: list[Any] = rounds) -> list[Any]:
            rounds.append(value)
            return [["?"]] * (3 if len(rounds) < 3 else 1)

        dealt = list(in_turns(range(7), work, Pretended(rank, 3, said)))
        assert dealt == [(n, "?") for n in range(7)]
        made[rank] = rounds
    assert made == {0: [["0!"], ["3!"], ["6!"]], 1: [["1!"], ["4!"], []], 2: [["2!"], ["5!"], []]}

    told = iter(zip(*made.values(), strict=True))
    everything = in_turns(range(7), work, Pretended(1, 3, lambda value: list(next(told))))
    assert list(everything) == [(n, f"{n}!") for n in range(7)]


def test_alone_work_begins_before_all_items_are_known() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise AssertionError("asked for too much")

    assert next(in_turns(items(), lambda some: (i + 1 for i in some), Ranks())) == (1, 2)


def test_alone_everything_is_ones_own() -> None:
    ranks = Ranks()
    assert (ranks.rank, ranks.size, ranks.is_first) == (0, 1, True)
    assert ranks.everyone(3) == [3]
    assert ranks.of_first(3) == ranks.on_first(lambda: 3) == 3
    assert ranks.agreed(None) is None
    assert ranks.agreed("enough") == "enough"
    with pytest.raises(ValueError, match="as it is"), together(ranks):
        raise ValueError("as it is")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (1, 0)),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, (4, 3)),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, (2, 1)),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}, (8, 5)),
        ({"PMI_SIZE": "odd"}, (1, 0)),
    ],
)
def test_launchers(environment: dict[str, str], found: tuple[int, int]) -> None:
    assert launched(environment) == found


def test_processors_are_divided_among_those_that_share_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dlmie.parallel import threads

    monkeypatch.setattr(threads, "processors", lambda: frozenset(range(8)))
    assert threads_of_rank(Ranks()) == 8
    assert threads_of_rank(Pretended(0, 2)) == 4
    elsewhere = ("another machine", frozenset(range(8)))
    assert threads_of_rank(Pretended(0, 2, lambda mine: [mine, elsewhere])) == 8
    bound = [frozenset({0}), frozenset({1})]
    monkeypatch.setattr(threads, "processors", lambda: bound[0])
    assert threads_of_rank(Pretended(0, 2, lambda mine: [mine, (mine[0], bound[1])])) == 1


def test_binding_of_open_mpi_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlmie.parallel import threads

    local = {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(threads, "processors", lambda: frozenset({3}))
    assert "--bind-to none" in str(binding_advice(Ranks(), local))
    assert binding_advice(Ranks(), {}) is None
    monkeypatch.setattr(threads, "processors", lambda: frozenset({3, 4}))
    assert binding_advice(Ranks(), local) is None


def test_processors_of_this_process() -> None:
    assert processors()
