"""Captions to words: letters with their marks, one form of each character, and old contracts."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlmie.data.captions.tokenizers import (
    TOKENIZERS,
    join_words,
    one_word_note,
    tokenize,
    tokenizer_label,
)
from dlmie.errors import DataError


class TestMarks:
    @pytest.mark.parametrize(
        "text",
        [
            "एक कुत्ता हरी घास पर दौड़ रहा है",  # Hindi: vowel signs and viramas
            "ஒரு நாய் ஓடுகிறது",  # Tamil
            "สุนัข กำลัง วิ่ง",  # Thai: tone marks
            "كَلْبٌ يَجْرِي",  # Arabic with vowels
            "כֶּלֶב רָץ",  # Hebrew with points
            "x̂ y̌",  # no letter of its own in Unicode
        ],
    )
    def test_words_are_what_stands_between_blanks(self, text: str) -> None:
        words = tokenize(text)
        assert words == [unicodedata.normalize("NFC", word) for word in text.split()]
        assert words != tokenize(text, "words", 1)

    @pytest.mark.parametrize(
        "word",
        ["می\u200cخواهم", "क्\u200dष", "র\u200d\u09cdয", "ශ්\u200dරී", "ന്\u200d"],
    )
    def test_joiners_are_part_of_a_word(self, word: str) -> None:
        assert tokenize(f"{word}, {word}") == [word, word]

    def test_joiners_and_marks_alone_are_no_words(self) -> None:
        assert tokenize("a \u200c b\u200d \u0301 🐶\ufe0f 👩\u200d🚒") == ["a", "b"]
        assert tokenize("\u200d\u200c") == []

    def test_digits_of_all_scripts(self) -> None:
        assert tokenize("१२ कुत्ते, ٣ كلاب") == ["१२", "कुत्ते", "٣", "كلاب"]


class TestOneForm:
    @pytest.mark.parametrize("mark", "'\u2019\u02bc\uff07\u2018\u201b\u00b4")
    def test_apostrophes(self, mark: str) -> None:
        assert tokenize(f"It{mark}s the dog{mark}s {mark}ball{mark}") == [
            *("it's", "the", "dog's", "ball")
        ]

    @pytest.mark.parametrize("text", ["İstanbul", "I\u0307stanbul", "i\u0307stanbul", "istanbul"])
    def test_the_dotted_capital_i(self, text: str) -> None:
        assert tokenize(text) == ["istanbul"]

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("ＤＯＧ", "dog"),
            ("ﬁre", "fire"),
            ("ﻛﻠﺐ", "كلب"),
            ("ｶﾞｰﾃﾞﾝ", "ガーデン"),
            ("wasser\u00adball", "wasserball"),
            ("do\u2060g", "dog"),
            ("כ\u200fלב", "כלב"),
            ("葛\U000e0100", "葛"),
            ("e\u00ad\u0301", "é"),
        ],
    )
    def test_other_forms_of_a_word(self, text: str, word: str) -> None:
        assert tokenize(text) == [word]

    @given(st.text())
    def test_every_unicode_form_and_a_second_time(self, text: str) -> None:
        words = tokenize(text)
        assert tokenize(" ".join(words)) == words
        assert all(words)
        assert tokenize(unicodedata.normalize("NFD", text)) == words


class TestCharacters:
    def test_scripts_without_blanks(self) -> None:
        assert tokenize("一只狗。", "characters") == ["一", "只", "狗"]
        assert tokenize("犬が２匹", "characters") == ["犬", "が", "2", "匹"]
        assert tokenize("สุนัข", "characters") == ["สุ", "นั", "ข"]

    def test_joined_they_give_the_same_characters(self) -> None:
        words = tokenize("一只狗在草地上奔跑", "characters")
        assert join_words(words, "characters") == "一只狗在草地上奔跑"
        assert join_words(["a", "dog"]) == "a dog"

    def test_most_captions_of_one_word_are_worth_a_note(self) -> None:
        chinese = [tokenize(text) for text in ("一只狗在跑", "两个孩子", "a dog")]
        note = one_word_note(chinese)
        assert note is not None
        assert "2 of 3" in note
        assert "characters" in note
        assert one_word_note([["a", "dog"], ["dog"]]) is None
        assert one_word_note([["狗"]], "characters") is None
        assert one_word_note([]) is None


class TestContracts:
    def test_the_first_splits_as_dlmie_0_1_0_did(self) -> None:
        assert tokenize("dog’s है İki", "words", 1) == ["dog", "s", "ह", "i", "ki"]

    def test_unknown_names(self) -> None:
        with pytest.raises(DataError, match=", ".join(TOKENIZERS)):
            tokenize("a", "spacy")
        with pytest.raises(DataError, match="contract 3 are of a later dlmie"):
            tokenize("a", "words", 3)
        with pytest.raises(TypeError, match="one caption"):
            tokenize(["a dog"])  # type: ignore[arg-type]

    def test_protocols_name_an_old_contract(self) -> None:
        assert tokenizer_label("words") == "words"
        assert tokenizer_label("words", 1) == "words (contract 1)"
        assert tokenizer_label("whitespace", 1) == "whitespace"

    @given(st.text(st.characters(codec="ascii")))
    def test_plain_english_is_the_same_in_both(self, text: str) -> None:
        assert tokenize(text) == tokenize(text, "words", 1)

    def test_flickr8k_is_the_same_in_both(self, shared: Path) -> None:
        lines = (shared / "data/flickr8k/Flickr8k.token.txt").read_text("utf-8").split("\n")
        captions = [line.partition("\t")[2] for line in lines]
        assert len(captions) > 30_000
        assert [text for text in captions if tokenize(text) != tokenize(text, "words", 1)] == []
