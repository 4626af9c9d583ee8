"""What stands where a caption should: lists in cells, objects, and what is no sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlmie.data.captions.texts import caption_fault, captions_in


@pytest.mark.parametrize(
    "text",
    [
        """['a dog', "the dog's ball"]""",
        """["a dog", "the dog's ball"]""",
        """['a dog' "the dog's ball"]""",  # NumPy
        """['a dog'\n "the dog's ball"]""",
        """ ('a dog', "the dog's ball",) """,
        r"""['a dog', 'the dog\'s ball']""",
        r'["a dog", "the dog\u0027s ball"]',
    ],
)
def test_lists_written_as_text(text: str) -> None:
    assert captions_in(text) == ["a dog", "the dog's ball"]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1), st.booleans())
def test_what_python_and_json_write_comes_back(texts: list[str], python: bool) -> None:
    written = repr(texts) if python and all(t.isprintable() for t in texts) else json.dumps(texts)
    assert captions_in(written) == texts


@pytest.mark.parametrize(
    "text",
    [
        *("[A dog runs]", "(a dog)", '("Go away" says the shirt)', '("Go away")', "a [red] dog"),
        *('"Go away" says the shirt', "[a dog] and [a cat]", "a dog's ball", "[]"),
    ],
)
def test_sentences_stay_as_they_are(text: str) -> None:
    assert captions_in(text) == [text]
    assert caption_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("['it's']", "[1, 2, 3]", "{'raw': 'a dog'}", '[{"raw": "a dog"}]', "['a dog]"),
        *("array(['a', 'b'], dtype=object)", "[np.str_('a'), np.str_('b')]", '{"a": 1}'),
    ],
)
def test_other_structures_are_named(text: str) -> None:
    (caption,) = captions_in(text)
    assert "not a sentence" in (caption_fault(caption) or "")


def test_values_of_json() -> None:
    assert captions_in(None) == []
    assert captions_in(["a", {"raw": "b"}, {"caption": "c"}, "['d', 'e']"]) == list("abcde")
    assert captions_in({"text": "a dog"}) == ["a dog"]
    assert captions_in(["a", 3, None]) == ["a", 3, None]
    assert caption_fault(3) == "is not text but int"
    assert caption_fault("\udce9") is not None
    assert "encoding" in str(caption_fault("caf\udce9"))
