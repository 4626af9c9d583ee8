from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlmie.captioning.metrics import NAMES, CiderD, bleu, cider_d, coverage, rouge_l, score
from dlmie.captioning.metrics.nltk_bleu import bleu_counts, combine_counts
from dlmie.captioning.metrics.rouge import _common_subsequence
from dlmie.errors import DataError

# Human caption 0 against captions 1 to 4 of Flickr8k's dev images, by coco-caption's own scorers:
BLEU = {
    "as it is": (0.5522756747, 0.3667885172, 0.2475288062, 0.16745474),
    "lower case": (0.5644414253, 0.3786878082, 0.2565910904, 0.1741311225),
}
ROUGE_AND_CIDER = {
    "as it is": (0.48501334913713323, 0.6236836395539773),
    "lower case": (0.49951591933488826, 0.6491107078159863),
}

words = st.lists(st.sampled_from("abcde"), max_size=9)
corpora = st.lists(
    st.tuples(words, st.lists(words.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=6
)
few = settings(max_examples=60, deadline=None)


def human_captions(shared, case):
    folder = shared / "golden" / "flickr8k_dev_references"
    files = [(folder / f"reference{i}").read_text(encoding="utf-8") for i in range(5)]
    lines = [(text.lower() if case == "lower case" else text).splitlines() for text in files]
    return lines[0], list(zip(*lines[1:], strict=True))


@pytest.mark.parametrize("case", BLEU)
def test_golden_numbers_of_the_standard_scorers(shared, case):
    scores = score(*human_captions(shared, case), tokenizer="whitespace")
    expected = pytest.approx((*BLEU[case], *ROUGE_AND_CIDER[case]), abs=1e-9)
    assert tuple(getattr(scores, name) for name in NAMES) == expected


def test_a_small_set_scored_by_hand():
    # One image has all words but one right, the other none: lengths 4 + 2, references 4 + 3.
    hypotheses = [["a", "dog", "runs", "fast"], ["two", "cats"]]
    references = [[["a", "dog", "runs", "away"]], [["the", "red", "ball"]]]
    brevity = exp(1 - 7 / 6)
    one, two, three, four = bleu(hypotheses, references)
    assert one == pytest.approx(brevity * 3 / 6)
    assert two == pytest.approx(brevity * sqrt(3 / 6 * 2 / 4))
    # the second caption has no 3-gram, and counts in NLTK as one that is missed
    assert three == pytest.approx(brevity * (3 / 6 * 2 / 4 * 1 / 3) ** (1 / 3))
    assert four == 0.0
    assert rouge_l(hypotheses, references) == pytest.approx(0.75 / 2)
    expected = 10 * (0.75 + 2 / 3 + 0.5 + 0) / 4 / 2
    assert cider_d(hypotheses, references) == pytest.approx(expected)


@few
@given(corpora)
def test_bleu_is_nltk_s(pairs):
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu

    hypotheses, references = zip(*pairs, strict=True)
    ours = bleu(hypotheses, references)
    counts = np.array([bleu_counts(*pair) for pair in pairs])
    np.testing.assert_allclose(combine_counts(counts.sum(axis=0)), ours, atol=1e-12)
    smoothed = combine_counts(counts, add=1)
    for order in (1, 2, 3, 4):
        weights = (1 / order,) * order
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NLTK, where a precision is zero
            theirs = corpus_bleu(references, hypotheses, weights)
        assert ours[order - 1] == pytest.approx(theirs, abs=1e-12)
        for row, (hypothesis, answers) in enumerate(pairs):
            method2 = SmoothingFunction().method2
            one = sentence_bleu(answers, hypothesis, weights, smoothing_function=method2)
            assert smoothed[row, order - 1] == pytest.approx(one, abs=1e-12)


@few
@given(words, words)
def test_common_subsequence(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = max(table[i, j] + (a == b), table[i, j + 1], table[i + 1, j])
    assert _common_subsequence(first, second) == table[-1, -1]


def cider_from_its_definition(hypothesis, image, references):
    def grams(tokens, n):
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    total = 0.0
    for n in (1, 2, 3, 4):
        holding = Counter(
            gram for answers in references for gram in set().union(*(grams(r, n) for r in answers))
        )

        def vector(tokens, n=n, holding=holding):
            return {
                gram: count * (log(len(references)) - log(max(1, holding[gram])))
                for gram, count in grams(tokens, n).items()
            }

        own = vector(hypothesis)
        for reference in references[image]:
            other = vector(reference)
            norms = [sqrt(sum(w * w for w in v.values())) for v in (own, other)]
            dot = sum(min(w, other.get(g, 0)) * other.get(g, 0) for g, w in own.items())
            pairs = [max(len(tokens) - 1, 0) for tokens in (hypothesis, reference)]
            penalty = exp(-((pairs[0] - pairs[1]) ** 2) / 72)
            total += penalty * dot / (norms[0] * norms[1]) if all(norms) else 0
    return 10 * total / 4 / len(references[image])


@few
@given(corpora)
def test_cider_d_from_its_definition(pairs):
    hypotheses, references = zip(*pairs, strict=True)
    cider = CiderD(references, keep=2)
    assert len(cider) == len(pairs)
    for image, hypothesis in enumerate(hypotheses):
        expected = cider_from_its_definition(hypothesis, image, references)
        assert cider.score(hypothesis, image) == pytest.approx(expected, abs=1e-10)
        assert cider.score(hypothesis, image) == cider.score(hypothesis, image)


def test_perfect_and_empty_captions():
    references = [["A red dog runs fast .", "the dog"], ["Two cats sleep on a mat"]]
    perfect = score(["a red dog runs fast", "two cats sleep on a mat"], references)
    assert (perfect.bleu_4, perfect.rouge_l) == (1.0, 1.0)
    assert perfect.per_image["cider_d"][1] == pytest.approx(10)
    empty = score(["", ""], references, bootstrap=20)
    assert [getattr(empty, name) for name in NAMES] == [0.0] * 6
    assert empty.intervals["bleu_4"] == (0.0, 0.0)
    half = score(["a red dog runs fast", ""], references)
    assert 0 < half.bleu_4 < 1


def test_per_image_scores_have_the_mean_of_the_whole(shared):
    hypotheses, references = human_captions(shared, "as it is")
    scores = score(hypotheses[:50], references[:50])
    for name in ("rouge_l", "cider_d"):
        assert scores.per_image[name].shape == (50,)
        assert scores.per_image[name].mean() == pytest.approx(getattr(scores, name))
    assert (scores.per_image["bleu_4_method2"] > 0).all()


def test_bootstrap_is_seeded_and_holds_the_score(shared):
    hypotheses, references = human_captions(shared, "as it is")
    options = {"bootstrap": 200, "seed": 3}
    scores = score(hypotheses[:200], references[:200], **options)
    again = score(hypotheses[:200], references[:200], **options)
    other = score(hypotheses[:200], references[:200], bootstrap=200, seed=4)
    assert scores.intervals == again.intervals
    assert scores.intervals != other.intervals
    for name in NAMES:
        low, high = scores.intervals[name]
        assert low < getattr(scores, name) < high
    assert scores.to_json()["bleu_4_interval"] == list(scores.intervals["bleu_4"])
    assert "(" in str(scores)


def test_json_has_full_scores_on_top_and_their_names_nowhere_else():
    scores = score(
        ["a dog", "a cat sits on a mat"],
        [["a dog runs"], ["a cat sits on the mat", "a cat"]],
        bootstrap=5,
        split="dev",
        decoding="beam 5",
        unknown_words="UNK suppressed",
    )
    value = json.loads(json.dumps(scores.to_json()))
    assert list(value)[:6] == list(NAMES)
    assert value["rouge_l"] == scores.rouge_l
    protocol = value["protocol"]
    assert protocol["references_per_image"] == {"min": 1, "max": 2}
    assert protocol["images"] == 2
    assert "1 of 2 captions" in protocol["short_captions"]
    assert not any(f'"{name}"' in json.dumps(protocol) for name in NAMES)
    for part in ("split dev", "beam 5", "1 to 2 raw references", "tokenizer words", "UNK", "NLTK"):
        assert part in scores.protocol_line
    assert "\n" not in scores.protocol_line
    assert scores.protocol_line in str(scores)


def test_tokenizers():
    words_of_text = score(["A dog's ball!"], [["a DOG'S ball"]])
    as_it_stands = score(["A dog's ball!"], [["a DOG'S ball"]], tokenizer="whitespace")
    assert (words_of_text.bleu_1, as_it_stands.bleu_1) == (1.0, 0.0)
    with pytest.raises(DataError, match="tokenizer"):
        score(["a"], [["a"]], tokenizer="letters")


def test_references_without_words_are_left_out_and_counted():
    captions = ["dog", "a cat"]
    full = [["a dog runs on the green grass"], ["a cat sits on the red mat today"]]
    plain = score(captions, full)
    for empty in ("", "  ", "...", "!?"):
        scores = score(captions, [[empty, *full[0]], [*full[1], empty, empty]])
        assert scores == replace(plain, protocol=scores.protocol)
        assert scores.protocol["references_left_out"] == 3
        assert scores.protocol["references_per_image"] == {"min": 1, "max": 1}
        assert "3 references without words left out" in scores.protocol_line
    assert plain.bleu_1 == pytest.approx(0.0183, abs=1e-4)
    assert plain.protocol["references_left_out"] == 0
    with pytest.raises(DataError, match="image 1 has no reference with words"):
        score(captions, [full[0], ["...", ""]])


@pytest.mark.parametrize(
    ("captions", "references", "undefined"),
    [
        (["a dog runs here"], [["a dog runs fast"]], {"cider_d"}),  # one image
        (["a dog runs here"] * 2, [["a dog runs fast"]] * 2, {"cider_d"}),  # all alike
        (["a dog", "cat"], [["dog"], ["a cat"]], {"bleu_3", "bleu_4"}),
        (["dog", ""], [["dog"], ["cat"]], {"bleu_2", "bleu_3", "bleu_4"}),
        (["dog", ""], [["a dog runs fast"], ["cat"]], set()),  # missed, not undefined
    ],
)
def test_a_score_that_is_not_defined_is_none_and_said(captions, references, undefined):
    scores = score(captions, references, bootstrap=5)
    assert {name for name in NAMES if getattr(scores, name) is None} == undefined
    value = json.loads(json.dumps(scores.to_json()))
    assert {name for name in NAMES if value[name] is None} == undefined
    assert not {f"{name}_interval" for name in undefined} & set(value)
    assert set(scores.per_image) & undefined == set()
    text = str(scores)
    for name in undefined:
        assert any(note.startswith(f"{name} is not defined") for note in value["notes"])
        assert f"{name:8s} -\n" in text


def test_captions_of_one_word_are_worth_a_note():
    chinese = score(["一只狗", "猫"], [["狗在跑"], ["一只猫"]])
    assert any("characters" in note for note in chinese.notes)
    characters = score(["一只狗", "猫"], [["一只狗在跑"], ["一只猫"]], tokenizer="characters")
    assert characters.bleu_2 > 0
    assert characters.notes == []


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a dog"], [[["a", "dog"]]], "list of words"),
        ([["a", "dog"]], [["a dog"]], "list of words"),
        ([["a", "dog"]], ["a dog"], "list of references"),
        ([["a"], ["b"]], [[["a"]]], "2 captions but references of 1"),
        ([["a"]], [[]], "no reference"),
        ([], [], "no caption"),
    ],
)
def test_text_where_words_belong_is_refused(metric, hypotheses, references, message):
    with pytest.raises(DataError, match=message):
        metric(hypotheses, references)


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([["a", "dog"]], [["a dog"]], "as text"),
        (["a dog"], ["a dog"], "list of references"),
        (["a dog"], [[["a", "dog"]]], "as text"),
        ("a dog", [["a dog"]], "captions but references"),
    ],
)
def test_words_where_text_belongs_are_refused(hypotheses, references, message):
    with pytest.raises(DataError, match=message):
        score(hypotheses, references)


def test_cider_refuses_text_and_nothing():
    with pytest.raises(DataError, match="each a list of words"):
        CiderD([["a dog"]])
    with pytest.raises(DataError, match="at least one image"):
        CiderD([])
    with pytest.raises(DataError, match="split it"):
        CiderD([[["a", "dog"]]]).score("a dog", 0)


def test_coverage():
    assert coverage([[["a", "dog"], ["a", "zebra"]]], {"a", "dog"}) == 0.75
    assert coverage([], {"a"}) == 0.0


def test_nltk_is_imported_when_first_needed():
    code = "import sys, dlmie.captioning.metrics; assert 'nltk' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
