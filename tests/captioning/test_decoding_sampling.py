from __future__ import annotations

import dataclasses
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_language import ToyModel, log_softmax

from dlmie.captioning.decoding import (
    Constraints,
    Decoding,
    DecodingOptions,
    beam_search,
    ensemble_step,
    force,
    greedy,
    sample,
)
from dlmie.data.captions.vocabulary import END, PAD, START, UNK
from dlmie.errors import DataError

few = settings(max_examples=40, deadline=None)
models = st.builds(ToyModel, st.integers(0, 10_000), end_bias=st.floats(-3, 2))


def texts(captions):
    return [[caption.words for caption in of_image] for of_image in captions]


@few
@given(models, st.integers(1, 8))
def test_greedy_takes_the_most_probable_word_each_time(model, steps):
    for image, caption in enumerate(
        greedy(model.step, model.start(), Constraints(max_length=steps))
    ):
        state, last, total, words = (np.zeros((1, 1, 4)),), START, 0.0, []
        for _ in range(steps):
            logs, state, _ = model.step(np.array([[last]]), state, np.array([image]))
            logs = logs[0, 0]
            logs[[PAD, START, UNK]] = -np.inf
            last = int(logs.argmax())
            total += logs[last]
            if last == END:
                break
            words.append(last)
        assert caption.words == words
        assert caption.finished == (last == END)
        assert caption.log_probability == pytest.approx(total, abs=1e-12)
        assert caption.score == caption.log_probability
        assert caption.alphas.shape == (len(words), 2, 3)


@few
@given(models, st.integers(1, 3), st.integers(0, 99))
def test_samples_do_not_depend_on_the_batch(model, samples, seed):
    options = {"samples": samples, "seed": seed}
    together = sample(model.step, model.start(), Constraints(max_length=6), **options)
    for image, drawn in enumerate(together):
        for caption in drawn:
            each = model.word_logs(image, caption.words, caption.finished)
            np.testing.assert_allclose(caption.word_logs, each, atol=1e-12)
    chosen = np.array([2, 0])
    apart = sample(
        model.of(chosen), model.start(chosen), Constraints(max_length=6), keys=chosen, **options
    )
    assert texts(apart) == texts([together[2], together[0]])
    for image, captions in enumerate(together):
        for caption in captions:
            again = model.log_probability(image, caption.words, caption.finished)
            assert caption.log_probability == pytest.approx(again, abs=1e-10)
            assert not {PAD, START, UNK} & set(caption.words)


@few
@given(models)
def test_sampling_from_one_word_is_greedy(model):
    plain = [[caption.words] for caption in greedy(model.step, model.start())]
    for options in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-9}):
        assert texts(sample(model.step, model.start(), **options)) == plain


def test_samples_follow_the_probabilities():
    size = 700  # more words than one block of the draw
    logs = log_softmax(np.random.default_rng(0).standard_normal(size) * 2)
    logs[: END + 2] = -np.inf
    expected = np.exp(logs) / np.exp(logs).sum()

    def step(words, state, images):
        return np.broadcast_to(logs, (*words.shape, size)), state, None

    state = (np.zeros((1, 1, 1)),)
    (captions,) = sample(step, state, Constraints(max_length=1), samples=20_000)
    shares = np.bincount([caption.words[0] for caption in captions], minlength=size) / 20_000
    assert np.abs(shares - expected).max() < 0.015
    (captions,) = sample(step, state, Constraints(max_length=1), samples=2_000, top_k=5)
    assert {c.words[0] for c in captions} == set(np.argsort(-expected)[:5].tolist())
    (captions,) = sample(step, state, Constraints(max_length=1), samples=2_000, top_p=0.3)
    order = np.argsort(-expected)
    nucleus = order[: 1 + int((expected[order].cumsum() < 0.3).sum())]
    assert {c.words[0] for c in captions} == set(nucleus.tolist())


def test_seeds_and_samples_differ():
    model = ToyModel(3, end_bias=-3.0)
    first = texts(sample(model.step, model.start(), samples=4))
    assert first == texts(sample(model.step, model.start(), samples=4))
    assert first != texts(sample(model.step, model.start(), samples=4, seed=1))
    assert len({tuple(words) for words in first[0]}) > 1


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}, {"samples": 0}]
)
def test_sampling_options_out_of_range(options):
    model = ToyModel(0)
    with pytest.raises(DataError, match="sampling needs"):
        sample(model.step, model.start(), **options)


@few
@given(models, st.booleans())
def test_known_words_have_their_log_probability(model, finished):
    words = [[4, 5, 4], [], [UNK, 6]]
    told = force(model.step, model.start(), words, finished=finished)
    for image, caption in enumerate(told):
        assert caption.words == words[image]
        assert caption.finished == finished
        expected = model.log_probability(image, words[image], finished)
        assert caption.log_probability == pytest.approx(expected, abs=1e-12)
        each = model.word_logs(image, words[image], finished)
        np.testing.assert_allclose(caption.word_logs, each, atol=1e-12)
        assert caption.alphas.shape == (len(words[image]), 2, 3)


def test_known_words_are_checked():
    model = ToyModel(0)
    with pytest.raises(DataError, match="2 known captions for 3 images"):
        force(model.step, model.start(), [[4], [5]])
    with pytest.raises(DataError, match="its own end"):
        force(model.step, model.start(), [[4], [5], [END]])


def test_an_impossible_known_word_has_probability_zero():
    model = ToyModel(0, images=1)
    model.bias[4] = -np.inf
    (caption,) = force(model.step, model.start(), [[5, 4]])
    assert caption.log_probability == -np.inf
    assert caption.finished


def test_an_ensemble_averages_probabilities():
    one, two = ToyModel(1), ToyModel(2)
    both = ensemble_step([one.step, two.step])
    words, images = np.full((3, 1), START), np.arange(3)
    logs, state, extras = both(words, (one.start(), two.start()), images)
    expected = np.mean([np.exp(m.step(words, m.start(), images)[0]) for m in (one, two)], axis=0)
    np.testing.assert_allclose(np.exp(logs), expected)
    np.testing.assert_allclose(extras["alphas"].sum(axis=(-2, -1)), 1)
    assert len(state) == 2

    alone = beam_search(one.step, one.start(), beam=3, n_best=3)
    twice = ensemble_step([one.step, one.step])
    same = beam_search(twice, (one.start(), one.start()), beam=3, n_best=3)
    assert texts(same) == texts(alone)
    np.testing.assert_allclose(same[0][0].score, alone[0][0].score)


def test_an_ensemble_needs_one_vocabulary():
    one, two = ToyModel(1), ToyModel(2, size=9)
    both = ensemble_step([one.step, two.step])
    with pytest.raises(DataError, match="7, 9 words"):
        greedy(both, (one.start(), two.start()))
    with pytest.raises(DataError, match="at least one"):
        ensemble_step([])


def test_an_ensemble_bears_words_that_every_model_forbids():
    one = ToyModel(1)
    one.bias[4] = -np.inf
    both = ensemble_step([one.step, one.step])
    for caption in greedy(both, (one.start(), one.start())):
        assert 4 not in caption.words


def test_options_of_a_decoding_are_its_fields():
    hints = typing.get_type_hints(Decoding)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(Decoding)}
    assert typing.get_type_hints(DecodingOptions) == fields


def test_decoding_runs_and_describes_itself():
    model = ToyModel(4)
    searched = Decoding(beam=3, n_best=2, max_length=6)(model.step, model.start())
    plain = beam_search(
        model.step, model.start(), Constraints(max_length=6), beam=3, n_best=2, length_norm=0.7
    )
    assert texts(searched) == texts(plain)
    drawn = Decoding(samples=2, seed=3, top_k=2)
    expected = sample(model.step, model.start(), samples=2, seed=3, top_k=2)
    assert texts(drawn(model.step, model.start())) == texts(expected)
    assert drawn.describe() == (
        "2 samples with seed 3, temperature 1, top 2, at most 20 words with the end, UNK suppressed"
    )
    assert Decoding(no_repeat_ngram=3, no_immediate_repeat=True, allow_unknown=True).describe() == (
        "beam 5, length norm 0.85, at most 20 words with the end, UNK allowed, "
        "no 3-gram twice, no word twice in a row"
    )


@pytest.mark.parametrize(
    "options", [{"max_length": 0}, {"min_length": 20}, {"min_length": -1}, {"no_repeat_ngram": -1}]
)
def test_rules_out_of_range(options):
    with pytest.raises(DataError, match=r"length|no_repeat_ngram"):
        Constraints(**options)
