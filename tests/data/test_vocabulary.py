"""Words to numbers and back: what holds for every text, checked on many."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlmie.data.captions.tokenizers import tokenize
from dlmie.data.captions.vocabulary import END, PAD, SPECIAL, START, UNK, Vocabulary
from dlmie.errors import DataError

WORDS = st.text("abcé", min_size=1, max_size=2)
CAPTIONS = st.lists(st.lists(WORDS, max_size=6), max_size=12)


class TestTokenize:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("A dog's ball , it's RED .", ["a", "dog's", "ball", "it's", "red"]),
            ("rock-n-roll 'quoted' dogs'", ["rock", "n", "roll", "quoted", "dogs"]),
            ("snake_case 3D 50%", ["snake", "case", "3d", "50"]),
            ("Cafe\u0301 ÉTÉ 犬 собака", ["café", "été", "犬", "собака"]),
            ("...", []),
            ("", []),
        ],
    )
    def test_words(self, text: str, words: list[str]) -> None:
        assert tokenize(text) == words

    def test_whitespace_keeps_tokens_as_they_stand(self) -> None:
        assert tokenize(" A dog's\tball .\n", "whitespace") == ["A", "dog's", "ball", "."]

    def test_misuse(self) -> None:
        with pytest.raises(DataError, match="words, whitespace"):
            tokenize("a", "spacy")
        with pytest.raises(TypeError, match="one caption"):
            tokenize(["a dog"])  # type: ignore[arg-type]

    @given(st.text())
    def test_joined_words_give_the_same_words(self, text: str) -> None:
        words = tokenize(text)
        assert tokenize(" ".join(words)) == words
        assert all(words)

    @given(st.text())
    def test_unicode_forms_of_a_text_give_the_same_words(self, text: str) -> None:
        assert tokenize(unicodedata.normalize("NFD", text)) == tokenize(text)


class TestVocabulary:
    @given(CAPTIONS, st.integers(1, 4), st.none() | st.integers(4, 9))
    def test_order_threshold_and_size(
        self, captions: list[list[str]], min_count: int, max_size: int | None
    ) -> None:
        counts = Counter(word for caption in captions for word in caption)
        frequent = [word for word, count in counts.items() if count >= min_count]
        ordered = sorted(sorted(frequent), key=lambda word: -counts[word])
        vocabulary = Vocabulary.build(captions, min_count, max_size)
        assert vocabulary.words == (*SPECIAL, *ordered)[:max_size]

    @given(CAPTIONS, st.randoms())
    def test_the_order_of_captions_does_not_matter(
        self, captions: list[list[str]], random: object
    ) -> None:
        shuffled = list(captions)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        first, second = (Vocabulary.build(each, 1) for each in (captions, shuffled))
        assert first == second
        assert first.hash == second.hash
        assert hash(first) == hash(second)

    @given(CAPTIONS, st.integers(1, 3))
    def test_decoding_undoes_encoding_of_known_words(
        self, captions: list[list[str]], min_count: int
    ) -> None:
        vocabulary = Vocabulary.build(captions, min_count)
        for caption in captions:
            ids = vocabulary.encode(caption)
            known = [word if word in vocabulary else "<unk>" for word in caption]
            assert vocabulary.decode(ids) == known
            assert vocabulary.decode([START, *ids, END, PAD, 4]) == known
            assert vocabulary.text(ids) == " ".join(known)

    @given(CAPTIONS)
    def test_json(self, captions: list[list[str]]) -> None:
        vocabulary = Vocabulary.build(captions, 1)
        again = Vocabulary.from_json(vocabulary.to_json())
        assert again == vocabulary
        assert [again.index(word) for word in again.words] == list(range(len(again)))

    @given(st.lists(st.lists(st.sampled_from([*SPECIAL, "a"])), max_size=5))
    def test_text_cannot_smuggle_special_words(self, captions: list[list[str]]) -> None:
        vocabulary = Vocabulary.build(captions, 1)
        assert vocabulary.words[:4] == SPECIAL
        assert len(vocabulary) <= 5
        assert all(number >= UNK for caption in captions for number in vocabulary.encode(caption))

    def test_numbers_of_special_words(self) -> None:
        vocabulary = Vocabulary(SPECIAL)
        assert (PAD, START, END, UNK) == (0, 1, 2, 3)
        assert [vocabulary.index(word) for word in SPECIAL] == [0, 1, 2, 3]
        assert len(vocabulary) == 4

    def test_hash_tells_vocabularies_apart_and_stays(self) -> None:
        first, second = Vocabulary([*SPECIAL, "a", "b"]), Vocabulary([*SPECIAL, "b", "a"])
        assert first.hash != second.hash
        assert first.hash == ("ab0704724c5e391ff32f9496c57f7e22f64f733f1047b224e8e47b0cc7b1f975")
        assert Vocabulary([*SPECIAL, "a,b"]).hash != first.hash

    def test_mismatch_names_both_sizes(self) -> None:
        small, large = Vocabulary([*SPECIAL, "a"]), Vocabulary([*SPECIAL, "b", "c"])
        small.check_matches(Vocabulary([*SPECIAL, "a"]))
        with pytest.raises(DataError, match="5 words here, 6 in runs/x, 2 places"):
            small.check_matches(large, "runs/x")
        with pytest.raises(DataError, match="number 5 is outside this vocabulary of 5 words"):
            small.decode([4, 5])
        with pytest.raises(DataError, match="outside"):
            small.decode([-1])

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["a", *SPECIAL],
            [*SPECIAL, "a", "a"],
            [*SPECIAL, ""],
            [*SPECIAL, 7],
        ],
    )
    def test_bad_lists(self, words: list) -> None:
        with pytest.raises(DataError):
            Vocabulary(words)

    def test_bad_options(self) -> None:
        with pytest.raises(DataError, match="min_count"):
            Vocabulary.build([], 0)
        with pytest.raises(DataError, match="max_size"):
            Vocabulary.build([], 1, 3)
        with pytest.raises(TypeError, match="tokenize"):
            Vocabulary(SPECIAL).encode("a dog")
        with pytest.raises(DataError, match="'x'"):
            Vocabulary(SPECIAL).index("x")
