from __future__ import annotations

import json

import pytest

from dlmie.captioning.caption_files import read_captions, write_coco_results
from dlmie.errors import DataError, DlmieError


def write(path, value):
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


RESULTS = [{"image_id": 7, "caption": "a dog"}, {"image_id": 3, "caption": ""}]
ANNOTATIONS = {
    "images": [{"id": 3}, {"id": 7}],
    "annotations": [
        {"id": 1, "image_id": 3, "caption": "a cat"},
        {"id": 2, "image_id": 7, "caption": "the dog"},
        {"id": 3, "image_id": 3, "caption": "two cats"},
    ],
}
NAMED = {"7": "a dog", "3": ""}
NAMED_REFERENCES = {"3": ["a cat", "two cats"], "7": ["the dog"]}


@pytest.mark.parametrize("hypotheses", [RESULTS, NAMED])
@pytest.mark.parametrize("references", [ANNOTATIONS, NAMED_REFERENCES])
def test_json_kinds_mix(tmp_path, hypotheses, references):
    mine, theirs = write(tmp_path / "h.json", hypotheses), write(tmp_path / "r", references)
    read = read_captions(mine, [theirs])
    assert read.names == ["7", "3"]
    assert read.hypotheses == ["a dog", ""]
    assert read.references == [["the dog"], ["a cat", "two cats"]]


def test_plain_text(tmp_path):
    mine = write(tmp_path / "h.txt", "a dog\r\n\r\n[ a cat\u2028sits\n")
    first = write(tmp_path / "r0", "the dog\ntwo men\na cat")  # no newline at the end
    second = write(tmp_path / "r1", "\ufeffdogs\n\ncats\n")
    read = read_captions(mine, [first, second])
    assert read.names == ["1", "2", "3"]
    assert read.hypotheses == ["a dog", "", "[ a cat\u2028sits"]
    assert read.references == [["the dog", "dogs"], ["two men"], ["a cat", "cats"]]


def test_several_json_files_of_references_are_joined(tmp_path):
    mine = write(tmp_path / "h", {"x": "a dog", "y": "a cat"})
    one, two = write(tmp_path / "1", {"x": ["dog"]}), write(tmp_path / "2", {"x": "d", "y": ["c"]})
    assert read_captions(mine, [one, two]).references == [["dog", "d"], ["c"]]


def test_references_without_caption_are_left_out_only_when_asked(tmp_path):
    mine, theirs = write(tmp_path / "h", {"3": "cats"}), write(tmp_path / "r", NAMED_REFERENCES)
    with pytest.raises(DataError, match=r"no caption for image 7 .*subset"):
        read_captions(mine, [theirs])
    assert read_captions(mine, [theirs], subset=True).names == ["3"]


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({"a": "x", "b": "y"}, {"a": ["x"]}, r"no reference in .*r0 for image b$"),
        (dict.fromkeys("abcde", "x"), {"f": ["x"]}, "images a, b, c and 2 more"),
        ({"a": "x"}, {"a": []}, "no reference"),
        (RESULTS + RESULTS[:1], ANNOTATIONS, "exactly one caption .*image 7"),
        ({"a": ["x", "y"]}, {"a": ["x"]}, "exactly one caption"),
        ({"a": 5}, {"a": ["x"]}, "image 'a': a caption must be text"),
        ([{"image": 1}], ANNOTATIONS, r"entry 1 must be"),
        (["a dog"], ANNOTATIONS, r"entry 1 must be .*not 'a dog'"),
        ("a dog\na cat\n", "a dog\n", "has 1 lines but .* has 2"),
        ("a dog\na cat\n", "a dog\n\n", "line 2 is empty in every file"),
        ("a dog\n", {"1": ["a dog"]}, "plain text but .* is JSON"),
        ({"1": "a dog"}, "a dog\n", "is JSON but .* is plain text"),
        ("", "a dog\n", "the file is empty"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, hypotheses, references, message):
    mine, theirs = write(tmp_path / "h", hypotheses), write(tmp_path / "r0", references)
    with pytest.raises(DataError, match=message) as caught:
        read_captions(mine, [theirs])
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    good = write(tmp_path / "good.json", {"a": "x"})
    broken = write(tmp_path / "broken.json", '{"a": "x",\n "b"')
    with pytest.raises(DataError, match=r"broken.json: broken JSON at line 2"):
        read_captions(broken, [good])
    with pytest.raises(DataError, match=r"nowhere.json: cannot be read"):
        read_captions(tmp_path / "nowhere.json", [good])
    (tmp_path / "latin").write_bytes("ein Bär".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_captions(good, [tmp_path / "latin"])
    with pytest.raises(DataError, match="at least one file"):
        read_captions(good, [])


def test_coco_results_are_written_and_read_back(tmp_path):
    path = tmp_path / "results.json"
    write_coco_results(path, ["42", 7, "dog.jpg", "007"], ["a", "b", "ein Bär", "d"])
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [row["image_id"] for row in rows] == [42, 7, "dog.jpg", "007"]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    references = write(tmp_path / "r", {name: ["x"] for name in ("42", "7", "dog.jpg", "007")})
    assert read_captions(path, [references]).hypotheses == ["a", "b", "ein Bär", "d"]


def test_coco_results_refuse_what_does_not_match(tmp_path):
    with pytest.raises(DataError, match="each image once"):
        write_coco_results(tmp_path / "r.json", [1, "1"], ["a", "b"])
    with pytest.raises(DataError, match="one caption for each image"):
        write_coco_results(tmp_path / "r.json", [1], [])
    (tmp_path / "file").touch()
    with pytest.raises(DlmieError, match="was not written"):
        write_coco_results(tmp_path / "file" / "r.json", [1], ["a"])
