from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_language import ToyModel, log_softmax

from dlmie.captioning.decoding import Constraints, beam_search, force, greedy
from dlmie.data.captions.vocabulary import END, PAD, START, UNK
from dlmie.errors import DataError, DlmieError
from dlmie.ops.decoding.beams import _best_words, _largest

seeds = st.integers(0, 10_000)
models = st.builds(
    ToyModel, seeds, images=st.just(3), size=st.integers(5, 12), end_bias=st.floats(-4, 3)
)
beams = st.integers(1, 6)
few = settings(max_examples=60, deadline=None)


@few
@given(models, st.integers(1, 8), st.floats(0, 1.5))
def test_beam_of_one_is_greedy(model, steps, norm):
    constraints = Constraints(max_length=steps)
    plain = greedy(model.step, model.start(), constraints)
    searched = beam_search(model.step, model.start(), constraints, beam=1, length_norm=norm)
    for one, (other,) in zip(plain, searched, strict=True):
        assert one.words == other.words
        assert one.finished == other.finished
        assert other.log_probability == pytest.approx(one.log_probability, abs=1e-12)


@few
@given(seeds, st.integers(1, 4), st.sampled_from([0.0, 0.7, 1.0]), st.floats(-3, 3))
def test_a_beam_as_wide_as_the_tree_is_exhaustive(seed, steps, norm, end_bias):
    model = ToyModel(seed, images=2, size=7, end_bias=end_bias)  # three words and the end
    width = 4**steps
    found = beam_search(
        model.step,
        model.start(),
        Constraints(max_length=steps),
        beam=width,
        n_best=min(5, width),
        length_norm=norm,
    )
    for image in range(2):
        every = model.all_captions(image, [4, 5, 6], steps, norm)
        best = [caption for caption in found[image] if caption.finished]
        assert len(best) == min(5, width, len(every))
        for caption, (score, words) in zip(best, every, strict=False):
            assert caption.score == pytest.approx(score, abs=1e-10)
            assert caption.words == words


@few
@given(models, beams, st.integers(1, 8), st.floats(0, 1))
def test_score_is_the_log_probability_of_the_returned_words(model, beam, steps, norm):
    found = beam_search(
        model.step,
        model.start(),
        Constraints(max_length=steps),
        beam=beam,
        n_best=beam,
        length_norm=norm,
    )
    for image, captions in enumerate(found):
        assert captions
        for caption in captions:
            again = model.log_probability(image, caption.words, caption.finished)
            assert caption.log_probability == pytest.approx(again, abs=1e-10)
            each = model.word_logs(image, caption.words, caption.finished)
            np.testing.assert_allclose(caption.word_logs, each, atol=1e-10)
            length = len(caption.words) + caption.finished
            assert caption.score == pytest.approx(again / length**norm, abs=1e-10)
            assert length <= steps


@few
@given(models, beams, st.integers(1, 8), st.floats(0, 1))
def test_n_best_is_sorted_and_distinct(model, beam, steps, norm):
    found = beam_search(
        model.step,
        model.start(),
        Constraints(max_length=steps),
        beam=beam,
        n_best=beam,
        length_norm=norm,
    )
    for captions in found:
        keys = [(not caption.finished, -caption.score) for caption in captions]
        assert keys == sorted(keys)
        texts = {(tuple(caption.words), caption.finished) for caption in captions}
        assert len(texts) == len(captions)


@few
@given(models, beams, st.integers(2, 10))
def test_never_worse_than_a_finished_greedy_caption(model, beam, steps):
    constraints = Constraints(max_length=steps)
    found = beam_search(model.step, model.start(), constraints, beam=beam)
    for one, (best,) in zip(greedy(model.step, model.start(), constraints), found, strict=True):
        if one.finished:
            assert best.finished
            assert best.log_probability >= one.log_probability - 1e-12


@few
@given(models, beams, st.permutations(range(3)), st.integers(1, 3), st.floats(0, 1))
def test_result_does_not_depend_on_the_batch(model, beam, order, count, norm):
    chosen = np.array(order[:count])
    options = {"beam": beam, "n_best": beam, "length_norm": norm}
    together = beam_search(model.step, model.start(), Constraints(max_length=7), **options)
    apart = beam_search(model.of(chosen), model.start(chosen), Constraints(max_length=7), **options)
    for image, captions in zip(chosen, apart, strict=True):
        assert [c.words for c in captions] == [c.words for c in together[image]]
        assert [c.score for c in captions] == [c.score for c in together[image]]
        for one, other in zip(captions, together[image], strict=True):
            np.testing.assert_array_equal(one.alphas, other.alphas)


@few
@given(models, beams)
def test_alphas_belong_to_the_beam_that_said_the_words(model, beam):
    found = beam_search(
        model.step, model.start(), Constraints(max_length=6), beam=beam, n_best=beam
    )
    for rank in range(min(map(len, found))):
        captions = [captions[rank] for captions in found]
        told = force(model.step, model.start(), [caption.words for caption in captions])
        for caption, known in zip(captions, told, strict=True):
            assert caption.alphas.shape == (len(caption.words), 2, 3)
            assert caption.gates.shape == (len(caption.words),)
            np.testing.assert_array_equal(caption.alphas, known.alphas)
            np.testing.assert_array_equal(caption.gates, known.gates)


@few
@given(models, beams, st.integers(0, 4), st.integers(0, 3), st.booleans())
def test_rules_hold(model, beam, shortest, ngram, immediate):
    constraints = Constraints(
        max_length=8, min_length=shortest, no_repeat_ngram=ngram, no_immediate_repeat=immediate
    )
    found = beam_search(model.step, model.start(), constraints, beam=beam, n_best=beam)
    for caption in sum(found, greedy(model.step, model.start(), constraints)):
        words = caption.words
        assert not {PAD, START, END, UNK} & set(words)
        assert not caption.finished or len(words) >= shortest
        if ngram:
            grams = [tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
            assert len(grams) == len(set(grams))
        if immediate:
            assert all(a != b for a, b in pairwise(words))


def test_unknown_words_only_where_allowed():
    def step(words, state, images):
        logits = np.zeros((*words.shape, 6))
        logits[..., UNK] = 5
        return log_softmax(logits), state, None

    state = (np.zeros((2, 1, 1)),)
    for allowed in (False, True):
        constraints = Constraints(max_length=5, min_length=2, allow_unknown=allowed)
        for captions in beam_search(step, state, constraints, beam=3):
            assert (UNK in captions[0].words) == allowed


def test_a_model_that_knows_nothing_terminates():
    def step(words, state, images):
        return np.full((*words.shape, 50), -np.log(50.0)), state, None

    found = beam_search(step, (np.zeros((4, 1, 1)),), Constraints(max_length=20), beam=5, n_best=5)
    assert [len(captions) for captions in found] == [5] * 4
    assert found[0][0].words == []  # the end alone is the most probable caption
    assert found[0][0].score == pytest.approx(-np.log(50))


@pytest.mark.parametrize("beam", [1, 3])
def test_unfinished_hypotheses_compete_when_nothing_ends(beam):
    model = ToyModel(1)
    model.bias[END] = -np.inf
    found = beam_search(
        model.step, model.start(), Constraints(max_length=4), beam=beam, n_best=beam
    )
    for image, captions in enumerate(found):
        assert len(captions) == beam
        for caption in captions:
            assert not caption.finished
            assert len(caption.words) == 4
            again = model.log_probability(image, caption.words, finished=False)
            assert caption.log_probability == pytest.approx(again)


@pytest.mark.parametrize("beam", [1, 4])
def test_rules_that_leave_no_word_give_what_was_said(beam):
    constraints = Constraints(
        max_length=9, min_length=8, no_repeat_ngram=1
    )  # but there are only three words
    model = ToyModel(2)
    found = beam_search(model.step, model.start(), constraints, beam=beam)
    for captions, plain in zip(found, greedy(model.step, model.start(), constraints), strict=True):
        assert sorted(captions[0].words) == sorted(plain.words) == [4, 5, 6]
        assert not captions[0].finished
        assert not plain.finished


def test_a_model_without_any_possible_word_gives_an_empty_caption():
    def step(words, state, images):
        return np.full((*words.shape, 6), -np.inf), state, None

    ((caption,),) = beam_search(step, (np.zeros((1, 1, 1)),), beam=2)
    assert (caption.words, caption.finished, caption.log_probability) == ([], False, 0.0)


def test_images_leave_and_the_index_stays_the_same_object_between():
    model = ToyModel(5, images=8, end_bias=1.0)
    beam_search(model.step, model.start(), Constraints(max_length=12), beam=2)
    sizes = [len(images) for images in model.seen]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 8
    for before, after in pairwise(model.seen):
        assert (before is after) == (len(before) == len(after))


def test_log_probabilities_that_cannot_be_overwritten_stay():
    table = log_softmax(np.random.default_rng(0).standard_normal(9))

    def step(words, state, images):
        return np.broadcast_to(table, (*words.shape, 9)), state, None

    before = table.copy()
    state = (np.zeros((2, 1, 1)),)
    searched = beam_search(step, state, Constraints(max_length=5), beam=1)
    plain = greedy(step, state, Constraints(max_length=5))
    assert searched[0][0].words == plain[0].words
    np.testing.assert_array_equal(table, before)


def test_nan_is_an_error_not_a_caption():
    def step(words, state, images):
        return np.full((*words.shape, 6), np.nan), state, None

    with pytest.raises(DlmieError, match="NaN"):
        beam_search(step, (np.zeros((1, 1, 1)),))


@pytest.mark.parametrize(
    "options", [{"beam": 0}, {"beam": 2, "n_best": 3}, {"n_best": 0}, {"length_norm": -1.0}]
)
def test_options_out_of_range(options):
    model = ToyModel(0)
    with pytest.raises(DataError, match="beam search needs"):
        beam_search(model.step, model.start(), **options)


@few
@given(seeds, st.sampled_from([3, 255, 256, 257, 700]), st.integers(1, 9), st.booleans())
def test_best_words_equal_a_full_sort(seed, size, count, ties):
    rng = np.random.default_rng(seed)
    logs = rng.standard_normal((2, 3, size)).astype(np.float32)
    scores = rng.standard_normal((2, 3))
    if ties:
        logs, scores = np.round(logs), np.round(scores)
    logs[rng.random(logs.shape) < 0.2] = -np.inf
    places, totals = _best_words(logs, scores, count)
    every = (logs + scores[..., None]).reshape(2, -1)
    order = np.argsort(-every, axis=1, kind="stable")[:, :count]
    expected = np.take_along_axis(every, order, axis=1)
    np.testing.assert_array_equal(totals, expected)
    real = expected > -np.inf
    np.testing.assert_array_equal(places[real], order[real])


@few
@given(seeds, st.integers(1, 12))
def test_largest_takes_the_first_of_equals(seed, count):
    values = np.random.default_rng(seed).integers(0, 4, (5, 9)).astype(float)
    expected = np.sort(np.argsort(-values, axis=1, kind="stable")[:, :count], axis=1)
    np.testing.assert_array_equal(_largest(values, count), expected)
